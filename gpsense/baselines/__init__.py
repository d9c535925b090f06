"""Competing methods, one per file, all behind the contract of :class:`Baseline`."""

from gpsense.baselines._contract import Baseline, Run, Tuning, advance, start
from gpsense.baselines._run import BASELINES, Result, run_baseline
from gpsense.baselines.irls import IRLS
from gpsense.baselines.niht import NIHT
from gpsense.baselines.prec_gd import PrecGD
from gpsense.baselines.scaled_gd import ScaledGD
from gpsense.baselines.scaled_gd_lambda import ScaledGDLambda
from gpsense.baselines.small_start import SmallStart
from gpsense.baselines.spectral import Spectral
from gpsense.baselines.trace_norm import TraceNorm

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
