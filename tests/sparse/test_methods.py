"""The methods that are not networks: optima, recovery, invariances, exact moments, either precision, cells together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso

from gpsense.sparse.methods import (
    BASELINES,
    diagonal_spectral,
    lasso,
    lasso_penalty,
    lasso_residual,
    linear,
    spectral,
    truncated_power,
)
from gpsense.sparse.moments import Moments, moments

DIM, KEPT, MOST = 32, 4, 4000
DIRECTION = np.zeros(DIM)
DIRECTION[[3, 8, 20, 31]] = np.array([1.0, -1.0, 2.0, 1.5]) / np.sqrt(8.25)
SECOND_ORDER = ["spectral", "diagonal_spectral", "truncated_power"]
measured = jax.jit(moments)
optimum = jax.jit(lasso, static_argnums=2)
residual = jax.jit(lasso_residual)
pairs = jax.jit(lambda m: (spectral(m, 2), diagonal_spectral(m, 2, 6), truncated_power(m, 2, 6)))


def sample(link, n, seed, permuted=slice(None), sign=1.0, noise=0.0, dtype=np.float64):
    """Moments of n samples ``y = sign link(v^T x) + noise``, the coordinates of x permuted afterwards."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(MOST, DIM))
    y = sign * link(x @ DIRECTION) + noise * random.normal(size=MOST)
    return measured(jnp.asarray(x[:, permuted], dtype), jnp.asarray(y, dtype), jnp.arange(MOST) < n)


def even(t):
    """he_2, normalised."""
    return (t**2 - 1) / np.sqrt(2)


def mixed(t):
    """Both orders, so that every method sees the direction."""
    return t + even(t)


def exact(columns, eigenvalues, xy=None):
    """Population moments with ``yxx = sum_j lambda_j v_j v_j^T`` and xx = I."""
    yxx = columns @ np.diag(eigenvalues) @ columns.T
    xy = columns[:, 0] if xy is None else xy
    one = jnp.ones(())
    return Moments(one, 0.0 * one, jnp.asarray(xy), jnp.eye(len(columns)), jnp.asarray(yxx), one)


def projector(columns):
    """``Q Q^T`` of the columns scaled to norm 1: the same for either sign."""
    columns = np.asarray(columns, np.float64)
    columns = columns / np.linalg.norm(columns, axis=0)
    return columns @ columns.T


@pytest.fixture(scope="module")
def alone():
    """All methods on one cell, compiled once for each dtype."""

    def directions(fit, held):
        penalty = lasso_penalty(fit, held)
        return {name: baseline.directions(fit, penalty, 1, KEPT) for name, baseline in BASELINES.items()}

    return jax.jit(directions)


@pytest.fixture(scope="module")
def found(alone):
    """What all methods find in one sample."""
    return alone(sample(mixed, MOST, 1), sample(mixed, MOST, 2))


@pytest.mark.parametrize("part", [0.5, 0.05, 0.005])
@pytest.mark.parametrize("n", [20, 100])
def test_lasso_is_the_optimum(n, part):
    random = np.random.default_rng(n)
    x = random.normal(size=(100, DIM))
    y = x @ DIRECTION + 0.3 * random.normal(size=100)
    m = measured(jnp.asarray(x), jnp.asarray(y), jnp.arange(100) < n)
    x, y = x[:n], y[:n]
    penalty = part * float(np.abs(m.xy).max())
    b = np.asarray(optimum(m, penalty, 4000))
    assert float(residual(m, penalty, jnp.asarray(b))) < 1e-10
    pull = np.asarray(m.xy) - np.asarray(m.xx) @ b
    on = b != 0
    np.testing.assert_allclose(pull[on], penalty * np.sign(b[on]), atol=1e-9)
    assert np.all(np.abs(pull[~on]) <= penalty * (1 + 1e-9))
    model = Lasso(alpha=penalty, fit_intercept=False, tol=1e-13, max_iter=1_000_000)
    np.testing.assert_allclose(b, model.fit(x, y - y.mean()).coef_, atol=1e-7)


def test_lasso_of_an_identity_shrinks_and_stops_at_the_largest_penalty():
    m = exact(DIRECTION[:, None], [1.0])
    expected = np.sign(DIRECTION) * np.maximum(np.abs(DIRECTION) - 0.4, 0)
    np.testing.assert_allclose(optimum(m, 0.4, 500), expected, atol=1e-15)
    assert float(residual(m, 0.4, jnp.asarray(expected))) < 1e-15
    assert float(residual(m, 0.4, jnp.asarray(expected) + 1e-3)) > 1e-4
    assert not np.any(optimum(m, float(np.abs(DIRECTION).max()), 500))
    np.testing.assert_allclose(optimum(m, 0.0, 500), DIRECTION, atol=1e-15)


