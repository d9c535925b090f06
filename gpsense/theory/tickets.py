"""Masked teacher and student networks (arXiv 2110.05667): curvature, rates, noise, and the cost of wrong masks.

The teacher is ``y = (1/K) sum_j relu(w_j^T x) + noise`` with ``x ~ N(0, I_d)``; its rows ``w_j`` in W (neurons, dim)
vanish outside boolean masks (neurons, dim), which keep r_j inputs of neuron j. The student is of the same form and
minimises ``f = (1/2N) sum (yhat - y)^2``, with the factor 1/2; K is ``neurons``, r is ``size``, N is ``n``, the number
of inputs x. A Hessian has shape (neurons * dim, neurons * dim): the entries of W row by row, zero outside the masks.
"""

from math import pi

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense import _linalg
from gpsense._types import Scalar, ScalarLike
from gpsense.theory._numbers import floats

Rows = Float[Array, "neurons dim"]
Masks = Bool[Array, "neurons dim"]
RowHessian = Float[Array, "entries entries"]


def effective_size(masks: Masks) -> Scalar:
    """``r~ = (1/(8 K^4)) (sum_{j,k} (1 + delta_jk) sqrt(r_j + r_k))^2``, delta_jk 1 if supports overlap. Recalled.

    For identical supports of size r it is r, for disjoint ones ``r (1 + 1/K)^2 / 4`` (both derived). The result is
    float64 where ``jax_enable_x64`` is set, else float32.
    """
    kept = masks.astype(float)
    sizes = jnp.sum(kept, axis=1)
    factors = jnp.where(kept @ kept.T > 0, 2, 1)
    total = jnp.sum(factors * jnp.sqrt(sizes[:, None] + sizes[None, :]))
    return total**2 / (8 * masks.shape[0] ** 4)


def teacher_hessian(weights: Rows, inputs: Float[Array, "n dim"], masks: Masks, used: Float[Array, " n"]) -> RowHessian:
    """``J^T J / N`` with ``J_n = [1[w_j^T x_n > 0] x_{n,S_j} / K]``, S_j the support of neuron j. Derived.

    The Hessian of f where the residual is 0, as at a teacher without noise; elsewhere its Gauss-Newton part. ``used``
    is 1 for the N rows of ``inputs`` that count (NaN if N = 0) and 0 for the others, which may hold anything. Working
    memory: n * neurons * dim numbers.
    """
    fires = (inputs @ weights.T > 0) & (used > 0)[:, None]
    seen = fires[:, :, None] & masks[None]
    features = jnp.where(seen, inputs[:, None, :], 0).reshape(inputs.shape[0], -1)
    return features.T @ features / (weights.shape[0] ** 2 * jnp.sum(used))


def _filled(hessian: RowHessian, keep: Bool[Array, " entries"]) -> RowHessian:
    """The Hessian of the kept entries; removed ones get zeros and, on the diagonal, the kept ones' mean eigenvalue."""
    diagonal = jnp.where(keep, jnp.diagonal(hessian), 0)
    mean = jnp.sum(diagonal) / jnp.maximum(jnp.sum(keep), 1).astype(hessian.dtype)
    inside = jnp.where(keep[:, None] & keep[None, :], hessian, 0)
    return inside + jnp.diag(jnp.where(keep, 0, mean))


def hessian_range(hessian: RowHessian, masks: Masks) -> tuple[Scalar, Scalar]:
    """Smallest and largest eigenvalue ``(mu, L)`` over the kept entries of W; (0, 0) where none is kept.

    Removed entries get the mean eigenvalue, which lies between mu and L and so changes neither. With fewer than
    ``sum_j r_j`` samples mu is 0, up to rounding of either sign.
    """
    values, _ = _linalg.eigh(_filled(hessian, masks.reshape(-1)))
    return values[0], values[-1]


def momentum_rate(mu: ScalarLike, largest: ScalarLike, rate: ScalarLike, momentum: ScalarLike) -> Scalar:
    """``nu = max_i rho([[1 + beta - eta L_i, -beta], [1, 0]])``: contraction of the error per step. Derived.

    rho is the spectral radius, eta the rate, beta the momentum, L_i an eigenvalue from mu to L (``largest``). With
    ``t = 1 + beta - eta L_i`` the eigenvalues solve ``z^2 - t z + beta = 0``, so that rho is sqrt(beta) for
    ``t^2 <= 4 beta`` and ``(|t| + sqrt(t^2 - 4 beta)) / 2`` above. It does not fall as |t| grows, and |t| is convex in
    L_i: the ends mu and L suffice. Momentum 0 is gradient descent, ``max |1 - eta L_i|``. Asymptotic, near the minimum;
    at 1 or more there is no convergence.
    """
    mu, largest, rate, momentum = floats(mu, largest, rate, momentum)
    trace = jnp.maximum(jnp.abs(1 + momentum - rate * mu), jnp.abs(1 + momentum - rate * largest))
    excess = trace**2 - 4 * momentum
    outside = excess > 0
    apart = (trace + jnp.sqrt(jnp.where(outside, excess, 1))) / 2
    return jnp.where(outside, apart, jnp.sqrt(jnp.where(outside, 1, momentum)))


