"""Normalised iterative hard thresholding: projected gradient with the exact step on the current column space."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense._linalg import eigh
from gpsense._types import Factor, RandomKey, Scalar, Symmetric
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import Frame, Spectrum, compose, inner, normal_map, relative_change
from gpsense.sensing.methods._contract import Tuning, register


class Thresholded(eqx.Module):
    """``X = V diag(lambda) V^T``: orthonormal V (dim, rank), eigenvalues (rank,) of either sign."""

    frame: Frame
    spectrum: Spectrum


@register
@dataclass(frozen=True)
class NIHT:
    """``X <- H_r(X - mu R)``, H_r the best matrix of rank r; ``mu = ||P R||_F^2 / (||A(P R)||^2 / n)``, ``P = V V^T``.

    ``R = A*(A(X) - y)/n``, and V spans the columns of X. mu is the source's step; symmetric measurements see only the
    symmetric part of P R. Starts from ``H_r(A*(y)/n)``, which assumes isotropic measurements, as no other method's
    start here does. X is symmetric but may be indefinite; the factor drops negative eigenvalues.
    """

    name: ClassVar[str] = "niht"
    knows_rank: ClassVar[bool] = True
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Tanner and Wei 2013, Normalized iterative hard thresholding for matrix completion"
    tuning: ClassVar[str] = "rate: multiplies mu, the exact step on the column space (1: the source's rule)"

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Thresholded:
        return _thresholded(objective.back_projection(), width)

    def step(self, objective: Objective, tuning: Tuning, state: Thresholded) -> tuple[Thresholded, Scalar]:
        matrix = _matrix(state)
        residual = objective.residual(matrix)[1]
        inside = state.frame @ (state.frame.T @ residual)
        seen = 0.5 * (inside + inside.T)
        square, bend = inner(inside, inside), inner(seen, normal_map(objective, seen))
        size = jnp.where(square > 0, square / jnp.where(square > 0, bend, 1.0), 0.0)
        moved = _thresholded(matrix - (tuning.rate * size) * residual, state.spectrum.shape[0])
        return moved, relative_change(_matrix(moved), matrix)

    def factor(self, state: Thresholded) -> Factor:
        return compose(state.frame, jnp.maximum(state.spectrum, 0.0))


def _matrix(state: Thresholded) -> Symmetric:
    return (state.frame * state.spectrum[None, :]) @ state.frame.T


def _thresholded(matrix: Symmetric, rank: int) -> Thresholded:
    """The eigenpairs whose eigenvalues are largest in magnitude."""
    values, vectors = eigh(matrix)
    _, places = jax.lax.top_k(jnp.abs(values), rank)
    return Thresholded(vectors[:, places], values[places])
