"""Rows of an array that stays on the host, a memory map say: read by number where compiled code needs them."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

BLOCK_BYTES = 2**25  # of rows that are read together


@jax.tree_util.register_static
class HostRows:
    """Stands for an array (n, ...) of this type, of which ``rows[numbers]`` reads some: a callback of compiled code.

    It has no leaves as a tree. Its text holds a digest of the contents, so that whatever is traced from it does.
    """

    def __init__(self, array: np.ndarray, dtype: Any):
        self._array, self.dtype = array, np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array."""
        return self._array.shape

    @property
    def block(self) -> int:
        """Rows that are read together."""
        each = max(int(np.prod(self.shape[1:])) * self.dtype.itemsize, 1)
        return max(min(BLOCK_BYTES // each, self.shape[0]), 1)

    def astype(self, dtype: Any) -> "HostRows":
        """The same rows, read as another type."""
        return HostRows(self._array, dtype)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in their own type, block by block."""
        for start in range(0, self.shape[0], self.block):
            yield np.asarray(self._array[start : start + self.block])

    def __getitem__(self, numbers: Any) -> Array:
        shape = jax.ShapeDtypeStruct((*numbers.shape, *self.shape[1:]), self.dtype)
        return jax.pure_callback(self.read, shape, numbers, vmap_method="expand_dims")

    def read(self, numbers: Any) -> np.ndarray:
        """Rows of these numbers (...), each (...)."""
        return np.asarray(self._array[np.asarray(numbers)], self.dtype)

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256(f"{self.shape} {self._array.dtype}".encode())
        for block in self.blocks():
            found.update(block.tobytes())
        return found.hexdigest()[:16]

    def __repr__(self) -> str:
        return f"HostRows({self._digest}, {self.dtype})"
