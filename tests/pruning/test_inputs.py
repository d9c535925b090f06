"""Scores of coordinates against loops, their invariances, and the paper's two counter-examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from gpsense.pruning import inputs
from gpsense.sparse.hermite import ACTIVATIONS, RELU, link
from gpsense.sparse.samples import GaussianSamples, table
from tests.sparse.test_samples import everything

C, BIASES = 0.6, np.asarray([0.4, -1.1])
_gradients = jax.jit(inputs.gradients, static_argnums=(3, 4))
_table = jax.jit(table)
_population = jax.jit(theory.population_gradient, static_argnums=(0, 1, 5))
_scores = jax.jit(inputs.gradient_scores, static_argnums=(3, 4, 5))


@pytest.fixture(scope="module")
def samples() -> Any:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 5))
    y = x[:, 1] ** 2 - 0.5 * x[:, 3] + 0.1 * rng.normal(size=300)
    return _table(x, y, jax.random.key(0))


def by_loops(samples: Any, part: str) -> np.ndarray:
    """``G[b, i] = (1/n) sum y x phi'_part(<e~_i, x>; b)``, one sample after another."""
    x, y = everything(samples, np.arange(6))
    found = np.zeros((len(BIASES), 5, 5))
    for row, value in zip(x, y, strict=True):
        for b, bias in enumerate(BIASES):
            for i in range(5):
                t = C * row[i] + np.sqrt(1 - C**2) * row[5]
                one, other = float(t + bias > 0), float(-t + bias > 0)
                slope = {"even": (one - other) / 2, "odd": (one + other) / 2, "none": one}[part]
                found[b, i] += value * row[:5] * slope
    return found / len(y)


@pytest.mark.parametrize(("parity", "parts"), [("both", ["even", "odd"]), ("none", ["none"])])
def test_gradients_match_loops(samples: Any, parity: str, parts: list[str]) -> None:
    found, linear = _gradients(samples, jnp.asarray(BIASES), C, RELU, parity)
    expected = np.stack([by_loops(samples, part) for part in parts], 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    x, y = everything(samples, np.arange(6))
    slopes = ((x[:, 5] + 0.4 > 0) + (-x[:, 5] + 0.4 > 0).astype(float)) / 2
    np.testing.assert_allclose(linear, (y * slopes) @ x[:, :5] / len(y), atol=1e-12)


def test_scores_keep_the_largest_entries(samples: Any) -> None:
    found = _scores(samples, jnp.asarray(BIASES), C, 2, RELU, "even")
    expected = np.zeros(5)
    for gradients in by_loops(samples, "even"):
        expected += [np.sum(np.sort(np.abs(row))[-2:] ** 2) for row in gradients]
    np.testing.assert_allclose(found.squares[0], expected, atol=1e-12)
    assert found.linear is None


def test_scores_do_not_depend_on_the_order_of_coordinates() -> None:
    rng = np.random.default_rng(2)
    x, y, order = rng.normal(size=(200, 4)), rng.normal(size=200), np.asarray([2, 0, 3, 1])
    one, other = (_scores(_table(v, y, jax.random.key(1)), jnp.asarray(BIASES), C, 2, RELU) for v in (x, x[:, order]))
    np.testing.assert_allclose(np.asarray(one.squares)[:, order], other.squares, rtol=1e-12)
    assert one.linear is not None
    assert other.linear is not None
    np.testing.assert_allclose(np.asarray(one.linear)[order], other.linear, rtol=1e-12)


def test_parts_of_an_activation() -> None:
    t, b, h = np.linspace(-3.0, 3.0, 41), 0.7, 1e-6
    slope_part = jax.jit(inputs.slope_part, static_argnums=(0, 1))
    tanh = ACTIVATIONS["tanh"]
    for part, sign in (("even", 1), ("odd", -1)):
        value = lambda t, sign=sign: (np.tanh(t + b) + sign * np.tanh(-t + b)) / 2  # noqa: E731
        slope = slope_part(tanh, part, t, b)
        np.testing.assert_allclose(slope, (value(t + h) - value(t - h)) / (2 * h), atol=1e-9)
    np.testing.assert_allclose(slope_part(tanh, "none", t, b), 1 - np.tanh(t + b) ** 2, rtol=1e-12)


def test_the_union_of_the_pools() -> None:
    found = inputs.Scores(jnp.asarray([[5.0, 4, 1, 0, 0], [0, 1, 6, 2, 0]]), jnp.asarray([0.0, 0, 0, 1, 9]))
    chosen = jax.jit(inputs.chosen, static_argnums=1)
    np.testing.assert_array_equal(chosen(found, 1), [True, False, True, False, True])
    assert np.count_nonzero(chosen(found, 2)) == 5
    largest = jax.jit(inputs.largest, static_argnums=1)
    np.testing.assert_array_equal(largest(np.asarray([1.0, 1.0, 1.0]), 2), [True, True, False])
    assert [inputs.PARITIES[name].pools for name in ("both", "even", "odd", "none")] == [3, 1, 2, 1]


def gaussian(rows: np.ndarray, dim: int, coefficients: list[float], n: float) -> GaussianSamples:
    nothing = jnp.zeros(())
    return GaussianSamples(
        jax.random.key(5),
        jnp.asarray(n),
        nothing,
        jnp.arange(len(rows)),
        jnp.asarray(rows),
        nothing,
        dim,
        link(coefficients),
    )


def test_gradients_tend_to_the_population() -> None:
    rows = np.asarray([[0.8], [0.6]])
    stream = gaussian(rows, 4, [0.0, 1.0, 0.5], 60_000.0)
    found, _ = _gradients(stream, jnp.asarray(BIASES), C, RELU, "both")
    truth = np.zeros((5, 1))
    truth[:2] = rows
    for b, bias in enumerate(BIASES):
        for i in range(2):
            weight = np.zeros(5)
            weight[[i, 4]] = C, np.sqrt(1 - C**2)
            for place, part in enumerate(("even", "odd")):
                expected = _population(stream.link, RELU, weight, truth, bias, part)
                np.testing.assert_allclose(found[b, place, i], expected[:4], atol=0.015)


@pytest.mark.slow
def test_whole_activations_rank_a_support_last() -> None:
    """Counter-example (6.1): a linear part hides the support from whole activations, and not from even parts."""
    stream = gaussian(np.eye(2), 64, [-1 / np.sqrt(np.pi), 1.0], 4000.0)
    bias = jnp.zeros(1)
    whole, even = (_scores(stream, bias, 1.0, 8, RELU, parity).squares[0] for parity in ("none", "even"))
    place = lambda row: np.sort(np.argsort(np.argsort(-row))[:2])  # noqa: E731
    np.testing.assert_array_equal(place(whole), [62, 63])
    np.testing.assert_array_equal(place(even), [0, 1])
