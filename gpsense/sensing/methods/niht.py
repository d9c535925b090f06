"""Normalised iterative hard thresholding: projected gradient with the exact step on the current subspace."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from gpsense._types import Factor, RandomKey, Scalar, Symmetric
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import (
    Frame,
    Spectrum,
    compose,
    inner,
    leading,
    normal_map,
    relative_change,
)
from gpsense.sensing.methods._contract import Tuning, register


class Thresholded(eqx.Module):
    """``X = V diag(lambda) V^T``: orthonormal V (dim, rank), eigenvalues (rank,), none negative."""

    frame: Frame
    spectrum: Spectrum


@register
@dataclass(frozen=True)
class NIHT:
    """``X <- P_r(X - mu R)``, P_r onto PSD matrices of rank r; ``mu = <R, G> / <G, H(G)>`` with ``G = P_T R``.

    ``P_T R = R - (I - V V^T) R (I - V V^T)`` keeps rows and columns in the column space V of X: for symmetric
    matrices this stands for the source's projection to the column space, and mu minimises the loss along G.
    """

    name: ClassVar[str] = "niht"
    knows_rank: ClassVar[bool] = True
    source: ClassVar[str] = "Tanner and Wei 2013, Normalized iterative hard thresholding for matrix completion"
    tuning: ClassVar[str] = "rate: multiplies mu, the exact step on the subspace (1: the source's rule)"

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Thresholded:
        frame, spectrum = leading(objective.back_projection(), width)
        matrix = _matrix(Thresholded(frame, spectrum))
        scale = inner(matrix, matrix) / inner(matrix, normal_map(objective, matrix))
        return Thresholded(frame, scale * spectrum)

    def step(self, objective: Objective, tuning: Tuning, state: Thresholded) -> tuple[Thresholded, Scalar]:
        matrix = _matrix(state)
        residual = objective.residual(matrix)[1]
        direction = _to_tangent(residual, state.frame)
        slope, bend = inner(residual, direction), inner(direction, normal_map(objective, direction))
        size = jnp.where(slope > 0, slope / jnp.where(slope > 0, bend, 1.0), 0.0)
        moved = Thresholded(*leading(matrix - (tuning.rate * size) * residual, state.spectrum.shape[0]))
        return moved, relative_change(_matrix(moved), matrix)

    def factor(self, state: Thresholded) -> Factor:
        return compose(state.frame, state.spectrum)


def _matrix(state: Thresholded) -> Symmetric:
    return (state.frame * state.spectrum[None, :]) @ state.frame.T


def _to_tangent(matrix: Symmetric, frame: Frame) -> Symmetric:
    """``P M + M P - P M P`` with ``P = V V^T``."""
    rows = frame @ (frame.T @ matrix)
    return rows + rows.T - (rows @ frame) @ frame.T
