"""The papers' claims as experiments: ``python -m launch.claims [--paper NAME] [--claim NAME] [--full] [--out DIR]``.

A claim is a config of ``configs/PAPER/`` with a section ``claim``: its grid is run as ``launch.grid`` would, a function
of :mod:`launch.claims.PAPER` measures it, and the verdict follows from the expectations that stand in the config. No
number that a claim is checked against lives in code.
"""
