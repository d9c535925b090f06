"""Iteratively reweighted least squares: each step is a weighted least-squares fit of a full matrix."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from gpsense._linalg import eigh
from gpsense._types import Factor, RandomKey, Scalar, Symmetric
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import compose, leading, normal_map, relative_change, units
from gpsense.sensing.methods._contract import Tuning, register


class Reweighted(eqx.Module):
    """Iterate X, smoothing epsilon, and the size of a solution with its curvature (:func:`units`)."""

    matrix: Symmetric
    smoothing: Scalar
    size: Scalar
    curvature: Scalar
    width: int = eqx.field(static=True)


@register
@dataclass(frozen=True)
class IRLS:
    """``X <- argmin ||X||_W^2`` over ``A(X) = y``, or with a penalty ``argmin L(X) + penalty c ||X||_W^2``.

    In the eigenbasis of the last X, with eigenvalues lambda, ``||X||_W^2 = sum_ij X_ij^2 / s_ij^2`` with
    ``s_ij^2 = ((lambda_i^2 + lambda_j^2) / 2 + epsilon^2) / size^2``: weights of the log-determinant (Schatten p = 0),
    the harmonic mean of row and column weights; ``size`` estimates that of a solution. Then
    ``epsilon <- min(epsilon, |lambda|_(width + 1))``. c is the data's curvature. With ``X = s Z`` the step solves
    ``(s H s + penalty c) Z = s b``, ``H = A* A / n`` and ``b = A*(y)/n``, by conjugate gradients from 0; without a
    penalty (then at rounding level) this is the constrained solution. X is symmetric but may be indefinite; the factor
    drops negative eigenvalues.
    """

    iterations: int = 100
    name: ClassVar[str] = "irls"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Mohan and Fazel 2012; Fornasier, Rauhut and Ward 2011; weights of Kümmerle and Sigl 2018, arXiv 1703.05038"
    )
    tuning: ClassVar[str] = (
        "penalty: weight against the loss in units of the curvature, about (noise in X / size of X)^2 (0: constraints "
        "hold exactly); width sets the smoothing's rule; no rate; 100 conjugate-gradient iterations a step, our rule"
    )

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Reweighted:
        top, curvature = units(objective)
        size = top / curvature
        # not a constant: XLA's fused products with a constant matrix are wrong in float32 on some CPUs
        return Reweighted(0.0 * objective.back_projection(), size, size, curvature, width)

    def step(self, objective: Objective, tuning: Tuning, state: Reweighted) -> tuple[Reweighted, Scalar]:
        values, frame = eigh(state.matrix)
        squares = (values / state.size) ** 2
        mean = 0.5 * (squares[:, None] + squares[None, :])
        moved = self._fit(objective, tuning, state, frame, jnp.sqrt(mean + (state.smoothing / state.size) ** 2))
        sizes = jnp.sort(jnp.abs(jnp.linalg.eigvalsh(moved)))[::-1]
        smoothing = jnp.minimum(state.smoothing, sizes[min(state.width, len(sizes) - 1)])
        after = Reweighted(moved, smoothing, state.size, state.curvature, state.width)
        return after, relative_change(moved, state.matrix)

    def _fit(
        self, objective: Objective, tuning: Tuning, state: Reweighted, frame: Symmetric, scales: Symmetric
    ) -> Symmetric:
        """The weighted least-squares solution: ``scales`` s_ij in the eigenbasis ``frame`` give the weights."""

        def out(packed: Symmetric) -> Symmetric:
            return frame @ (scales * packed) @ frame.T

        # at least a weight at rounding level: else conjugate gradients would amplify components outside the range
        penalty = jnp.maximum(tuning.penalty, 8 * jnp.finfo(scales.dtype).eps) * state.curvature

        def operator(packed: Symmetric) -> Symmetric:
            image = scales * (frame.T @ normal_map(objective, out(packed)) @ frame)
            return image + penalty * packed

        back = objective.back_projection()
        tolerance = float(jnp.finfo(back.dtype).eps) ** 0.75
        right = scales * (frame.T @ back @ frame)
        solution, _ = cg(operator, right, x0=0.0 * right, tol=tolerance, maxiter=self.iterations)
        fitted = out(solution)
        return 0.5 * (fitted + fitted.T)

    def factor(self, state: Reweighted) -> Factor:
        return compose(*leading(state.matrix, state.width))
