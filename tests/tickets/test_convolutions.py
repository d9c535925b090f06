"""Convolutions as matrix products are the convolutions, with their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.tickets import convolutions
from gpsense.tickets.convolutions import by_products

RNG = np.random.default_rng(4)
CASES = {
    "plain": ((2, 3, 7), (4, 3, 3), {}),
    "padded, with strides": ((2, 3, 8, 7), (5, 3, 3, 2), {"window_strides": (2, 1), "padding": ((1, 2), (0, 1))}),
    "cropped": ((1, 2, 9), (3, 2, 2), {"padding": ((-1, -2),)}),
    "dilated": ((2, 2, 11, 9), (3, 2, 3, 2), {"rhs_dilation": (2, 3), "padding": "VALID"}),
    "transposed": ((2, 2, 5), (3, 2, 4), {"lhs_dilation": (3,), "padding": ((3, 2),)}),
    "in groups": ((2, 6, 8), (4, 3, 3), {"feature_group_count": 2}),
    "by channel": ((2, 3, 6, 6), (6, 1, 3, 3), {"feature_group_count": 3}),
    "three axes": ((1, 2, 4, 5, 4), (2, 2, 2, 2, 2), {}),
    "channels last": ((2, 7, 6, 3), (3, 2, 3, 4), {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_convolution_and_its_derivatives_are_the_same(name):
    shape, kernel, how = CASES[name]
    how = {"window_strides": (1,) * (len(shape) - 2), "padding": "SAME", **how}
    function = lambda x, w: jax.lax.conv_general_dilated(x, w, **how)  # noqa: E731
    x, w = RNG.standard_normal(shape), RNG.standard_normal(kernel)
    assert not convolves(by_products(function), x, w)

    def both(function):
        out, back = jax.vjp(function, x, w)
        return out, *back(jnp.sin(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    pairs = zip(*jax.jit(lambda: (both(by_products(function)), both(function)))(), strict=True)
    for mine, expected in pairs:
        np.testing.assert_allclose(mine, expected, atol=1e-12 * np.abs(expected).max())


def test_one_inside_another_function_is_found_and_what_has_none_stays():
    inner = jax.jit(lambda x, w: jax.nn.relu(jax.lax.conv(x, w, (1, 1), "SAME")))
    function = lambda x, w: {"out": inner(x, w["first"]).sum(1) + w["bias"]}  # noqa: E731
    x, w = RNG.standard_normal((2, 3, 5, 5)), {"first": RNG.standard_normal((4, 3, 3, 3)), "bias": 0.5}
    assert convolves(function, x, w)
    assert not convolves(by_products(function), x, w)
    np.testing.assert_allclose(by_products(function)(x, w)["out"], function(x, w)["out"], atol=1e-12)
    assert by_products(lambda x: (x + 1, None))(1.0) == (2.0, None)


def test_what_would_be_too_large_and_groups_of_rows_stay(monkeypatch):
    x, w = RNG.standard_normal((4, 3, 5)), RNG.standard_normal((4, 3, 3))
    rows = lambda x, w: jax.lax.conv_general_dilated(x, w, (1,), "SAME", batch_group_count=2)  # noqa: E731
    assert convolves(by_products(rows), x, w)
    plain = lambda x, w: jax.lax.conv(x, w, (1,), "SAME")  # noqa: E731
    monkeypatch.setattr(convolutions, "LARGEST", 4 * 5 * 3 * 3)
    assert not convolves(by_products(plain), x, w)
    monkeypatch.setattr(convolutions, "LARGEST", 4 * 5 * 3 * 3 - 1)
    assert convolves(by_products(plain), x, w)


def convolves(function, *args):
    """Whether there is a convolution in the traced function."""
    return "conv_general_dilated" in str(jax.make_jaxpr(function)(*args))
