"""Measured quantities with their uncertainty, and what a claim makes of them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import binomtest

from launch.claims.expectations import Expectation

RESAMPLES = 1000


def values(array: xr.DataArray, *dims: str) -> np.ndarray:
    """The numbers with these axes in this order, the others being of length one."""
    return array.transpose(*dims, ...).values.reshape([array.sizes[dim] for dim in dims])


def each(cells: xr.Dataset, *axes: str) -> Iterator[xr.Dataset]:
    """The parts of a dataset with one value of each of these axes."""
    name, *rest = axes
    parts = [cells.isel({name: place}) for place in range(cells.sizes[name])] if name in cells.dims else [cells]
    for part in parts:
        yield from each(part, *rest) if rest else [part]


class Quantity(NamedTuple):
    """A measured number, or several that belong together, with a 95 % interval where there is a spread."""

    value: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON: numbers, or lists of them; None for what is not a number."""
        parts = {name: getattr(self, name) for name in self._fields}
        return {name: None if part is None else _listed(part) for name, part in parts.items()}


def _listed(part: np.ndarray) -> Any:
    numbers = np.where(np.isfinite(part), part, np.nan).tolist()
    swap = lambda x: None if x != x else x  # noqa: E731
    return [swap(x) for x in numbers] if isinstance(numbers, list) else swap(numbers)


def exactly(value: Any) -> Quantity:
    """What has no spread: counts, worst cases, numbers of a run without chance."""
    return Quantity(np.asarray(value, float))


def over_seeds(statistic: Callable[..., Any], *samples: Any) -> Quantity:
    """A statistic of arrays whose first axis are the seeds, with the percentile bootstrap's interval over them.

    All arrays are resampled alike, so that what is paired stays so.
    """
    arrays = [np.asarray(sample, float) for sample in samples]
    rng, count = np.random.default_rng(0), len(arrays[0])
    draws = [rng.integers(0, count, count) for _ in range(RESAMPLES)]
    spread = np.array([statistic(*(array[draw] for array in arrays)) for draw in draws])
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return Quantity(np.asarray(statistic(*arrays), float), low, high)


def independently(statistic: Callable[..., Any], *samples: Any) -> Quantity:
    """As :func:`over_seeds`, each array being resampled on its own: seeds of different grids."""
    arrays, rng = [np.asarray(sample, float) for sample in samples], np.random.default_rng(0)
    draw = lambda array: array[rng.integers(0, len(array), len(array))]  # noqa: E731
    spread = np.array([statistic(*(draw(array) for array in arrays)) for _ in range(RESAMPLES)])
    low, high = np.quantile(spread, [0.025, 0.975], axis=0)
    return Quantity(np.asarray(statistic(*arrays), float), low, high)


def mean(values: Any) -> Quantity:
    """Mean over the first axis."""
    return over_seeds(lambda v: v.mean(axis=0), values)


def share(successes: Any) -> Quantity:
    """Fraction of the first axis that is true, with Wilson's interval."""
    hits = np.asarray(successes, bool)
    interval = np.vectorize(lambda k: binomtest(k, len(hits)).proportion_ci(method="wilson"), otypes=[float, float])
    return Quantity(hits.mean(axis=0), *interval(hits.sum(axis=0)))


def log_slope(x: Any, y: Any) -> Quantity:
    """Slope of log mean y against log x; y (seeds, points)."""
    logs = np.log(np.asarray(x, float))
    return over_seeds(lambda v: np.polyfit(logs, np.log(v.mean(axis=0)), 1)[0], y)


def holds(expected: Expectation, measured: Quantity) -> bool:
    """Whether every number lies within what is expected; one that is not finite does not."""
    value = measured.value
    if not np.isfinite(value).all():
        return False
    if expected.value is not None:
        target = np.asarray(expected.value, float)
        return target.shape == value.shape and bool((np.abs(value - target) <= expected.within * (1 + 1e-9)).all())
    low, high = expected.at_least, expected.at_most
    return bool((low is None or (value >= low).all()) and (high is None or (value <= high).all()))
