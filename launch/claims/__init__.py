"""Claims as experiments: ``python -m launch.claims [CONFIG.yaml ...] [--paper NAME] [--claim NAME] [--full]``.

A claim is a config of ``configs/PAPER/`` with a section ``claim``: its grids are run as ``launch.grid`` would, a
function of :mod:`launch.claims.PAPER` measures them, and the verdict follows from the expectations that stand in the
config and from the intervals of what was measured: holds inside, fails outside, undecided across. No number that a
claim is checked against lives in code. A config that is named on the command line brings a function of its own.

Expectations were written after pilots on seeds below 1000. Claims are checked on seeds from 1000 on, which no pilot
used: every config says so by ``first_seed``. ``--seed-offset N`` moves all seeds further.
"""
