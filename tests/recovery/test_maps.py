"""Maps of a matrix: values, Jacobians and adjoints against the A_i written out, one by one."""

import numpy as np
import pytest

from gpsense.recovery import maps

RNG = np.random.default_rng(0)
LETTERS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1.0, -1.0]),
}


def _symmetric(n, d):
    a = RNG.standard_normal((n, d, d))
    return (a + a.transpose(0, 2, 1)) / 2


def _hermitian(n, d):
    a = RNG.standard_normal((n, d, d)) + 1j * RNG.standard_normal((n, d, d))
    return (a + a.conj().transpose(0, 2, 1)) / 2


def _unit(d, *places):
    vector = np.zeros(d)
    for place, sign in places:
        vector[place] += sign
    return vector


def _word(word):
    product = np.eye(1)
    for letter in word:
        product = np.kron(product, LETTERS[letter])
    return product


def _table(rows, columns, shape):
    found = np.zeros((len(rows), *shape))
    found[range(len(rows)), rows, columns] = 1
    return found


def _without_offsets(rows, columns, shape):
    """The projection that takes off what offsets of rows and columns add, with these written out."""
    added = np.zeros((len(rows), sum(shape)))
    added[range(len(rows)), rows] = 1
    added[range(len(rows)), shape[0] + columns] = 1
    return np.eye(len(rows)) - added @ np.linalg.pinv(added)


FULL = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3]), np.array([0, 1, 2, 0, 2, 0, 1, 2, 1])
ROWS, COLUMNS = np.array([0, 1, 4, 2, 2]), np.array([3, 1, 0, 4, 1])
SYMMETRIC, RECTANGULAR, COMPLEX = _symmetric(5, 5), RNG.standard_normal((5, 5, 3)), _hermitian(5, 5)
X, Z = RNG.standard_normal((5, 5)), RNG.standard_normal((5, 5)) + 1j * RNG.standard_normal((5, 5))
WORDS = ["III", "XYZ", "YYX", "ZIZ", "IYI"]
PAIRS = [np.outer(v, v) for v in (_unit(5, (i, 1), (j, -1)) for i, j in zip(ROWS, COLUMNS, strict=True))]
ENTRIES = [
    (np.outer(_unit(5, (i, 1)), _unit(5, (j, 1))) + np.outer(_unit(5, (j, 1)), _unit(5, (i, 1)))) / 2
    for i, j in zip(ROWS, COLUMNS, strict=True)
]
CASES = {
    "dense": (maps.Dense(SYMMETRIC), SYMMETRIC),
    "dense complex": (maps.Dense(COMPLEX), COMPLEX),
    "dense rectangular": (maps.Dense(RECTANGULAR, semidefinite=False), RECTANGULAR),
    "rank one": (maps.RankOne(X), [np.outer(x, x) for x in X]),
    "rank one complex": (maps.RankOne(Z), [np.outer(z, z.conj()) for z in Z]),
    "entries": (maps.Entries(ROWS, COLUMNS, 5), ENTRIES),
    "distances": (maps.Distances(ROWS[[0, 2, 3, 4]], COLUMNS[[0, 2, 3, 4]], 5), [PAIRS[i] for i in (0, 2, 3, 4)]),
    "table": (maps.Table(ROWS, COLUMNS, (6, 5)), _table(ROWS, COLUMNS, (6, 5))),
    "less offsets": (
        maps.LessOffsets(maps.Table(*FULL, (4, 3))),
        np.einsum("ij,jab->iab", _without_offsets(*FULL, (4, 3)), _table(*FULL, (4, 3))),
    ),
    "pauli": (maps.Pauli.of(WORDS), [_word(word) for word in WORDS]),
}


def _factors(map_, width=2):
    rows, columns = map_.sides
    draw = lambda side: RNG.standard_normal((side, width))  # noqa: E731
    if not map_.semidefinite:
        return draw(rows), draw(columns)
    return (draw(rows) + 1j * draw(rows) if map_.complex else draw(rows),)


