"""Packing keeps the inner product and loses nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpsense.sensing.symmetric import packed_dim, packed_map, packed_size, smat, svec
from tests import reference


def _symmetric(seed: int, dim: int) -> np.ndarray:
    a = np.random.default_rng(seed).normal(size=(dim, dim))
    return a + a.T


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**30), dim=st.integers(1, 7))
def test_packing_keeps_the_inner_product_and_inverts(seed, dim):
    x, y = _symmetric(seed, dim), _symmetric(seed + 1, dim)
    packed = svec(jnp.asarray(x))
    assert packed.shape == (packed_size(dim),)
    np.testing.assert_allclose(packed @ svec(jnp.asarray(y)), reference.inner(x, y), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(smat(packed), x, rtol=1e-15)


def test_order_is_the_upper_triangle_by_rows():
    x = jnp.asarray([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    root = np.sqrt(2)
    np.testing.assert_allclose(svec(x), [1, 2 * root, 3 * root, 4, 5 * root, 6])
    np.testing.assert_allclose(reference.unpacked(np.asarray(svec(x))[None], 3)[0], x)


def test_smat_is_the_adjoint_of_svec():
    x, z = jnp.asarray(_symmetric(3, 5)), jnp.asarray(np.random.default_rng(4).normal(size=15))
    np.testing.assert_allclose(svec(x) @ z, jnp.sum(x * smat(z)), rtol=1e-12)


def test_derivatives_pass_through():
    x = jnp.asarray(_symmetric(5, 4))
    _, slope = jax.jvp(svec, (x,), (x,))
    np.testing.assert_allclose(slope, svec(x), rtol=1e-14)


def test_lengths_that_no_matrix_has_are_refused():
    assert [packed_dim(packed_size(d)) for d in range(1, 200)] == list(range(1, 200))
    with pytest.raises(ValueError, match="no symmetric matrix packs to 5"):
        smat(jnp.zeros(5))


def test_a_map_of_packed_matrices_is_its_own_adjoint_and_batched_in_any_way():
    rng = np.random.default_rng(3)
    root, matrices = rng.normal(size=(6, 6)), rng.normal(size=(4, 3, 3))
    matrices = jnp.asarray(matrices + np.swapaxes(matrices, 1, 2))
    hessians = jnp.asarray(np.stack([root @ root.T, 2 * root @ root.T]))
    expected = jnp.stack([smat(hessians[0] @ svec(matrix)) for matrix in matrices])
    alone = jnp.stack([packed_map(hessians[0], matrix) for matrix in matrices])
    np.testing.assert_allclose(alone, expected, rtol=1e-12)
    first = lambda matrix: packed_map(hessians[0], matrix)  # noqa: E731
    np.testing.assert_allclose(jax.vmap(first)(matrices), expected, rtol=1e-12, atol=1e-13)
    last = jax.vmap(first, in_axes=2)(jnp.moveaxis(matrices, 0, 2))
    np.testing.assert_allclose(last, expected, rtol=1e-12, atol=1e-13)
    twice = jax.vmap(lambda hessian: jax.vmap(lambda matrix: packed_map(hessian, matrix))(matrices))(hessians)
    np.testing.assert_allclose(twice, jnp.stack([expected, 2 * expected]), rtol=1e-12, atol=1e-13)
    each = jax.vmap(packed_map)(hessians, matrices[:2])
    np.testing.assert_allclose(each[1], 2 * expected[1], rtol=1e-12, atol=1e-13)
    pulled = jax.linear_transpose(first, matrices[0])(matrices[1])[0]
    np.testing.assert_allclose(pulled, expected[1], rtol=1e-12, atol=1e-13)
    by_hessian = jax.grad(lambda hessian: jnp.sum(packed_map(hessian, matrices[0]) * matrices[1]))(hessians[0])
    np.testing.assert_allclose(by_hessian, jnp.outer(svec(matrices[1]), svec(matrices[0])), rtol=1e-12)
