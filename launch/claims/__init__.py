"""Claims as experiments: ``python -m launch.claims [CONFIG.yaml ...] [--paper NAME] [--claim NAME] [--full]``.

A claim is a config of ``configs/PAPER/`` with a section ``claim``. Its grids are run as by ``launch.grid``, and a
function of ``launch.claims.PAPER`` measures quantities with 95 % intervals. A claim holds where each interval lies
inside the range that its config expects, fails where one lies outside, and is undecided where one lies across a bound.
The expected numbers are in the configs, none in code. A config given on the command line names a function of one's own.

Expectations were written after pilots, and claims are checked on seeds that no pilot used: those from the config's
``first_seed`` on, 1000 or more. ``--seed-offset N`` adds N to all seeds.
"""