def tuned_descent(mu: ScalarLike, largest: ScalarLike) -> tuple[Scalar, Scalar]:
    """Best rate of gradient descent, ``2 / (L + mu)``, and its contraction ``(L - mu) / (L + mu)``. Textbook."""
    mu, largest = floats(mu, largest)
    return 2 / (largest + mu), (largest - mu) / (largest + mu)


def tuned_momentum(mu: ScalarLike, largest: ScalarLike) -> tuple[Scalar, Scalar, Scalar]:
    """Best rate eta and momentum beta of the heavy ball, and its contraction per step nu. Textbook (Polyak).

    ``eta = 4 / (sqrt(L) + sqrt(mu))^2``, ``nu = (sqrt(kappa) - 1) / (sqrt(kappa) + 1)`` with ``kappa = L / mu``, and
    ``beta = nu^2``.
    """
    mu, largest = floats(mu, largest)
    low, high = jnp.sqrt(mu), jnp.sqrt(largest)
    factor = (high - low) / (high + low)
    return 4 / (high + low) ** 2, factor**2, factor


def paper_rate_exponent(*, momentum: bool) -> float:
    """Exponent of K in ``1 - nu``, nu the contraction per step: -1; with momentum -1/2. The paper's, recalled."""
    return -0.5 if momentum else -1.0


def least_curvature(neurons: ScalarLike, size: ScalarLike, n: ScalarLike) -> Scalar:
    """``mu ~ (1 - sqrt(K r / N))^2 / (4 K^2)``, 0 for ``N <= K r``: smallest curvature at the teacher. Derived.

    Heuristic: ``1/(4 K^2)``, the least eigenvalue of the population Hessian for orthogonal neurons with large common
    supports, times the least eigenvalue of a Gaussian sample covariance. Measured values divided by it, for r = 10,
    N = 2 K r to 8 K r, K = 2 to 10: 1.5 to 2 for disjoint supports at N >= 4 K r (population value near ``1/(2 K^2)``),
    0.4 to 1.5 for random ones, 0.1 to 1 for common ones, since neurons that share r inputs are not orthogonal.
    """
    neurons, size, n = floats(neurons, size, n)
    return jnp.maximum(1 - jnp.sqrt(neurons * size / n), 0) ** 2 / (4 * neurons**2)


def samples_needed(neurons: ScalarLike, size: ScalarLike, constant: ScalarLike = 1.2) -> Scalar:
    """``N_50 = c K r``: samples at which half the trials recover the teacher. An empirical fit, not a bound.

    K is ``neurons``, r ``size``, c ``constant``. c was measured as 1.0 to 1.4 (K = 5, r = 10 to 60, starts at relative
    distance 0.1 and 0.5); with c = 1 there are as many samples as weights in the teacher's masks. The paper's
    sufficient count is larger by powers of K.
    """
    neurons, size, constant = floats(neurons, size, constant)
    return constant * neurons * size


def linearised_noise(hessian: RowHessian, masks: Masks, noise: ScalarLike, n: ScalarLike) -> Scalar:
    """``sqrt(sigma^2 / N tr H^-1)`` over kept entries: root mean square of ``||W - W*||_F`` for noisy y. Derived.

    Least squares with the ReLUs active where the teacher's are has covariance ``sigma^2 (J^T J)^-1``, given the inputs
    of the Hessian at W*; exact in the limit of small noise. Divided by ``||W*||_F`` it is the relative error, without a
    free constant. Infinite with fewer than ``sum_j r_j`` samples; meaningless where the Hessian is singular.
    """
    keep = masks.reshape(-1)
    sigma, count = jnp.asarray(noise, hessian.dtype), jnp.asarray(n, hessian.dtype)
    inverse = _linalg.solve(_filled(hessian, keep), jnp.eye(keep.size, dtype=hessian.dtype))
    trace = jnp.sum(jnp.where(keep, jnp.diagonal(inverse), 0))
    enough = (count >= jnp.sum(keep).astype(hessian.dtype)) & (trace >= 0)
    return jnp.where(enough, sigma * jnp.sqrt(jnp.where(enough, trace, 0) / count), jnp.inf)


