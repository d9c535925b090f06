"""Moments against loops; exact recovery from exact moments; signs, rotations, masks, padding; a sampled teacher."""

from itertools import permutations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

from gpsense.errors import BadInput
from gpsense.tickets.tensor import fourth_moment, joint_rotation, moments, subspace, tensor_start, without_quadratic

DIM, NEURONS = 4, 3
MASKS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]], bool)


@pytest.fixture(scope="module")
def start():
    """Several data sets at once: values and masks differ, inputs and their weights do not."""
    one = lambda inputs, values, used, masks: tensor_start(inputs, values, used, NEURONS, masks)  # noqa: E731
    return jax.jit(jax.vmap(one, in_axes=(None, 0, None, 0)))


@pytest.fixture(scope="module")
def rule():
    """Points and weights whose means are those of N(0, I_4) up to degree 9 in every coordinate."""
    nodes, areas = hermegauss(5)
    points = np.array(list(product(nodes, repeat=DIM)))
    return points, np.array([np.prod(each) for each in product(areas, repeat=DIM)])


def _values(points, rows):
    """The degrees 0, 1, 2 and 4 of ``mean_j relu(<w_j, x>)``: all the moments that ReLU has up to the fourth."""
    c, total = 1 / np.sqrt(2 * np.pi), np.zeros(len(points))
    for row in rows:
        length = np.linalg.norm(row)
        t = points @ row / length
        total += length * (c + t / 2 + c * (t**2 - 1) / 2 - c * (t**4 - 6 * t**2 + 3) / 24) / len(rows)
    return total


def _error(found, rows):
    orders = [list(order) for order in permutations(range(len(rows)))]
    return min(np.linalg.norm(np.asarray(found)[order] - rows) for order in orders) / np.linalg.norm(rows)


def test_moments_are_means(rule):
    rng = np.random.default_rng(0)
    x, y, used = rng.normal(size=(7, 3)), rng.normal(size=7), np.array([1, 1, 1, 0, 1, 1, 0.0])
    kept = [(x[i], y[i]) for i in range(7) if used[i]]
    middle = sum(b for _, b in kept) / 5
    first = sum((b - middle) * a for a, b in kept) / 5
    rest = [b - middle - a @ first for a, b in kept]
    second = sum(r * (np.outer(a, a) - np.eye(3)) for (a, _), r in zip(kept, rest, strict=True)) / 5
    padded = np.where(used > 0, y, np.nan)
    found = jax.jit(moments)(*(jnp.asarray(array) for array in (x, padded, used)))
    np.testing.assert_allclose(found.first, first, atol=1e-14)
    np.testing.assert_allclose(found.second, second, atol=1e-14)
    np.testing.assert_allclose(found.rest[used > 0], rest, atol=1e-14)

    expected = np.zeros((3,) * 4)
    for place in np.ndindex(expected.shape):
        for (a, _), r in zip(kept, rest, strict=True):
            term = np.prod(a[list(place)])
            for p, q in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]:
                u, v = {0, 1, 2, 3} - {p, q}
                term -= (place[p] == place[q]) * a[place[u]] * a[place[v]]
                term += (place[p] == place[q]) * (place[u] == place[v]) / 2  # every double pair is met twice
            expected[place] += r * term / 5
    fourth = jax.jit(fourth_moment)(jnp.asarray(x), jnp.where(used > 0, found.rest, 0.0), jnp.asarray(used))
    np.testing.assert_allclose(fourth, expected, atol=1e-13)


def test_rows_come_back_from_exact_moments(start, rule):
    """With any signs; in the order of their masks and 0 outside."""
    points, weights = rule
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(NEURONS, DIM))
    flipped = rows * np.array([[1], [-1], [-1]])
    masked = [rows * mask for mask in (MASKS, MASKS[::-1])]
    everything = [rows, flipped, *masked]
    masks = np.stack([np.ones_like(MASKS)] * 2 + [MASKS, MASKS[::-1]])
    values = np.stack([_values(points, each) for each in everything])
    found = start(*(jnp.asarray(array) for array in (points, values, weights, masks)))
    assert max(_error(found[i], everything[i]) for i in range(2)) < 1e-9
    np.testing.assert_allclose(found[2:], np.stack(masked), atol=1e-9)


