"""Whole recoveries: the rank, the accuracy, and what is said of data that cannot determine an answer."""

from itertools import product

import numpy as np
import pytest

from gpsense.recovery import evidence, maps
from gpsense.recovery.path import fitted
from gpsense.recovery.solve import merged, solve
from gpsense.recovery.steps import Problem, balanced, descend
from tests.parameters import first_quick


def _error(factors, matrix):
    found = factors[0] @ (factors[0].conj().T if len(factors) == 1 else factors[1].T)
    return np.linalg.norm(found - matrix) / np.linalg.norm(matrix)


def _dense(rng, n, d, rank, scale=1.0):
    a = rng.standard_normal((n, d, d))
    factor = rng.standard_normal((d, rank))
    map_ = maps.Dense(scale * (a + a.transpose(0, 2, 1)) / 2)
    return map_, map_.predict((factor,)) / scale, factor @ factor.T


def _pairs(rng, points, share):
    i, j = np.triu_indices(len(points), 1)
    some = np.sort(rng.permutation(i.size)[: round(share * i.size)])
    i, j = i[some], j[some]
    centred = points - points.mean(0)
    return i, j, ((points[i] - points[j]) ** 2).sum(1), centred @ centred.T


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e12])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_unit_of_the_measurements_does_not_matter(scale, noise):
    map_, y, matrix = _dense(np.random.default_rng(0), 200, 12, 2, scale)
    y = y + noise * np.random.default_rng(1).standard_normal(y.size)
    found = solve(map_, y)
    assert found.rank == 2
    assert _error(found.factors, matrix / scale) < (1e-10 if noise == 0 else 0.05)
    if noise:
        assert found.noise == pytest.approx(noise, rel=0.15)


def test_pairs_listed_in_both_orders_count_once():
    rng = np.random.default_rng(5)
    i, j, y, matrix = _pairs(rng, rng.standard_normal((30, 2)), 0.5)
    y = y * (1 + 0.1 * rng.standard_normal(y.size))
    once = solve(maps.Distances(i, j, 30), y)
    twice = solve(maps.Distances(np.r_[i, j], np.r_[j, i], 30), np.r_[y, y])
    assert once.rank == twice.rank == 2
    assert twice.noise == pytest.approx(once.noise, rel=1e-6)
    assert _error(once.factors, matrix) < 0.17


def test_values_measured_again_are_averaged_and_weigh_more():
    rng = np.random.default_rng(2)
    rows, columns = np.array([0, 1, 0, 2, 1]), np.array([1, 2, 1, 0, 0])
    problem, members = merged(maps.Table(rows, columns, (3, 3)), np.array([1.0, 5.0, 3.0, 7.0, 8.0]))
    assert problem.map.n == 4
    place = next(k for k, those in enumerate(members) if set(those) == {0, 2})
    assert problem.values[place] == 2.0
    assert problem.weights[place] == 2.0
    copied, _ = merged(maps.Table(rows, columns, (3, 3)), np.array([1.0, 5.0, 1.0, 7.0, 8.0]))
    np.testing.assert_array_equal(copied.weights, 1.0)
    x = rng.standard_normal((6, 4))
    assert merged(maps.RankOne(np.r_[x, -x[:2]]), np.arange(8.0))[0].map.n == 6


@pytest.mark.parametrize("seed", first_quick(range(3)))
def test_exact_distances_of_a_flat_cloud(seed):
    rng = np.random.default_rng(seed)
    i, j, y, matrix = _pairs(rng, rng.standard_normal((40, 3)) * [1, 1, 1 / 8], 0.475)
    found = solve(maps.Distances(i, j, 40), y)
    assert (found.rank, found.chosen_by) == (3, "exact")
    assert _error(found.factors, matrix) < 1e-9