def noise_error(
    noise: ScalarLike,
    output_rms: ScalarLike,
    neurons: ScalarLike,
    size: ScalarLike,
    n: ScalarLike,
    constant: ScalarLike | None = None,
) -> Scalar:
    """``c (sigma / E_y) sqrt(K r / (N - K r))``: relative error of W, with E_y ``output_rms``. Derived up to c.

    E_y is ``sqrt(E y^2)`` of noise-free y. Infinite for ``N <= K r``. By default c = ``sqrt(1 + (K - 1) / pi)``, from
    :func:`linearised_noise` for disjoint supports and rows of equal norm. Then the population Hessian is
    ``I / (2 K^2)`` up to a few directions, the inverse of a sampled one is larger by ``N / (N - K r)``, and
    ``E_y^2 = ||W||_F^2 / K^2 (1/2 + (K - 1) / (2 pi))``. Values of c from sampled Hessians, K = 5, r = 10 (derived:
    1.51): 1.5 to 1.6 for disjoint supports, 1.6 to 1.9 for random ones, 2.6 to 3.7 for common ones; from trained
    networks of 5 neurons: 1.6 to 2.1.
    """
    noise, output_rms, neurons, size, n = floats(noise, output_rms, neurons, size, n)
    derived = jnp.sqrt(1 + (neurons - 1) / pi)
    factor = derived if constant is None else jnp.asarray(constant, neurons.dtype)
    spare = n - neurons * size
    error = factor * noise / output_rms * jnp.sqrt(neurons * size / jnp.where(spare > 0, spare, 1))
    return jnp.where(spare > 0, error, jnp.inf)


def paper_noise_floor(sizes: Float[Array, " neurons"], q: ScalarLike, n: ScalarLike, noise: ScalarLike) -> Scalar:
    """``sum_j sqrt(r_j log(q) / N) |xi|``, a reference line without the paper's constants. Recalled.

    r_j are the ``sizes``, xi is the ``noise``. ``q`` is of the order of dim in the paper; its exact meaning is not
    confirmed.
    """
    q, n, noise = (jnp.asarray(value, sizes.dtype) for value in (q, n, noise))
    return jnp.sum(jnp.sqrt(sizes * jnp.log(q) / n)) * jnp.abs(noise)


@jax.custom_jvp
def _arc_cosine(cosine: Float[Array, "..."]) -> Float[Array, "..."]:
    """E relu(a) relu(b) for standard normals of correlation cos t: ``(sin t + (pi - t) cos t) / (2 pi)``."""
    cosine = jnp.clip(cosine, -1, 1)
    return (jnp.sqrt((1 - cosine) * (1 + cosine)) + (pi - jnp.arccos(cosine)) * cosine) / (2 * pi)


@_arc_cosine.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # at parallel rows the derivative is finite, but its two terms are not
    (cosine,), (tangent,) = primals, tangents
    return _arc_cosine(cosine), (pi - jnp.arccos(jnp.clip(cosine, -1, 1))) / (2 * pi) * tangent


def population_risk(weights: Rows, truth: Rows) -> Scalar:
    """``E (yhat - y*)^2`` over x ~ N(0, I_d), exact, without the factor 1/2 of f and without noise.

    ``(1/K^2) c^T G c`` over the rows of both networks, c = +1 for the student's and -1 for the teacher's, with the
    arc-cosine kernel ``G = |a| |b| (sin t + (pi - t) cos t) / (2 pi)`` of angle t (Cho and Saul 2009). Zero and
    parallel rows are allowed: first derivatives are finite there (0 at a zero row), second ones are not. Rounding is
    relative to ``E y*^2``, so that a risk near 0 may come out negative.
    """
    rows = jnp.concatenate([weights, truth])
    squares = jnp.sum(rows**2, axis=1)
    divisors = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    lengths = jnp.where(squares > 0, divisors, 0)
    cosines = rows @ rows.T / (divisors[:, None] * divisors[None, :])
    signs = jnp.where(jnp.arange(rows.shape[0]) < weights.shape[0], lengths, -lengths)
    return signs @ _arc_cosine(cosines) @ signs / weights.shape[0] ** 2


def inaccurate_floor(removed: Rows) -> Scalar:
    """``(1/K^2) [1/2 sum_j |m_j|^2 + 1/4 sum_{j != k} m_j^T m_k]``, m_j the entries removed from w*_j. Derived.

    Approximates the :func:`population_risk` of the teacher without its removed entries, to second order in m; where
    the neurons are orthogonal, and m_j to the other rows, it is the limit of small m. For random teachers of 4
    neurons in 40 inputs that limit is 0.96 to 1.01 times this value; for masks of accuracy 0.9, 0.8, 0.5 (K = 5,
    dim = 100, r = 20) the risk is 0.95, 0.97, 1.08 times it. Not a lower bound: by adapting its kept entries a
    student compensates for inputs that other neurons keep, and reaches about 0.75 times it for random supports, 0.35 to
    0.38 times for common ones.
    """
    norms, total = jnp.sum(removed**2), jnp.sum(jnp.sum(removed, axis=0) ** 2)
    return (norms / 2 + (total - norms) / 4) / removed.shape[0] ** 2
