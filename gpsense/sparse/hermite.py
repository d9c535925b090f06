"""Probabilists' Hermite polynomials, and link functions and activations with their coefficients in them.

``He_k`` is monic with ``E He_j(t) He_k(t) = k! 1{j = k}`` for ``t ~ N(0, 1)``; ``he_k = He_k / sqrt(k!)``, of variance
1. The paper's coefficients are for ``He_k / k!``; those here are for ``he_k``, so that their squares sum to a variance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import factorial, hypot, isfinite, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from gpsense._types import Elementwise
from gpsense.errors import BadInput

Coefficients = Float[Array, "degrees ..."]

_NODES = 96  # nodes of the Gauss-Legendre rule on each side of the kink
_REACH = 12.0  # |t| up to here; the rest of N(0, 1) has probability 4e-33


def hermite(degree: int, t: Elementwise) -> Coefficients:
    """Normalised Hermite polynomials ``he_0(t), ..., he_K(t)``, K = ``degree``, shape (degree + 1, *t.shape).

    By the recursion ``sqrt(k+1) he_(k+1) = t he_k - sqrt(k) he_(k-1)``.
    """
    return jnp.stack(list(_hermite(degree, t)))


def _hermite(degree: int, t: jax.Array) -> Iterator[jax.Array]:
    previous, current = jnp.zeros_like(t), jnp.ones_like(t)
    for k in range(degree + 1):
        yield current
        previous, current = current, (t * current - sqrt(k) * previous) / sqrt(k + 1)


@dataclass(frozen=True)
class Link:
    """The link ``sigma*(t) = sum_k c_k he_k(t)``, k = 1, ..., K, of mean 0; static. Made by :func:`link`."""

    coefficients: tuple[float, ...]

    def __call__(self, t: Elementwise) -> Elementwise:
        """``sigma*(t)``, elementwise."""
        terms = list(_hermite(len(self.coefficients), t))[1:]
        return sum((c * term for c, term in zip(self.coefficients, terms, strict=True)), jnp.zeros_like(t))

    def slope(self, t: Elementwise) -> Elementwise:
        """``sigma*'(t) = sum_k c_k sqrt(k) he_(k-1)(t)``, elementwise."""
        terms = enumerate(_hermite(len(self.coefficients) - 1, t))
        return sum((self.coefficients[k] * sqrt(k + 1) * term for k, term in terms), jnp.zeros_like(t))

    @property
    def information_exponent(self) -> int:
        """``k* = min{k >= 1: c_k != 0}``."""
        return next(k for k, c in enumerate(self.coefficients, start=1) if c)

    @property
    def gamma(self) -> tuple[float, ...]:
        """``gamma_k = c_k sqrt(k!)`` for k = 1, ..., K, the paper's: ``sigma* = sum_k gamma_k / k! He_k``."""
        return tuple(c * sqrt(factorial(k)) for k, c in enumerate(self.coefficients, start=1))


def link(coefficients: Sequence[float]) -> Link:
    """The link ``sum_k c_k he_k / sqrt(sum_k c_k^2)``, variance 1; raises BadInput if all are 0 or one not finite."""
    numbers = tuple(float(c) for c in coefficients)
    size = hypot(*numbers)
    if not (isfinite(size) and size > 0):
        problem = f"{list(numbers)} is not a link function of mean 0 and variance above 0"
        raise BadInput("link", problem, "give finite coefficients of he_1, he_2, ..., not all 0")
    return Link(tuple(c / size for c in numbers))


def additive(function: Link, z: Float[Array, "... rank"]) -> Elementwise:
    """``sum_k sigma*(z_k) / sqrt(r)`` over the last axis: a multi-index link of variance 1 at ``z ~ N(0, I_r)``."""
    return jnp.sum(function(z), axis=-1) / sqrt(z.shape[-1])


@dataclass(frozen=True)
class Activation:
    """An activation phi and its derivative, both elementwise and analytic except for a kink at 0; static.

    ``closed(b, degree)``: its coefficients in closed form, else None; see :func:`activation_coefficients`.
    """

    name: str
    value: Callable[[jax.Array], jax.Array]
    slope: Callable[[jax.Array], jax.Array]
    closed: Callable[[jax.Array, int], jax.Array] | None = None


def activation_coefficients(activation: Activation, bias: Elementwise, degree: int) -> Coefficients:
    """``g_k(b) = E[phi(t + b) He_k(t)] = d^k/db^k E[phi(t + b)]``, k = 0, ..., K: (degree + 1, *bias.shape).

    In closed form where the activation has one, else by :func:`gaussian_rule`, in float64 with errors of 1e-12
    relative to ``sqrt(k!)`` for k <= 10 and |b| <= 6.
    """
    if activation.closed is not None:
        return activation.closed(bias, degree)
    points, weights = gaussian_rule(-bias)
    weights = weights * activation.value(points + bias[..., None])
    return jnp.stack([sqrt(factorial(k)) * jnp.sum(he * weights, -1) for k, he in enumerate(_hermite(degree, points))])


def gaussian_rule(kink: Elementwise) -> tuple[Elementwise, Elementwise]:
    """Points and weights (*kink.shape, nodes) of ``E f(t)``, ``t ~ N(0, 1)``, for f analytic on each side of ``kink``.

    Gauss-Legendre on ``[-12, kink]`` and ``[kink, 12]`` with the normal density.
    """
    nodes, areas = (jnp.asarray(values, kink.dtype) for values in _legendre())
    nodes, areas = (values.reshape((1,) * kink.ndim + values.shape) for values in (nodes, areas))
    kink = jnp.clip(kink, -_REACH, _REACH)[..., None]
    left, right = kink + _REACH, _REACH - kink
    points = jnp.concatenate([left * nodes - _REACH, right * nodes + kink], axis=-1)
    return points, jnp.concatenate([left * areas, right * areas], axis=-1) * norm.pdf(points)


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    points, areas = np.polynomial.legendre.leggauss(_NODES)
    return (points + 1) / 2, areas / 2


def _relu_coefficients(bias: jax.Array, degree: int) -> jax.Array:
    """``b Phi(b) + phi(b)``, ``Phi(b)``, then ``phi(b) He_(k-2)(-b)``; phi, Phi: density, distribution of N(0, 1)."""
    density, distribution = norm.pdf(bias), norm.cdf(bias)
    higher = [sqrt(factorial(k)) * density * he for k, he in enumerate(_hermite(max(degree - 2, 0), -bias))]
    return jnp.stack([bias * distribution + density, distribution, *higher][: degree + 1])


RELU = Activation("relu", jax.nn.relu, lambda t: (t > 0).astype(t.dtype), _relu_coefficients)  # slope 0 at the kink


def find_activation(activation: str | Callable[[jax.Array], jax.Array]) -> Activation:
    """The activation of this name, or one made from an elementwise function, which JAX differentiates."""
    if isinstance(activation, str):
        return ACTIVATIONS[activation]
    slope = lambda t: jax.jvp(activation, (t,), (jnp.ones_like(t),))[1]  # noqa: E731
    return Activation(getattr(activation, "__name__", "own"), activation, slope)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        RELU,
        Activation("tanh", jnp.tanh, lambda t: 1 - jnp.tanh(t) ** 2),
        Activation("softplus", jax.nn.softplus, jax.nn.sigmoid),
        Activation("gelu", lambda t: t * norm.cdf(t), lambda t: norm.cdf(t) + t * norm.pdf(t)),
    )
}
