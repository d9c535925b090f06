"""A user's own claim: a config in any folder whose ``claim.check`` names a function, ``FILE.py:NAME``.

The function takes the datasets of the claim's grids by name, the config's own as ``runs[""]``; failed cells are NaN. It
returns quantities by name, each a DataArray along ``seed`` (its mean over the seeds is checked or, where it is boolean,
the share that is True), a number (exact), or a :class:`~launch.claims.quantities.Quantity`; or it returns an
:class:`~launch.claims.experiment.Outcome`, with a figure of its own in place of the standard one.
"""

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from gpsense.plots.grids import PALETTE
from launch import plugins
from launch.claims.drawing import panels
from launch.claims.expectations import Claim
from launch.claims.experiment import Check, Outcome, Runs
from launch.claims.quantities import Quantity, exactly, mean, share
from launch.claims.verdicts import bounds
from launch.shell import Refusal


def own_check(claim: Claim, folder: Path) -> Check:
    """The check that the claim names, its file looked for in the working directory, then in ``folder``."""
    function = plugins.find_function("claim.check", claim.check, folder)

    def check(runs: Runs) -> Outcome:
        try:
            found = function(runs)
        except Refusal:
            raise
        except Exception as error:
            raise Refusal(f"claim.check: {_where(function, claim.check, error)}; fix it") from error
        return outcome_of(found, claim)

    return check


def _where(function: Callable[..., Any], reference: str, error: Exception) -> str:
    """The words for an error in a user's function, with the line of the user's file."""
    file = function.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"{reference} failed" + (f" in {Path(file).name} at line {lines[-1]}" if lines else "") + f" ({words})"


def outcome_of(found: Any, claim: Claim) -> Outcome:
    """The quantities that a user's function returned, and a figure; raises Refusal if it returned something else."""
    if isinstance(found, Outcome):
        return found
    if not isinstance(found, Mapping) or not found:
        raise Refusal(
            f"claim.check: {claim.check} returns {type(found).__name__}, not quantities by name; return a dict of "
            "DataArrays along seed"
        )
    quantities = {str(name): _quantity(str(name), value, claim.check) for name, value in found.items()}
    return Outcome(quantities, _figure(quantities, claim))


def _quantity(name: str, value: Any, check: str) -> Quantity:
    if isinstance(value, Quantity):
        return value
    try:
        if not isinstance(value, xr.DataArray) or "seed" not in value.dims:
            return exactly(np.squeeze(np.asarray(value, float)))
        sample = value.transpose("seed", ...).values.reshape(value.sizes["seed"], -1)
        sample = sample[:, 0] if sample.shape[1] == 1 else sample
        return share(sample) if sample.dtype == bool else mean(sample.astype(float))
    except (TypeError, ValueError):
        raise Refusal(f"claim.check: {check} returns no numbers for {name}; give a DataArray along seed") from None


def _figure(quantities: dict[str, Quantity], claim: Claim) -> Figure:
    """A panel for each quantity that is checked: its numbers with intervals, and what is expected as a band."""
    names = [name for name in claim.expect if name in quantities] or list(quantities)
    figure, panes = panels(len(names))
    for axes, name in zip(panes, names, strict=True):
        value, low, high = (None if part is None else np.ravel(part) for part in quantities[name][:3])
        assert value is not None
        places = np.arange(len(value))
        spread = None if low is None or high is None else np.nan_to_num([value - low, high - value], posinf=0)
        axes.errorbar(places, value, spread, fmt="o", ms=5, capsize=3, color=PALETTE[0], label="measured, 95 %")
        if name in claim.expect:
            lowest, highest = (np.ravel(bound) for bound in bounds(claim.expect[name]))
            ends = np.clip([lowest, highest], *axes.get_ylim())
            for place, (bottom, top) in enumerate(np.broadcast_to(ends.T, (len(value), 2))):
                axes.fill_between([place - 0.4, place + 0.4], bottom, top, color=PALETTE[1], alpha=0.2, lw=1)
        axes.set(title=name, xticks=places if len(places) > 1 else [])
        axes.set_xlabel("bar: 95 % interval; shaded: expected")
    return figure