def _product(factors):
    return factors[0] @ (factors[0].conj().T if len(factors) == 1 else factors[1].T)


def _inner(matrix, other):
    total = 0.0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            total += (np.conj(matrix[i, j]) * other[i, j]).real
    return total


@pytest.mark.parametrize(("map_", "matrices"), CASES.values(), ids=CASES)
def test_values_are_inner_products(map_, matrices):
    factors = _factors(map_)
    expected = [_inner(np.asarray(matrix), _product(factors)) for matrix in matrices]
    np.testing.assert_allclose(map_.predict(factors), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(maps.Map.predict(map_, factors), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("map_", "matrices"), CASES.values(), ids=CASES)
def test_adjoint_and_squares_are_sums(map_, matrices):
    values = RNG.standard_normal(map_.n)
    expected = sum(value * np.asarray(matrix) for value, matrix in zip(values, matrices, strict=True))
    found = map_.adjoint(values)
    found = found.toarray() if map_.sparse else found
    np.testing.assert_allclose(found, expected, atol=1e-12)
    several = RNG.standard_normal((3, map_.n))
    for one, back in zip(several, map_.adjoints(several), strict=True):
        alone = map_.adjoint(one)
        alone = alone.toarray() if map_.sparse else alone
        np.testing.assert_allclose(back, alone, atol=1e-12)
    np.testing.assert_allclose(
        map_.squares(), [_inner(np.asarray(a), np.asarray(a)) for a in matrices], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("map_", [map_ for map_, _ in CASES.values()], ids=CASES)
def test_jacobian_is_the_derivative(map_):
    factors = _factors(map_)
    jacobian = map_.jacobian(factors)
    jacobian = jacobian.toarray() if map_.sparse else jacobian
    direction = RNG.standard_normal(jacobian.shape[1])
    step = maps.unflattened(direction, factors)
    np.testing.assert_array_equal(maps.numbers(step), direction)
    ahead, behind = (
        map_.predict(tuple(one + sign * 1e-6 * by for one, by in zip(factors, step, strict=True))) for sign in (1, -1)
    )
    np.testing.assert_allclose(jacobian @ direction, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("map_", [map_ for map_, _ in CASES.values()], ids=CASES)
def test_the_unknowns_are_the_rank_of_the_jacobian_of_many_measurements(map_):
    rows, columns = map_.sides
    many = {
        maps.Dense: lambda: maps.Dense(
            _hermitian(300, rows)
            if map_.complex
            else RNG.standard_normal((300, rows, columns))
            if not map_.semidefinite
            else _symmetric(300, rows),
            map_.semidefinite,
        ),
        maps.RankOne: lambda: maps.RankOne(
            RNG.standard_normal((300, rows)) + (1j * RNG.standard_normal((300, rows)) if map_.complex else 0)
        ),
        maps.Entries: lambda: maps.Entries(*np.indices((5, 5)).reshape(2, -1), 5),
        maps.Distances: lambda: maps.Distances(*np.triu_indices(5, 1), 5),
        maps.Table: lambda: maps.Table(*np.indices((6, 5)).reshape(2, -1), (6, 5)),
        maps.LessOffsets: lambda: maps.LessOffsets(maps.Table(*np.indices((4, 3)).reshape(2, -1), (4, 3))),
        maps.Pauli: lambda: maps.Pauli(*np.indices((8, 8)).reshape(2, -1), 3),
    }[type(map_)]()
    jacobian = many.jacobian(_factors(map_))
    jacobian = jacobian.toarray() if many.sparse else jacobian
    assert np.linalg.matrix_rank(jacobian) == map_.unknowns(2) - map_.unknowns(0)


PARTS = {name: case for name, case in CASES.items() if name != "less offsets"}


def test_a_part_less_offsets_is_less_those_of_the_part():
    map_, values = CASES["less offsets"][0], RNG.standard_normal(9)
    index = np.array([0, 1, 3, 4, 6])
    part, factors = map_.take(index), _factors(map_)
    projection = _without_offsets(*(each[index] for each in FULL), (4, 3))
    np.testing.assert_allclose(part.predict(factors), projection @ map_.table.predict(factors)[index], atol=1e-12)
    np.testing.assert_allclose(part.visible(map_.visible(values)[index]), part.visible(values[index]), atol=1e-12)
    rows, columns = map_.offsets(values)
    np.testing.assert_allclose(values - map_.visible(values), rows[FULL[0]] + columns[FULL[1]], atol=1e-12)


@pytest.mark.parametrize(("map_", "matrices"), PARTS.values(), ids=PARTS)
def test_a_part_is_those_measurements_and_what_is_seen_is_what_is_not_zero(map_, matrices):
    factors, index = _factors(map_), np.array([2, 0])
    used = [np.asarray(matrix) for matrix in matrices]
    np.testing.assert_allclose(map_.take(index).predict(factors), map_.predict(factors)[index])
    expected = np.any([matrix != 0 for matrix in used], axis=0)
    off = ~np.eye(5, dtype=bool) if isinstance(map_, maps.Distances) else np.ones(expected.shape, bool)  # pairs alone
    np.testing.assert_array_equal(map_.seen().toarray() & off, expected & off)


@pytest.mark.parametrize(("map_", "matrices"), CASES.values(), ids=CASES)
def test_a_part_without_measurements_is_a_map_too(map_, matrices):
    """As a held-out part of few measurements may be."""
    factors, none = _factors(map_), map_.take(np.zeros(0, int))
    assert none.predict(factors).shape == none.squares().shape == (0,)
    assert none.jacobian(factors).shape == (0, map_.jacobian(factors).shape[1])
    assert len(none.rows()) == 0
    adjoint = none.adjoint(np.zeros(0))
    assert not np.any(adjoint.toarray() if hasattr(adjoint, "toarray") else adjoint)


def test_a_gradient_of_seven_qubits_takes_no_matrix():
    words = RNG.integers(0, 128, (2, 3000))
    map_ = maps.Pauli(*words, 7)
    factor = RNG.standard_normal((128, 1)) + 1j * RNG.standard_normal((128, 1))
    values = map_.predict((factor,))
    back = map_.adjoint(values)
    np.testing.assert_allclose(np.vdot(factor, back @ factor).real, values @ values, rtol=1e-10)


def test_a_word_of_another_length_is_refused():
    with pytest.raises(ValueError, match="different lengths"):
        maps.Pauli.of(["XI", "X"])


@pytest.mark.parametrize("few", [0, 10**6])
def test_runs_are_the_array_that_they_stand_for(few, monkeypatch):
    """By NumPy and by SciPy; a place may stand twice in a row, as on the diagonal of a symmetric matrix."""
    monkeypatch.setattr(maps, "FEW", few)
    at = maps.Places(np.array([[0, 2], [1, 1], [2, 0]]), 2, 8)
    runs, dense = maps.Runs(RNG.standard_normal((3, 4)), at), np.zeros((3, 8))
    for row in range(3):
        for number, place in zip(runs.data[row], runs.places[row], strict=True):
            dense[row, place] += number
    change, values, root = RNG.standard_normal(8), RNG.standard_normal(3), RNG.uniform(0.5, 2.0, (3, 1))
    np.testing.assert_allclose(runs.toarray(), dense)
    np.testing.assert_allclose(runs @ change, dense @ change, atol=1e-14)
    np.testing.assert_allclose(runs.back(values), dense.T @ values, atol=1e-14)
    ones = np.eye(4)[[0, 1, 2]] + np.eye(4)[[2, 1, 0]]  # how often a measurement has each row of the factors
    np.testing.assert_allclose(runs.sums(), ones.T @ dense, atol=1e-14)
    normal = dense.T @ dense
    np.testing.assert_allclose(runs.gram(), normal, atol=1e-14)
    np.testing.assert_allclose(runs.blocks(), [normal[i : i + 2, i : i + 2] for i in range(0, 8, 2)], atol=1e-14)
    np.testing.assert_allclose(runs.times(root).toarray(), root * dense)
