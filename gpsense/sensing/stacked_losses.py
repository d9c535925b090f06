"""Losses of a stacked factor ``W = [U; V]`` that depend only on ``X = U V^T``: population loss and Gram form.

With G half the gradient with respect to X, that with respect to W is ``2 [G V; G^T U]``. The loss through the map
itself is :class:`gpsense.sensing.losses.Empirical` of :class:`gpsense.sensing.measurements.DenseBlocks`.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from gpsense._types import Factor, Hessian, Packed, Scalar, Symmetric, Values
from gpsense.sensing.losses import Objective, normal_equations
from gpsense.sensing.measurements import DenseBlocks
from gpsense.sensing.stacked import Block, embedded, product, turned


class Stacked(Objective):
    """A loss that depends only on ``U V^T``, the off-diagonal block of ``W W^T``; ``sides`` are (dim, columns)."""

    sides: tuple[int, int] = eqx.field(static=True)

    @abstractmethod
    def of_product(self, matrix: Block) -> tuple[Scalar, Block]:
        """Loss at the ``matrix`` X (dim, columns) and half its gradient with respect to X."""

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        value, half = self.of_product(product(factor, self.sides[0]))
        return value, 2.0 * turned(half, factor)

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        value, half = self.of_product(matrix[: self.sides[0], self.sides[0] :])
        return value, embedded(0.5 * half)


class StackedPopulation(Stacked):
    """``||U V^T - M||_F^2 + offset``; the offset is the noise variance."""

    matrix: Block
    offset: Scalar

    def of_product(self, matrix: Block) -> tuple[Scalar, Block]:
        gap = matrix - self.matrix
        return jnp.sum(gap**2) + self.offset, gap

    def back_projection(self) -> Symmetric:
        return embedded(0.5 * self.matrix)


class StackedGram(Stacked):
    """The empirical loss as a quadratic of ``z = vec(U V^T) - centre``: ``z^T H z - 2 s^T z + c``.

    s is ``slope``, c ``offset``. ``H = A^T A / n`` has side dim * columns, so a step costs the same whatever n is.
    Under ``vmap`` the products of one H with many factors become a single matrix product.
    """

    hessian: Hessian
    centre: Packed
    slope: Packed
    offset: Scalar

    def of_product(self, matrix: Block) -> tuple[Scalar, Block]:
        z = matrix.reshape(-1) - self.centre
        pull = z @ self.hessian - self.slope
        return z @ (pull - self.slope) + self.offset, pull.reshape(self.sides)

    def back_projection(self) -> Symmetric:
        return embedded(0.5 * (self.centre @ self.hessian + self.slope).reshape(self.sides))


def stacked_gram(
    measurements: DenseBlocks, values: Values, centre: Block, used: Bool[Array, " n"] | None = None
) -> StackedGram:
    """Gram form of the empirical loss, centred on a matrix (dim, columns): the truth in simulation.

    With ``used`` only the measurements where it is True count; their number, which is then n, may be traced.
    """
    return StackedGram(measurements.sides, *normal_equations(measurements.rows, values, centre.reshape(-1), used))
