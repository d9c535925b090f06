"""Baselines, one per file, all implementing the protocol :class:`Baseline`.

Each registers itself in :data:`BASELINES`; every file of this folder is imported, so a new one needs no other edit.
"""

from importlib import import_module
from pkgutil import iter_modules

from gpsense.sensing.methods._contract import BASELINES, Baseline, Run, Tuning, advance, register, start
from gpsense.sensing.methods._run import Result, run_baseline

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["BASELINES", "Baseline", "Result", "Run", "Tuning", "advance", "register", "run_baseline", "start"]
