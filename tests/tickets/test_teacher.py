"""Masked teachers: supports and masks counted, weights and noise measured, risk and starts against loops."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.tickets import teacher

DIM, NEURONS = 11, 4


@pytest.fixture(scope="module")
def supports():
    """Sizes and supports of 4 neurons for a size, unevenness and overlap, independent and with the overlap."""

    @jax.jit
    def draw(size, uneven, overlap):
        sizes = teacher.support_sizes(NEURONS, size, uneven, DIM, jnp.float64)
        masks = [kind.draw(jax.random.key(5), DIM, sizes, overlap) for kind in teacher.SUPPORTS.values()]
        return sizes, *masks

    return lambda *numbers: [np.asarray(each) for each in draw(*map(float, numbers))]


def test_supports_have_their_sizes(supports):
    for size, uneven, expected in ((3, 0.0, [3, 3, 3, 3]), (6, 0.5, [3, 5, 7, 9]), (8, 0.9, [1, 6, 10, 11])):
        sizes, independent, overlap = supports(size, uneven, 0.5)
        np.testing.assert_array_equal(sizes, expected)
        np.testing.assert_array_equal(independent.sum(1), expected)
        np.testing.assert_array_equal(overlap.sum(1), expected)
    assert float(teacher.support_sizes(1, 3, 0.9, DIM, jnp.float32)[0]) == 3


def test_neurons_share_what_they_are_told_to(supports):
    """Their own inputs are nobody else's while there are enough; beyond that as many as must be."""
    for size, share, common in ((2, 0.0, 0), (3, 0.34, 1), (3, 0.7, 2), (4, 1.0, 4)):
        mask = supports(size, 0.0, share)[2]
        assert mask.all(0).sum() == common
        np.testing.assert_array_equal(np.sort(mask.sum(0))[::-1][common:].max(), int(size > common))
        for one, other in pairwise(mask):
            assert (one & other).sum() == common
    mask = supports(5, 0.0, 0.4)[2]
    assert mask.all(0).sum() == 2
    np.testing.assert_array_equal(np.sort(mask.sum(0)), [1] * 6 + [2] * 3 + [4] * 2)
    assert supports(11, 0.0, 0.0)[2].all()


def test_independent_supports_grow_and_differ(supports):
    small, large = supports(3, 0.0, 0.0)[1], supports(6, 0.0, 0.0)[1]
    assert (large | ~small).all()
    assert len({row.tobytes() for row in large}) == NEURONS


def test_weights_lie_on_the_mask_and_fall_by_the_condition():
    mask = np.random.default_rng(0).random((3, 4000)) < 0.7
    drawn = jax.jit(teacher.draw_weights, static_argnums=(2, 4))
    for entries, bound in ((teacher.uniform_entries, 0.5), (teacher.gaussian_entries, np.inf)):
        weights = drawn(jax.random.key(0), jnp.asarray(mask), entries, 9.0, jnp.float64)
        assert weights.dtype == jnp.float64
        assert (np.asarray(weights)[~mask] == 0).all()
        falls = np.array([1.0, 1 / 3, 1 / 9])
        rms = [np.sqrt(np.mean(np.asarray(row)[keep] ** 2)) for row, keep in zip(weights, mask, strict=True)]
        np.testing.assert_allclose(rms / falls, np.sqrt(1 / 12), rtol=0.05)
        assert 0.9 * min(bound, 0.6) < np.abs(weights[0]).max() <= bound
    alone = drawn(jax.random.key(0), jnp.ones((1, 5), bool), teacher.uniform_entries, 9.0, jnp.float32)
    assert alone.dtype == jnp.float32


@pytest.fixture(scope="module")
def rows():
    """Weights of 3 neurons in 5 inputs."""
    return np.random.default_rng(1).normal(size=(3, 5))


def _output(rows, x):
    """The formula, term by term."""
    return sum(max(sum(w * t for w, t in zip(row, x, strict=True)), 0.0) for row in rows) / len(rows)


def test_samples_are_the_teachers_with_noise_of_the_size_said(rows):
    draw = jax.jit(teacher.draw_samples, static_argnums=2)
    key, weights = jax.random.key(2), jnp.asarray(rows)
    quiet, loud = (draw(key, weights, 4000, 3000.0, noise) for noise in (0.0, 0.3))
    np.testing.assert_array_equal(quiet.inputs, loud.inputs)
    np.testing.assert_allclose(quiet.values[:20], [_output(rows, x) for x in np.asarray(quiet.inputs[:20])], rtol=1e-12)
    rms = np.sqrt(np.mean(np.asarray(quiet.values) ** 2))
    np.testing.assert_allclose(np.sqrt(quiet.power), rms, rtol=0.05)
    noise = np.asarray(loud.values - quiet.values) / np.sqrt(float(loud.power))
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 0.3], atol=0.015)
    np.testing.assert_allclose([np.mean(quiet.inputs), np.var(quiet.inputs)], [0.0, 1.0], atol=0.02)
    np.testing.assert_array_equal(quiet.used, np.arange(4000) < 3000)
    assert abs(np.corrcoef(noise, quiet.values)[0, 1]) < 0.05
    few = draw(key, weights, 50, 50.0, 0.3)
    for name in ("inputs", "values"):
        np.testing.assert_array_equal(getattr(few, name), getattr(loud, name)[:50])


