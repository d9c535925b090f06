"""The estimator: JAX's maps and arrays by name, options, standard errors, offsets; what it refuses."""

import itertools
import warnings
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import gpsense
from gpsense.errors import BadInput
from gpsense.recovery import maps
from gpsense.recovery import offsets as offsets_module
from gpsense.sensing.measurements import (
    Distances,
    Entries,
    Measurements,
    centred_measurements,
    dense_measurements,
    gaussian_measurements,
    rank_one_measurements,
    rectangular_measurements,
)
from launch import cities
from tests import reference
from tests.parameters import first_quick


def _problem(kind, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((12, 2))
    i, j = np.triu_indices(12, 1)
    key = jax.random.key(seed)
    measurements = {
        "gaussian": lambda: gaussian_measurements(key, 150, 12, jnp.float64),
        "rank_one": lambda: rank_one_measurements(key, 150, 12, jnp.float64),
        "entries": lambda: Entries(i, j, 12),
        "distances": lambda: Distances(i, j, 12),
        "centred": lambda: centred_measurements(key, 150, 12, jnp.float64),
    }[kind]()
    truth = truth - truth.mean(0) if kind == "distances" else truth
    return measurements, np.asarray(jax.jit(lambda m, u: m.forward(u))(measurements, truth)), truth @ truth.T


@pytest.mark.parametrize("kind", ["gaussian", "rank_one", "entries", "distances"])
def test_every_map_of_jax_is_recovered(kind):
    measurements, y, matrix = _problem(kind)
    found = gpsense.recover(measurements, y)
    assert (found.rank, found.chosen_by, found.undetermined) == (2, "exact", ())
    np.testing.assert_allclose(found.factor @ found.factor.T, matrix, atol=1e-7)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-7)
    np.testing.assert_allclose(found.predict(measurements), y, rtol=1e-6, atol=1e-6)


class Doubled(Measurements):
    """A map of a user's own."""

    inner: Measurements

    @property
    def dim(self):
        return self.inner.dim

    @property
    def n(self):
        return self.inner.n

    def forward(self, factor):
        return 2 * self.inner.forward(factor)

    def apply(self, matrix):
        return 2 * self.inner.apply(matrix)

    def adjoint(self, values):
        return 2 * self.inner.adjoint(values)

    def take(self, index):
        return Doubled(self.inner.take(index))


def test_a_map_of_the_users_own_is_taken_by_its_rows():
    measurements, y, matrix = _problem("gaussian")
    found = gpsense.recover(Doubled(measurements), 2 * y)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-8)


def test_a_rectangular_map_has_two_factors():
    measurements = rectangular_measurements(jax.random.key(1), 120, 9, 7, jnp.float64)
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((9, 2)), rng.standard_normal((7, 2))
    found = gpsense.recover(measurements, np.asarray(measurements.rows) @ (u @ v.T).reshape(-1))
    np.testing.assert_allclose(found.left @ found.right.T, u @ v.T, atol=1e-8)
    with pytest.raises(ValueError, match="use .left and .right"):
        _ = found.factor


def test_noise_gives_least_squares_at_the_true_rank():
    measurements, y, matrix = _problem("gaussian")
    y = y + 0.3 * np.random.default_rng(2).standard_normal(y.size)
    found = gpsense.recover(measurements, y)
    assert found.rank == 2
    rows = reference.unpacked(np.asarray(measurements.rows), 12)
    gradient = np.einsum("n,nij->ij", np.einsum("nij,ij->n", rows, found.matrix) - y, rows) @ found.factor
    assert np.abs(gradient).max() < 1e-3 * np.abs(np.einsum("n,nij->ij", y, rows)).max()
    assert found.noise == pytest.approx(0.3, rel=0.2)
    assert found.rank_share > 0.9
    inside = np.abs(found.matrix - matrix) <= 3 * found.standard_errors(*np.indices((12, 12)).reshape(2, -1)).reshape(
        12, 12
    )
    assert inside.mean() > 0.97


def test_float32_numbers_end_at_their_rounding():
    measurements, y, matrix = _problem("gaussian")
    found = gpsense.recover(
        dense_measurements(jnp.float32(reference.unpacked(np.asarray(measurements.rows), 12))), jnp.float32(y)
    )
    assert (found.rank, found.chosen_by) == (2, "exact")
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-4)