def test_rotation_of_the_inputs_turns_the_rows(start, rule):
    """On values without any network, where no moment is exact."""
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    points, values = rng.normal(size=rule[0].shape), rng.normal(size=(4, len(rule[0])))
    used, masks = np.ones(len(points)), np.ones((4, NEURONS, DIM), bool)
    one = start(*(jnp.asarray(array) for array in (points, values, used, masks)))
    turned = start(*(jnp.asarray(array) for array in (points @ turn.T, values, used, masks)))
    assert max(_error(each, np.asarray(other) @ turn.T) for each, other in zip(turned, one, strict=True)) < 1e-6


def test_sampled_teacher_padding_and_precision():
    rng = np.random.default_rng(3)
    rows, inputs = rng.normal(size=(2, 6)), rng.normal(size=(8000, 6))
    values = np.maximum(inputs @ rows.T, 0).mean(1) + 0.1 * rng.normal(size=8000)
    used = (np.arange(8000) < 6000) * 1.0
    begin = jax.jit(lambda x, y, weights: tensor_start(x, y, weights, 2))
    half = begin(*(jnp.asarray(array, jnp.float32) for array in (inputs, values, used)))
    assert half.dtype == jnp.float32
    assert 0 < _error(half, rows) < 0.15
    spoilt = np.where(used > 0, values, 1e3)
    again = begin(*(jnp.asarray(array, jnp.float32) for array in (inputs, spoilt, used)))
    np.testing.assert_allclose(again, half, atol=1e-6)


def test_joint_rotation_diagonalises_and_leaves_the_worst_angle():
    """Three matrices with common axes; and a pair at 45 degrees, where the tangent of the angle is 0/0."""
    rng = np.random.default_rng(4)
    axes = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    matrices = np.stack([axes * row @ axes.T for row in rng.normal(size=(3, 5))])
    rotate = jax.jit(joint_rotation, static_argnums=1)
    found = rotate(jnp.asarray(matrices), 8)
    np.testing.assert_allclose(np.sort(np.abs(axes.T @ found).max(0)), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.abs(rotate(jnp.asarray([[[1.0, 2], [2, 1]]]), 1)), np.sqrt(0.5), atol=1e-12)


def test_subspace_forgets_what_no_neuron_sees_and_raises_what_is_not_positive():
    second = np.diag([2.0, 3.0, -1.0, 9.0])
    second[0, 2] = second[2, 0] = 5.0
    masks = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]], bool)
    basis = jax.jit(subspace, static_argnums=1)(jnp.asarray(second), 3, jnp.asarray(masks))
    np.testing.assert_allclose(basis.strengths, [3e-3, 2.0, 3.0], atol=1e-14)
    np.testing.assert_allclose(np.abs(basis.vectors), np.eye(4)[:, [3, 0, 1]], atol=1e-14)


def test_nothing_is_left_of_a_quadratic(rule):
    """Of ``1 + <a, x> + sum_j s_j (<v_j, x>^2 - 1) / 2`` with orthonormal v_j, once its moments are known."""
    rng = np.random.default_rng(5)
    points, weights = rule
    axes = np.linalg.qr(rng.normal(size=(DIM, 2)))[0]
    values = 1 + points @ rng.normal(size=DIM) + ((points @ axes) ** 2 - 1) @ np.array([1.5, 0.4]) / 2

    @jax.jit
    def left(inputs, values, used):
        found = moments(inputs, values, used)
        basis = subspace(found.second, 2)
        return without_quadratic(basis, inputs @ basis.vectors, found.rest)

    np.testing.assert_allclose(left(*(jnp.asarray(array) for array in (points, values, weights))), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "neurons", "masks", "sweeps"),
    [("neurons", 5, None, 3), ("masks", 2, MASKS, 3), ("sweeps", 2, None, 0)],
)
def test_bad_input(field, neurons, masks, sweeps):
    masks = None if masks is None else jnp.asarray(np.concatenate([masks, masks])[:3])
    with pytest.raises(BadInput, match=field):
        tensor_start(jnp.ones((9, 4)), jnp.ones(9), jnp.ones(9), neurons, masks, sweeps)
