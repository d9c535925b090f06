"""Quadratic networks, rectangular factors and the prescriptions."""

import jax
import jax.numpy as jnp
import numpy as np

from gpsense import theory
from tests.compiled import Compiled

LAWS = Compiled(theory)


def test_second_moment_of_a_quadratic_form():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(4, 4))
    matrix = (matrix + matrix.T) / 2
    points = rng.normal(size=(400_000, 4))
    measured = (np.einsum("ni,ij,nj->n", points, matrix, points) ** 2).mean()
    np.testing.assert_allclose(LAWS.quadratic_moment(jnp.asarray(matrix)), measured, rtol=0.02)


def _descend(gradient, start, rate, steps):
    for _ in range(steps):
        start = start - rate * gradient(start)
    return start


def _slopes(squares, smoothing):
    return (squares + 2 * smoothing) / (squares + smoothing) ** 1.5


def test_network_neurons_settle_on_their_roots():
    """Gradient descent on ``2 ||U U^T - M||_F^2`` plus the penalty, near the eigenvectors; tau by the Hessian at 0."""
    penalty, smoothing, mu = 0.2, 0.02, np.array([1.0, 0.5, 0.2])
    gradient = lambda u: 8 * (u @ u.T - np.diag(mu)) @ u + penalty * u * _slopes((u**2).sum(0), smoothing)  # noqa: E731
    trained = _descend(gradient, np.diag(np.sqrt(mu)) * 0.9, 0.02, 3000)
    roots = np.nan_to_num(LAWS.network_root(jnp.asarray(mu), penalty, smoothing))
    np.testing.assert_allclose((trained**2).sum(0), roots, atol=1e-8)
    tau = float(LAWS.network_shrinkage(penalty, smoothing))
    np.testing.assert_allclose(tau, penalty / (4 * np.sqrt(smoothing)), rtol=1e-12)
    for factor, grows in ((0.99, False), (1.01, True)):
        pushed = 8 * -factor * tau * 1e-6 + penalty * 1e-6 * _slopes(1e-12, smoothing)
        assert (pushed < 0) is grows


def test_rectangular_columns_settle_on_their_roots():
    penalty, smoothing, sigma, rng = 0.4, 0.02, np.array([1.0, 0.8, 0.6]), np.random.default_rng(0)
    truth = np.zeros((6, 5))
    truth[range(3), range(3)] = sigma

    def gradient(stacked):
        left, right = stacked[:6], stacked[6:]
        miss = left @ right.T - truth
        pull = penalty * stacked * _slopes((stacked**2).sum(0), smoothing)
        return 2 * np.concatenate([miss @ right, miss.T @ left]) + pull

    trained = _descend(gradient, rng.normal(size=(11, 5)) * 0.2, 0.05, 20_000)
    squares = np.sort((trained**2).sum(0))[::-1]
    kept = np.linalg.norm(trained[:6], axis=0) * np.linalg.norm(trained[6:], axis=0)
    roots = LAWS.rectangular_root(jnp.asarray(sigma), penalty, smoothing)
    np.testing.assert_allclose(np.sort(kept)[::-1][:3], roots, atol=1e-5)
    assert squares[3] < 1e-12
    tau = float(LAWS.rectangular_shrinkage(penalty, smoothing))
    hessian = jax.jit(jax.hessian(lambda w: -2 * tau * w[0] * w[1] + penalty * w @ w / jnp.sqrt(w @ w + smoothing)))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian(jnp.zeros(2)))[0], 0.0, atol=1e-10)


def test_prescriptions_are_their_formulas_and_meet_their_conditions():
    chosen = LAWS.prescribe(0.4, 0.1)
    np.testing.assert_allclose([chosen.smoothing, chosen.penalty, chosen.shrinkage], [0.025, 0.2 * 0.1**0.5, 0.2])
    np.testing.assert_allclose(LAWS.shrinkage(chosen.penalty, chosen.smoothing), chosen.shrinkage, rtol=1e-12)
    assert bool(LAWS.exceeds_threshold(0.4, chosen.penalty, chosen.smoothing))
    recalled = LAWS.recalled_scalings(0.25, 4, 9)
    np.testing.assert_allclose(recalled, [0.0625, 0.125 / 6, 0.125 / 96, 0.5**3.5 / 96], rtol=1e-12)
    np.testing.assert_allclose(LAWS.shrinkage(recalled.penalty, recalled.smoothing), 0.25 / (2 * 3), rtol=1e-12)