def test_the_same_seed_gives_the_same_bits():
    measurements, y, _ = _problem("rank_one")
    y = y + np.random.default_rng(0).standard_normal(y.size)
    once, again = (gpsense.recover(measurements, y).factor for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_cities_out_of_noisy_distances():
    drawn = cities.example(0.3, 0.02, 1)
    found = gpsense.recover(drawn.fields)
    assert found.rank == 2
    assert drawn.score(found.factor)["error"] < 0.03


def test_offsets_are_found_where_they_help():
    rng = np.random.default_rng(3)
    u, v = rng.standard_normal((40, 1)), rng.standard_normal((30, 1))
    rows, columns = np.nonzero(rng.random((40, 30)) < 0.5)
    a, b = 3 * rng.standard_normal(40), 3 * rng.standard_normal(30)
    whole = 7 + a[:, None] + b[None] + u @ v.T
    y = whole[rows, columns] + 0.1 * rng.standard_normal(rows.size)
    fields = {"row": rows, "col": columns, "y": y, "shape": np.array([40, 30])}
    found = gpsense.recover(fields, offsets=True)
    assert found.rank == 1
    assert np.linalg.norm(found.matrix - whole) < 0.05 * np.linalg.norm(whole)
    np.testing.assert_allclose(found.entries(rows, columns), found.matrix[rows, columns], atol=1e-10)
    plain = gpsense.recover(fields, offsets=False)
    assert plain.rank == 3
    assert not plain.offsets.rows.size


@pytest.mark.parametrize("seed", first_quick(range(3)))
def test_offsets_of_a_large_table_are_fitted_by_turns_to_the_same(seed, monkeypatch):
    """Large tables take less memory so; the answer is that of the fit of all numbers together."""
    truth, rows, columns, y, _ = _shifted_table(seed, (40, 30), share=0.4)
    fields = {"row": rows, "col": columns, "value": y}
    together = gpsense.recover(fields, offsets=True, rank=2)
    monkeypatch.setattr(offsets_module, "TOGETHER", 0)
    found = gpsense.recover(fields, offsets=True, rank=2)
    np.testing.assert_allclose(found.matrix, together.matrix, atol=0.05 * np.std(truth))
    error = lambda each: np.linalg.norm(each.matrix - truth)  # noqa: E731
    assert error(found) < 1.05 * error(together)
    assert abs(found.noise / together.noise - 1) < 0.03  # the offsets count as unknowns


def _shifted_table(seed, shape=(24, 19), rank=2, share=0.6, noise=0.05):
    rng = np.random.default_rng(seed)
    u, v = rng.standard_normal((shape[0], rank)), rng.standard_normal((shape[1], rank))
    a, b = 2 * rng.standard_normal(shape[0]), 2 * rng.standard_normal(shape[1])
    rows, columns = np.nonzero(rng.random(shape) < share)
    truth = 5 + a[:, None] + b + u @ v.T
    return truth, rows, columns, truth[rows, columns] + noise * rng.standard_normal(rows.size), (u, v, a + 5, b)


def test_offsets_and_factors_are_fitted_together():
    _, rows, columns, y, parts = _shifted_table(0)

    def residual(numbers):
        u, v = numbers[: 24 * 2].reshape(24, 2), numbers[48 : 48 + 19 * 2].reshape(19, 2)
        a, b = numbers[86 : 86 + 24], numbers[110:]
        return np.sum(u[rows] * v[columns], axis=1) + a[rows] + b[columns] - y

    start = np.concatenate([part.ravel() for part in parts])
    least = scipy.optimize.least_squares(residual, start, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    found = gpsense.recover({"row": rows, "col": columns, "value": y}, offsets=True)
    assert found.rank == 2
    np.testing.assert_allclose(found.entries(rows, columns) - y, least.fun, atol=1e-5)
    assert found.unknowns == np.linalg.matrix_rank(least.jac, tol=1e-4)
    np.testing.assert_allclose(found.noise, np.sqrt(np.sum(least.fun**2) / (y.size - found.unknowns)), rtol=1e-6)
    told = gpsense.recover({"row": rows, "col": columns, "value": y}, offsets=True, rank=2)
    np.testing.assert_allclose(told.matrix, found.matrix, atol=1e-5)
    law = np.linalg.pinv(least.jac.T @ least.jac, rcond=1e-8)
    for row, column in ((0, 0), (7, 3), (23, 18)):
        place = {0: row * 2 + np.arange(2), 1: 48 + column * 2 + np.arange(2), 2: [86 + row], 3: [110 + column]}
        slope = np.zeros(start.size)
        slope[place[0]], slope[place[1]] = least.x[place[1]], least.x[place[0]]
        slope[place[2]] = slope[place[3]] = 1
        np.testing.assert_allclose(
            found.standard_errors(row, column), found.noise * np.sqrt(slope @ law @ slope), rtol=1e-3
        )


@pytest.mark.slow
@pytest.mark.parametrize("offsets", [True, None])
@pytest.mark.parametrize("seed", range(6))
def test_a_wild_value_is_no_column_of_its_own(seed, offsets):
    truth, rows, columns, y, _ = _shifted_table(seed)
    if offsets is None:
        truth = truth - truth.mean(axis=0) - truth.mean(axis=1, keepdims=True) + truth.mean()
        y = truth[rows, columns] + 0.05 * np.random.default_rng(seed).standard_normal(rows.size)
    wild = 11 * (seed + 1)
    clean = np.delete(np.arange(y.size), wild)
    data = {"row": rows[clean], "col": columns[clean], "value": y[clean]}
    expected = gpsense.recover(data, offsets=offsets, robust=False)
    y[wild] += (-1) ** seed * 10 ** (1 + seed / 4) * np.std(truth)
    found = gpsense.recover({"row": rows, "col": columns, "value": y}, offsets=offsets)
    assert wild in found.outliers
    error = lambda each: np.linalg.norm(each.matrix - truth)  # noqa: E731
    assert error(found) < 1.6 * error(expected)


@pytest.mark.parametrize("offsets", first_quick([True, None]))
@pytest.mark.parametrize("seed", first_quick([0, 4, 6]))
def test_a_wild_value_among_exact_ones_is_left_out(seed, offsets):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((30, 2)) @ rng.standard_normal((2, 25))
    if offsets:
        truth = truth + rng.standard_normal((30, 1)) + rng.standard_normal(25)
    rows, columns = np.nonzero(rng.random((30, 25)) < 0.5)
    y, wild = truth[rows, columns], rng.integers(rows.size)
    y[wild] += 20
    found = gpsense.recover({"row": rows, "col": columns, "value": y}, offsets=offsets)
    assert (found.rank, found.chosen_by, found.outliers.tolist()) == (2, "exact", [wild])
    np.testing.assert_allclose(found.matrix, truth, atol=1e-8)


@pytest.mark.parametrize(
    ("seed", "rank", "offsets"), first_quick([(0, 1, True), (501, 2, False), (2, 1, True), (3, 0, True)])
)
def test_no_answer_lies_far_beyond_the_values(seed, rank, offsets):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(30, rank)) @ rng.normal(size=(rank, 20))
    if offsets:
        truth = truth + 3 + rng.normal(size=(30, 1)) + rng.normal(size=20)
    rows, columns = np.nonzero(rng.uniform(size=truth.shape) < 0.6)
    wild = rng.uniform(size=rows.size) < 0.02
    y = truth[rows, columns] + 0.2 * rng.normal(size=rows.size) + 10 * wild * rng.choice([-1, 1], size=rows.size)
    found = gpsense.recover({"row": rows, "col": columns, "value": y}, offsets=offsets)
    assert rank <= found.rank <= rank + 1
    assert set(np.flatnonzero(wild)) <= set(found.outliers)
    assert np.sqrt(np.mean((found.matrix - truth) ** 2)) < (0.2 if found.rank == rank else 1.0)


@pytest.mark.parametrize(
    ("seed", "dim", "rank", "share"), first_quick([(303, 20, 2, 0.03), (306, 20, 2, 0.03), (301, 30, 3, 0.03)])
)
def test_wild_values_among_entries_of_a_symmetric_matrix(seed, dim, rank, share):
    """A column would explain them: the rank, the wild values, and the error of the fit that knows both."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((dim, rank))
    i, j = np.triu_indices(dim)
    n = round((3 if rank == 2 else 2.5) * (dim * rank - rank * (rank - 1) // 2))
    some = rng.permutation(i.size)[:n]
    i, j, truth = i[some], j[some], factor @ factor.T
    y = truth[i, j] + 0.1 * rng.standard_normal(n)
    wild = np.sort(rng.permutation(n)[: round(share * n)])
    y[wild] += 10 * rng.choice([-1, 1], wild.size)
    found = gpsense.recover({"rows": i, "cols": j, "y": y})
    rest = np.delete(np.arange(n), wild)
    oracle = gpsense.recover({"rows": i[rest], "cols": j[rest], "y": y[rest], "dim": np.array(dim)}, rank=rank)
    assert found.rank == rank
    np.testing.assert_array_equal(found.outliers, wild)
    assert np.linalg.norm(found.matrix - truth) < 1.1 * np.linalg.norm(oracle.matrix - truth)


WORDS = [one + two for one in "IXYZ" for two in "IXYZ"][1:]


@pytest.mark.parametrize("shares", [(0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1)])
def test_a_state_of_full_rank_is_found_where_every_word_is_measured(shares):
    letters = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]])}
    letters["Z"] = np.diag([1, -1])
    state = np.diag(shares)
    exact = np.array([np.trace(np.kron(letters[word[0]], letters[word[1]]) @ state).real for word in WORDS])
    for seed in range(3):
        y = exact + 0.02 * np.random.default_rng(seed).standard_normal(15)
        found = gpsense.recover({"pauli": WORDS, "value": y}, trace=1.0)
        assert (found.rank, found.chosen_by, found.outliers.size) == (4, "full", 0)
        np.testing.assert_allclose(np.trace(found.matrix), 1, atol=1e-12)
        assert np.linalg.norm(found.matrix - state) < 0.02 * np.sqrt(15) / 2 * 1.6  # the noise, as X sees it
        assert "the noise: no more measurements than unknowns" in found.undetermined
        assert np.isinf(found.standard_errors(np.array([0]), np.array([1]))).all()


@pytest.mark.parametrize("count", [5, 7])
def test_a_value_beyond_the_trace_is_told_and_few_values_are_held_out_without_a_warning(count):
    y = np.array([7.0, 1, 1, 0, 0, 0, 0])[:count]  # of the state of zeros: IZ and ZI are 1
    words = ["XX", "IZ", "ZI", "IX", "IY", "XI", "YI"][:count]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gpsense.recover({"pauli": words, "value": y}, trace=1, robust=True)
    told = (
        f"values: 1 of {count} exceed the trace 1 in size, which no expectation can; the one at index 0 (from 0) is 7"
    )
    assert told in found.notices


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_a_table_with_the_digits_of_float32_is_explained_to_these(seed, dtype):
    rng = np.random.default_rng(seed)
    table = (rng.standard_normal((8, 2)) @ rng.standard_normal((2, 7))).astype(np.float32)
    rows, columns = np.nonzero(rng.uniform(size=table.shape) < 0.95)
    found = gpsense.recover({"row": rows, "col": columns, "value": table[rows, columns].astype(dtype)}, offsets=False)
    assert (found.rank, found.chosen_by) == (2, "exact")


@pytest.mark.parametrize("seed", range(2))
def test_a_table_of_noise_determines_nothing(seed):
    rows, columns = np.indices((3, 3)).reshape(2, -1)
    values = np.random.default_rng(seed).standard_normal(9)
    found = gpsense.recover({"row": rows, "col": columns, "value": values}, offsets=False)
    assert found.rank == 0
    assert found.undetermined[-1] == "all of X: 9 measurements that cannot be told from noise"
    assert np.isinf(found.standard_errors(rows, columns)).all()


def test_a_row_that_is_missing_among_numbered_ones_is_told():
    rng = np.random.default_rng(1)
    table = rng.standard_normal((12, 1)) @ rng.standard_normal((1, 8))
    rows, columns = (each.ravel() for each in np.indices(table.shape))
    kept = rows != 4
    fields = {"row": rows[kept], "col": columns[kept], "value": table[rows, columns][kept]}
    assert gpsense.recover(fields).undetermined == ("row 4 is in no measurement",)
    names = {**fields, "row": 100 * fields["row"]}  # numbers of customers, say
    assert gpsense.recover(names).undetermined == ()
    assert "row 4 is in no measurement" in gpsense.recover({**fields, "shape": np.array([12, 8])}).undetermined


@pytest.mark.parametrize("seed", first_quick(range(4)))
def test_offsets_are_chosen_where_they_take_fewer_numbers(seed):
    rng = np.random.default_rng(seed)
    offsets = 5 + 2 * rng.standard_normal((25, 1)) + 2 * rng.standard_normal(20)
    table = rng.standard_normal((25, 2)) @ rng.standard_normal((2, 20)) + offsets
    rows, columns = np.nonzero(rng.uniform(size=table.shape) < 0.6)
    y = table[rows, columns] + 0.2 * rng.standard_normal(rows.size)
    found = gpsense.recover({"row": rows, "col": columns, "value": y})
    assert (found.rank, found.offsets.rows.size) == (2, 25)


def test_offsets_alone_are_an_answer():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((9, 1)) + rng.standard_normal(8)
    rows, columns = np.indices(table.shape).reshape(2, -1)
    fields = {"row": rows, "col": columns, "value": table.ravel() + 0.01 * rng.standard_normal(72)}
    found = gpsense.recover(fields, rank=0, offsets=True)
    assert found.rank == 0
    np.testing.assert_allclose(found.matrix, table, atol=0.03)
    with pytest.raises(BadInput, match=r"^rank: 0 is not from 1 to 8; "):
        gpsense.recover(fields, rank=0)


def test_a_constant_table_has_an_offset_alone():
    rows, columns = np.indices((6, 5)).reshape(2, -1)
    found = gpsense.recover({"row": rows, "col": columns, "value": np.full(30, 7.0)}, offsets=True)
    assert found.rank == 0
    np.testing.assert_allclose(found.matrix, 7.0)


def _exact_with_wild(kind, seed):
    """Exact measurements of rank 2, one in fifty of them wild, several of which a column explains: data, X, wild."""
    rng = np.random.default_rng(seed)
    left = rng.standard_normal((26, 2))
    first, second = np.indices((26, 26)).reshape(2, -1) if kind == "value" else np.triu_indices(26, kind == "distance2")
    some = rng.permutation(first.size)[: 400 if kind == "value" else 220]
    first, second = first[some], second[some]
    if kind == "value":
        right = rng.standard_normal((26, 2))
        truth = left @ right.T + rng.standard_normal((26, 1)) + rng.standard_normal(26)
    else:
        truth = left @ left.T
    y = truth[first, second]
    if kind == "distance2":
        y = truth[first, first] + truth[second, second] - 2 * y
    wild = np.sort(rng.permutation(y.size)[: y.size // 50])
    y[wild] = np.abs(y[wild] + np.std(y) * 10 ** rng.uniform(0.5, 1.5, wild.size))
    names = {
        "value": ("row", "col", "value"),
        "values": ("rows", "cols", "value"),
        "distance2": ("i", "j", "distance2"),
    }
    return dict(zip(names[kind], (first, second, y), strict=True)), left, truth, wild


@pytest.mark.parametrize("kind", first_quick(["value", "values", "distance2"]))
@pytest.mark.parametrize("seed", first_quick([0, 1]))
def test_wild_values_among_exact_ones_are_no_columns(kind, seed):
    data, left, truth, wild = _exact_with_wild(kind, seed)
    found = gpsense.recover(data, offsets=True if kind == "value" else None)
    assert (found.rank, found.chosen_by, found.outliers.tolist()) == (2, "exact", wild.tolist())
    expected = truth if kind != "distance2" else (left - left.mean(0)) @ (left - left.mean(0)).T
    np.testing.assert_allclose(found.matrix, expected, atol=1e-8)


def test_one_wild_value_of_matrices_that_see_all_of_x_is_left_out():
    rng = np.random.default_rng(8002)
    factor = rng.standard_normal((10, 1))
    matrices = rng.standard_normal((43, 10, 10))
    matrices += matrices.transpose(0, 2, 1)
    y = np.einsum("nij,ij->n", matrices, factor @ factor.T)
    y[17] += 20 * np.std(y)
    found = gpsense.recover({"A": matrices, "y": y})
    assert (found.rank, found.chosen_by, found.outliers.tolist()) == (1, "exact", [17])
    np.testing.assert_allclose(found.matrix, factor @ factor.T, atol=1e-8)


def test_a_matrix_of_single_entries_is_not_taken_for_wild_values():
    matrix = np.diag([3.0, 2.0, 1.0, 0, 0, 0, 0, 0])
    rows, columns = np.indices((8, 8)).reshape(2, -1)
    found = gpsense.recover({"row": rows, "col": columns, "value": matrix.ravel()}, offsets=False)
    assert (found.rank, found.outliers.size) == (3, 0)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-8)


@pytest.mark.parametrize("shape", [(12, 10), (30, 8), (2, 20), (1, 20)])
def test_small_tables_with_noise(shape):
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(rng.random(shape) < 0.8)
    whole = rng.standard_normal((shape[0], 1)) @ rng.standard_normal((1, shape[1])) + rng.standard_normal((shape[0], 1))
    values = whole[rows, columns] + 3 + 0.1 * rng.standard_normal(rows.size)
    found = gpsense.recover({"row": rows, "col": columns, "value": values, "shape": np.array(shape)})
    assert found.rank <= min(shape)
    assert found.matrix.shape == shape


def test_names_of_rows_and_columns_stay():
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((12, 1)), rng.standard_normal((9, 1))
    rows, columns = np.nonzero(rng.random((12, 9)) < 0.8)
    fields = {"row": [f"u{i:02}" for i in rows], "col": columns, "value": (u[rows] * v[columns])[:, 0]}
    found = gpsense.recover(fields)
    np.testing.assert_allclose(
        found.entries(["u03", "u11"], [5, 0]), [u[3, 0] * v[5, 0], u[11, 0] * v[0, 0]], atol=1e-8
    )
    assert found.labels[0][3] == "u03"
    assert found.labels[1] is None
    with pytest.raises(BadInput, match="rows: no .*'ghost'.* among the names"):
        found.entries(["ghost"], [0])
    with pytest.raises(BadInput, match="columns: not all are whole numbers from 0 to 8"):
        found.entries(["u03"], [9])
    with pytest.raises(gpsense.BadInput, match='^rows: 3 is a number, and the names are text; write "u00"'):
        found.entries([3], [0])
    found = gpsense.recover(fields | {"row": list(map(str, rows))}, rank=1)
    with pytest.raises(gpsense.BadInput, match='^rows: 3 is a number, and the names are text; write "3"'):
        found.entries([3], [0])


def test_the_largest_rank_is_kept_to_in_noisy_tables():
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(rng.random((30, 20)) < 0.5)
    u, v = rng.standard_normal((30, 2)), rng.standard_normal((20, 2))
    y = (u @ v.T)[rows, columns] + 0.05 * rng.standard_normal(rows.size)
    assert gpsense.recover({"row": rows, "col": columns, "value": y}, max_rank=1).rank == 1


@pytest.mark.parametrize("seed", [103, 105, 106])
def test_an_exact_fit_is_looked_for_beyond_the_rank_that_leaves_noise(seed):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((15, 3))
    a = rng.standard_normal((73, 15, 15))
    found = gpsense.recover({"A": a, "y": np.einsum("nij,ij->n", a, u @ u.T)})
    assert (found.rank, found.chosen_by) == (3, "exact")


@pytest.mark.slow
def test_ratings_without_a_gap_keep_the_penalty():
    rng = np.random.default_rng(4)
    sizes = 3.0 / np.arange(1, 31)
    u, v = rng.standard_normal((80, 30)), rng.standard_normal((70, 30))
    truth = 3 + rng.standard_normal((80, 1)) + u * sizes @ v.T / 3
    rows, columns = np.nonzero(rng.random((80, 70)) < 0.3)
    y = truth[rows, columns] + rng.standard_normal(rows.size)
    fields = {"row": rows, "col": columns, "y": y, "shape": np.array([80, 70])}
    rest = np.ones((80, 70), bool)
    rest[rows, columns] = False
    error = lambda found: np.sqrt(np.mean((found.matrix - truth)[rest] ** 2))  # noqa: E731
    chosen = error(gpsense.recover(fields))
    assert chosen < 0.9 * error(gpsense.recover(fields, offsets=False, rank=6))
    assert chosen < 0.8 * np.std(truth)


def test_a_known_trace_is_kept():
    rng = np.random.default_rng(5)
    state = rng.standard_normal((4, 1)) + 1j * rng.standard_normal((4, 1))
    state /= np.linalg.norm(state)
    words = [first + second for first in "IXYZ" for second in "IXYZ"]
    y = maps.Pauli.of(words).predict((state,)) + 0.02 * rng.standard_normal(16)
    found = gpsense.recover({"pauli": words, "y": y}, trace=1.0)
    assert np.trace(found.matrix).real == pytest.approx(1.0)
    assert (state.conj().T @ found.matrix @ state).real.item() > 0.98


def test_an_entry_that_nothing_determines_has_an_infinite_error():
    measurements, y, _ = _problem("entries")
    keep = (np.asarray(measurements.rows) != 4) & (np.asarray(measurements.cols) != 4)
    y = y[keep] + 0.01 * np.random.default_rng(0).standard_normal(keep.sum())
    found = gpsense.recover(measurements.take(np.flatnonzero(keep)), y)
    assert "row 4 is in no measurement" in found.undetermined
    errors = found.standard_errors([4, 0, 3], [1, 4, 3])
    assert np.isinf(errors[:2]).all()
    assert np.isfinite(errors[2])


def test_a_small_table_of_which_nothing_can_be_held_out_is_said_to_be_in_two_parts():
    row, col = np.repeat([0, 1, 2, 3], 3), [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]
    found = gpsense.recover({"row": row, "col": col, "value": np.arange(1.0, 13)}, offsets=False)
    assert "2 parts that no measurement connects" in found.undetermined


PLACES = dict(zip(("row", "col", "value"), np.ones((3, 12)), strict=True))
REFUSED = {
    "shape": (lambda m, y: gpsense.recover(m, y[:-1]), r"y: shape \(149,\) for 150 measurements"),
    "few": (lambda m, y: gpsense.recover(m.take(np.arange(4)), y[:4]), "y: only 4 measurements; give at least 5"),
    "NaN": (lambda m, y: gpsense.recover(m, np.where(y > 1, np.nan, y)), "y: NaN or infinity in"),
    "zero": (lambda m, y: gpsense.recover(m, 0 * y), "y: is all zero"),
    "sign": (
        lambda m, y: gpsense.recover(rank_one_measurements(jax.random.key(0), 150, 12), -np.abs(y)),
        "check the signs",
    ),
    "masked": (lambda m, y: gpsense.recover(m, np.ma.masked_less(y, 0)), "y: .* numbers are masked"),
    "complex": (lambda m, y: gpsense.recover(m, y * 1j), "y: holds complex numbers"),
    "rank": (lambda m, y: gpsense.recover(m, y, rank=13), "rank: 13 is not from 1 to 12"),
    "max rank": (lambda m, y: gpsense.recover(m, y, max_rank=0), "max_rank: 0 is not from 1 to 12"),
    "trace": (lambda m, y: gpsense.recover(m, y, trace=-1.0), "trace: -1.0 is not allowed; use a number above 0"),
    "offsets": (lambda m, y: gpsense.recover(m, y, offsets=True), "offsets: only the entries of a table"),
    "ranks": (lambda m, y: gpsense.recover(m, y, rank=3, max_rank=2), "rank: 3 is above max_rank 2"),
    "array": (lambda m, y: gpsense.recover(np.zeros((9, 3, 3)), y), 'measurements: it is an array; give {"A"'),
    "bool": (lambda m, y: gpsense.recover(m, y, rank=True), "rank: True is not a whole number"),
    "seed": (lambda m, y: gpsense.recover(m, y, seed=-1), "seed: -1 is not allowed; use a whole number 0 or more"),
    "robust": (
        lambda m, y: gpsense.recover(m, y, robust="auto"),
        "robust: 'auto' is neither true nor false; use true or false, or leave it out",
    ),
    "one for true": (lambda m, y: gpsense.recover(m, y, robust=1), "robust: 1 is neither true nor false"),
    "several flags": (lambda m, y: gpsense.recover(m, y, robust=np.ones(2)), "robust: .* is neither true nor false"),
    "flag": (lambda m, y: gpsense.recover(PLACES, offsets="yes"), "offsets: 'yes' is neither true nor false"),
    "progress": (lambda m, y: gpsense.recover(m, y, progress=True), "progress: True cannot be called; give a function"),
    "rank in words": (lambda m, y: gpsense.recover(m, y, rank="two"), "rank: 'two' is not a whole number; use a whole"),
    "trace in words": (lambda m, y: gpsense.recover(m, y, trace="one"), "trace: 'one' is not a number; use a number"),
    "two traces": (lambda m, y: gpsense.recover(m, y, trace=np.ones(2)), "trace: .* is not one number; use a number"),
    "no values": (
        lambda m, y: gpsense.recover(m),
        "values: missing, and a map has none of its own; give them, recover",
    ),
    "text": (lambda m, y: gpsense.recover(m, y.astype(str)), "y: holds numbers as text, such as '.*'; convert them"),
    "ragged": (
        lambda m, y: gpsense.recover(m, [[1, 2], [3]]),
        "y: it holds lists of different lengths; give one array",
    ),
    "traced": (
        lambda m, y: jax.jit(lambda y: gpsense.recover(m, y).matrix)(y),
        "y: it is traced by JAX; call this outside of jit, vmap and grad",
    ),
    "typo": (
        lambda m, y: gpsense.recover({**PLACES, "row_label": np.ones(12)}),
        "row_label: table measurements have no array of this name; did you mean row_labels",
    ),
    "other": (
        lambda m, y: gpsense.recover({**PLACES, "weight": np.ones(12)}),
        "weight: table measurements have no array of this name; leave it out, or use one of value, row, col, shape",
    ),
    "sides": (
        lambda m, y: gpsense.recover({**PLACES, "dim": 9}),
        "dim: table measurements have no array of this name",
    ),
    "twice": (
        lambda m, y: gpsense.recover(PLACES, y),
        "values: given beside a dict, which holds its own; give the values in it, under the name",
    ),
    "what": (lambda m, y: gpsense.recover(3, y), "measurements: they are of type int; give a map of gpsense"),
}


@pytest.mark.parametrize(("call", "line"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_recovered_is_refused(call, line):
    measurements, y, _ = _problem("gaussian")
    with pytest.raises(BadInput, match=line):
        call(measurements, y)


@pytest.mark.slow
def test_no_grade_is_wild_and_a_number_that_is_none_is():
    rng = np.random.default_rng(6)
    truth = 3 + rng.standard_normal((60, 1)) + rng.standard_normal((60, 2)) @ rng.standard_normal((2, 40))
    rows, columns = np.nonzero(rng.random((60, 40)) < 0.5)
    grades = np.clip(np.round(truth[rows, columns] + rng.standard_normal(rows.size)), 1, 5)
    assert gpsense.recover({"row": rows, "col": columns, "value": grades}).outliers.size == 0
    grades[100] = 500
    assert gpsense.recover({"row": rows, "col": columns, "value": grades}).outliers.tolist() == [100]


@pytest.mark.parametrize(("offsets", "share"), first_quick([(None, 0.01), (True, 0.01), (True, 0.03)]))
def test_wild_values_of_a_table_with_offsets_are_left_out(offsets, share):
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((40, 2)), rng.standard_normal((25, 2))
    truth = u @ v.T + 3 + rng.standard_normal((40, 1)) + rng.standard_normal((1, 25))
    i, j = np.nonzero(rng.random((40, 25)) < 0.6)
    y = truth[i, j] + 0.2 * rng.standard_normal(i.size)
    wild = rng.permutation(i.size)[: round(share * i.size)]
    y[wild] += 10
    found = gpsense.recover({"row": i, "col": j, "value": y}, offsets=offsets)
    assert set(wild) <= set(found.outliers)
    assert found.outliers.size <= wild.size + 3
    assert np.sqrt(np.mean((found.matrix - truth) ** 2)) < 0.25


def test_what_is_printed_of_a_recovery_is_a_few_lines_without_arrays():
    """Rank, noise and outliers as the attributes have them; no line longer than a screen."""
    _, rows, columns, y, _ = _shifted_table(0, (14, 12), rank=1)
    y[11] += 100
    found = gpsense.recover({"row": rows, "col": columns, "value": y})
    text = repr(found)
    assert text == str(found)
    assert text.startswith(f"Recovery of a 14 x 12 matrix: rank {found.rank}, chosen_by {found.chosen_by!r}")
    assert f"noise {found.noise:.3g}" in text
    assert "left out as outliers, by number from 0: 11 (1, 2)\n" in text
    assert "array" not in text
    assert max(map(len, text.splitlines())) < 120 > 10 * len(text.splitlines())


def test_what_is_tried_is_told_to_whoever_listens():
    _, rows, columns, y, _ = _shifted_table(0, (14, 12), rank=1)
    told: list[str] = []
    gpsense.recover({"row": rows, "col": columns, "value": y + 0.1 * np.sin(np.arange(y.size))}, progress=told.append)
    assert any(words.startswith("rank ") for words in told)
    count = len(told)
    gpsense.recover({"row": rows, "col": columns, "value": y}, offsets=False)
    assert len(told) == count
    with pytest.raises(BadInput, match="progress: 3 cannot be called; give a function of one string"):
        gpsense.recover({"row": rows, "col": columns, "value": y}, progress=3)


def test_entries_are_pairs_of_a_row_and_a_column():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((12, 1)) @ rng.standard_normal((1, 10))
    rows, columns = np.indices(truth.shape).reshape(2, -1)
    found = gpsense.recover({"row": rows, "col": columns, "value": truth.ravel()}, offsets=False)
    np.testing.assert_allclose(found.entries([2], [0, 3, 9]), truth[2, [0, 3, 9]], atol=1e-9)
    for call in (found.entries, found.standard_errors):
        for rows, columns in (([0, 1, 2], [0, 1]), ([[0], [1]], [[0], [1]])):
            with pytest.raises(gpsense.BadInput, match="^columns: it has the shape .* give one column for each row"):
                call(rows, columns)


LETTERS = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


def _words(qubits):
    words = ["".join(letters) for letters in itertools.product("IXYZ", repeat=qubits)]
    return words, [reduce(np.kron, [LETTERS[letter] for letter in word]) for word in words]


@pytest.mark.parametrize(("qubits", "rank", "seed"), [(2, 4, 0), (2, 4, 3), (3, 8, 1), (3, 8, 3)])
def test_a_mixed_state_that_all_words_see_is_as_near_as_their_sum(qubits, rank, seed):
    rng = np.random.default_rng(seed)
    words, operators = _words(qubits)
    psi = rng.normal(size=(2**qubits, rank)) + 1j * rng.normal(size=(2**qubits, rank))
    state = psi @ psi.conj().T / np.linalg.norm(psi) ** 2
    y = np.array([np.trace(each @ state).real for each in operators]) + 0.01 * rng.normal(size=len(words))
    linear = sum(value * each for value, each in zip(y, operators, strict=True)) / 2**qubits
    for left_out, trace in ((0, 1), (1, 1), (0, None)):  # the word of the trace may be missing, or the trace untold
        found = gpsense.recover({"pauli": words[left_out:], "value": y[left_out:]}, trace=trace)
        assert np.linalg.norm(found.matrix - state) < 1.1 * np.linalg.norm(linear - state)
    one = gpsense.recover({"pauli": words, "value": y}, trace=1, max_rank=1)
    assert one.rank == 1  # as asked for


@pytest.mark.parametrize("seed", range(4))
def test_a_pure_state_that_all_words_see_stays_pure(seed):
    rng = np.random.default_rng(seed)
    words, operators = _words(3)
    psi = rng.normal(size=8) + 1j * rng.normal(size=8)
    state = np.outer(psi, psi.conj()) / np.linalg.norm(psi) ** 2
    y = np.array([np.trace(each @ state).real for each in operators]) + 0.05 * rng.normal(size=64)
    assert gpsense.recover({"pauli": words, "value": y}, trace=1).rank == 1


def test_one_qubit_is_recovered_from_its_four_words():
    found = gpsense.recover({"pauli": list("IXYZ"), "value": [1, 0.3, 0.2, 0.5]}, trace=1)
    truth = (np.eye(2) + 0.3 * LETTERS["X"] + 0.2 * LETTERS["Y"] + 0.5 * LETTERS["Z"]) / 2
    np.testing.assert_allclose(found.matrix, truth, atol=1e-8)
    with pytest.raises(BadInput, match="only 3 measurements; give at least 4"):
        gpsense.recover({"pauli": list("XYZ"), "value": [0.3, 0.2, 0.5]})


def test_expectations_that_none_are_are_refused_and_one_that_noise_explains_is_not_told():
    words, operators = _words(2)
    with pytest.raises(BadInput, match="values: 16 of 16 exceed the trace 1.*; divide them by"):
        gpsense.recover({"pauli": words, "value": [5.0] * 16}, trace=1)
    state = np.outer([1, 0, 0, 1], [1, 0, 0, 1]) / 2
    rng = np.random.default_rng(0)
    y = np.array([np.trace(each @ state).real for each in operators]) + 0.01 * rng.normal(size=16)
    assert (y > 1).any()
    assert gpsense.recover({"pauli": words, "value": y}, trace=1).notices == ()
    assert gpsense.recover({"pauli": words, "value": y}).notices == ()
    (told,) = gpsense.recover({"pauli": words, "value": 3 * y}).notices
    line = "values: 4 of 16 exceed 1 in size, which no expectation of a state can; the one at index 0 (from 0) is 3.0"
    assert told.startswith(line)


def test_distances_of_points_and_the_pairs_that_were_left_out_are_told_by_name():
    points = np.random.default_rng(0).normal(size=(12, 2))
    i, j = np.triu_indices(12, 1)
    names = np.array([f"p{each:02}" for each in range(12)])
    lengths = np.linalg.norm(points[i] - points[j], axis=1)
    wild = lengths.copy()
    wild[3] *= 5
    found = gpsense.recover({"i": names[i], "j": names[j], "distance": wild})
    np.testing.assert_allclose(found.distances(names[i], names[j]), lengths, atol=1e-6)
    np.testing.assert_allclose(found.distances("p00", "p04"), lengths[[3]], atol=1e-6)
    assert found.wild == ("3 (p00, p04)",)
    assert "by number from 0: 3 (p00, p04)\n" in repr(found)
    assert ".distances(rows, columns)" in repr(found)
    squares = gpsense.recover(Distances(i, j, 12), lengths**2)
    np.testing.assert_allclose(squares.distances(i, j), lengths, atol=1e-6)
    table = gpsense.recover({"row": i, "col": j, "value": lengths})
    with pytest.raises(BadInput, match="^measurements: are not distances of points; call .entries"):
        table.distances(0, 1)


def test_rank_0_is_told_and_signs_are_asked_for_where_they_matter():
    rng = np.random.default_rng(0)
    factor, matrices = rng.normal(size=(10, 2)), rng.normal(size=(120, 10, 10))
    y = np.einsum("nij,ij->n", matrices, factor @ factor.T) + 0.01 * rng.normal(size=120)
    found = gpsense.recover({"A": matrices, "y": -y})
    assert found.rank == 0
    told = "rank 0: no factor explains the values better than noise does; "
    assert told + "check the sign of y, or measure more" in repr(found)
    rows, columns = np.indices((12, 10)).reshape(2, -1)
    table = {"row": rows, "col": columns, "value": rng.normal(size=120)}
    found = gpsense.recover(table, offsets=False)
    assert found.rank == 0
    assert told + "measure more" in repr(found)
    assert "rank 0: no" not in repr(gpsense.recover(table, rank=0, offsets=True))


@pytest.mark.parametrize("seed", first_quick(range(4)))
def test_repeats_that_contradict_each_other_are_left_out(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20))
    rows, columns = np.divmod(rng.permutation(600)[:355], 20)
    values = x[rows, columns] + 0.05 * rng.normal(size=355)
    again = rng.permutation(355)[:30]
    doubled = {"row": np.r_[rows, rows[again]], "col": np.r_[columns, columns[again]]}
    found = gpsense.recover(doubled | {"value": np.r_[values, values[again] + 10]}, offsets=False)
    np.testing.assert_array_equal(found.outliers, np.sort(np.r_[again, np.arange(355, 385)]))
    assert found.rank == 2
    assert np.linalg.norm(found.matrix - x) < 0.05 * np.linalg.norm(x)


@pytest.mark.parametrize(
    ("kind", "thin", "noise", "seed"),
    first_quick(
        [
            ("distance", 0.1, 0.01, 3),
            ("distance", 0.2, 0.03, 0),
            ("distance2", 0.1, 0.01, 0),
            ("distance2", 0.1, 0.01, 4),
            ("distance2", 0.1, 0.01, 7),
        ]
    ),
)
def test_a_thin_dimension_that_repeats_tell_is_not_taken_for_wild_values(kind, thin, noise, seed):
    pairs, noisy, rng = _each_pair_twice(kind, thin, noise, seed)
    found = gpsense.recover(pairs | {kind: noisy})
    assert (found.rank, found.outliers.size) == (3, 0)
    assert found.noise == pytest.approx(noise, rel=0.15)
    large = rng.permutation(np.flatnonzero(noisy > 0.5))[:20]
    noisy[large] *= 3
    found = gpsense.recover(pairs | {kind: noisy})
    assert (found.rank, np.setdiff1d(large, found.outliers).size) == (3, 0)
    assert found.noise == pytest.approx(noise, rel=0.15)


def test_repeats_that_agree_are_not_left_out_for_a_cheaper_fit():
    pairs, noisy, _ = _each_pair_twice("distance", 0.06, 0.01, 4)
    found = gpsense.recover(pairs | {"distance": noisy})
    assert found.outliers.size == 0
    assert found.noise == pytest.approx(0.01, rel=0.15)


def _each_pair_twice(kind, thin, noise, seed):
    """Noisy distances of six in ten pairs of 30 places, nearly in a plane, each in both orders; and the generator."""
    rng = np.random.default_rng(100 + seed)
    places = rng.normal(size=(30, 3)) * [1, 1, thin]
    i, j = np.triu_indices(30, 1)
    kept = rng.uniform(size=i.size) < 0.6
    pairs = {"i": np.r_[i[kept], j[kept]], "j": np.r_[j[kept], i[kept]]}
    exact = np.linalg.norm(places[i[kept]] - places[j[kept]], axis=1) ** (2 if kind == "distance2" else 1)
    return pairs, np.abs(np.tile(exact, 2) + noise * rng.normal(size=2 * exact.size)), rng


def _of_rank_three(seed):
    rng = np.random.default_rng(seed)
    factor = np.linalg.qr(rng.normal(size=(25, 3)))[0] * np.sqrt([25, 12, 6])
    rows, columns = np.triu_indices(25)
    x = factor @ factor.T
    return rng, {"rows": rows, "cols": columns}, x[rows, columns], x


@pytest.mark.parametrize("seed", [1, 4, 6])
def test_wild_values_of_twenty_deviations_are_left_out_of_values_far_larger(seed):
    rng, places, exact, x = _of_rank_three(seed)
    noisy = exact + 0.01 * rng.normal(size=exact.size)
    large = np.sort(rng.permutation(exact.size)[:16])
    told = gpsense.recover({name: np.delete(each, large) for name, each in (places | {"value": noisy}).items()})
    noisy[large] += 0.2 * rng.choice([-1, 1], large.size)
    found = gpsense.recover(places | {"value": noisy})
    np.testing.assert_array_equal(found.outliers, large)
    assert found.rank == 3
    assert np.linalg.norm(found.matrix - x) < 1.02 * np.linalg.norm(told.matrix - x)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_in_proportion_to_the_values_is_not_taken_for_wild_values(seed):
    rng, places, exact, _ = _of_rank_three(seed)
    found = gpsense.recover(places | {"value": exact * (1 + 0.05 * rng.normal(size=exact.size))})
    assert not found.outliers.size


def test_repeats_tell_the_noise_and_columns_below_what_is_left():
    rng = np.random.default_rng(0)
    factor = np.linalg.qr(rng.normal(size=(10, 3)))[0] * np.sqrt([4, 2, 0.35])
    a = rng.normal(size=(45, 10, 10))
    a = a + a.transpose(0, 2, 1)
    clean = np.einsum("nij,ij->n", a, factor @ factor.T)
    y = np.repeat(clean, 5) + 0.05 * rng.normal(size=225)
    found = gpsense.recover({"A": np.repeat(a, 5, axis=0), "y": y})
    assert (found.rank, found.measurements) == (3, 45)
    assert found.noise == pytest.approx(0.05, rel=0.1)  # of 225 values less 27 unknowns: 5 per cent
    left = y - np.repeat(np.einsum("nij,ij->n", a, found.matrix), 5)
    assert found.noise == pytest.approx(np.sqrt(np.sum(left**2) / (225 - found.unknowns)), rel=1e-9)
    assert found.residual == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-9)


def _places(seed, deviation):
    """Plain distances between 40 places, of 40 % of their pairs, and the Gram matrix of the centred places."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(40, 2)) * [300, 150]
    i, j = np.triu_indices(40, 1)
    kept = rng.uniform(size=i.size) < 0.4
    distances = np.linalg.norm(places[i[kept]] - places[j[kept]], axis=1)
    noisy = np.abs(distances + deviation(distances) * rng.normal(size=distances.size))
    centred = places - places.mean(0)
    return {"i": i[kept], "j": j[kept], "distance": noisy}, centred @ centred.T


@pytest.mark.parametrize("seed", first_quick([101, 104, 110]))
def test_plain_distances_are_fitted_by_least_squares_of_distances(seed):
    given, gram = _places(seed, lambda d: 0.01 * d)
    assert gpsense.recover(given).rank == 2
    given, gram = _places(seed, lambda d: 5.0)
    found = gpsense.recover(given)
    assert (found.rank, found.squared) == (2, True)
    assert found.noise == pytest.approx(5, rel=0.2)
    i, j, measured = given.values()

    def residual(numbers):
        points = numbers.reshape(40, 2)
        return np.linalg.norm(points[i] - points[j], axis=1) - measured

    best = scipy.optimize.least_squares(residual, found.factor.ravel()).x.reshape(40, 2)
    best = best - best.mean(0)
    error, least = (np.linalg.norm(each - gram) for each in (found.matrix, best @ best.T))
    assert error < 1.1 * least
    assert found.scale(measured**2) == pytest.approx(np.sqrt(np.mean(measured**2)))


def test_standard_errors_of_plain_distances_cover_near_and_far_places():
    inside, far = [], []
    for seed in range(300, 308):
        given, gram = _places(seed, lambda d: 5.0)
        found = gpsense.recover(given)
        rows, columns = np.triu_indices(40)
        truth = gram[rows, columns]
        within = np.abs(found.entries(rows, columns) - truth) < 1.96 * found.standard_errors(rows, columns)
        inside.append(within.mean())
        far.append(within[np.abs(truth) > np.quantile(np.abs(truth), 0.75)].mean())
    assert 0.9 < np.mean(inside) < 0.99
    assert 0.88 < np.mean(far) < 1


def test_a_mirrored_point_has_no_standard_errors():
    rng = np.random.default_rng(8)
    places = rng.normal(size=(15, 2))
    i, j = np.triu_indices(14, 1)
    i, j = np.r_[i, 2, 5], np.r_[j, 14, 14]
    distances = np.linalg.norm(places[i] - places[j], axis=1) + 0.01 * rng.normal(size=i.size)
    found = gpsense.recover({"i": i, "j": j, "distance": distances})
    assert found.undetermined == ("1 point with at most 2 distances, which may be mirrored: 14",)
    assert np.isinf(found.standard_errors(np.full(15, 14), np.arange(15))).all()
    assert np.isfinite(found.standard_errors(np.arange(14), np.arange(14))).all()


def test_shares_are_of_the_values_used():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20))
    rows, columns = np.divmod(rng.permutation(600)[:355], 20)
    values = x[rows, columns] + 0.05 * rng.normal(size=355)
    values[[3, 100]] += 1e4
    found = gpsense.recover({"row": rows, "col": columns, "value": values}, offsets=False)
    np.testing.assert_array_equal(found.outliers, [3, 100])
    assert found.scale(values) == pytest.approx(np.sqrt(np.mean(np.delete(values, [3, 100]) ** 2)))


