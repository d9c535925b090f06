"""Verdicts on measured quantities: holds, fails, or undecided, then with the number of seeds that would decide."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from launch.claims.expectations import Expectation
from launch.claims.quantities import Quantity

HOLDS, FAILS, UNDECIDED, SKIPPED = "holds", "fails", "undecided", "skipped"
FEWEST = 16  # seeds; with fewer, intervals cover the truth less often than stated
ROUNDING = 1e-9  # relative distance from a bound that still counts as on it


class Verdict(NamedTuple):
    """The verdict and, where undecided, the number of seeds that would decide; None if the interval cannot tell it."""

    word: str
    seeds: int | None = None


def judge(expected: Expectation, measured: Quantity) -> Verdict:
    """The verdict: holds if the interval lies inside the expected range, fails if outside, else undecided.

    Several numbers hold if all of them do, and fail if one does. A number that is not finite fails: it stands for runs
    that failed. An exact number is an interval of length 0. Any longer interval from fewer than FEWEST seeds is
    undecided.
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
    """The joint verdict: fails if one fails, holds if all hold, else undecided."""
    verdicts = list(verdicts)
    words = [verdict.word for verdict in verdicts]
    if FAILS in words or UNDECIDED not in words:
        return Verdict(FAILS if FAILS in words else HOLDS)
    needed = [verdict.seeds for verdict in verdicts if verdict.word == UNDECIDED]
    return Verdict(UNDECIDED, None if None in needed else max(filter(None, needed)))


def bounds(expected: Expectation) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest expected number, infinite where there is no bound."""
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
    """The number of seeds at which the interval would cross no bound, its width falling as ``1 / sqrt(seeds)``.

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