def test_path_takes_the_penalty_of_least_held_out_error():
    fit, held = sample(lambda t: t, 60, 1, noise=0.5), sample(lambda t: t, 60, 2, noise=0.5)
    choose = jax.jit(lambda fit, held: lasso_penalty(fit, held, 12))
    penalties = np.abs(fit.xy).max() * np.logspace(0, -3, 12)
    found = [np.asarray(optimum(fit, penalty, 500)) for penalty in penalties]
    errors = [float(held.y2 - 2 * b @ held.xy + b @ np.asarray(held.xx) @ b) for b in found]
    assert 0 < np.argmin(errors) < 11
    np.testing.assert_allclose(choose(fit, held), penalties[np.argmin(errors)], rtol=1e-12)
    nothing = sample(lambda t: 0.0 * t, 60, 3, noise=1.0)
    assert float(choose(fit, nothing)) == pytest.approx(penalties[0], rel=1e-12)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_methods_recover_the_direction(name, alone):
    column = np.asarray(alone(sample(even, MOST, 4), sample(even, 100, 5))[name])[:, 0]
    np.testing.assert_allclose(np.sum(column**2), 1.0, rtol=1e-12)
    assert (DIRECTION @ column) ** 2 > (0.96 if name == "spectral" else 0.99)


def test_exact_moments_give_the_direction(alone):
    m = exact(DIRECTION[:, None], [np.sqrt(2)])
    for name, columns in alone(m, m).items():
        limit = 1e-2 if name == "lasso" else 1e-13  # the path ends at 1e-3 of the largest penalty
        np.testing.assert_allclose(projector(columns), projector(DIRECTION[:, None]), atol=limit, err_msg=name)


@pytest.mark.parametrize("eigenvalues", [(1.0, 0.6), (0.5, -1.0)])
def test_exact_moments_give_several_directions_of_either_sign(eigenvalues):
    other = np.zeros(DIM)
    other[[3, 8, 5, 6]] = np.array([1.0, 1.0, -2.0, 1.0]) / np.sqrt(7)
    pair = np.stack([DIRECTION, other], axis=1)
    m = exact(pair, eigenvalues)
    for columns in map(np.asarray, pairs(m)):
        np.testing.assert_allclose(columns.T @ columns, np.eye(2), atol=1e-13)
        np.testing.assert_allclose(projector(columns), projector(pair), atol=1e-13)
        np.testing.assert_allclose(abs(columns[:, 0] @ pair[:, np.argmax(np.abs(eigenvalues))]), 1.0, rtol=1e-12)


def test_power_steps_find_what_the_diagonal_misses(alone):
    """A lone entry beats the two least of v on the diagonal, and one of these is lost; 0 steps return the start."""
    diagonal = np.zeros(DIM)
    diagonal[0] = 0.2
    m = exact(np.column_stack([DIRECTION, diagonal]), [1.0, 4.0])
    found = alone(m, m)
    start, end = found["diagonal_spectral"], found["truncated_power"]
    np.testing.assert_allclose(jax.jit(truncated_power, static_argnums=(1, 2, 3))(m, 1, KEPT, 0), start, atol=1e-14)
    assert np.count_nonzero(np.abs(start) > 1e-9) == KEPT - 1
    np.testing.assert_allclose(projector(end), projector(DIRECTION[:, None]), atol=1e-13)


def test_permuted_coordinates_permute_the_answer(alone, found):
    order = np.random.default_rng(3).permutation(DIM)
    moved = alone(sample(mixed, MOST, 1, order), sample(mixed, MOST, 2, order))
    for name, columns in found.items():
        np.testing.assert_allclose(projector(moved[name]), projector(columns[order]), atol=1e-9, err_msg=name)


def test_minus_y_gives_the_same_lines(alone, found):
    moved = alone(sample(mixed, MOST, 1, sign=-1.0), sample(mixed, MOST, 2, sign=-1.0))
    for name, columns in found.items():
        np.testing.assert_allclose(projector(moved[name]), projector(columns), atol=1e-9, err_msg=name)
    np.testing.assert_allclose(moved["lasso"], -found["lasso"], atol=1e-10)


def test_float32_gives_the_numbers_of_float64(alone, found):
    single = alone(sample(mixed, MOST, 1, dtype=np.float32), sample(mixed, MOST, 2, dtype=np.float32))
    for name, columns in single.items():
        assert columns.dtype == np.float32
        np.testing.assert_allclose(projector(columns), projector(found[name]), atol=2e-5, err_msg=name)


def test_cells_together_are_the_cells_alone(alone, found):
    fits = [sample(mixed, MOST, 1), sample(even, 300, 7)]
    helds = [sample(mixed, MOST, 2), sample(mixed, 300, 8)]
    stack = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *cells) for cells in (fits, helds)]
    together = jax.jit(jax.vmap(alone))(*stack)
    other = alone(fits[1], helds[1])
    for name, columns in together.items():
        np.testing.assert_allclose(columns[0], found[name], atol=1e-10, err_msg=name)
        np.testing.assert_allclose(columns[1], other[name], atol=1e-10, err_msg=name)


def test_no_signal_gives_zeros_and_no_nan(alone):
    nothing = sample(mixed, 0, 1)
    for name, columns in alone(nothing, nothing).items():
        assert np.all(np.isfinite(columns)), name
    assert not np.any(linear(nothing))


def test_registry_says_what_each_method_is_given():
    assert all(name == baseline.name and baseline.source for name, baseline in BASELINES.items())
    assert {name for name, baseline in BASELINES.items() if "coordinates" in baseline.knows} == set(SECOND_ORDER[1:])


@pytest.mark.parametrize(("r", "kept"), [(3, 2), (1, DIM + 1), (0, 2)])
def test_sizes_out_of_order_are_refused(r, kept):
    m = exact(DIRECTION[:, None], [1.0])
    for method in (diagonal_spectral, truncated_power):
        with pytest.raises(ValueError, match="use 1 <= r <= kept <= dim"):
            method(m, r, kept)