def test_a_row_with_too_few_values_is_named():
    rng = np.random.default_rng(1)
    x, seen = rng.normal(size=(31, 2)) @ rng.normal(size=(2, 20)), rng.uniform(size=(31, 20)) < 0.7
    seen[30] = False
    seen[30, 0] = True
    rows, columns = np.nonzero(seen)
    values = x[rows, columns] + 0.05 * rng.normal(size=rows.size)
    found = gpsense.recover({"row": rows, "col": columns, "value": values}, offsets=False)
    assert "1 row with fewer than 2 measurements: 30" in found.undetermined


@pytest.mark.parametrize("seed", first_quick(range(3)))
def test_a_table_of_mostly_ones_is_not_explained_to_rounding_by_chance(seed):
    """Rows that are ones alone are explained by one column, and few zeros by as many unknowns as it takes."""
    rng = np.random.default_rng(seed)
    likes = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 30)) + 1.5 * rng.normal(size=(40, 1)) + 3 > 0
    seen = rng.random(likes.shape) < 0.5
    i, j = np.nonzero(seen)
    found = gpsense.recover({"row": i, "col": j, "value": likes[i, j].astype(float)})
    missed = (found.matrix - likes)[~seen]
    assert np.sqrt(np.mean(missed**2)) < 1.3 * likes[~seen].std()