def test_points_on_a_line_pass_each_other():
    rng = np.random.default_rng(4)
    i, j, y, _ = _pairs(rng, rng.standard_normal((40, 1)), 0.2)
    found = solve(maps.Distances(i, j, 40), y)
    assert found.rank == 1
    assert found.problem.misfit(found.factors) < 1e-8


@pytest.mark.parametrize("seed", range(4))
def test_a_state_of_three_qubits_from_most_of_its_words(seed):
    rng = np.random.default_rng(seed)
    words = ["".join(word) for word in product("IXYZ", repeat=3)]
    used = [words[k] for k in [0, *np.sort(1 + rng.permutation(63)[:49])]]
    map_ = maps.Pauli.of(used)
    state = np.zeros((8, 1), complex)
    state[[0, 7]] = 2**-0.5
    mean = np.clip(map_.predict((state,)), -1, 1)
    found = solve(map_, 2 * rng.binomial(1000, (1 + mean) / 2) / 1000 - 1)
    assert found.rank == 1
    assert _error(found.factors, state @ state.conj().T) < 0.1


def test_phases_of_a_complex_vector():
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((16, 1)) + 1j * rng.standard_normal((16, 1))
    x = rng.standard_normal((100, 16)) + 1j * rng.standard_normal((100, 16))
    found = solve(maps.RankOne(x), np.abs(x.conj() @ truth)[:, 0] ** 2)
    assert (found.rank, found.chosen_by) == (1, "exact")
    assert _error(found.factors, truth @ truth.conj().T) < 1e-10


@pytest.mark.parametrize("seed", range(3))
def test_wild_values_are_found_and_left_out(seed):
    rng = np.random.default_rng(seed)
    map_, y, matrix = _dense(rng, 240, 12, 2)
    y = y + 0.1 * np.std(y) * rng.standard_normal(240)
    clean = solve(map_, y)
    assert clean.outliers.size == 0
    wild = np.sort(rng.permutation(240)[:12])
    y[wild] += 20 * np.std(y) * rng.choice([-1, 1], 12)
    found = solve(map_, y)
    np.testing.assert_array_equal(found.outliers, wild)
    assert found.rank == 2
    oracle = solve(map_.take(np.setdiff1d(np.arange(240), wild)), np.delete(y, wild))
    assert _error(found.factors, matrix) < 1.05 * _error(oracle.factors, matrix)
    assert solve(map_, y, robust=False).outliers.size == 0


@pytest.mark.parametrize("size", first_quick([5, 20]))
@pytest.mark.parametrize("kind", ["entries", "distances"])
def test_wild_values_among_entries_and_distances(kind, size):
    rng = np.random.default_rng(1)
    points = rng.standard_normal((25, 2))
    i, j = np.triu_indices(25, int(kind == "distances"))
    some = rng.permutation(i.size)[:200]
    map_ = (maps.Entries if kind == "entries" else maps.Distances)(i[some], j[some], 25)
    y = map_.predict((points,))
    spread = np.std(y)
    y = y + 0.05 * spread * rng.standard_normal(200)
    wild = np.sort(rng.permutation(200)[:10])
    rest = np.setdiff1d(np.arange(200), wild)
    oracle = solve(map_.take(rest), y[rest])
    y[wild] += size * spread * rng.choice([-1, 1], 10)
    found = solve(map_, y)
    np.testing.assert_array_equal(found.outliers, wild)
    assert found.rank == oracle.rank == 2
    np.testing.assert_allclose(
        found.factors[0] @ found.factors[0].T, oracle.factors[0] @ oracle.factors[0].T, atol=1e-3
    )


def test_a_sparse_table_in_the_hard_regime():
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((60, 3)), rng.standard_normal((50, 3))
    seen = rng.random((60, 50)) < 0.26
    i, j = np.nonzero(seen)
    found = solve(maps.Table(i, j, (60, 50)), (u[i] * v[j]).sum(1))
    assert (found.rank, found.chosen_by) == (3, "exact")
    assert _error(found.factors, u @ v.T) < 1e-8
    assert found.problem.map.n < 2.5 * found.problem.map.unknowns(3)


