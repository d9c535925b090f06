"""Damped Gauss-Newton steps: they lower the objective, end at its least value, and both ways to take them agree."""

from itertools import product

import numpy as np
import pytest
import scipy.optimize

from gpsense.recovery import maps, steps

RNG = np.random.default_rng(1)


def _problem(kind, noise=0.1):
    truth = RNG.standard_normal((9, 2))
    if kind == "dense":
        a = RNG.standard_normal((90, 9, 9))
        map_ = maps.Dense((a + a.transpose(0, 2, 1)) / 2)
        exact = map_.predict((truth,))
    else:
        pairs = np.array(list(product(range(9), range(7))))[RNG.random(63) < 0.8]
        map_ = maps.Table(*pairs.T, (9, 7))
        exact = map_.predict((truth, RNG.standard_normal((7, 2))))
    weights = RNG.uniform(0.5, 2.0, map_.n)
    return steps.Problem(map_, exact + noise * RNG.standard_normal(map_.n), weights)


def _start(problem):
    sides = problem.map.sides if not problem.map.semidefinite else problem.map.sides[:1]
    return steps.balanced(tuple(RNG.standard_normal((side, 2)) for side in sides), 1.0)


def _loss(problem, vector, like, penalty):
    total = 0.0
    factors = maps.unflattened(vector, like)
    matrix = factors[0] @ factors[-1].T
    if isinstance(problem.map, maps.Table):
        values = [matrix[i, j] for i, j in zip(problem.map.first, problem.map.second, strict=True)]
    else:
        values = [np.sum(a * matrix) for a in problem.map.matrices]
    for h, one, y in zip(problem.weights, values, problem.values, strict=True):
        total += 0.5 * h * (one - y) ** 2
    return total + sum(penalty @ np.sum(one**2, axis=0) for one in factors) * (0.5 if len(factors) == 2 else 1.0)


@pytest.mark.parametrize("kind", ["dense", "table"])
def test_a_residual_that_is_kept_is_that_of_the_factors(kind):
    problem = _problem(kind)
    one, other = _start(problem), _start(problem)
    for state in (one, other, one, steps.descend(problem, one), steps.empty(problem), other):
        exact = problem.map.predict(state.factors) if state.sizes.size else 0
        for _ in range(2):
            np.testing.assert_allclose(problem.residual(state.factors), exact - problem.values, atol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "table"])
@pytest.mark.parametrize("penalised", [False, True])
def test_it_ends_where_a_general_minimiser_ends(kind, penalised):
    problem = _problem(kind)
    state = _start(problem)
    penalty = np.array([0.5, 0.5]) if penalised else np.zeros(2)
    found = steps.descend(problem, state, penalty if penalised else None, steps=200)
    least = _loss(problem, maps.numbers(found.factors), found.factors, penalty)
    best = min(
        scipy.optimize.minimize(
            lambda v: _loss(problem, v, state.factors, penalty), maps.numbers(start.factors), method="BFGS"
        ).fun
        for start in (found, state)
    )
    assert least <= best * (1 + 1e-6)


def test_eliminating_one_factor_ends_at_the_same_fit(monkeypatch):
    problem = _problem("table")
    state = _start(problem)
    whole = steps.descend(problem, state, steps=100)
    monkeypatch.setattr(steps, "TOGETHER", 1)
    apart = steps.descend(problem, state, steps=100)
    np.testing.assert_allclose(
        apart.factors[0] @ apart.factors[1].T, whole.factors[0] @ whole.factors[1].T, rtol=1e-5, atol=1e-5
    )


def test_conjugate_gradients_end_at_the_same_fit(monkeypatch):
    points = RNG.standard_normal((15, 2))
    pairs = np.triu_indices(15, 1)
    map_ = maps.Distances(*pairs, 15)
    problem = steps.Problem(map_, map_.predict((points,)), np.ones(map_.n))
    state = steps.balanced((points + 0.1 * RNG.standard_normal((15, 2)),), 1.0)
    monkeypatch.setattr(steps, "DIRECT", 1)
    assert problem.misfit(steps.descend(problem, state, steps=60).factors) < 1e-12


