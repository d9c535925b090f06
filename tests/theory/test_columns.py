"""The penalty of one column and of two: derivatives, extremes, and what rotations can do."""

import jax
import jax.numpy as jnp
import numpy as np

from gpsense import theory
from gpsense.penalties import smoothed_group_lasso
from gpsense.sensing.losses import Population
from tests.compiled import Compiled

LAWS = Compiled(theory)


def test_penalty_slope_is_the_derivative():
    norm = jnp.linspace(0.1, 2, 7)
    slope = jax.vmap(jax.grad(lambda t: t**2 / jnp.sqrt(t**2 + 0.3)))(norm)
    np.testing.assert_allclose(LAWS.penalty_slope(norm**2, 0.3) * norm, slope, rtol=1e-12)


def test_its_derivative_and_the_hessian_of_a_column():
    hessian = jax.jit(jax.hessian(lambda v: smoothed_group_lasso(v[:, None], 0.3)))
    for norm in (0.2, 0.7, 1.5):
        square = norm**2
        ends = [float(LAWS.penalty_slope(square + h, 0.3)) for h in (1e-5, -1e-5)]
        np.testing.assert_allclose(LAWS.penalty_slope_derivative(square, 0.3), (ends[0] - ends[1]) / 2e-5, rtol=1e-7)
        tangential, radial = LAWS.penalty_curvatures(square, 0.3)
        expected = np.linalg.eigvalsh(hessian(norm * jnp.asarray([0.6, 0.0, 0.8])))
        np.testing.assert_allclose([radial, tangential, tangential], expected, rtol=1e-9)
        long_form = float(tangential) - square * (square + 1.2) / (square + 0.3) ** 2.5
        np.testing.assert_allclose(radial, long_form, rtol=1e-9)


def test_most_concave_norm_and_the_gap_to_the_norm_by_brute_force():
    norms = np.linspace(1e-4, 3, 300_001)
    radial = np.asarray(LAWS.penalty_curvatures(jnp.asarray(norms**2), 0.04)[1])
    np.testing.assert_allclose(LAWS.most_concave_norm(0.04), norms[radial.argmin()], atol=1e-4)
    np.testing.assert_allclose(radial.min(), -2 / (5**2.5 * 0.2), rtol=1e-8)
    gap = norms - norms**2 / np.sqrt(norms**2 + 0.04)
    assert gap.min() > 0
    np.testing.assert_allclose(LAWS.lasso_gap_bound(0.04), gap.max(), rtol=1e-8)
    np.testing.assert_allclose(LAWS.lasso_gap_bound(1.0), 0.3003, atol=5e-5)


def test_no_rotation_is_cheaper_than_the_least_penalty():
    rng = np.random.default_rng(1)
    spectrum = np.array([1.4, 0.6, 0.2])
    frame, _ = np.linalg.qr(rng.normal(size=(5, 3)))
    least = float(LAWS.least_penalty(jnp.asarray(spectrum), 0.1))
    penalty = lambda u: sum(s / np.sqrt(s + 0.1) for s in (u**2).sum(0))  # noqa: E731
    np.testing.assert_allclose(penalty(frame * np.sqrt(spectrum)), least, rtol=1e-12)
    turned = [penalty(frame * np.sqrt(spectrum) @ np.linalg.qr(rng.normal(size=(6, 6)))[0][:3]) for _ in range(500)]
    assert min(turned) > least


def test_cosine_bound_holds_and_is_nearly_met():
    """Two columns fitting M or stationary by choice of M: eps and gamma as measured never allow a larger cosine."""
    smoothing, rng = 0.01, np.random.default_rng(0)

    @jax.jit
    def measure(factor, truth, penalty):
        form = Population(truth, jnp.asarray(0.0))
        loss = lambda v: form(v.reshape(3, 2)) + penalty * smoothed_group_lasso(v.reshape(3, 2), smoothing)  # noqa: E731
        flat = factor.reshape(-1)
        return jnp.linalg.norm(jax.grad(loss)(flat)), jnp.linalg.eigvalsh(jax.hessian(loss)(flat))[0]

    worst = []
    for trial in range(300):
        penalty, angle = 10 ** rng.uniform(-4, 0, size=2)
        factor = np.array([[np.cos(angle)] * 2, [np.sin(angle), -np.sin(angle)], [0, 0]])
        factor *= 10 ** rng.uniform(-0.69, 0.3) * np.array([1, 1 + 10 ** rng.uniform(-5, 0)])
        squares = (factor**2).sum(0)
        truth = factor @ factor.T
        if trial % 2:  # M such that the gradient vanishes, as far as a symmetric M can
            slopes = (squares + 2 * smoothing) / (squares + smoothing) ** 1.5
            residual = -penalty / 4 * (factor * slopes) @ np.linalg.pinv(factor)
            truth -= (residual + residual.T) / 2
        gradient, least = measure(jnp.asarray(factor), jnp.asarray(truth), penalty)
        slack = max(0.0, -float(least))
        bound = LAWS.cosine_bound(squares.max(), squares.min(), slack, float(gradient), float(penalty))
        worst.append((factor[:, 0] @ factor[:, 1]) ** 2 / squares.prod() / float(bound))
    assert 0.9 < max(worst) < 1