def test_a_rank_that_is_given_leaves_the_choice_of_offsets_and_finds_wild_values():
    truth, rows, columns, y, _ = _shifted_table(3, (40, 30), rank=2, noise=0.2)
    y[[5, 50, 500]] += 20
    found = gpsense.recover({"row": rows, "col": columns, "value": y}, rank=2)
    assert found.outliers.tolist() == [5, 50, 500]
    assert found.offsets.rows.size
    assert np.sqrt(np.mean((found.matrix - truth) ** 2)) < 0.2


@pytest.mark.parametrize("fewer", first_quick([{"rank": 1}, {"max_rank": 1}, {"rank": 1, "offsets": False}]))
def test_a_rank_that_is_given_makes_no_value_wild(fewer):
    _, rows, columns, y, _ = _shifted_table(3, (40, 30), rank=2, noise=0.2)
    assert not gpsense.recover({"row": rows, "col": columns, "value": y}, **fewer).outliers.size


def test_a_bound_on_the_rank_is_told_where_it_binds():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200, 12, 12))
    a = a + a.transpose(0, 2, 1)
    factor = rng.normal(size=(12, 3))
    y = np.einsum("nij,ij->n", a, factor @ factor.T) + rng.normal(size=200)
    by = {most: gpsense.recover({"A": a, "y": y}, max_rank=most).chosen_by for most in (1, 2, 3, 5)}
    assert by[1] == by[2] == "bounded"
    assert by[3] == by[5] == "edge"


