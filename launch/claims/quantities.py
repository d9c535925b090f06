"""Measured quantities with their 95 % intervals; all cells of one seed are one cluster."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import bootstrap, norm, t

RESAMPLES = 2000
_rough = ContextVar("rough", default=False)  # whether to compute values alone, without resampling


@contextmanager
def without_intervals() -> Iterator[None]:
    """A context in which nothing is resampled: bootstrap intervals are infinite."""
    token = _rough.set(True)
    try:
        yield
    finally:
        _rough.reset(token)


Z = float(norm.ppf(0.975))


def values(array: xr.DataArray, *dims: str) -> np.ndarray:
    """The numbers of ``array`` with the axes ``dims`` in this order; all others must have length one."""
    return array.transpose(*dims, ...).values.reshape([array.sizes[dim] for dim in dims])


def each(cells: xr.Dataset, *axes: str) -> Iterator[xr.Dataset]:
    """The parts of ``cells`` at each combination of values of ``axes``; an axis that is missing counts as one value."""
    name, *rest = axes
    parts = [cells.isel({name: place}) for place in range(cells.sizes[name])] if name in cells.dims else [cells]
    for part in parts:
        yield from each(part, *rest) if rest else [part]


class Quantity(NamedTuple):
    """A measured number, or several that belong together; exact, or with a 95 % interval over ``seeds`` seeds.

    An end is infinite where the statistic is undefined on too many resamples to determine it.
    """

    value: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    seeds: int | None = None

    def plain(self) -> dict[str, Any]:
        """The parts for JSON: numbers or lists of numbers, with None for those that are not finite."""
        parts = {name: getattr(self, name) for name in ("value", "low", "high")}
        return {name: None if part is None else _listed(part) for name, part in parts.items()} | {"seeds": self.seeds}


def _listed(part: np.ndarray) -> Any:
    numbers = np.where(np.isfinite(part), part, np.nan).tolist()
    swap = lambda x: None if x != x else x  # noqa: E731
    return [swap(x) for x in numbers] if isinstance(numbers, list) else swap(numbers)


def exactly(value: Any) -> Quantity:
    """A quantity without an interval: a constant, or the worst of all runs."""
    return Quantity(np.asarray(value, float))


def over_seeds(statistic: Callable[..., Any], *samples: Any) -> Quantity:
    """A statistic of arrays whose first axis is the same seeds, with its bootstrap interval over the seeds.

    All arrays are resampled with the same draws, so that pairs stay together.
    """
    arrays = [np.asarray(sample, float) for sample in samples]
    return _bootstrapped(lambda draw: statistic(*(array[draw] for array in arrays)), [len(arrays[0])])


def independently(statistic: Callable[..., Any], *samples: Any) -> Quantity:
    """As :func:`over_seeds`, for arrays over different seeds: each is resampled on its own."""
    arrays = [np.asarray(sample, float) for sample in samples]
    taken = lambda *draws: statistic(*(array[draw] for array, draw in zip(arrays, draws, strict=True)))  # noqa: E731
    return _bootstrapped(taken, [len(array) for array in arrays])


def _bootstrapped(statistic: Callable[..., Any], counts: list[int]) -> Quantity:
    """A statistic of resampled indices of seeds with its BCa interval, the level corrected for few seeds.

    BCa intervals are too narrow by the factor ``sqrt((n-1)/n) z / t_{n-1}``: they use normal quantiles, not Student's,
    and a variance divided by n, not n - 1. A higher level compensates (Hesterberg, The American Statistician 69, 2015,
    section 5.3).
    """
    n = min(counts)
    value = np.asarray(statistic(*map(np.arange, counts)), float)
    if n < 2 or _rough.get():
        return Quantity(value, np.full_like(value, -np.inf), np.full_like(value, np.inf), n)
    outside = float(norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1)))

    def along(*draws: np.ndarray, axis: int = -1) -> np.ndarray:
        shape = np.broadcast_shapes(*(draw.shape[:-1] for draw in draws))
        flat = [np.broadcast_to(draw, (*shape, draw.shape[-1])).reshape(-1, draw.shape[-1]) for draw in draws]
        found = [np.ravel(np.asarray(statistic(*rows), float)) for rows in zip(*flat, strict=True)]
        return np.moveaxis(np.reshape(found, (*shape, value.size)), -1, 0)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # about resamples on which the statistic is undefined or constant
        result = bootstrap(
            tuple(map(np.arange, counts)),
            along,
            n_resamples=RESAMPLES,
            vectorized=True,
            confidence_level=1 - 2 * outside,
            method="BCa",
            rng=np.random.default_rng(0),
            batch=max(1, 4_000_000 // n),
        )
    found, drawn = result.confidence_interval, np.asarray(result.bootstrap_distribution)
    ends = [_end(low, high, row, outside) for low, high, row in zip(found.low, found.high, drawn, strict=True)]
    low, high = (np.reshape([end[side] for end in ends], value.shape) for side in (0, 1))
    return Quantity(value, low, high, n)


def _end(low: float, high: float, drawn: np.ndarray, outside: float) -> tuple[float, float]:
    """BCa's ends where they and all resamples are finite; else quantiles, with NaN counted as beyond either end.

    BCa's ends are undefined, for example, where all resamples agree or lie on one side of the value.
    """
    if np.isfinite(drawn).all() and np.isfinite([low, high]).all():
        return low, high
    below, above = (np.sort(np.where(np.isnan(drawn), fill, drawn)) for fill in (-np.inf, np.inf))
    place = int(outside * len(drawn))
    return float(below[place]), float(above[-1 - place])


def mean(values: Any) -> Quantity:
    """The mean over the first axis, the seeds, with its bootstrap interval."""
    return over_seeds(lambda v: v.mean(axis=0), values)


def told(condition: Any, *numbers: Any) -> np.ndarray:
    """1 where ``condition`` holds, 0 where not, NaN where one of ``numbers``, from which it follows, is NaN."""
    failed = np.any(np.broadcast_arrays(*(np.isnan(np.asarray(each, float)) for each in numbers)), axis=0)
    return np.where(failed, np.nan, np.asarray(condition, float))


def share(successes: Any) -> Quantity:
    """The fraction of seeds (first axis) that succeed, with Wilson's interval.

    A failed cell, NaN (see :func:`told`), counts as a failure for the value and the lower end, and as a success for the
    upper end, so that it helps to meet neither bound.
    """
    found = np.asarray(successes, float)
    if np.isnan(found).any():
        return _with_failures(share, found)
    return _wilson(found.mean(axis=0), np.full(found.shape[1:], len(found)), len(found))


def _with_failures(statistic: Callable[[np.ndarray], Quantity], found: np.ndarray) -> Quantity:
    """A share with failed cells, NaN: failures for value and lower end, successes for the upper end."""
    least, most = (statistic(np.nan_to_num(found, nan=fill)) for fill in (0.0, 1.0))
    return Quantity(least.value, least.low, most.high, least.seeds)


def pooled_share(successes: Any, counted: Any = True) -> Quantity:
    """The fraction of ``counted`` cells that succeed, averaged over seeds (first axis), each seed being one cluster.

    Wilson's interval with an effective number of draws, ``n p (1 - p) / variance``: p and the variance are those of the
    n seeds' fractions, with about two seeds (``Z^2 / 2``) of fraction 0 and two of fraction 1 added. That
    number is n where all fractions are 0, or all 1. Failed cells as in :func:`share`.
    """
    found = np.asarray(successes, float)
    if np.isnan(found).any():
        return _with_failures(lambda filled: pooled_share(filled, counted), found)
    hits = found > 0
    there = np.broadcast_to(np.asarray(counted, bool), hits.shape)
    hits, there = (array.reshape(len(hits), -1) for array in (hits & there, there))
    some = there.any(axis=1)
    shares = hits.sum(axis=1)[some] / there.sum(axis=1)[some]
    n = len(shares)
    if not n:
        return Quantity(np.asarray(np.nan), np.asarray(-np.inf), np.asarray(np.inf), 0)
    padded = np.concatenate([shares, [0.0, 1.0]])
    weights = np.concatenate([np.ones(n), [Z**2 / 2] * 2])
    middle = np.average(padded, weights=weights)
    variance = np.average((padded - middle) ** 2, weights=weights)
    return _wilson(shares.mean(), np.asarray(n * middle * (1 - middle) / variance), n)


def _wilson(p: Any, draws: np.ndarray, seeds: int) -> Quantity:
    """The fraction ``p`` of ``draws`` independent draws, with Wilson's interval."""
    p = np.asarray(p, float)
    middle = (p + Z**2 / (2 * draws)) / (1 + Z**2 / draws)
    half = Z / (1 + Z**2 / draws) * np.sqrt(p * (1 - p) / draws + Z**2 / (4 * draws**2))
    low, high = np.where(p == 0, 0.0, middle - half), np.where(p == 1, 1.0, middle + half)
    return Quantity(p, low, high, seeds)


def log_slope(x: Any, y: Any) -> Quantity:
    """The slope of log(mean of y over the seeds) against log x, with its interval; y (seeds, points)."""
    logs = np.log(np.asarray(x, float))
    return over_seeds(lambda v: np.polyfit(logs, np.log(v.mean(axis=0)), 1)[0], y)
