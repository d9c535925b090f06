"""Packing keeps the inner product and loses nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from gpsense._lanes import in_lanes
from gpsense.sensing import symmetric
from gpsense.sensing.symmetric import crossed, mapped, packed_dim, packed_size, squared, times
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


def _expected(name: str, *arrays: np.ndarray) -> np.ndarray:
    """By NumPy alone, in float64."""

    def pack(x):
        return np.array([x[i, j] * (1 if i == j else np.sqrt(2)) for i in range(len(x)) for j in range(i, len(x))])

    return {
        "squared": lambda u: pack(u @ u.T),
        "crossed": lambda u, v: pack(u @ v.T + v @ u.T),
        "times": lambda v, u: reference.unpacked(v[None], len(u))[0] @ u,
        "mapped": lambda h, v: h @ v,
    }[name](*arrays)


PRODUCTS = {"squared": (squared, "u"), "crossed": (crossed, "uu"), "times": (times, "vu"), "mapped": (mapped, "hv")}
SHAPES = {"u": (4, 3), "v": (10,), "h": (10, 10)}


def _arrays(kinds: str, *cells: int) -> list[np.ndarray]:
    """Random arrays, one of each kind; those of kind h are symmetric."""
    rng = np.random.default_rng(sum(cells))
    drawn = [rng.normal(size=(*cells, *SHAPES[kind])) for kind in kinds]
    return [x + np.swapaxes(x, -1, -2) if kind == "h" else x for kind, x in zip(kinds, drawn, strict=True)]


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("cells", [3, 8, 13])
def test_products_of_many_equal_those_of_each(name, cells):
    """By vmap along either axis and in lanes, where cells are filled up to a multiple of eight; all batched or one."""
    function, kinds = PRODUCTS[name]
    arrays = _arrays(kinds, cells)
    first = [array[0] for array in arrays[:-1]]

    @jax.jit
    def batched(*arrays):
        last = [jnp.moveaxis(array, 0, 1) for array in arrays]
        one = partial(function, *(array[0] for array in arrays[:-1]))
        return {
            "first axis": jax.vmap(function)(*arrays),
            "second axis": jax.vmap(function, 1, 1)(*last).swapaxes(0, 1),
            "lanes": jax.vmap(partial(in_lanes, function))(*arrays),
            "one": jax.vmap(one)(arrays[-1]),
            "one, lanes": jax.vmap(partial(in_lanes, one))(arrays[-1]),
        }

    expected = [_expected(name, *each) for each in zip(*arrays, strict=True)]
    shared = [_expected(name, *first, last) for last in arrays[-1]]
    for way, found in batched(*arrays).items():
        right = shared if way.startswith("one") else expected
        np.testing.assert_allclose(found, right, rtol=1e-12, atol=1e-13, err_msg=way)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_differentiated_in_either_mode_to_second_order(name):
    function, kinds = PRODUCTS[name]
    arrays = list(map(jnp.asarray, _arrays(kinds)))
    check_grads(jax.jit(lambda *at: jnp.sin(function(*at))), arrays, order=2, modes=("fwd", "rev"))


def test_large_sides_are_not_written_out(monkeypatch):
    monkeypatch.setattr(symmetric, "UNROLLED", 3)
    test_products_of_many_equal_those_of_each("squared", 8)
    test_products_of_many_equal_those_of_each("times", 8)
