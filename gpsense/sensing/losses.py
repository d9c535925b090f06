"""Losses of a factor U with gradients in closed form: the empirical loss, its Gram form, and the population loss.

Convention of arXiv 2303.11453: ``L(U) = (1/n) ||A(U U^T) - y||^2`` without a factor 1/2. With
``R = (1/n) A*(A(U U^T) - y)`` the gradient is ``4 R U``. The empirical loss and its Gram form are the same function
of U and differ in cost. Closed-form gradients need one product with the data where automatic differentiation takes
two. JAX can differentiate every form to any order, in forward and in reverse mode.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool

from gpsense._types import Factor, Hessian, Packed, PackedRows, RandomKey, Scalar, Symmetric, Values
from gpsense.fields import check_shape
from gpsense.sensing.measurements import Measurements
from gpsense.sensing.symmetric import mapped, packed_dim, packed_size, smat, squared, svec, times

Later = Callable[[], Scalar]

FOLD = 5  # every FOLD-th measurement is held out


def sensing_loss(factor: Factor, measurements: Measurements, values: Values) -> Scalar:
    """``L(U) = (1/n) sum_i (<A_i, U U^T> - y_i)^2`` for a factor (dim, width) and values (n,).

    >>> measurements = gpsense.Entries([0, 1], [0, 1], side=2)
    >>> float(gpsense.sensing_loss(jnp.array([[1.0], [1.0]]), measurements, jnp.array([1.0, 3.0])))
    2.0
    """
    check_shape("factor", factor, measurements.dim, "width")
    check_shape("values", values, measurements.n)
    return jnp.mean((measurements.forward(factor) - values) ** 2)


def population_loss(factor: Factor, matrix: Symmetric) -> Scalar:
    """``||U U^T - M||_F^2``: the expected loss of isotropic measurements, less the noise variance.

    >>> float(gpsense.population_loss(jnp.array([[1.0], [1.0]]), jnp.eye(2)))
    2.0
    """
    check_shape("factor", factor, "dim", "width")
    check_shape("matrix", matrix, *2 * factor.shape[:1])
    return jnp.sum((factor @ factor.T - matrix) ** 2)


class Objective(eqx.Module):
    """A loss of the factor with its gradient in closed form."""

    @property
    def lanes(self) -> bool:
        """Whether a batch of factors is best held along the last axis (:mod:`gpsense._lanes`)."""
        return False

    @abstractmethod
    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        """Loss and ``dL/dU``, shapes () and (dim, width)."""

    def gradient_first(self, factor: Factor) -> tuple[Later, Factor]:
        """The loss, as a function to call only where it is needed, and the gradient."""
        value, gradient = self.value_and_gradient(factor)
        return lambda: value, gradient

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
    """:func:`sensing_loss` of given measurements and values, through the map's own forward and adjoint.

    >>> measurements = gpsense.Entries([0, 0, 1], [0, 1, 1], side=2)
    >>> loss = gpsense.Empirical(measurements, jnp.array([1.0, 0.0, 1.0]))
    >>> value, gradient = loss.value_and_gradient(jnp.eye(2))
    >>> float(value), gradient.tolist()
    (0.0, [[0.0, 0.0], [0.0, 0.0]])
    """

    measurements: Measurements
    values: Values

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        check_shape("factor", factor, self.measurements.dim, "width")
        self._check_values()
        residual = self.measurements.forward(factor) - self.values
        pull = self.measurements.pull(factor, residual)
        return jnp.mean(residual**2), (4.0 / residual.shape[0]) * pull

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        check_shape("matrix", matrix, *2 * (self.measurements.dim,))
        self._check_values()
        misfit = self.measurements.apply(matrix) - self.values
        return jnp.mean(misfit**2), self.measurements.adjoint(misfit / misfit.shape[0])

    def back_projection(self) -> Symmetric:
        self._check_values()
        return self.measurements.adjoint(self.values / self.values.shape[0])

    def minibatch(self, key: RandomKey, size: int) -> "Empirical":
        """The loss of ``size`` measurements drawn with replacement: its gradient is unbiased."""
        index = jax.random.randint(key, (size,), 0, self.values.shape[0])
        return Empirical(self.measurements.take(index), self.values[index])

    def _check_values(self) -> None:  # not on construction: under vmap and tree maps shapes differ
        check_shape("values", self.values, self.measurements.n)


class Gram(Objective):
    """The empirical loss as a quadratic of ``z = svec(U U^T) - centre``: ``z^T H z - 2 s^T z + c``.

    ``H = A^T A / n`` is the ``hessian`` (packed, packed), so that one product with H serves loss and gradient whatever
    n is; s is the ``slope``, c the ``offset``. Centred on the truth (simulation) or on an iterate (data), s is small
    and nothing large cancels in float32; see :func:`gram_objective` and :func:`recentred`.
    """

    hessian: Hessian
    centre: Packed
    slope: Packed
    offset: Scalar

    @property
    def lanes(self) -> bool:
        return True

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        check_shape("factor", factor, packed_dim(self.centre.shape[0]), "width")
        value, gradient = self.gradient_first(factor)
        return value(), gradient

    def gradient_first(self, factor: Factor) -> tuple[Later, Factor]:
        z = squared(factor) - self.centre
        image = mapped(self.hessian, z)
        value = lambda: jnp.sum(z * (image - 2.0 * self.slope)) + self.offset  # noqa: E731
        return value, 4.0 * times(image - self.slope, factor)

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        check_shape("matrix", matrix, *2 * (packed_dim(self.centre.shape[0]),))
        value, pull = _quadratic(self.hessian, self.slope, self.offset, svec(matrix) - self.centre)
        return value, smat(pull)

    def __call__(self, factor: Factor) -> Scalar:
        """The loss, differentiable by JAX to any order; value and gradient share one product with H."""
        check_shape("factor", factor, packed_dim(self.centre.shape[0]), "width")
        return quadratic_form(self.hessian, self.slope, self.offset, svec(factor @ factor.T) - self.centre)

    def back_projection(self) -> Symmetric:
        return smat(self.centre @ self.hessian + self.slope)


def _quadratic(hessian: Hessian, slope: Packed, offset: Scalar, z: Packed) -> tuple[Scalar, Packed]:
    """The value of :func:`quadratic_form`, and half its gradient, ``H z - s``."""
    pull = hessian @ z - slope
    return z @ (pull - slope) + offset, pull


@jax.custom_jvp
def quadratic_form(hessian: Hessian, slope: Packed, offset: Scalar, z: Packed) -> Scalar:
    """``z^T H z - 2 s^T z + c`` for symmetric H, with ``2 (H z - s)`` as its gradient in z.

    Value and gradient share the product with H, which JAX would take twice; JAX differentiates the rule further.
    """
    return _quadratic(hessian, slope, offset, z)[0]


@partial(quadratic_form.defjvp, symbolic_zeros=True)
def _quadratic_form_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Scalar, Scalar]:
    hessian, slope, offset, z = primals
    value, pull = _quadratic(hessian, slope, offset, z)
    along = (
        lambda d_hessian: z @ (d_hessian @ z),
        lambda d_slope: -2.0 * (d_slope @ z),
        lambda d_offset: d_offset,
        lambda d_z: 2.0 * (pull @ d_z),
    )
    terms = [rule(t) for rule, t in zip(along, tangents, strict=True) if not isinstance(t, SymbolicZero)]
    return value, sum(terms, jnp.zeros_like(value))


def gram_objective(
    measurements: Measurements, values: Values, centre: Packed | None = None, used: Bool[Array, " n"] | None = None
) -> Gram:
    """Gram form of the empirical loss, centred on a packed matrix (default 0; the truth in simulation).

    ``H = A^T A / n``, ``s = A^T (y - A c) / n``, offset ``||y - A c||^2 / n`` for centre c, A packed to (n, packed).
    With ``used`` only the measurements where it is True count; their number, which is then n, may be traced.
    """
    check_shape("values", values, measurements.n)
    rows = measurements.packed()
    if centre is None:
        centre = jnp.zeros(rows.shape[1], rows.dtype)
    return Gram(*normal_equations(rows, values, centre, used))


def normal_equations(
    rows: PackedRows, values: Values, centre: Packed, used: Bool[Array, " n"] | None = None
) -> tuple[Hessian, Packed, Packed, Scalar]:
    """``H = A^T A / n``, centre c, ``s = A^T (y - A c) / n`` and ``||y - A c||^2 / n`` of rows A (n, packed)."""
    residual = values - rows @ centre
    weights = jnp.ones_like(values) if used is None else used.astype(values.dtype)
    n = jnp.sum(weights)
    weighted = rows * weights[:, None] / n
    return rows.T @ weighted, centre, residual @ weighted, jnp.sum(weights * residual**2) / n


class Split(Objective):
    """The loss on all measurements, on four fifths of them (``fit``) and on the held-out fifth (``held``)."""

    whole: Gram
    fit: Gram
    held: Gram

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        return self.whole.value_and_gradient(factor)

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        return self.whole.residual(matrix)

    def __call__(self, factor: Factor) -> Scalar:
        return self.whole(factor)

    def back_projection(self) -> Symmetric:
        return self.whole.back_projection()


def split_objective(
    measurements: Measurements, values: Values, centre: Packed | None = None, used: Bool[Array, " n"] | None = None
) -> Split:
    """The :func:`gram_objective` of all measurements, of the held-out ones (every fifth) and of the others."""
    check_shape("values", values, measurements.n)
    every = jnp.ones_like(values, bool) if used is None else used
    held = jnp.arange(values.shape[0]) % FOLD == FOLD - 1
    parts = (every, every & ~held, every & held)
    return Split(*(gram_objective(measurements, values, centre, part) for part in parts))


def cheapest_objective(measurements: Measurements, values: Values, width: int) -> Objective:
    """The cheapest form of the empirical loss per step at this width: through the map, or in Gram form.

    Operations counted (dim d, width k): ``2 D^2 + 4 d^2 k`` in Gram form with ``D = d (d + 1) / 2``,
    ``4 n D + 4 d^2 k`` through packed matrices, ``4 n d k`` through vectors; maps of single entries or distances are
    cheapest as they are.
    """
    dim, packed = measurements.dim, packed_size(measurements.dim)
    gram = 2 * packed**2 + 4 * dim**2 * width
    direct = measurements.flops(width)
    return gram_objective(measurements, values) if gram < direct else Empirical(measurements, values)


class Displaced(eqx.Module):
    """The empirical loss as a function of D, the displacement from U0: ``(1/n) ||A(U U^T) - y||^2, U = U0 + D``.

    Computed as ``(1/n) ||2 A(W D^T) - r||^2`` with ``W = U0 + D/2`` and ``r = y - A(U0 U0^T)``: where U0 fits, D and r
    are small and nothing large cancels, which keeps float32 accurate where only data, no truth, are known.
    """

    measurements: Measurements
    centre: Factor
    residual: Values

    def __call__(self, displacement: Factor) -> Scalar:
        middle = self.centre + 0.5 * displacement
        return jnp.mean((2.0 * self.measurements.bilinear(middle, displacement) - self.residual) ** 2)


def recentred(measurements: Measurements, values: Values, factor: Factor) -> Displaced:
    """:func:`sensing_loss` as a function of the displacement from ``factor`` (dim, width)."""
    check_shape("factor", factor, measurements.dim, "width")
    check_shape("values", values, measurements.n)
    return Displaced(measurements, factor, values - measurements.forward(factor))


class Population(Objective):
    """``||U U^T - M||_F^2 + offset``; the offset is the noise variance."""

    matrix: Symmetric
    offset: Scalar

    @property
    def lanes(self) -> bool:
        return True

    def value_and_gradient(self, factor: Factor) -> tuple[Scalar, Factor]:
        check_shape("factor", factor, self.matrix.shape[0], "width")
        value, gradient = self.gradient_first(factor)
        return value(), gradient

    def gradient_first(self, factor: Factor) -> tuple[Later, Factor]:
        residual = squared(factor) - svec(self.matrix)
        return lambda: jnp.sum(residual**2) + self.offset, 4.0 * times(residual, factor)

    def residual(self, matrix: Symmetric) -> tuple[Scalar, Symmetric]:
        check_shape("matrix", matrix, *2 * (self.matrix.shape[0],))
        gap = matrix - self.matrix
        return jnp.sum(gap**2) + self.offset, gap

    def back_projection(self) -> Symmetric:
        return self.matrix
