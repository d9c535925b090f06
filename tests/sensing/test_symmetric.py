"""Packing keeps the inner product and loses nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpsense.sensing import symmetric
from gpsense.sensing.symmetric import packed_dim, packed_map, packed_size
from tests import reference

svec, smat = jax.jit(symmetric.svec), jax.jit(symmetric.smat)


def _symmetric(seed: int, dim: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(dim, dim))
    return a + a.T


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**30), dim=st.integers(1, 7))
def test_packing_keeps_the_inner_product_and_inverts(seed, dim):
    x, y = _symmetric(seed, dim), _symmetric(seed + 1, dim)
    packed = np.asarray(svec(x))
    assert packed.shape == (packed_size(dim),)
    np.testing.assert_allclose(packed @ svec(y), reference.inner(x, y), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(smat(packed), x, rtol=1e-15)


def test_order_is_the_upper_triangle_by_rows():
    x = np.asarray([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    root = np.sqrt(2)
    np.testing.assert_allclose(svec(x), [1, 2 * root, 3 * root, 4, 5 * root, 6])
    np.testing.assert_allclose(reference.unpacked(np.asarray(svec(x))[None], 3)[0], x)


def test_smat_is_the_adjoint_of_svec():
    x, z = _symmetric(3, 5), np.random.default_rng(4).normal(size=15)
    np.testing.assert_allclose(np.asarray(svec(x)) @ z, np.sum(x * smat(z)), rtol=1e-12)


def test_derivatives_pass_through():
    x = _symmetric(5, 4)
    _, slope = jax.jit(lambda x: jax.jvp(svec, (x,), (x,)))(x)
    np.testing.assert_allclose(slope, svec(x), rtol=1e-14)


def test_lengths_that_no_matrix_has_are_refused():
    assert [packed_dim(packed_size(d)) for d in range(1, 200)] == list(range(1, 200))
    with pytest.raises(ValueError, match="no symmetric matrix packs to 5"):
        smat(jnp.zeros(5))


def test_a_map_of_packed_matrices_is_its_own_adjoint_and_batched_in_any_way():
    rng = np.random.default_rng(3)
    root, matrices = rng.normal(size=(6, 6)), rng.normal(size=(4, 3, 3))
    matrices = matrices + np.swapaxes(matrices, 1, 2)
    hessians = np.stack([root @ root.T, 2 * root @ root.T])
    expected = np.stack([smat(hessians[0] @ svec(matrix)) for matrix in matrices])
    alone = np.stack([jax.jit(packed_map)(hessians[0], matrix) for matrix in matrices])
    np.testing.assert_allclose(alone, expected, rtol=1e-12)

    @jax.jit
    def batched(hessians, matrices):
        first = lambda matrix: packed_map(hessians[0], matrix)  # noqa: E731
        along = lambda hessian: jnp.sum(packed_map(hessian, matrices[0]) * matrices[1])  # noqa: E731
        return {
            "first axis": jax.vmap(first)(matrices),
            "last axis": jax.vmap(first, in_axes=2)(jnp.moveaxis(matrices, 0, 2)),
            "both": jax.vmap(lambda hessian: jax.vmap(lambda matrix: packed_map(hessian, matrix))(matrices))(hessians),
            "each": jax.vmap(packed_map)(hessians, matrices[:2]),
            "transposed": jax.linear_transpose(first, matrices[0])(matrices[1])[0],
            "slope": jax.grad(along)(hessians[0]),
        }

    found = batched(hessians, matrices)
    slope = np.outer(svec(matrices[1]), svec(matrices[0]))
    each = np.stack([expected[0], 2 * expected[1]])
    both = np.stack([expected, 2 * expected])
    right = {"first axis": expected, "last axis": expected, "both": both, "each": each, "transposed": expected[1]}
    for way, value in (right | {"slope": slope}).items():
        np.testing.assert_allclose(found[way], value, rtol=1e-12, atol=1e-13, err_msg=way)
