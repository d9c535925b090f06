"""What a claim makes of a measured quantity: holds, fails, or undecided and how many seeds would decide."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from launch.claims.expectations import Expectation
from launch.claims.quantities import Quantity

HOLDS, FAILS, UNDECIDED, SKIPPED = "holds", "fails", "undecided", "skipped"
FEWEST = 16  # seeds; with fewer an interval covers less often than it says
ROUNDING = 1e-9  # relative to a bound: what still counts as on it


class Verdict(NamedTuple):
    """The word, and the seeds that would decide where it is undecided; None there if the interval does not tell."""

    word: str
    seeds: int | None = None


def judge(expected: Expectation, measured: Quantity) -> Verdict:
    """Whether the interval lies inside what is expected (holds), outside (fails) or across (undecided).

    Of several numbers all have to hold, and one that fails decides. A number that is not finite fails: it stands for
    runs that failed. What is exact is its own interval. Where seeds differ, fewer than FEWEST decide nothing.
    """
    value = np.asarray(measured.value, float)
    low, high = bounds(expected)
    if expected.value is not None and np.shape(expected.value) != value.shape:
        return Verdict(FAILS)
    ends = (value if end is None else np.asarray(end, float) for end in (measured.low, measured.high))
    rows = np.broadcast_arrays(low, high, value, *ends)
    numbers = zip(*(np.ravel(row).tolist() for row in rows), strict=True)
    return together(_one(*five, seeds=measured.seeds) for five in numbers)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several that all have to hold."""
    verdicts = list(verdicts)
    words = [verdict.word for verdict in verdicts]
    if FAILS in words or UNDECIDED not in words:
        return Verdict(FAILS if FAILS in words else HOLDS)
    needed = [verdict.seeds for verdict in verdicts if verdict.word == UNDECIDED]
    return Verdict(UNDECIDED, None if None in needed else max(filter(None, needed)))


def bounds(expected: Expectation) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest number that is as expected, infinite where there is no bound."""
    if expected.value is not None:
        target = np.asarray(expected.value, float)
        return target - expected.within, target + expected.within
    low, high = expected.at_least, expected.at_most
    return np.asarray(-np.inf if low is None else low), np.asarray(np.inf if high is None else high)


def _one(lowest: float, highest: float, value: float, low: float, high: float, seeds: int | None) -> Verdict:
    """The verdict on one number."""
    if not np.isfinite(value):
        return Verdict(FAILS)
    below, above = lowest - ROUNDING * abs(lowest), highest + ROUNDING * abs(highest)
    if seeds is not None and seeds < FEWEST and low < high:
        return Verdict(UNDECIDED, FEWEST)
    if low >= below and high <= above:
        return Verdict(HOLDS)
    if high < below or low > above:
        return Verdict(FAILS)
    return Verdict(UNDECIDED, _deciding(lowest, highest, value, low, high, seeds))


def _deciding(lowest: float, highest: float, value: float, low: float, high: float, seeds: int | None) -> int | None:
    """Seeds at which the interval, its width falling as ``1 / sqrt(seeds)``, would cross no bound.

    Wilson's interval of a share of 0 or 1 has the width ``z^2 / (seeds + z^2)``.
    """
    ratios = [0.0]
    for bound in (lowest, highest):
        half = value - low if bound < value else high - value  # the side on which the bound lies
        if not np.isfinite(bound):
            continue
        if bound == value or not np.isfinite(half):
            return None
        room = abs(bound - value)
        of_all = (value, high) == (1, 1) or (value, low) == (0, 0)
        ratios.append(half / (1 - half) * (1 - room) / room if of_all and half < 1 else (half / room) ** 2)
    return int(np.ceil(seeds * max(ratios))) if seeds else None