def test_the_unit_of_the_map_and_a_turn_of_the_columns_do_not_matter():
    problem = _problem("dense")
    turn = np.linalg.qr(RNG.standard_normal((2, 2)))[0]
    state = _start(problem)
    scaled = steps.Problem(maps.Dense(1e9 * problem.map.matrices), 1e-5 * problem.values, problem.weights)
    once = steps.descend(problem, state, steps=4)
    again = steps.descend(scaled, steps.balanced((state.factors[0] @ turn * 1e-7,), 1.0), steps=4)
    np.testing.assert_allclose(
        1e14 * again.factors[0] @ again.factors[0].T, once.factors[0] @ once.factors[0].T, rtol=1e-8, atol=1e-8
    )


def test_balanced_factors_have_equal_orthogonal_columns_and_the_same_product():
    factors = (RNG.standard_normal((8, 3)), RNG.standard_normal((5, 3)))
    state = steps.balanced(factors, 1.0)
    np.testing.assert_allclose(state.factors[0] @ state.factors[1].T, factors[0] @ factors[1].T, atol=1e-12)
    for one in state.factors:
        np.testing.assert_allclose(one.T @ one, np.diag(state.sizes), atol=1e-12)
    np.testing.assert_allclose(state.sizes, np.linalg.svd(factors[0] @ factors[1].T)[1][:3])


def test_clipped_residuals_bound_what_one_value_does():
    problem = _problem("dense", noise=0.0)
    truth = steps.descend(problem, _start(problem), steps=100)
    values = problem.values.copy()
    values[:4] += 1e6
    robust = steps.Problem(problem.map, values, problem.weights, robust=True)
    found = steps.descend(robust, truth, steps=30)
    np.testing.assert_allclose(found.factors[0] @ found.factors[0].T, truth.factors[0] @ truth.factors[0].T, atol=1e-3)


@pytest.mark.parametrize("kind", ["dense", "table", "entries"])
def test_gram_and_own_blocks_are_those_of_the_dense_jacobian(kind):
    if kind == "entries":  # the diagonal among them
        map_ = maps.Entries(*np.triu_indices(9), 9)
        problem = steps.Problem(map_, np.ones(45), np.ones(45))
    else:
        problem = _problem(kind)
    state = _start(problem)
    root = RNG.uniform(0.5, 2.0, problem.map.n)
    jacobian = problem.map.jacobian(state.factors)
    dense = root[:, None] * (jacobian.toarray() if problem.map.sparse else jacobian)
    scaled = steps.scaled_rows(jacobian, root)
    np.testing.assert_allclose(steps.gram(scaled), dense.T @ dense, rtol=1e-10, atol=1e-10)
    width = state.sizes.size * (2 if problem.map.complex else 1)
    starts = range(0, dense.shape[1], width)
    own = np.array([(dense.T @ dense)[at : at + width, at : at + width] for at in starts])
    np.testing.assert_allclose(steps.own_blocks(scaled, width), own, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_leading_eigenvalues_are_found_where_the_largest_is_0(sign):
    """Of distances that are all too long, or all too short, -A*(e) is a Laplacian or minus one: semidefinite."""
    first, second = np.triu_indices(420, 1)
    some = np.random.default_rng(0).permutation(first.size)[:2000]
    map_ = maps.Distances(first[some], second[some], 420)
    problem = steps.Problem(map_, np.ones(2000), np.ones(2000))
    residual = sign * np.random.default_rng(1).uniform(0.5, 1.0, 2000)
    values, (vectors,) = steps.leading(problem, residual, 2)
    matrix = np.zeros((420, 420))
    for i, j, e in zip(map_.first, map_.second, residual, strict=True):
        matrix[[i, j, i, j], [i, j, j, i]] += -e * np.array([1, 1, -1, -1])
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[:-3:-1], atol=1e-8)
    np.testing.assert_allclose(matrix @ vectors, vectors * values, atol=1e-3)


@pytest.mark.parametrize("kind", ["distances", "table"])
def test_of_a_residual_of_zeros_the_leading_values_are_zeros(kind):
    first, second = np.triu_indices(420, 1)
    map_ = maps.Distances(first, second, 420) if kind == "distances" else maps.Table(first, second, (420, 430))
    problem = steps.Problem(map_, np.ones(first.size), np.ones(first.size))
    values, vectors = steps.leading(problem, np.zeros(first.size), 2)
    np.testing.assert_array_equal(values, 0.0)
    assert [vector.shape for vector in vectors] == [(420, 2)] if kind == "distances" else [(420, 2), (430, 2)]