def test_risk_is_half_the_mean_square_over_the_rows_in_use(rows):
    rng = np.random.default_rng(3)
    student, x, y = rng.normal(size=rows.shape), rng.normal(size=(6, 5)), rng.normal(size=6)
    used = np.array([1.0, 1, 0, 1, 0, 1])
    expected = sum((_output(student, x[i]) - y[i]) ** 2 for i in range(6) if used[i]) / (2 * 4)
    given = [jnp.asarray(array) for array in (student, x, y, used)]
    risk = jax.jit(teacher.risk)
    np.testing.assert_allclose(risk(*given), expected, rtol=1e-12)
    assert float(risk(*given[:3], jnp.zeros(6))) == 0


@pytest.mark.parametrize(
    ("n", "used"), [(6, 5), (6, 2), (6, None), (400, 100), (400, 101), (400, 0), (600, 333), (600, None)]
)
def test_gradients_are_sums_over_the_rows_in_use(n, used):
    """Of few rows at once, of many in blocks, the last of which overlaps the one before; neuron by neuron."""
    rng = np.random.default_rng(1)
    truth, weights = rng.normal(size=(2, 3, 4))
    draw = jax.jit(teacher.draw_samples, static_argnums=2)
    samples = draw(jax.random.key(0), truth, n, used, 0.1)
    used = n if used is None else used
    square, slope = jax.jit(teacher.risk_and_gradient)(weights, samples)
    residual = np.asarray([_output(weights, x) for x in np.asarray(samples.inputs)]) - samples.values
    residual, x = residual[:used], np.asarray(samples.inputs)[:used]
    expected = [np.where(x @ row > 0, residual, 0.0) @ x / (3 * max(used, 1)) for row in weights]
    np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(square, np.sum(residual**2) / (2 * max(used, 1)), rtol=1e-12)


@pytest.fixture(scope="module")
def cover():
    """A mask for sizes and an accuracy of the support of 3 neurons in 10 inputs: 4, 4 and 9 of them."""
    support = np.zeros((3, 10), bool)
    for row, inputs in zip(support, ([0, 1, 2, 3], [2, 5, 7, 9], range(9)), strict=True):
        row[list(inputs)] = True
    fixed = jnp.asarray(support)
    draw = jax.jit(lambda sizes, accuracy: teacher.student_mask(jax.random.key(1), fixed, sizes, accuracy))
    return support, lambda sizes, accuracy: np.asarray(draw(jnp.asarray(sizes, float), accuracy))


@pytest.mark.parametrize(
    ("sizes", "accuracy", "right"),
    [
        ((4, 4, 9), 1.0, (4, 4, 9)),
        ((4, 4, 9), 0.0, (0, 0, 8)),  # one input lies outside the last support
        ((4, 4, 9), 0.5, (2, 2, 8)),
        ((6, 6, 6), 0.75, (3, 3, 6)),
        ((2, 3, 5), 1.0, (2, 3, 5)),
        ((9, 10, 10), 0.25, (3, 4, 9)),
        ((10, 7, 1), 0.0, (4, 1, 0)),
    ],
)
def test_masks_cover_as_much_as_they_are_told(cover, sizes, accuracy, right):
    support, draw = cover
    mask = draw(sizes, accuracy)
    np.testing.assert_array_equal(mask.sum(1), sizes)
    np.testing.assert_array_equal((mask & support).sum(1), right)


def test_masks_are_nested(cover):
    support, draw = cover
    for least, more in ((0.25, 0.5), (0.5, 1.0)):
        low, high = (draw((4, 4, 5), accuracy) & support for accuracy in (least, more))
        assert (high | ~low).all()
        assert high.sum() > low.sum()
    masks = [draw((size,) * 3, 0.5) for size in range(1, 11)]
    assert all((large | ~small).all() for small, large in pairwise(masks))
    assert len({row.tobytes() for row in draw((2, 2, 2), 0.0)}) == 3


def test_starts_are_where_they_should_be(rows):
    mask = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 1, 1], [1, 0, 1, 0, 0]], bool)
    near = jax.jit(lambda key, mask, distance: teacher.near_start(key, jnp.asarray(rows), mask, distance))
    truth = np.where(mask, rows, 0.0)
    for distance in (0.0, 0.7):
        start = np.asarray(near(jax.random.key(3), mask, distance))
        assert (start[~mask] == 0).all()
        np.testing.assert_allclose(np.linalg.norm(start - truth), distance * np.linalg.norm(rows), rtol=1e-12)
    one, other = (near(jax.random.key(4), mask, distance) - truth for distance in (0.1, 0.3))
    np.testing.assert_allclose(3 * one, other, rtol=1e-9)

    wide = np.tile(mask, (1, 300))
    weights = jnp.asarray(np.tile(rows, (1, 300)))
    start = np.asarray(jax.jit(teacher.random_start)(jax.random.key(5), weights, jnp.asarray(wide), 0.5))
    assert (start[~wide] == 0).all()
    np.testing.assert_allclose(np.sum(start**2, axis=1), 0.25 * np.sum(weights**2) / 3, rtol=0.15)
