"""One contract for every ensemble, and each ensemble's own law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.sensing.measurements import (
    Centred,
    Dense,
    DenseBlocks,
    Distances,
    Entries,
    Measurements,
    RankOne,
    dense_measurements,
    gaussian_measurements,
    rank_one_measurements,
    rectangular_measurements,
)
from gpsense.sensing.symmetric import svec
from tests import reference

DIM, N, WIDTH = 5, 12, 3


packed = jax.jit(lambda measurements: measurements.packed())
forward = jax.jit(lambda measurements, factor: measurements.forward(factor))
adjoint = jax.jit(lambda measurements, values: measurements.adjoint(values))
applied = jax.jit(lambda measurements, matrix: measurements.apply(matrix))
gaussian = jax.jit(gaussian_measurements, static_argnums=(1, 2, 3))
rank_one = jax.jit(rank_one_measurements, static_argnums=(1, 2, 3))
rectangular = jax.jit(rectangular_measurements, static_argnums=(1, 2, 3, 4))
dense = jax.jit(dense_measurements)


def _unit(i):
    return np.eye(DIM)[i]


def _maps(seed=0):
    """Every ensemble with its matrices written out by hand."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(N, DIM, DIM))
    vectors = rng.normal(size=(N, DIM))
    blocks = rng.normal(size=(N, 3, DIM - 3))
    i, j = rng.integers(0, DIM, N), rng.integers(0, DIM, N)
    first, second = i, (i + 1 + rng.integers(0, DIM - 1, N)) % DIM
    gaps = [_unit(a) - _unit(b) for a, b in zip(first, second, strict=True)]
    scales = np.array([1.5, 0.0, 1.0, 2.0] * (N // 4))
    mean = raw[0] + raw[0].T
    return {
        "dense": (dense(raw), [(a + a.T) / 2 for a in raw]),
        "rank_one": (RankOne(jnp.asarray(vectors)), [np.outer(x, x) for x in vectors]),
        "entries": (
            Entries(jnp.asarray(i), jnp.asarray(j), DIM),
            [(np.outer(_unit(a), _unit(b)) + np.outer(_unit(b), _unit(a))) / 2 for a, b in zip(i, j, strict=True)],
        ),
        "blocks": (
            DenseBlocks(jnp.asarray(blocks.reshape(N, -1)), (3, DIM - 3)),
            [np.block([[np.zeros((3, 3)), a / 2], [a.T / 2, np.zeros((DIM - 3, DIM - 3))]]) for a in blocks],
        ),
        "distances": (Distances(jnp.asarray(first), jnp.asarray(second), DIM), [np.outer(g, g) for g in gaps]),
        "centred": (
            Centred(RankOne(jnp.asarray(vectors)), jnp.asarray(scales), jnp.asarray(mean)),
            [s * (np.outer(x, x) - mean) for s, x in zip(scales, vectors, strict=True)],
        ),
    }


@pytest.fixture(params=["dense", "rank_one", "entries", "distances", "blocks", "centred"])
def pair(request):
    return _maps()[request.param]


@pytest.fixture
def factor():
    return np.random.default_rng(7).normal(size=(DIM, WIDTH))


def test_forward_and_adjoint_equal_the_loops(pair, factor):
    measurements, matrices = pair
    values = np.random.default_rng(8).normal(size=N)
    assert (measurements.dim, measurements.n) == (DIM, N)
    np.testing.assert_allclose(forward(measurements, factor), reference.forward(matrices, factor), rtol=1e-12)
    expected = reference.adjoint(matrices, values)
    np.testing.assert_allclose(adjoint(measurements, values), expected, rtol=1e-12, atol=1e-12)


def test_adjoint_is_the_adjoint(pair, factor):
    measurements, _ = pair
    values = np.random.default_rng(9).normal(size=N)
    left = np.asarray(forward(measurements, factor)) @ values
    np.testing.assert_allclose(left, np.sum(factor @ factor.T * adjoint(measurements, values)), rtol=1e-12)


def test_apply_takes_any_symmetric_matrix(pair, factor):
    measurements, matrices = pair
    matrix = np.random.default_rng(4).normal(size=(DIM, DIM))
    matrix = matrix + matrix.T
    expected = [np.sum(a * matrix) for a in matrices]
    np.testing.assert_allclose(applied(measurements, matrix), expected, rtol=1e-11, atol=1e-12)
    gram = factor @ factor.T
    np.testing.assert_allclose(applied(measurements, gram), forward(measurements, factor), rtol=1e-11)


def test_bilinear_is_the_map_of_a_product(pair, factor):
    measurements, matrices = pair
    other = np.random.default_rng(5).normal(size=factor.shape)
    expected = [np.sum(a * (factor @ other.T)) for a in matrices]
    found = jax.jit(lambda u, v: measurements.bilinear(u, v))(factor, other)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_pull_and_packed_agree_with_the_adjoint(pair, factor):
    measurements, matrices = pair
    values = np.random.default_rng(9).normal(size=N)
    pulled = jax.jit(lambda u, values: measurements.pull(u, values))(factor, values)
    np.testing.assert_allclose(pulled, adjoint(measurements, values) @ factor, rtol=1e-11, atol=1e-11)
    rows = jax.jit(jax.vmap(svec))(np.stack(matrices))
    np.testing.assert_allclose(packed(measurements), rows, rtol=1e-12, atol=1e-12)


def test_take_keeps_order(pair, factor):
    measurements, matrices = pair
    index = np.asarray([4, 0, 7])
    part = jax.jit(lambda index: measurements.take(index))(index)
    assert part.n == 3
    expected = reference.forward([matrices[i] for i in index], factor)
    np.testing.assert_allclose(forward(part, factor), expected, rtol=1e-12)


def test_rotation_invariance(pair, factor):
    measurements, _ = pair
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))
    np.testing.assert_allclose(forward(measurements, factor @ turn), forward(measurements, factor), rtol=1e-11)


