"""Losses of a factor U: empirical, in Gram form and population, each with its gradient in closed form.

Convention of arXiv 2303.11453: ``L(U) = (1/n) ||A(U U^T) - y||^2`` without a factor 1/2. With
``R = (1/n) A*(A(U U^T) - y)`` the gradient is ``4 R U``. The forms are the same function of U; they differ in cost.
Closed-form gradients need one product with the data where automatic differentiation takes two; ``jax.grad`` of
:func:`sensing_loss` agrees, and second derivatives come from ``jax.jvp`` of the gradient.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp

from gpsense._types import Factor, Packed, Scalar, Symmetric, Values
from gpsense.measurements import Dense, Measurements, RankOne
from gpsense.symmetric import packed_size, smat, svec


def sensing_loss(factor: Factor, measurements: Measurements, values: Values) -> Scalar:
    """``L(U) = (1/n) sum_i (<A_i, U U^T> - y_i)^2`` for a factor (dim, width) and values (n,)."""
    return jnp.mean((measurements.forward(factor) - values) ** 2)


def population_loss(factor: Factor, matrix: Symmetric) -> Scalar:
    """``||U U^T - M||_F^2``: the expected loss of isotropic measurements, less the noise variance."""
    return jnp.sum((factor @ factor.T - matrix) ** 2)


class Objective(eqx.Module):
    """A loss of the factor that knows its gradient."""

    @abstractmethod
    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        """Loss and ``dL/dU``, shapes () and (dim, width)."""

    @abstractmethod
    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        """Loss at a symmetric X (dim, dim) and ``R(X) = (1/n) A*(A(X) - y)``, half its gradient in X."""

    @abstractmethod
    def back_projection(self) -> Symmetric:
        """``b = (1/n) A*(y) = -R(0)``, shape (dim, dim)."""

    def __call__(self, factor: Factor) -> Scalar:
        """The loss alone."""
        return self.value_and_gradient(factor)[0]


class Empirical(Objective):
    """:func:`sensing_loss` of given measurements and values, through the map's own forward and adjoint."""

    measurements: Measurements
    values: Values

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        residual = self.measurements.forward(factor) - self.values
        pull = self.measurements.pull(factor, residual)
        return jnp.mean(residual**2), (4.0 / residual.shape[0]) * pull

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        misfit = self.measurements.apply(matrix) - self.values
        return jnp.mean(misfit**2), self.measurements.adjoint(misfit / misfit.shape[0])

    def back_projection(self) -> Symmetric:
        return self.measurements.adjoint(self.values / self.values.shape[0])


class Gram(Objective):
    """The empirical loss as a quadratic of ``z = svec(U U^T) - centre``: ``z^T H z - 2 s^T z + c``.

    ``H = A^T A / n`` is (packed, packed), so one product with H serves loss and gradient whatever n is. Centred on
    the truth (simulation) ``s = A^T noise / n`` and nothing large cancels in float32; see :func:`gram_objective`.
    """

    hessian: Symmetric
    centre: Packed
    slope: Packed
    offset: Scalar

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        z = svec(factor @ factor.T) - self.centre
        half_slope = z @ self.hessian - self.slope
        return z @ (half_slope - self.slope) + self.offset, 4.0 * (smat(half_slope) @ factor)

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        z = svec(matrix) - self.centre
        half_slope = z @ self.hessian - self.slope
        return z @ (half_slope - self.slope) + self.offset, smat(half_slope)

    def back_projection(self) -> Symmetric:
        return smat(self.centre @ self.hessian + self.slope)


def gram_objective(measurements: Measurements, values: Values, centre: Packed | None = None) -> Gram:
    """Gram form of the empirical loss, centred on a packed matrix (default 0; the truth in simulation).

    ``H = A^T A / n``, ``s = A^T (y - A c) / n``, offset ``||y - A c||^2 / n`` with A packed to (n, packed).
    """
    rows = measurements.packed()
    if centre is None:
        centre = jnp.zeros(rows.shape[1], rows.dtype)
    residual = values - rows @ centre
    n = rows.shape[0]
    return Gram(rows.T @ rows / n, centre, residual @ rows / n, jnp.mean(residual**2))


def cheapest_objective(measurements: Measurements, values: Values, width: int) -> Objective:
    """The form of the empirical loss that costs least a step at this width: through the map, or in Gram form.

    Products counted: ``2 D^2 + 4 d^2 k`` in Gram form with ``D = d (d + 1) / 2``, ``4 n D + 4 d^2 k`` through packed
    matrices, ``4 n d k`` through vectors; maps of single entries or distances are cheapest as they are.
    """
    dim, packed = measurements.dim, packed_size(measurements.dim)
    gram = 2 * packed**2 + 4 * dim**2 * width
    if isinstance(measurements, Dense):
        direct = 4 * measurements.n * packed + 4 * dim**2 * width
    elif isinstance(measurements, RankOne):
        direct = 4 * measurements.n * dim * width
    else:
        direct = 0
    return gram_objective(measurements, values) if gram < direct else Empirical(measurements, values)


class Population(Objective):
    """``||U U^T - M||_F^2 + offset``; the offset is the noise variance."""

    matrix: Symmetric
    offset: Scalar

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        residual = factor @ factor.T - self.matrix
        return jnp.sum(residual**2) + self.offset, 4.0 * (residual @ factor)

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        gap = matrix - self.matrix
        return jnp.sum(gap**2) + self.offset, gap

    def back_projection(self) -> Symmetric:
        return self.matrix
