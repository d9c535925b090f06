"""Baselines, one per file, all behind the contract of :class:`Baseline`."""

from gpsense.sensing.methods._contract import Baseline, Run, Tuning, advance, start
from gpsense.sensing.methods._run import BASELINES, Result, run_baseline
from gpsense.sensing.methods.irls import IRLS
from gpsense.sensing.methods.niht import NIHT
from gpsense.sensing.methods.prec_gd import PrecGD
from gpsense.sensing.methods.scaled_gd import ScaledGD
from gpsense.sensing.methods.scaled_gd_lambda import ScaledGDLambda
from gpsense.sensing.methods.small_start import SmallStart
from gpsense.sensing.methods.spectral import Spectral
from gpsense.sensing.methods.trace_norm import TraceNorm

__all__ = [
    "BASELINES",
    "IRLS",
    "NIHT",
    "Baseline",
    "PrecGD",
    "Result",
    "Run",
    "ScaledGD",
    "ScaledGDLambda",
    "SmallStart",
    "Spectral",
    "TraceNorm",
    "Tuning",
    "advance",
    "run_baseline",
    "start",
]