def test_a_rectangular_matrix_by_dense_measurements():
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((20, 2)), rng.standard_normal((15, 2))
    a = rng.standard_normal((140, 20, 15))
    found = solve(maps.Dense(a, semidefinite=False), np.einsum("nij,ij->n", a, u @ v.T))
    assert (found.rank, found.chosen_by) == (2, "exact")
    assert _error(found.factors, u @ v.T) < 1e-10


def test_pure_noise_has_rank_zero():
    rng = np.random.default_rng(7)
    ranks = [solve(_dense(rng, 120, 10, 1)[0], rng.standard_normal(120)).rank for _ in range(6)]
    assert ranks.count(0) >= 5


def test_what_the_measurements_leave_open_is_said():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((20, 2))
    group = np.arange(20) < 10
    i, j = np.nonzero(np.triu(group[:, None] == group[None], 1))
    apart = solve(maps.Distances(i, j, 20), ((points[i] - points[j]) ** 2).sum(1)).determined
    assert "2 parts that no pair connects" in apart.words
    rows, columns = np.nonzero(np.triu(rng.random((20, 20)) < 0.7))
    shifted = solve(maps.Entries(rows + 1, columns + 1, 21), (points @ points.T)[rows, columns]).determined
    assert "row 0 is in no measurement" in shifted.words
    assert 0 in shifted.rows
    np.testing.assert_array_equal(shifted.rows, [0])
    assert shifted.open(np.array([0, 3, 3]), np.array([3, 0, 4])).tolist() == [True, True, False]
    one = rng.standard_normal((8, 8))
    alike = solve(maps.Dense(np.repeat(((one + one.T) / 2)[None], 50, axis=0)), np.full(50, 3.0)).determined
    assert any(word.startswith("1 independent measurement for") for word in alike.words)
    block = np.zeros((90, 9, 9))
    a = rng.standard_normal((90, 5, 5))
    block[:, :5, :5] = (a + a.transpose(0, 2, 1)) / 2
    truth = rng.standard_normal((9, 1))
    partial = solve(maps.Dense(block), np.einsum("nij,ik,jk->n", block, truth, truth)).determined
    assert "4 rows are in no measurement: 5, 6, 7, 8" in partial.words


def test_a_column_with_too_few_entries_is_named():
    rng = np.random.default_rng(3)
    u, v = rng.standard_normal((30, 2)), rng.standard_normal((25, 2))
    seen = rng.random((30, 25)) < 0.6
    seen[:, 4] = False
    seen[3, 4] = True
    i, j = np.nonzero(seen)
    found = solve(maps.Table(i, j, (30, 25)), (u[i] * v[j]).sum(1))
    assert found.rank == 2
    np.testing.assert_array_equal(found.determined.columns, [4])
    assert found.determined.rows.size == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "table"])
def test_intervals_cover_as_often_as_they_say(kind):
    rng = np.random.default_rng(11)
    if kind == "dense":
        map_, y, matrix = _dense(rng, 150, 10, 2)
    else:
        u, v = rng.standard_normal((25, 2)), rng.standard_normal((20, 2))
        i, j = np.nonzero(rng.random((25, 20)) < 0.6)
        map_, y, matrix = maps.Table(i, j, (25, 20)), (u[i] * v[j]).sum(1), u @ v.T
    places = np.array(list(product(range(8), range(8)))).T
    inside, sizes = [], []
    truth = np.linalg.svd(matrix)[1][:2]
    for _ in range(40):
        found = solve(map_, y + 0.2 * rng.standard_normal(y.size))
        x = found.factors[0] @ found.factors[-1].T
        errors = found.covariance.standard_errors(*places)
        inside.append(np.abs(x[tuple(places)] - matrix[tuple(places)]) <= 1.96 * errors)
        if found.rank != 2:
            continue
        estimates = np.linalg.svd(x)[1][:2]
        sizes.append(np.abs(estimates - truth) <= 1.96 * found.covariance.size_errors())
    assert len(sizes) >= 36  # of 40 the rank is right
    assert 0.92 < np.mean(inside) < 0.975
    assert 0.85 < np.mean(sizes) <= 1.0


