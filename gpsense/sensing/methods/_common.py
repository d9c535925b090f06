"""Functions that several methods share: the normal map of the data, spectral estimates, small linear systems.

With ``b = A*(y)/n`` and ``H(X) = A*(A(X))/n`` the residual of :class:`~gpsense.sensing.losses.Objective` is
``R(X) = H(X) - b``. Step sizes and damping are set in units of ``b`` and ``H``, so that the rules are equivariant:
rescaling y or A only rescales the factor.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._linalg import eigh, solve
from gpsense._types import Factor, RandomKey, Scalar, ScalarLike, Symmetric
from gpsense.sensing.losses import Objective
from gpsense.stationarity import smallest_eigenvalue

Frame = Float[Array, "dim width"]
Spectrum = Float[Array, " width"]


def own_or(value: ScalarLike, default: float) -> Scalar:
    """``value`` where it is positive, the default elsewhere: a tuning of 0 selects the method's own rule."""
    value = jnp.asarray(value)
    return jnp.where(value > 0, value, jnp.asarray(default, value.dtype))


def inner(first: Float[Array, "dim width"], second: Float[Array, "dim width"]) -> Scalar:
    """Frobenius inner product."""
    return jnp.sum(first * second)


def relative_change(new: Float[Array, "dim width"], old: Float[Array, "dim width"]) -> Scalar:
    """``||new - old||_F / ||old||_F``; large where ``old`` is 0."""
    tiny = jnp.finfo(old.dtype).tiny
    return jnp.sqrt(jnp.sum((new - old) ** 2)) / jnp.maximum(jnp.sqrt(jnp.sum(old**2)), tiny)


def normal_map(objective: Objective, matrix: Symmetric) -> Symmetric:
    """``H(X) = A*(A(X))/n``, the derivative of the residual R; computed as such, since ``R(X) - R(0)`` loses digits."""
    return jax.jvp(lambda x: objective.residual(x)[1], (matrix,), (matrix,))[1]


def curvature_along(objective: Objective, matrix: Symmetric) -> Scalar:
    """``<X, H(X)> / <X, X>`` for the ``matrix`` X: the curvature of the data along X, 1 for isotropic measurements."""
    return inner(matrix, normal_map(objective, matrix)) / inner(matrix, matrix)


def largest_curvature(objective: Objective, key: RandomKey, steps: int = 60) -> Scalar:
    """An upper bound of the largest eigenvalue of H, with probability 0.999: minus Lanczos' lower bound for -H.

    About 1 % too large at dim 20; see :func:`gpsense.stationarity.smallest_eigenvalue`.
    """
    back = objective.back_projection()
    draw = jax.random.normal(key, back.shape, back.dtype)
    return -smallest_eigenvalue(lambda matrix: -normal_map(objective, matrix), draw + draw.T, steps).low


def leading(matrix: Symmetric, width: int) -> tuple[Frame, Spectrum]:
    """The ``width`` largest eigenvalues, negative ones set to 0, with their eigenvectors: (dim, width) and (width,)."""
    values, vectors = eigh(matrix)
    return vectors[:, ::-1][:, :width], jnp.maximum(values[::-1][:width], 0.0)


def compose(frame: Frame, spectrum: Spectrum) -> Factor:
    """The factor ``V diag(sqrt(lambda))`` of ``V diag(lambda) V^T``."""
    return frame * jnp.sqrt(spectrum)[None, :]


def spectral_factor(objective: Objective, width: int) -> Factor:
    """The factor of ``t P``, with P of the leading eigenpairs of b and ``t = <b, P> / <P, H(P)>``, of least loss."""
    back = objective.back_projection()
    factor = compose(*leading(back, width))
    matrix = factor @ factor.T
    return factor * jnp.sqrt(inner(back, matrix) / inner(matrix, normal_map(objective, matrix)))


def units(objective: Objective) -> tuple[Scalar, Scalar]:
    """Largest eigenvalue of b, and curvature along its eigenvector; their quotient estimates the size of a solution."""
    frame, spectrum = leading(objective.back_projection(), 1)
    return spectrum[0], curvature_along(objective, frame @ frame.T)


def random_factor(objective: Objective, width: int, scale: ScalarLike, key: RandomKey) -> Factor:
    """A factor of independent normals; column norms are about ``scale`` times the root of the size of a solution."""
    top, curvature = units(objective)
    dim = len(objective.back_projection())
    draw = jax.random.normal(key, (width * dim,), top.dtype).reshape(width, dim).T
    return (scale * jnp.sqrt(top / curvature / dim)) * draw


def precondition(gradient: Factor, factor: Factor, damping: ScalarLike) -> Factor:
    """``G (U^T U + damping I)^-1`` for the ``gradient`` G and the ``factor`` U."""
    gram = factor.T @ factor + damping * jnp.eye(factor.shape[1], dtype=factor.dtype)
    return solve(gram, gradient.T).T
