"""Measurements as people bring them: taken right, or refused in one line that names the array."""

import numpy as np
import pytest
import scipy.sparse as sp

import gpsense
from gpsense.errors import BadInput
from gpsense.recovery import maps
from gpsense.recovery.forms import read_fields

RNG = np.random.default_rng(0)
U, V = RNG.standard_normal((14, 2)), RNG.standard_normal((11, 2))
ROWS, COLUMNS = np.nonzero(RNG.random((14, 11)) < 0.8)
VALUES = (U[ROWS] * V[COLUMNS]).sum(1)
X = RNG.standard_normal((80, 6))
Y = ((X @ U[:6]) ** 2).sum(1)
Z = X + 1j * RNG.standard_normal(X.shape)


def test_a_table_by_numbers_by_words_and_by_whole_floats():
    numbers = read_fields({"row": ROWS, "col": COLUMNS, "value": VALUES})
    words = read_fields(
        {"row": np.array([f"user{i:02}" for i in ROWS]), "col": np.array([f"film{j:02}" for j in COLUMNS]), "y": VALUES}
    )
    floats = read_fields({"row": ROWS.astype(float), "col": COLUMNS.astype(float), "y": VALUES})
    for read in (numbers, words, floats):
        assert read.kind == "table"
        assert read.map.sides == (14, 11)
        np.testing.assert_array_equal(read.map.rows(), numbers.map.rows())
    assert words.labels[0][3] == "user03"


def test_gaps_in_the_numbering_are_labels_unless_the_shape_is_given():
    fields = {"row": ROWS * 10, "col": COLUMNS, "y": VALUES}
    assert read_fields(fields).map.sides == (14, 11)
    assert read_fields({**fields, "shape": np.array([140, 12])}).map.sides == (140, 12)
    with pytest.raises(BadInput, match="row: index 130 for a side of 20; count from 0 to 19"):
        read_fields({**fields, "shape": np.array([20, 12])})


def test_frames_of_a_library():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"row": ROWS, "col": COLUMNS, "value": VALUES})
    found = gpsense.recover(table, offsets=False)
    assert found.rank == 2
    np.testing.assert_allclose(found.matrix, U @ V.T, atol=1e-8)
    twice = pd.DataFrame([[1, 2, 3.0]], columns=["row", "row", "value"])
    with pytest.raises(BadInput, match="columns: two have the same name"):
        read_fields(twice)
    assert read_fields(table.assign(site="here")).map.n == ROWS.size
    pairs = pd.DataFrame({"i": [0, 1, 2, 0, 1], "j": [1, 2, 3, 2, 3], "distance2": [1.0, 2, 3, 4, 5]})
    assert isinstance(read_fields(pairs).map, maps.Distances)
    nullable = table.astype({"value": "Float64"})
    assert read_fields(nullable).values.dtype == float
    nullable.loc[3, "value"] = pd.NA
    with pytest.raises(BadInput, match=r"value: 1 of \d+ rows have no value, the first row 3 \(from 0\); remove"):
        read_fields(nullable)
    with pytest.raises(BadInput, match="columns: they are a, b; name them"):
        read_fields(pd.DataFrame({"a": [1.0], "b": [2.0]}))


def test_shapes_of_loadmat_and_objects_that_are_numbers():
    read = read_fields({"y": Y[None], "x": X, "kind": np.array(["rank_one"])})
    assert read.values.shape == (80,)
    assert read_fields({"y": Y.astype(object), "x": X.astype(object)}).map.n == 80
    assert read_fields({"y": (Y > 1), "x": X}).values.dtype == float
    one = np.array([[20]])
    pairs = {"i": np.arange(5), "j": np.arange(5) + 1, "y": np.ones(5), "kind": np.array("distances")}
    assert read_fields({**pairs, "dim": one}).map.sides == (20, 20)
    assert read_fields({**pairs, "i": np.arange(5.0)}).map.sides == (6, 6)


def test_rectangular_and_complex_matrices():
    assert not read_fields({"A": RNG.standard_normal((9, 4, 3)), "y": np.ones(9)}).map.semidefinite
    read = read_fields({"x": Z, "y": Y})
    assert read.map.complex
    skew = RNG.standard_normal((9, 4, 4)) + 1j
    assert "not symmetric" in read_fields({"A": skew, "y": np.ones(9)}).notices[0]