@pytest.mark.parametrize("kind", ["entries", "distances", "table", "phases"])
def test_laws_of_single_rows_are_close_to_the_whole_law_where_much_is_measured(kind, monkeypatch):
    rng = np.random.default_rng(6)
    u = rng.standard_normal((40, 2))
    if kind == "table":
        pairs = np.array(list(product(range(40), range(40)))).T
        map_, factors = maps.Table(*pairs, (40, 40)), (u, rng.standard_normal((40, 2)))
    elif kind == "phases":
        x = rng.standard_normal((900, 12)) + 1j * rng.standard_normal((900, 12))
        map_, factors = maps.RankOne(x), (u[:12] + 1j * rng.standard_normal((12, 2)),)
    else:
        pairs = np.array(np.triu_indices(40, int(kind == "distances")))
        map_ = maps.Distances(*pairs, 40) if kind == "distances" else maps.Entries(*pairs, 40)
        factors = (u - u.mean(0),)
    factors = balanced(factors, 1.0).factors
    problem = Problem(map_, map_.predict(factors), np.ones(map_.n))
    places = np.array([[0, 3, 5, 7, 9], [1, 3, 2, 8, 9]])
    whole = evidence.covariance(problem, factors, 1.0)
    monkeypatch.setattr(evidence, "JACOBIAN", 1)
    rows = evidence.covariance(problem, factors, 1.0)
    assert rows.whole is None
    assert whole.whole is not None
    np.testing.assert_allclose(rows.standard_errors(*places), whole.standard_errors(*places), rtol=0.25)
    np.testing.assert_allclose(rows.size_errors(), whole.size_errors(), rtol=0.25)


def test_a_measurement_with_nothing_changes_nothing():
    rng = np.random.default_rng(8)
    map_, y, _ = _dense(rng, 150, 10, 2)
    y = y + 0.1 * rng.standard_normal(y.size)
    more = maps.Dense(np.concatenate([map_.matrices, np.zeros((1, 10, 10))]))
    found, again = solve(map_, y), solve(more, np.append(y, 0.05))
    assert found.rank == again.rank == 2
    np.testing.assert_allclose(again.factors[0] @ again.factors[0].T, found.factors[0] @ found.factors[0].T, atol=1e-4)


def test_a_given_rank_is_taken_and_a_largest_rank_is_kept_to():
    map_, y, matrix = _dense(np.random.default_rng(9), 200, 12, 3)
    assert solve(map_, y, rank=2).rank == 2
    assert solve(map_, y, rank=5).rank == 5
    assert solve(map_, y, max_rank=2).rank <= 2
    assert _error(solve(map_, y, rank=3).factors, matrix) < 1e-8


