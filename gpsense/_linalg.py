"""Eigenvalues, singular values, linear systems and orthonormal bases, of one matrix at a time on CPUs.

XLA distributes a batch of matrices over the threads that run the devices' programs; with several CPU devices all of
these threads can end up waiting for one another: a deadlock. Under ``vmap`` the matrices are therefore taken one after
the other on a CPU, and together on accelerators.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

_eigh_in_turn = sequential_vmap(lambda matrix: tuple(jnp.linalg.eigh(matrix)))
_singular_values_in_turn = sequential_vmap(lambda matrix: jnp.linalg.svd(matrix, compute_uv=False))
_solve_in_turn = sequential_vmap(jnp.linalg.solve)
_orthonormal_in_turn = sequential_vmap(lambda columns: jnp.linalg.qr(columns)[0])


def _chosen(in_turn: Callable[..., Any], together: Callable[..., Any], *matrices: Array) -> Any:
    return (in_turn if jax.default_backend() == "cpu" else together)(*matrices)


def eigh(matrix: Float[Array, "dim dim"]) -> tuple[Float[Array, " dim"], Float[Array, "dim dim"]]:
    """Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix."""
    return _chosen(_eigh_in_turn, lambda each: tuple(jnp.linalg.eigh(each)), matrix)


def singular_values(matrix: Float[Array, "rows columns"]) -> Float[Array, " smaller"]:
    """Singular values of a matrix, descending."""
    return _chosen(_singular_values_in_turn, lambda each: jnp.linalg.svd(each, compute_uv=False), matrix)


def solve(matrix: Float[Array, "dim dim"], right: Float[Array, "dim columns"]) -> Float[Array, "dim columns"]:
    """The solution X of ``A X = B`` for the ``matrix`` A and the right side B, ``right``."""
    return _chosen(_solve_in_turn, jnp.linalg.solve, matrix, right)


def orthonormal(columns: Float[Array, "dim columns"]) -> Float[Array, "dim columns"]:
    """``Q`` of ``A = Q R`` for the ``columns`` A: at most dim orthonormal columns that span those of A."""
    return _chosen(_orthonormal_in_turn, lambda each: jnp.linalg.qr(each)[0], columns)
