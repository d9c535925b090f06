"""What the claims of lottery tickets make of shares that cross a half, and of curves whose factor is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from launch.claims import quantities
from launch.claims.expectations import Expectation
from launch.claims.lottery_ticket import CHECKS
from launch.claims.lottery_ticket.rates import factor
from launch.claims.lottery_ticket.samples import half
from launch.claims.quantities import Quantity
from launch.claims.verdicts import judge
from tests.reference_claims import ANY, dataset, outcome, over, value


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantities, "RESAMPLES", 20)


def fails(expected: Expectation, quantity: Quantity) -> bool:
    return judge(expected, quantity).word == "fails"


def spectral(mu: float, largest: float, rate: float, momentum: float) -> float:
    """Spectral radius of heavy ball on curvatures from mu to the largest."""
    steps = [np.asarray([[1 + momentum - rate * c, -momentum], [1, 0]]) for c in np.linspace(mu, largest, 9)]
    return max(np.abs(np.linalg.eigvals(step)).max() for step in steps)


def flatter(rate: float, wanted: float) -> dict[str, Any]:
    """Scalars of gradient descent whose factor is the wanted."""
    return {"least_eigenvalue": ((), (1 - wanted) / rate), "largest_eigenvalue": ((), 1 / rate)}


def test_a_crossing_is_linear_between_points_upwards_and_downwards() -> None:
    x = np.asarray([100.0, 200, 400])
    seeds = lambda *shares: np.stack([np.arange(10) < 10 * share for share in shares], axis=1).astype(float)  # noqa: E731
    assert half(x, seeds(0.2, 0.8, 1)) == pytest.approx(150)
    assert half(x, seeds(0.4, 0.9, 1)) == pytest.approx(120)
    assert half(x, seeds(1, 0.9, 0.1)) == pytest.approx(300)
    assert half(x, seeds(0, 0.5, 1)) == pytest.approx(200)
    assert np.isnan(half(x, seeds(0, 0.2, 0.4)))
    assert np.isnan(half(x, seeds(0.6, 0.9, 1)))


R, N, K = np.asarray([10, 20, 30]), np.arange(20, 260, 20), 5


def phase(needed: Callable[[float, int], float]) -> xr.Dataset:
    success = over(lambda distance, r, n: n > needed(distance, r), [0.1, 0.5], R, N)
    axes = {"distance": [0.1, 0.5], "support": R, "n": N}
    return dataset(axes, {"neurons": K}, success=(("distance", "support", "n"), success))


def test_samples_on_a_line_give_its_slope_and_no_residual() -> None:
    cells = phase(lambda distance, r: 10 + 6 * r if distance == 0.1 else 10 + 4 * r)
    found = CHECKS["phase_map"]({"": cells.transpose("n", "seed", ...)})
    np.testing.assert_allclose(value(found, "N50, start at 0.1"), [70, 130, 190])
    np.testing.assert_allclose(value(found, "N50 over K r, start at 0.1"), [1.4, 1.3, 19 / 15])
    assert value(found, "slope in r, start at 0.1") == pytest.approx(6)
    assert value(found, "slope in r, start at 0.5") == pytest.approx(4)
    assert value(found, "R^2, start at 0.5") == pytest.approx(1)


def test_a_diverged_run_has_not_found_the_teacher() -> None:
    cells = phase(lambda distance, r: 10 + 6 * r)
    failed = cells.copy(deep=True)
    failed["success"][0] = 0.0
    lost = cells.copy(deep=True)
    lost["success"][0] = np.nan
    one, other = (CHECKS["phase_map"]({"": each}) for each in (failed, lost))
    np.testing.assert_array_equal(value(one, "N50, start at 0.1"), value(other, "N50, start at 0.1"))
    np.testing.assert_allclose(value(other, "N50, start at 0.1"), 60 + 20 * 0.5 / 0.8 + np.asarray([0, 60, 120]))


def test_curves_that_never_cross_hold_nothing() -> None:
    found = outcome("phase_map", {"": phase(lambda distance, r: 10 + 6 * r if r < 30 else 1e9)})
    for name in ("N50", "slope in r", "R^2", "N50 over K r"):
        assert fails(ANY, found.quantities[f"{name}, start at 0.1"])
    np.testing.assert_allclose(value(found, "N50, start at 0.1")[:2], [70, 130])


@pytest.mark.parametrize("beyond", [0.0, 9.0])
def test_the_radius_falls_along_a_line_in_the_root_of_the_size(beyond: float) -> None:
    r, distance = np.asarray([4, 9, 16]), np.arange(0.1, 1.6, 0.2)
    success = over(lambda size, start: start < 1.4 - 0.2 * np.sqrt(size) + (beyond if size == 16 else 0), r, distance)
    cells = dataset({"support": r, "distance": distance}, {}, success=(("support", "distance"), success))
    curvature = over(lambda size, start: (0.85 - 0.2 * np.sqrt(size) - start) / size, [4, 9], distance)
    curvature[:, -1] = 1.0  # convex again far away, which does not count
    axes = {"support": [4, 9], "distance": distance}
    runs = {"": cells, "convex": dataset(axes, {}, secant_curvature=(("support", "distance"), curvature))}
    found = outcome("radius", runs) if beyond else CHECKS["radius"](runs)
    np.testing.assert_allclose(value(found, "radius of convexity"), [0.4, 0.2])
    assert value(found, "radius of convexity, fewest over most inputs") == pytest.approx(2)
    if beyond:
        assert fails(ANY, found.quantities["radius"])
        assert fails(ANY, found.quantities["slope in sqrt(r)"])
    else:
        np.testing.assert_allclose(value(found, "radius"), [1.0, 0.8, 0.6])
        assert value(found, "slope in sqrt(r)") == pytest.approx(-0.2)


def test_overlap_costs_samples_and_speed() -> None:
    shares, steps = [1.0, 0.0, 0.5], np.arange(0, 1001, 10)
    success = over(lambda overlap, n: n > 110 + 40 * overlap, shares, N)
    size = over(lambda overlap: 20 if overlap else 7.2, shares)
    axes = {"overlap": shares, "n": N}
    measures = {"success": (("overlap", "n"), success), "effective_size": (("overlap",), size)}
    cells = dataset(axes, {"neurons": K, "distance": 0.5}, **measures)
    curves = over(lambda overlap: 0.1 * (0.8 + 0.1 * overlap) ** steps, shares)
    curve = {"error_curve": (("overlap", "step"), curves), "error": (("overlap",), [0.0] * 3)} | flatter(2.0, 0.8)
    rate = dataset({"overlap": shares, "step": steps}, {"rate": 2.0, "momentum": 0.0}, **curve)
    found = outcome("overlap", {"": cells, "rate": rate})
    np.testing.assert_allclose(value(found, "N50, start at 0.5"), [110, 130, 150])
    assert value(found, "N50, most over least overlap, start at 0.5") == pytest.approx(15 / 11)
    np.testing.assert_allclose(value(found, "factor a step"), [0.9, 0.8, 0.85])
    np.testing.assert_allclose(value(found, "measured less predicted"), [0.1, 0, 0.05], atol=1e-9)


@pytest.mark.parametrize(("last", "ratio"), [(70, 1.4), (1e9, np.nan)])
def test_a_dimension_without_a_crossing_is_not_passed_over(last: float, ratio: float) -> None:
    dims = [40, 100, 200]
    success = over(lambda dim, n: n > {40: 50, 100: last, 200: 70}[dim], dims, N)
    found = outcome("inputs", {"": dataset({"dim": dims, "n": N}, {}, success=(("dim", "n"), success))})
    assert value(found, "N50, largest over smallest") == pytest.approx(ratio, nan_ok=True)
    assert fails(Expectation(at_most=1.5), found.quantities["N50, largest over smallest"]) == np.isnan(ratio)


def test_a_factor_is_that_of_the_curve_between_its_ends() -> None:
    steps = np.arange(0, 500, 10)
    curve = 0.1 * 0.9**steps
    assert factor(curve, steps) == pytest.approx(0.9)
    assert factor(curve[np.minimum(np.arange(50), 14)], steps) == pytest.approx(0.9)  # stops, repeating its last record
    assert factor(curve + 1e-12, steps) == pytest.approx(0.9, abs=1e-4)  # rounding
    bent = np.where(steps < 40, 0.1, 0.1 * 0.9 ** (steps - 40))
    assert factor(bent, steps) == pytest.approx(0.9)
    assert np.isnan(factor(np.where(steps > 60, np.nan, curve), steps))
    assert np.isnan(factor(0.1 * 0.999**steps, steps))
    assert np.isnan(factor(np.full(len(steps), 0.1), steps))


def test_momentum_against_the_spectral_radius() -> None:
    beta, steps, rate, mu, largest = np.asarray([0, 0.2, 0.5, 0.9]), np.arange(0, 1200, 10), 8.0, 0.01, 0.2
    known = np.asarray([spectral(mu, largest, rate, b) for b in beta])
    assert known[-1] == pytest.approx(np.sqrt(0.9))
    measured = known + np.asarray([0.001, 0.004, 0.003, 0.002])
    curves = 0.1 * measured[:, None] ** steps
    axes = {"momentum": beta, "step": steps}
    parts = {"error_curve": (("momentum", "step"), curves), "error": (("momentum",), [0.0] * 4)}
    parts |= {"least_eigenvalue": (("momentum",), [mu] * 4), "largest_eigenvalue": (("momentum",), [largest] * 4)}
    cells = dataset(axes, {"rate": rate}, **parts)
    found = outcome("momentum", {"": cells})
    np.testing.assert_allclose(value(found, "predicted"), known, rtol=1e-5)
    np.testing.assert_allclose(value(found, "factor a step"), measured, rtol=1e-9)
    assert value(found, "off the prediction, momentum 0.5 and more") == pytest.approx(0.003, rel=0.01)
    assert value(found, "off the prediction, less momentum") == pytest.approx(0.004, rel=0.01)
    cells["error_curve"][0, 2] = np.nan
    lost = CHECKS["momentum"]({"": cells})
    assert fails(ANY, lost.quantities["off the prediction, momentum 0.5 and more"])
    assert not fails(ANY, lost.quantities["off the prediction, less momentum"])


def test_factors_in_the_root_of_the_size_are_told_from_those_in_the_size() -> None:
    r, beta, steps = np.asarray([2, 10, 40, 160]), [0.0, 0.5], np.arange(0, 1200, 10)
    law = lambda momentum, size: 0.7 + (0.02 * np.sqrt(size) if momentum == 0 else 0.0015 * size)  # noqa: E731
    curves = over(lambda momentum, size: 0.1 * law(momentum, size) ** steps, beta, r)
    least = over(lambda size: (1 - law(0, size)) / 2.0, r)
    parts = {
        "error_curve": (("momentum", "support", "step"), curves),
        "error": (("momentum", "support"), curves[..., 0]),
    }
    parts |= {"least_eigenvalue": (("support",), least), "largest_eigenvalue": ((), 0.5)}
    cells = dataset({"momentum": beta, "support": r, "step": steps}, {"rate": 2.0}, **parts)
    found = outcome("rate_size", {"": cells})
    np.testing.assert_allclose(value(found, "factor a step, gradient descent"), 0.7 + 0.02 * np.sqrt(r))
    assert value(found, "off the prediction, gradient descent") == pytest.approx(0, abs=1e-8)
    assert value(found, "R^2 in sqrt(r), gradient descent") == pytest.approx(1)
    assert value(found, "R^2 in r, momentum 0.5") == pytest.approx(1)
    assert value(found, "R^2 in r, gradient descent") < 0.97
    assert value(found, "R^2 in sqrt(r), momentum 0.5") < 0.97


def test_the_best_rate_of_every_number_of_neurons() -> None:
    steps = np.arange(0, 2400, 4)

    def cells(neurons: int) -> xr.Dataset:
        gap = lambda rate, beta: (rate - 1) * 0.5 * (0.8 / neurons if beta == 0 else 0.8 / np.sqrt(neurons))  # noqa: E731
        curves = over(lambda beta, rate: 0.1 * (1 - gap(rate, beta)) ** steps, [0.6, 0.0], [2, 3, 4])
        curves[:, 2] = np.nan  # too fast, diverged
        names = ("momentum", "rate")
        parts = {"error_curve": ((*names, "step"), curves), "least_eigenvalue": ((), 0.1 / neurons)}
        parts |= {"largest_eigenvalue": ((), 0.1), "error": (names, curves[..., 0])}
        return dataset({"momentum": [0.6, 0.0], "rate": [2, 3, 4], "step": steps}, {"neurons": neurons}, **parts)

    found = outcome("rate_neurons", {"": cells(2), "more": cells(16), "some": cells(4)})
    np.testing.assert_allclose(value(found, "1 - factor, gradient descent"), 0.8 / np.asarray([2, 4, 16]))
    assert value(found, "slope in K, gradient descent") == pytest.approx(-1)
    assert value(found, "slope in K, heavy ball") == pytest.approx(-0.5)
    assert value(found, "slope in K, heavy ball less gradient descent") == pytest.approx(0.5)


def test_noise_over_its_floor_and_its_law() -> None:
    r, n, sigma = [10, 20], np.asarray([300, 600]), [0.01, 0.3]
    law = lambda size, noise, count: noise * np.sqrt(K * size / (count - K * size))  # noqa: E731
    error = over(lambda size, noise, count: (1.6 if size == 10 else 2.0) * law(size, noise, count), r, sigma, n)
    names = ("support", "noise", "n")
    axes = {"support": r, "noise": sigma, "n": n}
    cells = dataset(axes, {"neurons": K}, error=(names, error), noise_floor=(names, error / 1.05))
    found = outcome("noise", {"": cells})
    assert value(found, "over least squares at the teacher") == pytest.approx(1.05)
    np.testing.assert_allclose(value(found, "over least squares, smallest and largest"), 1.05)
    np.testing.assert_allclose(value(found, "over the law, smallest and largest"), [1.6, 2.0], rtol=1e-5)
