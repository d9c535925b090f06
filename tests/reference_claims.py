"""Datasets as grids give them, their answers known, for the checks of claims."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gpsense.tickets.images import DATA, ImageArrays, ImageSet
from launch.claims.expectations import Expectation
from launch.claims.experiment import Outcome
from launch.claims.lottery_ticket import CHECKS

SEEDS = 5
BLANK = np.zeros((5000, 1, 28, 28), np.float32), np.zeros(5000, np.int32)
ANY = Expectation(at_least=-1e9)


def dataset(axes: dict[str, Any], scalars: dict[str, Any], **measures: tuple[tuple[str, ...], Any]) -> xr.Dataset:
    """Measures over named axes, the same for every seed; ``scalars`` are axes of one value."""
    parts = {name: ("seed", *dims) for name, (dims, _) in measures.items()}
    arrays = {name: np.stack([np.asarray(array, float)] * SEEDS) for name, (_, array) in measures.items()}
    return xr.Dataset({name: (parts[name], arrays[name]) for name in arrays}, axes | scalars)


def over(function: Callable[..., Any], *axes: Any) -> np.ndarray:
    """The function of all combinations of the axes, which lie in their order; lists it gives come last."""
    return np.asarray([over(lambda *rest, x=x: function(x, *rest), *axes[1:]) for x in axes[0]]) if axes else function()


def value(found: Outcome, name: str) -> np.ndarray:
    return found.quantities[name].value


def outcome(check: str, runs: dict[str, xr.Dataset]) -> Outcome:
    """What a check gives, its figure drawn, which takes the time."""
    found, file = CHECKS[check](runs), BytesIO()
    found.figure.set_layout_engine("none")  # quicker
    found.figure.savefig(file, dpi=20)
    assert file.tell() > 1000
    return found


def without_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank images in place of those of an extra, so that grids of them are planned without it."""
    images = ImageSet(lambda folder: ImageArrays(*BLANK, *(part[:0] for part in BLANK)), needs_folder=False)
    monkeypatch.setitem(DATA, "mnist_5k", images)