@pytest.mark.parametrize("factor", first_quick([1e3, 10.0, 1e8]))
def test_wild_plain_distances_set_no_weights(factor):
    given, gram = _places(101, lambda d: 5.0)
    sound, wild = gpsense.recover(given), [20, 50, 90]
    distances = given["distance"].copy()
    distances[wild] *= factor
    found = gpsense.recover(given | {"distance": distances})
    np.testing.assert_array_equal(found.outliers, wild)
    assert found.rank == 2
    assert found.noise == pytest.approx(sound.noise, rel=0.05)
    error, least = (np.linalg.norm(each.matrix - gram) for each in (found, sound))
    assert error < 1.2 * least


@pytest.mark.parametrize("fill", first_quick([1e20, 1e6, -1e9, 9.96921e36]))
@pytest.mark.parametrize("sigma", first_quick([0.0, 0.1, 1e-6]))
def test_a_fill_value_is_wild_and_makes_no_fit_exact(fill, sigma):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 24))
    rows, columns = np.divmod(rng.permutation(720)[:450], 24)
    values = x[rows, columns] + sigma * rng.normal(size=450)
    sound = gpsense.recover({"row": rows, "col": columns, "value": values})
    values[[5, 77, 200]] = fill
    found = gpsense.recover({"row": rows, "col": columns, "value": values})
    np.testing.assert_array_equal(found.outliers, [5, 77, 200])
    assert (found.rank, found.chosen_by) == (2, sound.chosen_by)
    error, least = (np.abs(each.left @ each.right.T - x).max() for each in (found, sound))
    assert error < 2 * least + 1e-12


