"""Sparse features in a two-layer network (arXiv 2406.08658): population gradients, sample laws, the paper's exponents.

The target is ``y = sum_k sigma*(<v_k, x>) / sqrt(r) + noise`` with ``x ~ N(0, I_d)``, orthonormal columns ``v_k`` of V
(dim, rank), link ``sigma* = sum_k gamma_k / k! He_k`` of information exponent k*. ``g_k(b) = E[phi(t + b) He_k(t)]``
for the activation phi and t ~ N(0, 1). The number of samples n counts inputs x.
"""

from functools import partial
from math import factorial, prod, sqrt
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import Factor, Scalar, ScalarLike
from gpsense.sparse.hermite import RELU, Activation, Link, activation_coefficients, gaussian_rule
from gpsense.theory._numbers import floats

Parity = Literal["both", "even", "odd"]


def population_gradient(
    link: Link,
    activation: Activation,
    weight: Float[Array, " dim"],
    directions: Factor,
    bias: ScalarLike,
    parity: Parity = "both",
) -> Float[Array, " dim"]:
    """``E[y x phi'(<w, x> + b)]`` (dim,) for unit w: the direction of a neuron's gradient step. Derived (Stein).

    ``r^(-1/2) sum_j (v_j sum_k gamma_(k+1) g_(k+1) rho_j^k / k! + w sum_k gamma_k g_(k+2) rho_j^k / k!)`` with
    ``rho_j = <v_j, w>``. ``parity`` even or odd replaces ``phi(t + b)`` by ``(phi(t + b) +- phi(-t + b)) / 2``, which
    keeps the even or the odd ``g_k`` only.
    """
    rho = directions.T @ weight
    along, towards = jnp.zeros_like(rho), jnp.zeros_like(rho)
    g = activation_coefficients(activation, jnp.asarray(bias, weight.dtype), len(link.gamma) + 2)
    for k, gamma in enumerate(link.gamma, start=1):
        if parity == "both" or (k % 2 == 0) == (parity == "even"):
            along += gamma / factorial(k - 1) * g[k] * rho ** (k - 1)
            towards += gamma / factorial(k) * g[k + 2] * rho**k
    return (directions @ along + weight * jnp.sum(towards)) / sqrt(rho.size)


def unpruned_samples(link: Link, dim: ScalarLike, noise: ScalarLike = 0.0, activation: Activation = RELU) -> Scalar:
    """The n at which half the energy of a dense gradient step G is along V (dim, rank), the true directions. Derived.

    It solves ``||G V||_F^2 = ||G||_F^2 / 2`` and is
    ``d^k* (1 + noise^2) E[phi'(t + b)^2] ((k*-1)!)^2 / (gamma_k*^2 E[g_k*(b)^2] (2 k* - 3)!!)`` with neurons w uniform
    on the sphere and t, b ~ N(0, 1). There the signal ``gamma_k*^2 / ((k*-1)!)^2 E[g_k*^2] (2 k* - 3)!! / d^(k*-1)``,
    from ``E rho^(2 k* - 2)``, equals the noise ``(1 + noise^2) E[phi'^2] d / n``, to leading order in 1/d, for r << d,
    where the rank r does not enter. For ReLU and ``sigma* = he_k*``: 1.5 d, 2.72 d^2 and 3.63 d^3 for k* = 1, 2, 3.
    """
    return _unpruned_samples(link, activation, *floats(dim, noise))


@partial(jax.jit, static_argnums=(0, 1))
def _unpruned_samples(link: Link, activation: Activation, dim: jax.Array, noise: jax.Array) -> jax.Array:
    exponent = link.information_exponent
    points, weights = gaussian_rule(jnp.zeros_like(dim))
    received = jnp.sum(weights * activation.slope(sqrt(2) * points) ** 2)
    seen = jnp.sum(weights * activation_coefficients(activation, points, exponent)[exponent] ** 2)
    share = (link.gamma[exponent - 1] / factorial(exponent - 1)) ** 2 * prod(range(1, 2 * exponent - 2, 2))
    return dim**exponent * (1 + noise**2) * received / (share * seen)


def unpruned_energy(
    link: Link, dim: ScalarLike, n: ScalarLike, noise: ScalarLike = 0.0, activation: Activation = RELU
) -> Scalar:
    """``n / (n + n_50)``: the share ``||G V||_F^2 / ||G||_F^2`` of a dense step G along the true V. Derived.

    n_50 is :func:`unpruned_samples`. To leading order: this neglects the part of the population gradient along w, its
    share ``(2 k* - 1) / k*^2 E[g_(k*+2)^2] / (d E[g_k*^2])`` (ReLU: 0.09/d, 0.5/d, 2.59/d for k* = 1, 2, 3), and the
    part of the noise along V, a share r/d of the noise.
    """
    return n / (n + unpruned_samples(link, dim, noise, activation))


def csq_exponent(information_exponent: ScalarLike, alpha: ScalarLike | None = None) -> Scalar:
    """``p = min(alpha, 1/2) k*``: query methods need at least d^p samples for ``d^alpha`` active rows. The paper's.

    The methods are those of correlational statistical queries (CSQ). The bound is heuristic, up to logarithms, from a
    query accuracy of half this exponent. Without alpha: k*/2, for methods that do not depend on the basis.
    """
    (exponent,) = floats(information_exponent)
    return exponent * jnp.minimum(jnp.asarray(0.5 if alpha is None else alpha, exponent.dtype), 0.5)


def pruned_exponent(information_exponent: ScalarLike, alpha: ScalarLike) -> Scalar:
    """``p = alpha k*``: pruned networks learn from d^p samples for ``d^alpha`` active rows, up to logs. The paper's.

    Any k* for single-index links; k* = 2 for nondegenerate multi-index ones.
    """
    exponent, alpha = floats(information_exponent, alpha)
    return alpha * exponent


def unpruned_exponent(information_exponent: ScalarLike) -> Scalar:
    """``p = k*``: one gradient step of a dense network needs d^p samples, up to constants. The paper's."""
    return floats(information_exponent)[0]


def risk_rate(kept: ScalarLike, width: ScalarLike, n: ScalarLike) -> Scalar:
    """``1/m + sqrt(M/n)``: rate of the excess risk with M coordinates kept and width m; no constants. The paper's."""
    kept, width, n = floats(kept, width, n)
    return 1 / width + jnp.sqrt(kept / n)


def row_norm(directions: Factor, q: ScalarLike) -> Scalar:
    """``||V||_{2,q} = (sum_i ||e_i^T V||^q)^(1/q)`` of V; for q = 0 the number of nonzero rows. The paper's."""
    q = jnp.asarray(q, directions.dtype)
    lengths = jnp.linalg.norm(directions, axis=1)
    total = jnp.sum(jnp.where(lengths > 0, jnp.where(lengths > 0, lengths, 1.0) ** q, 0.0))
    return jnp.where(q > 0, total ** (1 / jnp.where(q > 0, q, 1.0)), total)
