"""The interface of every linear map A from symmetric matrices to R^n."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from gpsense._types import Factor, PackedRows, RandomKey, Scalar, ScalarLike, Symmetric, Values
from gpsense.errors import BadInput
from gpsense.fields import check_shape, real_array
from gpsense.sensing.symmetric import svec


class Measurements(eqx.Module):
    """A linear map ``A(X)_i = <A_i, X>`` from symmetric dim x dim matrices to n values.

    Subclasses store the A_i in the cheapest way and need not form them. ``forward`` takes the factor of
    ``X = U U^T``, ``apply`` the matrix itself, ``adjoint`` values z: ``A*(z) = sum_i z_i A_i``. All three, also in your
    own subclasses, raise BadInput for an array of the wrong shape.

    >>> measurements = gpsense.RankOne(jnp.eye(2))
    >>> isinstance(measurements, gpsense.Measurements)
    True
    >>> measurements.adjoint(jnp.array([1.0, 2.0])).tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, check in _ARGUMENTS.items():
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name], check))

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
        """The measurements with these indices, in this order."""

    def flops(self, width: int) -> float:
        """Operations of the products in one loss and gradient at a factor (dim, width); 0: no other form is cheaper."""
        return 0.0

    def bilinear(self, first: Factor, second: Factor) -> Values:
        """``<A_i, U V^T>``, shape (n,), for U and V (dim, width): half the derivative of ``forward`` at U along V."""
        product = first @ second.T
        return self.apply(0.5 * (product + product.T))

    def pull(self, factor: Factor, values: Values) -> Factor:
        """``A*(z) U``, shape (dim, width), for ``values`` z and the ``factor`` U, as gradients of a loss need it."""
        return self.adjoint(values) @ factor

    def packed(self) -> PackedRows:
        """The rows ``svec(A_i)``, shape (n, dim (dim + 1) / 2)."""
        return jax.lax.map(lambda row: svec(self.adjoint(row)), jnp.eye(self.n))


_ARGUMENTS: dict[str, Callable[[Measurements, Any], None]] = {
    "forward": lambda measurements, factor: check_shape("factor", factor, measurements.dim, "width"),
    "apply": lambda measurements, matrix: check_shape("matrix", matrix, *2 * (measurements.dim,)),
    "adjoint": lambda measurements, values: check_shape("values", values, measurements.n),
}


def _checked(method: Callable[..., Any], check: Callable[[Measurements, Any], None]) -> Callable[..., Any]:
    """The method with its array checked first: indexing would silently read a part of an array that is too large."""

    @wraps(method)
    def checked(self: Measurements, array: Any) -> Any:
        check(self, array)
        return method(self, array)

    return checked


def array_of(name: str) -> Callable[[Any], Array]:
    """A converter of arrays and nested lists to JAX arrays; it raises BadInput for ``name`` if they hold no numbers."""
    return lambda given: given if isinstance(given, jax.Array) else jnp.asarray(real_array(name, given))


def check_indices(side: int, **indices: Array) -> None:
    """Raises BadInput unless all index arrays are vectors of one length, of whole numbers from 0 to ``side - 1``.

    The message names the array. Of traced arrays only shape and type are checked.
    """
    n = next(iter(indices.values())).shape
    for name, index in indices.items():
        if len(index.shape) != 1 or index.shape != n:
            shapes = " and ".join(str(each.shape) for each in indices.values())
            raise BadInput(name, f"index arrays of shapes {shapes}", "give vectors, one index per measurement")
        if not jnp.issubdtype(index.dtype, jnp.integer):
            raise BadInput(name, f"it holds {index.dtype}", "give whole numbers counted from 0")
        if isinstance(index, Tracer):
            continue
        known = np.asarray(index)
        if (outside := known[(known < 0) | (known >= side)]).size:
            raise BadInput(name, f"index {outside[0]} for a side of {side}", f"count from 0 to {side - 1}")


@dataclass(frozen=True)
class Ensemble:
    """A random linear map: how it is drawn, what it costs, and what is known of it.

    ``draw(key, n, dim, dtype)``: draws the map, whose row i does not depend on n. ``numbers(n, dim)``: how many numbers
    it stores; ``flops(n, dim, width)``: operations per loss and gradient through the map.
    ``error_law(noise, dim, rank, n)``: the root mean square Frobenius error when the true rank is given; None where no
    law is known.
    """

    draw: Callable[[RandomKey, int, int, DTypeLike], Measurements]
    numbers: Callable[[int, int], int]
    flops: Callable[[int, int, int], float]
    error_law: Callable[[ScalarLike, int, int, int], Scalar] | None = None


ENSEMBLES: dict[str, Ensemble] = {}
