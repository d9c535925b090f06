"""Arrays that stay on the host, such as memory maps, and whose rows compiled code reads when it needs them."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

BLOCK_BYTES = 2**25  # bytes of rows that are read together


@jax.tree_util.register_static
class HostRows:
    """Stands in for an array (n, ...), read as ``dtype``: ``rows[numbers]`` reads these rows by a callback.

    As a tree it has no leaves. Its ``repr`` holds a digest of the contents, and so does a program traced with it.
    """

    def __init__(self, array: np.ndarray, dtype: Any):
        self._array, self.dtype = array, np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self._array.shape

    @property
    def block(self) -> int:
        """The number of rows that are read together."""
        each = max(int(np.prod(self.shape[1:])) * self.dtype.itemsize, 1)
        return max(min(BLOCK_BYTES // each, self.shape[0]), 1)

    def astype(self, dtype: Any) -> "HostRows":
        """The same rows, read as another ``dtype``."""
        return HostRows(self._array, dtype)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields the rows block by block, in the type of the array."""
        for start in range(0, self.shape[0], self.block):
            yield np.asarray(self._array[start : start + self.block])

    def __getitem__(self, numbers: Any) -> Array:
        shape = jax.ShapeDtypeStruct((*numbers.shape, *self.shape[1:]), self.dtype)
        return jax.pure_callback(self.read, shape, numbers, vmap_method="expand_dims")

    def read(self, numbers: Any) -> np.ndarray:
        """The rows at the indices ``numbers``, of shape ``(*numbers.shape, *shape[1:])``."""
        return np.asarray(self._array[np.asarray(numbers)], self.dtype)

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256(f"{self.shape} {self._array.dtype}".encode())
        for block in self.blocks():
            found.update(block.tobytes())
        return found.hexdigest()[:16]

    def __repr__(self) -> str:
        return f"HostRows({self._digest}, {self.dtype})"
