"""Linear algebra one matrix at a time: NumPy's numbers, alone and under vmap, on one CPU device and on two."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense._linalg import eigh, orthonormal, singular_values, solve

MATRICES = np.random.default_rng(0).normal(size=(3, 4, 4))
SYMMETRIC = MATRICES + np.swapaxes(MATRICES, 1, 2)


@pytest.fixture(params=["alone", "vmap", "vmap of vmap"])
def every(request):
    """A function applied to each of the matrices: one call after the other, under vmap, or under two of them."""

    def apply(fn, *arrays):
        if request.param == "alone":
            parts = [fn(*(jnp.asarray(array[i]) for array in arrays)) for i in range(3)]
            return jax.tree.map(lambda *each: np.stack(each), *parts)
        if request.param == "vmap":
            return jax.jit(jax.vmap(fn))(*(jnp.asarray(array) for array in arrays))
        nested = jax.jit(jax.vmap(jax.vmap(fn)))(*(jnp.asarray(array[None]) for array in arrays))
        return jax.tree.map(lambda each: each[0], nested)

    return apply


def test_values_are_those_of_numpy(every):
    values, vectors = every(eigh, SYMMETRIC)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(SYMMETRIC), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(vectors * values[:, None, :] @ np.swapaxes(vectors, 1, 2), SYMMETRIC, atol=1e-12)
    tall = np.concatenate([MATRICES, SYMMETRIC], axis=1)
    np.testing.assert_allclose(every(singular_values, tall), np.linalg.svd(tall, compute_uv=False), rtol=1e-11)
    right = MATRICES[:, :, :2]
    np.testing.assert_allclose(every(solve, SYMMETRIC, right), np.linalg.solve(SYMMETRIC, right), rtol=1e-9)


def test_orthonormal_columns_span_the_same(every):
    columns = every(orthonormal, MATRICES[:, :, :2])
    np.testing.assert_allclose(np.swapaxes(columns, 1, 2) @ columns, np.tile(np.eye(2), (3, 1, 1)), atol=1e-13)
    inside = columns @ (np.swapaxes(columns, 1, 2) @ MATRICES[:, :, :2])
    np.testing.assert_allclose(inside, MATRICES[:, :, :2], atol=1e-12)


SHARDED = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from gpsense._linalg import eigh
shard_map = getattr(jax, "shard_map", None)
if shard_map is None:
    from jax.experimental.shard_map import shard_map
mesh = Mesh(np.array(jax.devices()), ("problem",))
many = PartitionSpec("problem")
largest = jax.vmap(lambda matrix: eigh(matrix @ matrix.T)[0][-1])
spread = jax.jit(shard_map(largest, mesh=mesh, in_specs=many, out_specs=many))
matrices = np.random.default_rng(0).normal(size=(16, 40, 40)).astype(np.float32)
assert len(jax.devices()) == 2
for _ in range(5):
    found = np.asarray(spread(matrices))
np.testing.assert_allclose(found, np.linalg.norm(matrices, 2, axis=(1, 2)) ** 2, rtol=1e-4)
"""


def test_devices_that_share_a_batch_do_not_wait_for_one_another():
    """A batched eigh in a program of two CPU devices can stand still; here it ends."""
    subprocess.run([sys.executable, "-c", SHARDED], check=True, timeout=120)