def test_distances_do_not_see_translations(factor):
    measurements, _ = _maps()["distances"]
    moved = factor + np.ones((DIM, 1))
    np.testing.assert_allclose(forward(measurements, moved), forward(measurements, factor), rtol=1e-11)


def test_gaussian_ensemble_is_isotropic(key):
    """``E<A, X>^2 = ||X||_F^2``, and in matrix entries variance 1 on the diagonal, 1/2 off it."""
    rows = np.asarray(gaussian(key, 40_000, 4, jnp.float64).rows)
    np.testing.assert_allclose(rows.T @ rows / 40_000, np.eye(10), atol=0.03)
    matrices = reference.unpacked(rows[:20_000], 4)
    np.testing.assert_allclose(matrices.var(0), 0.5 + 0.5 * np.eye(4), atol=0.04)


def test_rank_one_ensemble_has_its_second_moment(key):
    """``E<x x^T, X>^2 = 2 ||X||_F^2 + (tr X)^2``."""
    factor = np.asarray([[1.0, 0.0], [0.5, -1.0], [0.0, 0.3]])
    x = factor @ factor.T
    values = np.asarray(forward(rank_one(key, 400_000, 3, jnp.float64), factor))
    np.testing.assert_allclose(np.mean(values**2), 2 * (x**2).sum() + np.trace(x) ** 2, rtol=0.02)


def test_rectangular_ensemble_is_isotropic(key):
    """``E<A, X>^2 = ||X||_F^2`` of independent standard entries, read off the product of the halves."""
    measurements = rectangular(key, 40_000, 3, 2, jnp.float64)
    rows = np.asarray(measurements.rows)
    np.testing.assert_allclose(rows.T @ rows / 40_000, np.eye(6), atol=0.03)
    factor = np.random.default_rng(2).normal(size=(5, 2))
    square = ((factor[:3] @ factor[3:].T) ** 2).sum()
    np.testing.assert_allclose(np.mean(np.square(forward(measurements, factor))), square, rtol=0.03)


def _rectangular(key, n, dim, dtype):
    return rectangular(key, n, dim, dim + 1, dtype)


@pytest.mark.parametrize("draw", [gaussian, rank_one, _rectangular], ids=["gaussian", "rank_one", "rectangular"])
def test_more_measurements_extend_fewer(key, draw):
    few, many = draw(key, 5, 4, jnp.float64), draw(key, 9, 4, jnp.float64)
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(many), strict=True):
        np.testing.assert_array_equal(a, np.asarray(b)[:5])


def test_wrong_shapes_are_refused_at_once():
    for build in (
        lambda: RankOne(jnp.zeros(3)),
        lambda: Dense(jnp.zeros(6)),
        lambda: DenseBlocks(jnp.zeros((4, 5)), (3, 2)),
    ):
        with pytest.raises((AssertionError, TypeError), match=r"assert|Type-check"):
            build()


