"""The closed forms against the runs they describe."""

from functools import cache

import jax
import numpy as np
import pytest

from gpsense import theory
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems.sensing import Sensing

column_root, shrinkage, column_bounds = map(jax.jit, (theory.column_root, theory.shrinkage, theory.column_bounds))


@cache
def _compiled(system, schedule):
    return jax.jit(lambda data, setting, seed: run_cell(system, schedule, data, setting, seed_keys(seed)))


def _run(system, schedule, data, setting, seed=0):
    return _compiled(system, schedule)(data, setting, seed)


@pytest.fixture(scope="module")
def population():
    """A converged population run with four distinct eigenvalues."""
    system = Sensing(dim=12, width=12, rank=4, measurements="population", optimizer="momentum", dtype="float64")
    mu = np.asarray([1.0, 0.7, 0.5, 0.3])
    setting = Sensing.Setting(penalty=0.06, smoothing=0.02, rate=0.01, momentum=0.99, tolerance=1e-8)
    return mu, _run(system, Schedule(20_000, 400, 10_000), Sensing.Data(spectrum=mu), setting)


def test_root_law_on_a_converged_population_run(population):
    """``s + (lambda/4) psi(s) = mu`` column by column, to 1e-4."""
    mu, result = population
    squares = np.asarray(result["column_norms"])[:4] ** 2
    assert int(result["status_train"]) == 1
    np.testing.assert_allclose(squares + 0.015 * (squares + 0.04) / (squares + 0.02) ** 1.5, mu, atol=1e-4)
    np.testing.assert_allclose(column_root(mu, 0.06, 0.02), squares, atol=1e-4)


def test_bias_law_on_the_same_run(population):
    """``||U U^T - M||_F = (lambda/4) sqrt(sum psi(s_j)^2)``."""
    mu, result = population
    squares = np.asarray(result["column_norms"])[:4] ** 2
    law = 0.015 * np.linalg.norm((squares + 0.04) / (squares + 0.02) ** 1.5)
    bias, relative = jax.jit(lambda mu: (theory.bias(mu, 0.06, 0.02), theory.relative_bias(mu, 0.06, 0.02)))(mu)
    np.testing.assert_allclose(bias, law, rtol=1e-4)
    np.testing.assert_allclose(result["error_trained"], relative, rtol=1e-4)


def test_the_threshold_separates_what_training_left(population):
    """Exactly r columns above 2 sqrt(beta), the others far below it, so that the mask is not a matter of luck."""
    _, result = population
    norms = np.asarray(result["column_norms"])
    assert int(result["rank"]) == 4
    threshold = 2 * np.sqrt(0.02)
    assert norms[3] > 1.5 * threshold
    assert norms[4] < 1e-6
    np.testing.assert_allclose(result["margin"], min(norms[3] - threshold, threshold - norms[4]), rtol=1e-12)


@pytest.mark.parametrize(
    ("tau", "least", "tiny", "large"), [(0.05, 4, 4, 4), (0.3, 2, 3, 3), (0.6, 1, 2, 3), (0.9, 1, 1, 3), (1.2, 0, 0, 2)]
)
def test_the_start_decides_between_the_bounds(tau, least, tiny, large):
    """A large start covers every eigenvalue that has a root, a tiny one fewer, down to those above tau."""
    smoothing = 0.01
    penalty = 2 * np.sqrt(smoothing) * tau
    np.testing.assert_allclose(shrinkage(penalty, smoothing), tau, rtol=1e-12)
    mu = np.asarray([1.0, 0.5, 0.25, 0.1])
    assert [int(count) for count in column_bounds(mu, penalty, smoothing)] == [least, large]
    system = Sensing(dim=8, width=8, rank=4, measurements="population", dtype="float64")
    for scale, columns in ((1e-3, tiny), (0.3, large)):
        setting = Sensing.Setting(penalty=penalty, smoothing=smoothing, rate=0.04, start_scale=scale, tolerance=1e-9)
        result = _run(system, Schedule(20_000, 1, 20_000), Sensing.Data(spectrum=mu), setting)
        assert int(result["rank"]) == columns
        if tau > 0.1:  # the weaker the penalty, the slower the rotation onto the eigenvectors
            norms = np.asarray(result["column_norms"])[:columns]
            np.testing.assert_allclose(norms**2, column_root(mu, penalty, smoothing)[:columns], atol=1e-4)


def test_fine_tuning_contracts_within_its_bounds():
    """Near the truth at exact rank, each step shrinks the error of X by a factor between the bounds."""
    system = Sensing(dim=10, width=2, rank=2, measurements="population", dtype="float64")
    rate = 0.01
    setting = Sensing.Setting(penalty=0.02, smoothing=0.01, rate=0.03, fine_tune_rate=rate, fine_tune_tolerance=0.0)
    result = _run(system, Schedule(3000, 200, 1), Sensing.Data(condition=2.0), setting)
    errors = np.asarray(result["error_curve"])[3001:]
    factors = errors[1:] / errors[:-1]
    low, high = theory.fine_tune_contraction(rate, 1.0, 0.5)
    assert int(result["rank"]) == 2
    assert factors.min() > float(low) - 1e-3
    assert factors.max() < float(high) + 1e-3
    assert errors[-1] < 0.1 * errors[0]