REFUSED = {
    "no values": ({"x": X}, "y: missing; the names given are x; add the values y"),
    "masked": ({"x": X, "y": np.ma.masked_less(Y, np.median(Y))}, "y: 40 numbers are masked; remove those"),
    "sparse": ({"A": sp.eye(5), "y": Y}, "A: a sparse matrix; give its entries as row, col and value"),
    "objects": (
        {"x": np.array([object()] * 80), "y": Y},
        r"x: row 0 \(from 0\) holds <object .*>, not a number; give a number there",
    ),
    "NaN": (
        {"x": np.where(X > 2, np.nan, X), "y": Y},
        r"x: NaN or infinity in 10 of 80 measurements, the first number 1 \(from 0\); remove them",
    ),
    "complex values": ({"x": X, "y": Y * 1j}, "y: holds complex numbers; give real ones"),
    "words for numbers": ({"x": X, "y": np.array(["1"] * 7 + ["a"] * 73)}, r"y: row 7 \(from 0\) holds 'a', not a num"),
    "empty": ({"x": X[:0], "y": Y[:0]}, r"y: shape \(0,\); give a vector of at least 5 values"),
    "empty map": ({"x": X[:0], "y": Y}, r"x: (shape \(0, 6\) for 80 values|is all zero)"),
    "one NaN": ({"x": X, "y": np.nan}, r"y: NaN or infinity in 1 of 1 measurements"),
    "few": ({"x": X[:3], "y": Y[:3]}, r"y: shape \(3,\); give a vector of at least 5 values"),
    "zero": ({"x": X, "y": 0 * Y}, "y: is all zero"),
    "zero map": ({"x": 0 * X, "y": Y}, "x: is all zero; give what was measured with"),
    "lengths": ({"x": X[:9], "y": Y}, r"x: shape \(9, 6\) for 80 values"),
    "two forms": ({"x": X, "A": X, "y": Y}, "A: dense and rank_one at once; give one of A, x"),
    "huge": ({"rows": ROWS.astype(np.uint64) + 2**63, "cols": COLUMNS, "y": VALUES}, "rows: index 92.* makes matrices"),
    "unsaid": ({"i": ROWS, "j": COLUMNS, "y": VALUES}, "kind: i and j alone do not say"),
    "no kind": ({"i": ROWS, "kind": np.array([]), "y": VALUES}, "kind: is empty; use one of"),
    "unknown kind": ({"i": ROWS, "kind": np.array("lengths"), "y": VALUES}, "kind: 'lengths' is unknown; use one of"),
    "same point": (
        {"i": np.arange(5), "j": np.zeros(5, int), "y": np.ones(5), "kind": np.array("distances")},
        "i: 1 pairs",
    ),
    "negative": ({"rows": ROWS - 1, "cols": COLUMNS, "y": VALUES}, "rows: holds negative indices; count from 0"),
    "fractions": (
        {"rows": ROWS + 0.5, "cols": COLUMNS, "y": VALUES},
        "rows: holds 0.5, not a whole number; give the numbers of rows",
    ),
    "beyond dim": ({"rows": ROWS, "cols": COLUMNS, "y": VALUES, "dim": np.array(4)}, "rows: index 13 is beyond dim 4"),
    "dim": ({"rows": ROWS, "cols": COLUMNS, "y": VALUES, "dim": np.array(20.5)}, "dim: 20.5 is not a whole number"),
    "letters": ({"pauli": ["XQ"] * 5, "y": np.ones(5)}, "pauli: 'XQ' is not a Pauli word; write one of I, X, Y, Z"),
    "word lengths": ({"pauli": ["X"] * 4 + ["XX"], "y": np.ones(5)}, "pauli: words of 1 to 2 letters"),
    "sizes": ({"x": X * 1e80, "y": Y}, "x: numbers of the size of"),
}


@pytest.mark.parametrize(("fields", "line"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(fields, line):
    with pytest.raises(BadInput, match=line) as refused:
        read_fields(fields)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("dim", [5.7, np.inf, np.nan, "5", [2, 3]])
def test_sides_that_are_no_whole_number_are_refused(dim):
    with pytest.raises(BadInput, match=r"^dim: .* is not a whole number"):
        read_fields({"rows": ROWS, "cols": COLUMNS, "y": VALUES, "dim": np.asarray(dim)})


def test_what_is_not_read_is_said():
    assert read_fields({"x": X, "y": Y, "when": np.arange(80)}).notices == [
        "when: ignored, since rank_one measurements consist of y, x"
    ]
