"""What every linear map A: symmetric matrices -> R^n offers."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from gpsense._types import Factor, PackedRows, RandomKey, Scalar, ScalarLike, Symmetric, Values
from gpsense.sensing.symmetric import svec


class Measurements(eqx.Module):
    """A linear map ``A(X)_i = <A_i, X>`` from symmetric dim x dim matrices to n values.

    Subclasses hold the A_i in the cheapest way and never need to form them. ``forward`` takes the factor of
    ``X = U U^T``, ``apply`` the matrix itself; ``adjoint`` is taken of values: ``A*(z) = sum_i z_i A_i``.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Side of the matrices."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of measurements."""

    @abstractmethod
    def forward(self, factor: Factor) -> Values:
        """``A(U U^T)``, shape (n,), for a factor of shape (dim, width)."""

    @abstractmethod
    def apply(self, matrix: Symmetric) -> Values:
        """``A(X)``, shape (n,), for any symmetric X of shape (dim, dim)."""

    @abstractmethod
    def adjoint(self, values: Values) -> Symmetric:
        """``A*(z) = sum_i z_i A_i``, shape (dim, dim), symmetric."""

    @abstractmethod
    def take(self, index: Int[Array, " m"]) -> "Measurements":
        """The measurements with these numbers, in this order."""

    def flops(self, width: int) -> float:
        """Operations of a loss and its gradient at a factor (dim, width), the products only; 0: always the cheapest."""
        return 0.0

    def bilinear(self, first: Factor, second: Factor) -> Values:
        """``<A_i, U V^T>``, shape (n,), for U and V (dim, width): half the derivative of ``forward`` along V."""
        product = first @ second.T
        return self.apply(0.5 * (product + product.T))

    def pull(self, factor: Factor, values: Values) -> Factor:
        """``A*(z) U``, shape (dim, width): what a gradient needs of the adjoint."""
        return self.adjoint(values) @ factor

    def packed(self) -> PackedRows:
        """The rows ``svec(A_i)``, shape (n, dim (dim + 1) / 2)."""
        return jax.lax.map(lambda row: svec(self.adjoint(row)), jnp.eye(self.n))


@dataclass(frozen=True)
class Ensemble:
    """A random map by name: how it is drawn, what it costs, and what is known of it.

    ``draw(key, n, dim, dtype)``: rows do not depend on n. ``numbers(n, dim)``: numbers that the map holds;
    ``flops(n, dim, width)``: operations of a loss and its gradient through the map. ``error_law(noise, dim, rank, n)``:
    the root mean square Frobenius error of the oracle that is given the true rank; None where no law is known.
    """

    draw: Callable[[RandomKey, int, int, DTypeLike], Measurements]
    numbers: Callable[[int, int], int]
    flops: Callable[[int, int, int], float]
    error_law: Callable[[ScalarLike, int, int, int], Scalar] | None = None


ENSEMBLES: dict[str, Ensemble] = {}