def test_exact_short_distances_along_a_chain():
    """Only pairs nearer than three steps: the long shape follows from many short distances, and bends slowly."""
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((45, 3))
    points = np.cumsum(steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    first, second = np.triu_indices(45, 1)
    squares = np.sum((points[first] - points[second]) ** 2, axis=1)
    near = squares < 9
    found = solve(maps.Distances(first[near], second[near], 45), squares[near])
    centred = points - points.mean(0)
    assert (found.rank, found.chosen_by) == (3, "exact")
    np.testing.assert_allclose(found.factors[0] @ found.factors[0].T, centred @ centred.T, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", [20, 49])
def test_points_that_hold_others_in_the_wrong_place_are_left_out_and_put_back(seed):
    """Two points with few distances start far from their places, where moving one of them alone is no better."""
    rng = np.random.default_rng(seed)
    places = rng.random((80, 2))
    places -= places.mean(0)
    first, second = np.triu_indices(80, 1)
    pairs = rng.choice(first.size, 2 * (2 * 80 - 3), replace=False)
    first, second = first[pairs], second[pairs]
    distances = np.sum((places[first] - places[second]) ** 2, axis=1)
    problem = Problem(maps.Distances(first, second, 80), distances, np.ones(pairs.size))
    degrees = np.bincount(np.concatenate([first, second]), minlength=80)
    start = places.copy()
    start[rng.choice(np.flatnonzero((degrees == 3) | (degrees == 4)), 2, replace=False)] += 0.7 * rng.normal(
        size=(2, 2)
    )
    state = balanced((start - start.mean(0),), 1.0)
    assert problem.misfit(descend(problem, state, steps=100).factors) > 1e-3
    assert fitted(problem, state, 1e-8).misfit < 1e-8


def test_a_table_of_zeros_but_one_is_explained_by_one_column():
    """The residual of the first column is a matrix of zeros, at which ARPACK refuses to look."""
    places = np.random.default_rng(0).permutation(150 * 160)[:3000]
    map_ = maps.Table(*np.divmod(places, 160), (150, 160))
    found = solve(map_, np.eye(1, 3000, 5)[0], seed=0)
    assert found.fit.state.sizes.size == 1
    np.testing.assert_allclose(map_.predict(found.fit.state.factors), np.eye(1, 3000, 5)[0], atol=1e-12)


@pytest.mark.parametrize("kind", ["real", "complex"])
def test_no_local_minimum_of_a_small_problem_is_taken_for_the_answer(kind):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, u = rng.standard_normal((2, 60, 12)), rng.standard_normal((2, 12, 2))
        x, u = (one[0] + 1j * one[1] if kind == "complex" else one[0] for one in (x, u))
        x = np.concatenate([x, 1j * x[::-1] + x]) if kind == "complex" else x
        clean = (np.abs(x.conj() @ u) ** 2).sum(1)
        y = clean + 0.01 * np.std(clean) * rng.standard_normal(clean.size)
        found = solve(maps.RankOne(x), y)
        assert found.rank in (2, 3)  # noise may look like a third, far smaller column
        assert found.noise < 0.02 * np.std(clean)


@pytest.mark.parametrize("n", first_quick([200, 100]))
def test_a_matrix_of_no_low_rank_is_fitted_whole_where_the_measurements_allow(n):
    inside, noises = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, u = rng.standard_normal((n, 12)), rng.standard_normal((12, 2))
        matrix = u @ u.T + np.eye(12)
        found = solve(maps.RankOne(x), np.einsum("ni,ij,nj->n", x, matrix, x) + 0.1 * rng.standard_normal(n))
        assert found.rank == 12
        places = np.array(np.triu_indices(12))
        errors = (found.factors[0] @ found.factors[0].T - matrix)[tuple(places)]
        inside.append(np.abs(errors) < 1.96 * found.covariance.standard_errors(*places))
        noises.append(found.noise)
    assert 0.88 < np.mean(inside) < 0.99
    assert 0.08 < np.mean(noises) < 0.12


def test_a_rectangular_matrix_of_full_rank_is_fitted_whole():
    rng = np.random.default_rng(3)
    matrix, a = np.eye(6, 8) + 0.1 * rng.standard_normal((6, 8)), rng.standard_normal((90, 6, 8))
    y = np.einsum("nij,ij->n", a, matrix) + 0.05 * rng.standard_normal(90)
    found = solve(maps.Dense(a, semidefinite=False), y)
    assert found.rank == 6
    least = np.linalg.lstsq(a.reshape(90, -1), y, rcond=None)[0].reshape(6, 8)
    np.testing.assert_allclose(found.factors[0] @ found.factors[1].T, least, atol=1e-6)


@pytest.mark.parametrize("dim", [6, 7])
def test_equal_eigenvalues_that_each_explain_little_are_found_where_no_noise_is(dim):
    rng = np.random.default_rng(dim)
    for _ in range(6):
        u = np.linalg.qr(rng.standard_normal((dim, 3)))[0]
        places = np.array(np.triu_indices(dim))
        found = solve(maps.Entries(*places, dim), (u @ u.T)[tuple(places)])
        assert (found.rank, found.chosen_by, found.outliers.size) == (3, "exact", 0)


@pytest.mark.parametrize("seed", range(3))
def test_no_column_of_size_zero_is_counted(seed):
    rng = np.random.default_rng(seed)
    u, places = rng.standard_normal((6, 3)) * [1.0, 0.5, 0.3], np.array(np.triu_indices(6))
    y = (u @ u.T)[tuple(places)]
    found = solve(maps.Entries(*places, 6), y + 0.01 * rng.standard_normal(y.size), robust=False)
    assert not found.rank or found.fit.state.sizes.min() > 1e-6 * found.fit.state.sizes.max()


def test_the_law_for_uneven_noise_is_that_of_mackinnon_and_white(monkeypatch):
    rng = np.random.default_rng(4)
    x, u = rng.standard_normal((120, 5)), rng.standard_normal((5, 1))
    factors = balanced((u,), 1.0).factors
    weights = rng.uniform(0.5, 2, 120)
    residual = rng.standard_normal(120) * np.abs(x[:, 0])
    map_ = maps.RankOne(x)
    problem = Problem(map_, map_.predict(factors) - residual, weights)
    law = evidence.covariance(problem, factors, 0.7, uneven=True)
    jacobian = np.sqrt(weights)[:, None] * 2 * (x @ factors[0]) * x
    inverse = np.linalg.inv(jacobian.T @ jacobian)
    leverage = np.diag(jacobian @ inverse @ jacobian.T)
    middle = jacobian.T @ np.diag((np.sqrt(weights) * residual / (1 - leverage)) ** 2) @ jacobian
    both = inverse @ middle @ inverse
    slope = np.zeros((5, 5))  # of X_23
    slope[2, 3] = slope[3, 2] = 1.0
    by = slope @ factors[0][:, 0]
    np.testing.assert_allclose(law.standard_errors(np.array([2]), np.array([3])), np.sqrt(by @ both @ by), rtol=1e-9)
    by = 2 * factors[0][:, 0]
    np.testing.assert_allclose(law.size_errors(), np.sqrt(by @ both @ by), rtol=1e-9)
    monkeypatch.setattr(evidence, "JACOBIAN", 1)
    rows = evidence.covariance(problem, factors, 0.7, uneven=True)
    blocks = [variance_of_one(jacobian, residual * np.sqrt(weights) * 120 / 115, i) for i in range(5)]
    np.testing.assert_allclose(0.7 * rows.rows[:, 0, 0], blocks, rtol=1e-9)


def variance_of_one(jacobian, residual, i):
    """The variance of one coefficient with the others fixed, for residuals of any size."""
    return np.sum((residual * jacobian[:, i]) ** 2) / np.sum(jacobian[:, i] ** 2) ** 2


@pytest.mark.parametrize("seed", first_quick(range(3)))
def test_outliers_beside_a_matrix_of_no_low_rank_are_left_out(seed):
    rng = np.random.default_rng(seed)
    x, u = rng.standard_normal((220, 14)), rng.standard_normal((14, 2))
    matrix = u @ u.T + np.eye(14)
    y = np.einsum("ni,ij,nj->n", x, matrix, x) + 0.1 * rng.standard_normal(220)
    outliers = np.sort(rng.permutation(220)[:11])
    y[outliers] += 30 * rng.choice([-1, 1], 11)
    found = solve(maps.RankOne(x), y)
    np.testing.assert_array_equal(found.outliers, outliers)
    assert np.linalg.norm(found.factors[0] @ found.factors[0].T - matrix) < 0.01 * np.linalg.norm(matrix)