@pytest.mark.parametrize("rank", [1, 2])
def test_standard_errors_of_a_state_know_its_trace(rank):
    """The trace is certain: that of a pure state is its one eigenvalue, and the errors of two of them cancel."""
    rng = np.random.default_rng(rank)
    letters = {"I": np.eye(2), "X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]]}
    words = ["".join(each) for each in itertools.product("IXYZ", repeat=3)]
    paulis = [reduce(np.kron, [np.array(letters[each]) for each in word]) for word in words]
    inside, shares = [], []
    for _ in range(40):
        u = (rng.normal(size=(8, rank)) + 1j * rng.normal(size=(8, rank))) * [1.0, 0.6][:rank]
        rho = u @ u.conj().T / np.sum(np.abs(u) ** 2)
        chosen = rng.choice(64, 50, replace=False)
        values = [np.trace(paulis[each] @ rho).real + 0.01 * rng.normal() for each in chosen]
        given = {"pauli": [words[each] for each in chosen], "value": values}
        found = gpsense.recover(given, trace=1.0, rank=rank)
        rows, columns = np.triu_indices(8)
        errors = found.standard_errors(rows, columns)
        inside.append(np.abs((found.entries(rows, columns) - rho[rows, columns]).real) < 1.96 * errors)
        if rank == 1:
            assert found.size_errors[0] < 1e-9
        else:
            assert found.size_errors[0] == pytest.approx(found.size_errors[1])
            truth = np.linalg.eigvalsh(rho)[::-1][:2]
            shares.append(np.abs(found.sizes - truth)[0] < 1.96 * found.size_errors[0])
    assert 0.9 < np.mean(inside) < 0.98
    assert rank == 1 or np.mean(shares) > 0.85


def test_a_place_all_of_whose_distances_are_wild_is_in_none_that_was_kept():
    given, _ = _places(101, lambda d: 5.0)
    wild = (given["i"] == 7) | (given["j"] == 7)
    found = gpsense.recover(given | {"distance": np.where(wild, 1e3, 1.0) * given["distance"]})
    np.testing.assert_array_equal(found.outliers, np.flatnonzero(wild))
    assert "row 7 is in no measurement that was kept" in found.undetermined
    assert "only 75 of 77 unknowns are determined" in found.undetermined


@pytest.mark.parametrize(
    ("power", "name", "better"),
    first_quick(
        [
            (2, "distance", "squares of distances; if they are, name them distance2"),
            (1, "distance2", "plain distances; if they are, name them distance"),
            (1, "distance", None),
            (2, "distance2", None),
        ]
    ),
)
def test_distances_under_the_name_of_their_squares_are_told_and_the_other_way_round(power, name, better):
    given, _ = _places(101, lambda d: 2.0)
    found = gpsense.recover({"i": given["i"], "j": given["j"], name: given["distance"] ** power})
    told = [each for each in found.notices if "explains the values better" in each]
    assert told == ([f"rank 2 explains the values better as {better}"] if better else [])


@pytest.mark.parametrize("kind", ["rank_one", pytest.param("table", marks=pytest.mark.slow)])
def test_standard_errors_allow_for_noise_that_grows_with_the_values_and_say_so(kind):
    told, inside = [], {True: [], False: []}
    for seed, grows in itertools.product(range(4), (True, False)):
        rng = np.random.default_rng(seed)
        u, v = rng.standard_normal((12, 1)), rng.standard_normal((14, 1))
        if kind == "rank_one":
            truth, x = u @ u.T, rng.standard_normal((250, 12))
            clean, data = np.einsum("ni,ij,nj->n", x, truth, x), {"x": x}
        else:
            truth, (i, j) = u @ v.T, np.nonzero(rng.random((12, 14)) < 0.9)
            clean, data = truth[i, j], {"row": i, "col": j, "shape": np.array([12, 14])}
        y = clean + (0.1 * np.abs(clean) if grows else 0.05) * rng.standard_normal(clean.size)
        found = gpsense.recover(data | {"value": y}, robust=False)
        told.append(grows == any("grow" in words for words in found.notices))
        places = np.array(list(itertools.product(range(truth.shape[0]), range(truth.shape[1])))).T
        errors = found.entries(*places) - truth[tuple(places)]
        inside[grows].append(np.abs(errors) < 1.96 * found.standard_errors(*places))
    assert np.mean(told) > 0.8
    assert np.mean(inside[True]) > 0.85
    assert np.mean(inside[False]) > 0.85


def test_how_rows_and_cols_are_read_is_said():
    i, j = np.triu_indices(6)
    said = gpsense.recover({"rows": i, "cols": j, "value": np.ones(21)}).notices
    assert any("one symmetric matrix" in words for words in said)
