"""Verdicts from intervals: inside, outside, across; failed runs; the seeds that would decide."""

from typing import Any

import numpy as np
import pytest

from launch.claims.expectations import Expectation
from launch.claims.quantities import Quantity, exactly, mean, share
from launch.claims.verdicts import Verdict, judge


def quantity(value: Any, low: Any, high: Any, seeds: int = 16) -> Quantity:
    return Quantity(*(np.asarray(part, float) for part in (value, low, high)), seeds)


@pytest.mark.parametrize(
    ("expected", "value", "word"),
    [
        ({"value": 2}, 2.0, "holds"),
        ({"value": 2}, 2.0001, "fails"),
        ({"value": 2, "within": 0.1}, 2.1, "holds"),
        ({"value": 2, "within": 0.1}, 1.89, "fails"),
        ({"value": [1, 2]}, [1.0, 2.0], "holds"),
        ({"value": [1, 2], "within": 0.5}, [1.2, 2.6], "fails"),
        ({"value": [1, 2]}, [1.0, 2.0, 3.0], "fails"),
        ({"value": 1}, [1.0, 1.0], "fails"),
        ({"at_least": 0}, [0.0, 1.0], "holds"),
        ({"at_least": 0}, [-0.1, 1.0], "fails"),
        ({"at_least": 0, "at_most": 1}, 1.5, "fails"),
        ({"at_most": 1}, 1.0, "holds"),
        ({"at_most": 1}, float("nan"), "fails"),
        ({"at_most": 1e-10}, 5e-10, "fails"),
        ({"value": 0, "within": 1e-10}, -1e-10, "holds"),
        ({"at_least": 1}, float("inf"), "fails"),
        ({"value": [1, 2]}, [1.0, float("nan")], "fails"),
    ],
)
def test_an_exact_number_holds_or_fails(expected: dict[str, Any], value: Any, word: str) -> None:
    assert judge(Expectation(**expected), exactly(value)).word == word


@pytest.mark.parametrize(
    ("expected", "measured", "verdict"),
    [
        ({"value": -1, "within": 0.05}, (-1.034, -1.084, -0.991), Verdict("undecided", 157)),  # (0.05 / 0.016)^2 x 16
        ({"value": 1, "within": 0.1}, (0.916, 0.84, 1.004), Verdict("undecided", 361)),
        ({"value": -1, "within": 0.05}, (-1.0, -1.04, -0.97), Verdict("holds")),
        ({"value": -1, "within": 0.05}, (-1.2, -1.3, -1.1), Verdict("fails")),
        ({"value": -1, "within": 0.05}, (-1.06, -1.12, -0.98), Verdict("undecided", 1024)),  # half 0.08, 0.01 beyond
        ({"at_least": 0.95}, (1.0, 0.8064, 1.0), Verdict("undecided", 73)),
        ({"at_most": 1.25}, (1.25, 1.25, 1.5), Verdict("undecided", None)),
        ({"at_least": 1.5}, (1.75, 1.75, np.inf), Verdict("holds")),
        ({"at_least": 1.5}, (1.75, 1.25, np.inf), Verdict("undecided", 64)),
        ({"at_most": 1.5}, (1.0, -np.inf, np.inf), Verdict("undecided", None)),
        ({"value": 2}, (2.0, 1.9, 2.1), Verdict("undecided", None)),
    ],
)
def test_an_interval_is_inside_outside_or_across(
    expected: dict[str, Any], measured: tuple[float, float, float], verdict: Verdict
) -> None:
    assert judge(Expectation(**expected), quantity(*measured)) == verdict


def test_of_several_numbers_one_that_fails_decides_and_one_across_leaves_open() -> None:
    expected = Expectation(value=(1, 2), within=0.1)
    assert judge(expected, quantity([1, 2], [0.95, 1.95], [1.05, 2.05])).word == "holds"
    assert judge(expected, quantity([1, 2], [0.8, 1.95], [1.05, 2.05])) == Verdict("undecided", 64)
    assert judge(expected, quantity([1, 3], [0.8, 2.95], [1.05, 3.05])).word == "fails"
    assert judge(expected, quantity([1, np.nan], [0.8, 2.95], [1.05, 3.05])).word == "fails"


def test_fewer_than_sixteen_seeds_decide_only_where_they_agree() -> None:
    expected = Expectation(at_least=0.5)
    assert judge(expected, quantity(1.0, 0.9, 1.1, 15)) == Verdict("undecided", 16)
    assert judge(expected, mean(np.ones(4))).word == "holds"
    assert judge(expected, share(np.ones(4, bool))) == Verdict("undecided", 16)


def test_a_failed_run_fails_every_expectation_of_a_mean() -> None:
    found = mean(np.where(np.arange(20) == 3, np.nan, 1.0))
    for expected in ({"at_most": 5}, {"at_least": 0}, {"value": 1, "within": 1}):
        assert judge(Expectation(**expected), found).word == "fails"


def test_the_seeds_that_would_decide_do() -> None:
    """The interval of so many seeds, its width falling as it should, lies on one side of the bound."""
    expected = Expectation(at_least=-0.25)
    sample = lambda count: np.resize([-1.0, 1.0], count)  # noqa: E731
    verdict = judge(expected, mean(sample(16)))
    assert verdict.word == "undecided"
    assert verdict.seeds is not None
    assert judge(expected, mean(sample(verdict.seeds // 4 * 2))).word == "undecided"
    assert judge(expected, mean(sample(verdict.seeds // 2 * 2 + 2))).word == "holds"
