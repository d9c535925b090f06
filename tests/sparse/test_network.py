"""The one-step network against NumPy: step, statistics, ridge, and what is independent of the padding."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sparse import learner
from gpsense.sparse import network as nets
from gpsense.sparse.hermite import RELU
from gpsense.sparse.learner import Recipe
from gpsense.sparse.network import Kept
from gpsense.sparse.samples import table
from tests.sparse.test_samples import everything

DIM, NEURONS = 5, 7
_loss = jax.jit(learner.loss, static_argnums=2)
_risk = jax.jit(learner.risk, static_argnums=2)
_step = jax.jit(nets.step_gradient, static_argnums=5)
_fit = jax.jit(learner.fit, static_argnums=2)
_energy, _kept = jax.jit(learner.energy), jax.jit(nets.kept_coordinates, static_argnums=1)
_draw = jax.jit(nets.draw_weights, static_argnums=(2, 3))
_stepped = jax.jit(nets.stepped)
MASK = np.asarray([True, False, True, True, False])


@pytest.fixture(scope="module")
def samples() -> Any:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, DIM))
    y = x[:, 2] ** 2 - 0.5 * x[:, 3] + 0.1 * rng.normal(size=400)
    return jax.jit(table)(x, y, jax.random.key(0))


@pytest.fixture(scope="module")
def kept() -> Kept:
    return _kept(MASK, 4)


def _network(kept: Kept) -> nets.Network:
    """The network of some weights and a linear part."""
    weights = _draw(jax.random.key(1), kept, NEURONS, jnp.float64)
    return _stepped(weights, np.asarray([0.3, 0, 0, 0]), np.linspace(-1, 1, 2 * NEURONS))


def test_kept_coordinates_are_padded(kept: Kept) -> None:
    np.testing.assert_array_equal(kept.coordinates[:3], [0, 2, 3])
    np.testing.assert_array_equal(kept.real, [True, True, True, False])


def test_weights_belong_to_coordinates(kept: Kept) -> None:
    narrow = np.asarray(_draw(jax.random.key(1), kept, NEURONS, jnp.float64))
    wide = _draw(jax.random.key(1), _kept(MASK, DIM), NEURONS, jnp.float64)
    np.testing.assert_allclose(narrow[:3], np.asarray(wide)[:3], rtol=1e-12)
    np.testing.assert_array_equal(narrow[3], 0)
    np.testing.assert_allclose(np.sum(narrow**2, axis=0), 1.0, rtol=1e-12)


@pytest.mark.parametrize("residual", nets.RESIDUALS)
def test_the_step_is_minus_the_gradient_of_the_loss(samples: Any, kept: Kept, residual: str) -> None:
    """At output weights +1 and a network that is 0: half of minus the gradient of the mean squared error."""
    x, y = everything(samples)
    x = x[:, [0, 2, 3]]
    linear = jax.jit(nets.RESIDUALS[residual])(samples, kept)
    expected = {"none": np.zeros(3), "mean": x.T @ y / len(y), "ols": np.linalg.lstsq(x, y, rcond=None)[0]}[residual]
    np.testing.assert_allclose(linear, [*expected, 0.0], atol=1e-9)
    weights = _draw(jax.random.key(1), kept, NEURONS, jnp.float64)
    biases = np.linspace(-1.0, 1.0, NEURONS)
    found = np.asarray(_step(samples, kept, weights, biases, linear, RELU))
    slopes = (x @ np.asarray(weights)[:3] + biases > 0).astype(float)
    by_hand = ((y - x @ expected)[:, None] * x).T @ slopes / len(y)
    np.testing.assert_allclose(found[:3], by_hand, atol=1e-9)
    np.testing.assert_array_equal(found[3], 0)


def test_the_step_agrees_with_automatic_differentiation(samples: Any, kept: Kept) -> None:
    """Of a mirrored network: neurons of a pair have opposite gradients, and a step forgets the start."""
    weights = np.asarray(_draw(jax.random.key(1), kept, NEURONS, jnp.float64))
    biases, zero = np.linspace(-1.0, 1.0, NEURONS), np.zeros(())
    signs = np.repeat(np.asarray([1.0, -1.0]), NEURONS)
    start = nets.Network(np.tile(weights, (1, 2)), np.tile(biases, 2), signs, np.zeros(4), zero)
    _, slope = _loss(samples, kept, RELU, start)
    gradient = np.asarray(_step(samples, kept, weights, biases, np.zeros(4), RELU))
    np.testing.assert_allclose(-np.asarray(slope.weights) / 2, np.concatenate([gradient, -gradient], 1), atol=1e-12)
    stepped = _stepped(gradient, np.zeros(4), np.zeros(2 * NEURONS))
    np.testing.assert_allclose(np.median(np.linalg.norm(stepped.weights, axis=0)), 1.0, rtol=1e-12)


def test_ridge_is_the_minimum(samples: Any, kept: Kept) -> None:
    net = _network(kept)
    penalties = np.asarray([1e-3, 0.5])

    @jax.jit
    def fitted():
        path = nets.ridge(nets.statistics(samples, kept, net, RELU), net, penalties)
        return path, nets.squared_errors(samples, kept, path, RELU)

    path, (errors, variance) = fitted()
    x, y = everything(samples)
    h = np.maximum(x[:, [0, 2, 3]] @ np.asarray(net.weights)[:3] + np.asarray(net.biases), 0)
    residual = y - 0.3 * x[:, 0]
    centred = h - h.mean(0)
    for index, penalty in enumerate(penalties):
        scale = centred.var(0).mean()
        matrix = centred.T @ centred / len(y) + penalty * scale * np.eye(2 * NEURONS)
        expected = np.linalg.solve(matrix, centred.T @ (residual - residual.mean()) / len(y))
        np.testing.assert_allclose(np.asarray(path.output)[index], expected, rtol=1e-8, atol=1e-10)
        intercept = residual.mean() - h.mean(0) @ expected
        np.testing.assert_allclose(np.asarray(path.intercept)[index], intercept, atol=1e-10)
    found = h @ np.asarray(path.output)[0] + 0.3 * x[:, 0] + np.asarray(path.intercept)[0]
    np.testing.assert_allclose(np.asarray(errors)[0], np.mean((found - y) ** 2), rtol=1e-10)
    np.testing.assert_allclose(variance, y.var(), rtol=1e-10)


def test_loss_and_gradient_by_differences(samples: Any, kept: Kept) -> None:
    net = jax.tree.map(np.asarray, _network(kept))
    net = eqx.tree_at(lambda n: n.output, net, np.linspace(-0.3, 0.2, 2 * NEURONS))
    value, slope = _loss(samples, kept, RELU, net)
    x, y = everything(samples)
    predicted = jax.jit(lambda x: net(RELU, x))(x[:, [0, 2, 3, 3]].T * np.asarray([1, 1, 1, 0])[:, None])
    np.testing.assert_allclose(value, np.mean((np.asarray(predicted) - y) ** 2), rtol=1e-10)
    step = 1e-6
    for name, place in (("output", (3,)), ("biases", (5,)), ("linear", (1,)), ("weights", (2, 4))):
        moved = np.zeros_like(getattr(net, name))
        moved[place] = step
        at = lambda by, name=name: eqx.tree_at(lambda n: getattr(n, name), net, getattr(net, name) + by)  # noqa: E731
        difference = float(_loss(samples, kept, RELU, at(moved))[0] - _loss(samples, kept, RELU, at(-moved))[0])
        np.testing.assert_allclose(np.asarray(getattr(slope, name))[place], difference / (2 * step), atol=1e-6)


@pytest.mark.slow
def test_the_fit_does_not_depend_on_the_padding(samples: Any, kept: Kept) -> None:
    recipe = Recipe(NEURONS, RELU, "ols")
    narrow = _fit(samples, kept, recipe, jax.random.key(2))
    wide_kept = nets.kept_coordinates(jnp.asarray(MASK), DIM)
    wide = _fit(samples, wide_kept, recipe, jax.random.key(2))
    errors = [_risk(samples, k, RELU, f.network) for k, f in ((kept, narrow), (wide_kept, wide))]
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-9)
    assert 0 < float(errors[0]) < 0.3
    np.testing.assert_allclose(narrow.gradient[:3], wide.gradient[:3], atol=1e-12)


def test_given_directions_take_the_place_of_the_step(samples: Any, kept: Kept) -> None:
    direction = np.asarray([[0.0], [1.0], [0.0], [0.0]])
    found = _fit(samples, kept, Recipe(NEURONS, RELU, "ols"), jax.random.key(2), np.stack([direction, direction]))
    np.testing.assert_allclose(np.asarray(found.network.weights)[[0, 2, 3]], 0.0, atol=1e-12)
    assert float(_energy(found.network.weights, direction)) == pytest.approx(1.0)
    silent = _fit(samples, kept, Recipe(NEURONS, RELU, second_layer="none"), jax.random.key(2))
    np.testing.assert_allclose(_risk(samples, kept, RELU, silent.network), 1.0, rtol=1e-9)


def test_energy() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    truth, other = basis[:, :2], basis[:, 2:]
    inside, outside = truth @ np.ones((2, 3)), other @ np.ones((4, 3))
    np.testing.assert_allclose(_energy(inside, truth), 1.0)
    np.testing.assert_allclose(_energy(outside, truth), 0.0, atol=1e-14)
    np.testing.assert_allclose(_energy(inside + outside, truth), 2 / 6)
    np.testing.assert_allclose(_energy(inside, truth @ np.asarray([[0.0, 1], [1, 0]])), 1.0)
