"""Gaussians are those of JAX, whatever the precision; the cipher is that of its published vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sparse.gaussians import normals, threefry


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_numbers_are_those_of_jax(dtype: type) -> None:
    keys = jax.random.split(jax.random.key(7), 3)
    found = jax.jit(jax.vmap(lambda key: normals(key, 500, dtype)))(keys)
    expected = jax.vmap(lambda key: jax.random.normal(key, (500,), dtype))(keys)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=8 * float(jnp.finfo(dtype).eps))
    np.testing.assert_array_equal(normals(keys[0], 40, dtype), normals(keys[0], 500, dtype)[:40])


def test_the_cipher_gives_its_published_vectors() -> None:
    vectors = (
        ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    )
    for key, counts, expected in vectors:
        words = (jnp.asarray([count], jnp.uint32) for count in counts)
        found = threefry(jnp.asarray(key, jnp.uint32), *words)
        assert [int(word[0]) for word in found] == list(expected)


def test_keys_of_another_generator_are_left_to_jax() -> None:
    key = jax.random.key(3, impl="rbg")
    np.testing.assert_array_equal(normals(key, 5, jnp.float32), jax.random.normal(key, (5,), jnp.float32))