@pytest.mark.parametrize(("kind", "names"), [(Entries, ("rows", "cols")), (Distances, ("first", "second"))])
def test_indices_that_cannot_be_are_refused_by_name(kind, names):
    two = lambda second: (jnp.asarray([0, 4]), jnp.asarray(second))  # noqa: E731
    for bad, line in (([1, 9], "index 9 for a side of 5; count from 0 to 4"), ([-1, 2], "index -1 for a side of 5")):
        with pytest.raises(BadInput, match=f"^{names[1]}: {line}"):
            kind(*two(bad), 5)
        with pytest.raises(BadInput, match=f"^{names[0]}: {line}"):
            kind(*two(bad)[::-1], 5)
    for bad, line in (
        (jnp.asarray([1.0, 2.0]), "it holds float64; give whole numbers"),
        (jnp.asarray([1]), r"index arrays of shapes \(2,\) and \(1,\)"),
        (jnp.zeros((2, 2), int), r"index arrays of shapes \(2,\) and \(2, 2\)"),
    ):
        with pytest.raises(BadInput, match=f"^{names[1]}: {line}"):
            kind(jnp.asarray([0, 1]), bad, 5)
    inside = jax.jit(lambda first, second: kind(first, second, 5).n)
    assert inside(*two([1, 9])) == 2  # traced: what they are is not known
    assert kind([0, 4], np.asarray([1, 2]), 5).n == 2


def test_antisymmetric_parts_do_not_count():
    a = np.random.default_rng(0).normal(size=(3, 4, 4))
    swapped = dense(a.transpose(0, 2, 1))
    np.testing.assert_allclose(dense(a).rows, swapped.rows, rtol=1e-14)
    assert isinstance(swapped, Dense)


@pytest.mark.parametrize(
    ("make", "line"),
    {
        "entries": (lambda words: Entries(words, [0, 1], side=2), "rows: it holds text, not real numbers"),
        "distances": (lambda words: Distances([0, 1], words, 2), "second: it holds text, not real numbers"),
        "vectors": (lambda words: RankOne(words[:, None]), "vectors: it holds text, not real numbers"),
        "matrices": (lambda words: dense_measurements(words[:, None, None]), "matrices: it holds text"),
        "rows of two lengths": (lambda _: dense_measurements([[[1, 2], [3]]]), "matrices: not convertible to an array"),
        "one matrix": (lambda _: dense_measurements(np.eye(3)), r"matrices: shape \(3, 3\); give n square matrices"),
        "nothing": (lambda _: Entries([None, 1], [0, 1], side=2), "rows: it holds float"),
    }.values(),
)
def test_what_is_no_array_of_numbers_is_refused(make, line):
    with pytest.raises(BadInput, match=f"^{line}"):
        make(np.array(["a", "b"]))


@pytest.mark.parametrize("name", _maps())
@pytest.mark.parametrize(
    ("method", "shape", "right"),
    [
        ("forward", (DIM + 1, WIDTH), r"factor: it has shape \(6, 3\), not \(5, width\)"),
        ("forward", (DIM,), r"factor: it has shape \(5,\), not \(5, width\)"),
        ("apply", (DIM + 1, DIM + 1), r"matrix: it has shape \(6, 6\), not \(5, 5\)"),
        ("adjoint", (N, 1), r"values: it has shape \(12, 1\), not \(12,\)"),
        ("adjoint", (N + 1,), r"values: it has shape \(13,\), not \(12,\)"),
    ],
)
def test_arrays_of_another_shape_are_refused_before_a_part_of_them_is_read(name, method, shape, right):
    measurements, _ = _maps()[name]
    with pytest.raises(BadInput, match=f"^{right}"):
        getattr(measurements, method)(jnp.ones(shape))


def test_a_map_of_ones_own_has_its_shapes_checked_too():
    class First(Measurements):
        """The first entry, once."""

        @property
        def dim(self):
            return 2

        @property
        def n(self):
            return 1

        def forward(self, factor):
            return jnp.sum(factor[:1] ** 2, axis=1)

        def apply(self, matrix):
            return matrix[0, :1]

        def adjoint(self, values):
            return jnp.zeros((2, 2)).at[0, 0].set(values[0])

        def take(self, index):
            return self

    assert First().forward(jnp.ones((2, 3))).tolist() == [3.0]
    with pytest.raises(BadInput, match=r"^matrix: it has shape \(3, 3\), not \(2, 2\)"):
        First().apply(jnp.eye(3))


@pytest.mark.parametrize("size", [-5, 0, 2.5, "12", None])
@pytest.mark.parametrize("make", [gaussian_measurements, rank_one_measurements])
def test_sizes_that_cannot_be_are_refused_by_name(make, size):
    for name, given in (("n", (size, 12)), ("dim", (5, size))):
        with pytest.raises(BadInput, match=f"^{name}: "):
            make(jax.random.key(0), *given)
