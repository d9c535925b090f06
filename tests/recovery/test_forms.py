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
    with pytest.raises(BadInput, match="columns: two are called 'row'"):
        read_fields(twice)
    found = gpsense.recover(table.assign(site="here"), offsets=False)
    assert "site: ignored, since table measurements consist of value, row, col" in repr(found)
    pairs = pd.DataFrame({"i": [0, 1, 2, 0, 1], "j": [1, 2, 3, 2, 3], "distance2": [1.0, 2, 3, 4, 5]})
    assert isinstance(read_fields(pairs).map, maps.Distances)
    nullable = table.astype({"value": "Float64"})
    assert read_fields(nullable).values.dtype == float
    nullable.loc[3, "value"] = pd.NA
    with pytest.raises(BadInput, match=r"value: 1 of \d+ rows have no value, the first is row 3 \(from 0\); remove"):
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
    "no values": ({"x": X}, r"y: missing; the names given are x; add the values \(n,\), named y$"),
    "masked": ({"x": X, "y": np.ma.masked_less(Y, np.median(Y))}, "y: 40 numbers are masked; remove those"),
    "sparse": ({"A": sp.eye(5), "y": Y}, "A: it is a sparse matrix; give its entries as row, col and value"),
    "objects": (
        {"x": np.array([object()] * 80), "y": Y},
        r"x: row 0 \(from 0\) holds <object .*>, not a number; give a number there",
    ),
    "NaN": (
        {"x": np.where(X > 2, np.nan, X), "y": Y},
        r"x: NaN or infinity in 10 of 80 measurements, the first at index 1; remove them",
    ),
    "complex values": ({"x": X, "y": Y * 1j}, "y: holds complex numbers; give real ones"),
    "words for numbers": ({"x": X, "y": np.array(["1"] * 7 + ["a"] * 73)}, r"y: row 7 \(from 0\) holds 'a', not a num"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "y: it holds no measurements; give at least 5"),
    "empty map": ({"x": X[:0], "y": Y}, "x: 0 vectors for 80 values"),
    "one NaN": ({"x": X, "y": np.nan}, r"y: NaN or infinity in 1 of 1 measurements"),
    "large negative": (
        {"x": X, "y": np.r_[-(2**60), np.full(79, 3)]},
        r"y: integers of magnitude up to 1.15e\+18 are too large \(2\^53 at most\); use a larger unit",
    ),
    "few": ({"x": X[:3], "y": Y[:3]}, "y: only 3 measurements; give at least 5"),
    "few bad words": (
        {"pauli": ["XQ", "YZ"], "y": np.ones(2)},
        r"pauli: row 0 \(from 0\) holds 'XQ', which is not a Pauli w",
    ),
    "few, all zero": ({"pauli": ["XI", "YZ"], "y": np.zeros(2)}, "y: only 2 measurements; give at least 5"),
    "few negative": (
        {"i": [0, 1], "j": [1, 2], "distance2": [1.0, -3.0]},
        r"distance2: squared distances cannot be negative, but the one at index 1 \(from 0\) is -3; check the signs",
    ),
    "negative distance": (
        {"i": np.arange(9), "j": np.arange(9) + 1, "distance": np.r_[-1.0, np.ones(8)]},
        r"distance: distances cannot be negative, but the one at index 0 \(from 0\) is -1; check the signs",
    ),
    "mostly negative": (
        {"i": np.arange(9), "j": np.arange(9) + 1, "distance2": np.r_[np.ones(4), -np.ones(5)]},
        "distance2: squared distances cannot be negative, but the one at index 4",
    ),
    "no name": (
        {"i": ["a", "b", "", "c", "d"], "j": ["b", "c", "d", "a", "b"], "distance2": np.ones(5)},
        r"i: row 2 \(from 0\) holds nothing; give a name there",
    ),
    "None for a name": (
        {"i": [None, "b", "a", "c", "d"], "j": ["b", "c", "d", "a", "b"], "distance2": np.ones(5)},
        r"i: row 0 \(from 0\) holds nothing; give a name there",
    ),
    "dim of names": (
        {"i": list("abcda"), "j": list("bcdac"), "distance2": np.ones(5), "dim": np.array(9)},
        "^dim: 9 for 4 names; leave dim out, or give numbers from 0 in place of names$",
    ),
    "index of a point": (
        {"i": [0, 1, 2, 3, 100000], "j": [1, 2, 3, 4, 0], "distance2": np.ones(5)},
        "^i: index 100000 is above 20000; number the points from 0 without gaps$",
    ),
    "index beyond integers": (
        {"i": [0, 1, 2, 3, 2**62], "j": [1, 2, 3, 4, 0], "distance2": np.ones(5), "dim": np.array(9)},
        "^i: index 4611686018427387904 is too large; number the points from 0 without gaps$",
    ),
    "no index": (
        {"i": [0, 1, 2, 3, np.nan], "j": [1, 2, 3, 4, 0], "distance2": np.ones(5)},
        "^i: holds nan, not a whole number; number the points from 0, or give names as text$",
    ),
    "side of points": (
        {"i": [0, 1, 2, 3, 20000], "j": [1, 2, 3, 4, 0], "distance2": np.ones(5)},
        "^i: the matrix would have side 20001, more than the 20000 allowed; number the points from 0 without gaps$",
    ),
    "side given": (
        {"i": [0, 1, 2, 3, 4], "j": [1, 2, 3, 4, 0], "distance2": np.ones(5), "dim": np.array(20001)},
        "^i: the matrix would have side 20001, more than the 20000 allowed; give a smaller dim$",
    ),
    "many names": (
        {"i": np.arange(20000).astype(str), "j": np.arange(1, 20001).astype(str), "distance2": np.ones(20000)},
        "^i: the matrix would have side 20001, more than the 20000 allowed; leave out some points$",
    ),
    "squares called plain": (
        {"i": np.arange(5), "j": np.arange(5) + 1, "distance2": np.ones(5), "kind": np.array("plain_distances")},
        "kind: plain_distances are not squared, but values named distance2 are",
    ),
    "zero": ({"x": X, "y": 0 * Y}, "y: is all zero"),
    "zero map": ({"x": 0 * X, "y": Y}, "x: is all zero; give the vectors of the measurements"),
    "lengths": ({"x": X[:9], "y": Y}, "x: 9 vectors for 80 values; give as many values as vectors"),
    "as many": ({"A": np.ones((40, 5, 5)), "y": Y}, "A: 40 matrices for 80 values; give as many values as matrices"),
    "two forms": ({"x": X, "A": X, "y": Y}, "A: the names are those of dense and rank_one at once; give one of A, x"),
    "huge": (
        {"rows": ROWS.astype(np.uint64) + 2**63, "cols": COLUMNS, "y": VALUES},
        "rows: index 92.* is above 20000; number the rows and columns from 0",
    ),
    "unsaid": (
        {"i": ROWS, "j": COLUMNS, "y": VALUES},
        r"kind: i and j alone do not say .*, or add the entry 'kind': 'distances' \(squared\)",
    ),
    "no kind": ({"i": ROWS, "kind": np.array([]), "y": VALUES}, "kind: there is no ''; use one of table"),
    "unknown kind": (
        {"i": ROWS, "kind": np.array("lengths"), "y": VALUES},
        "kind: there is no 'lengths'; use one of table .entries of any",
    ),
    "same point": (
        {"i": np.arange(5), "j": np.zeros(5, int), "y": np.ones(5), "kind": np.array("distances")},
        r"^i: row 0 \(from 0\) pairs 0 with itself; remove it, its distance is 0$",
    ),
    "same points": (
        {"i": list("abcdef"), "j": list("acbdcb"), "distance": np.ones(6)},
        r"^i: row 0 \(from 0\) pairs a with itself, and so does one more; remove them, their distance is 0$",
    ),
    "small letters": (
        {"pauli": ["XI", "xz", "YZ", "ZZ", "II"], "y": np.ones(5)},
        r"^pauli: row 1 \(from 0\) holds 'xz', which is not a Pauli word; write capital letters, XZ$",
    ),
    "near distances": (
        {"i": ROWS, "j": COLUMNS + 20, "distnce": VALUES},
        r"^distance: missing; .*; did you mean distance for distnce\?$",
    ),
    "near squares": (
        {"i": ROWS, "j": COLUMNS + 20, "distanc2": VALUES},
        r"^distance2: missing; .*; did you mean distance2 for distanc2\?$",
    ),
    "negative": (
        {"rows": ROWS - 1, "cols": COLUMNS, "y": VALUES},
        r"rows: row \d+ \(from 0\) holds -1; use whole numbers from 0 or 1",
    ),
    "fractions": (
        {"rows": ROWS + 0.5, "cols": COLUMNS, "y": VALUES},
        r"rows: row 0 \(from 0\) holds 0.5; use whole numbers from 0 or 1, or give names as text",
    ),
    "negative rows": ({"row": ROWS - 1, "col": COLUMNS, "y": VALUES}, r"row: row 0 \(from 0\) holds -1; use whole"),
    "fractions of rows": ({"row": ROWS, "col": COLUMNS / 2, "y": VALUES}, r"col: row \d+ \(from 0\) holds 0.5; use"),
    "rows for row": (
        {"rows": ROWS, "col": COLUMNS, "y": VALUES},
        "rows: the names are those of entries and table at once; give row and col .of a table., or rows and cols",
    ),
    "rows of no columns": (
        {"rows": ROWS, "y": VALUES},
        "cols: missing; entries measurements consist of rows, cols and y, and .* are rows, y; give row and col",
    ),
    "names of a table": (
        {"rows": [f"u{i}" for i in ROWS], "cols": [f"f{j}" for j in COLUMNS], "y": VALUES},
        "rows: no name is in both rows and cols; for a rectangular table name them row and col",
    ),
    "near names": (
        {"Row": ROWS, "column": COLUMNS, "y": VALUES},
        "measurements: .* none of which says .*; did you mean row for Row, col for column\\?$",
    ),
    "near values": (
        {"row": ROWS, "col": COLUMNS, "val": VALUES},
        r"^value: missing; the names given are row, col, val; did you mean value for val\?$",
    ),
    "near Y": ({"x": X, "Y": Y}, r"^y: missing; the names given are x, Y; did you mean y for Y\?$"),
    "near columns": (
        {"row": ROWS, "column": COLUMNS, "value": VALUES},
        r"^col: missing; table measurements consist of row, col and value, .*; did you mean col for column\?$",
    ),
    "two near": (
        {"row": ROWS, "column": COLUMNS, "vals": VALUES},
        r"^value: missing; .*; did you mean col for column, value for vals\?$",
    ),
    "names of one's own": (
        {"user": ROWS, "film": COLUMNS, "stars": VALUES},
        "^measurements: the names given are user, film, stars, none of which says .*; give the values y and one of A",
    ),
    "nothing": ({}, "^measurements: hold nothing; give the values y and one of A"),
    "names that are numbers": ({0: ROWS, 1: COLUMNS, 2: VALUES}, "^measurements: the names given are 0, 1, 2, none"),
    "near kind": (
        {"i": ROWS, "kind": "distance", "y": VALUES},
        r"kind: there is no 'distance'; did you mean distances\?",
    ),
    "text": (
        {"row": ROWS, "col": COLUMNS, "value": VALUES.astype(str)},
        r"^value: holds numbers as text, such as '.*'; convert them, value.astype\(float\)$",
    ),
    "text of a map": ({"x": X.astype(str).astype(object), "y": Y}, "^x: holds numbers as text, such as '"),
    "bytes": ({"x": X, "y": Y.astype("S")}, "^y: holds numbers as text, such as b'"),
    "dates": ({"x": X, "y": np.arange(80).astype("datetime64[D]")}, "^y: holds dates, not numbers; give numbers$"),
    "ragged": (
        {"x": [[1.0, 2.0], [3.0]] * 40, "y": Y},
        "^x: it holds lists of different lengths; give one array of nu",
    ),
    "ragged rows": ({"row": [[1], [2, 3]], "col": COLUMNS, "y": VALUES}, "^row: it holds lists of different lengths"),
    "words for a shape": (
        {"row": ROWS, "col": COLUMNS, "y": VALUES, "shape": ("a", "b")},
        "^shape: is not two whole numbers above 0; give the numbers of rows and columns$",
    ),
    "negative shape": (
        {"row": ROWS, "col": COLUMNS, "y": VALUES, "shape": (-3, 20)},
        "^shape: is not two whole numbers",
    ),
    "huge shape": (
        {"row": ROWS, "col": COLUMNS, "y": VALUES, "shape": (10**9, 10**9)},
        "^shape: a side of 1000000000; give at most 10000000, or leave shape out$",
    ),
    "a file": ("ratings.csv", "^measurements: 'ratings.csv' is the name of a file; read it first, for example with"),
    "nothing at all": (None, "^measurements: it is of type NoneType; give arrays by name, "),
    "an array": (np.ones((3, 4)), "measurements: an array alone .* pandas.DataFrame.array., kind='table'"),
    "beyond dim": ({"rows": ROWS, "cols": COLUMNS, "y": VALUES, "dim": np.array(4)}, "rows: index 13 is beyond dim 4"),
    "dim": ({"rows": ROWS, "cols": COLUMNS, "y": VALUES, "dim": np.array(20.5)}, "dim: 20.5 is not a whole number"),
    "letters": (
        {"pauli": ["XQ"] * 5, "y": np.ones(5)},
        "holds 'XQ', which is not a Pauli word; write one of I, X, Y, Z",
    ),
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


POINTS = RNG.standard_normal((9, 2))
FIRST, SECOND = np.triu_indices(9, 1)
LENGTHS = np.linalg.norm(POINTS[FIRST] - POINTS[SECOND], axis=1)
NAMES = np.array([f"p{i}" for i in (3, 1, 2, 0, 8, 7, 6, 5, 4)])


def test_pairs_by_name_and_plain_distances():
    """As their squares by number; names in alphabetical order, as those of a table."""
    place = np.argsort(np.argsort(NAMES))
    by_number = read_fields({"i": place[FIRST], "j": place[SECOND], "distance2": LENGTHS**2})
    plain = {"i": NAMES[FIRST], "j": NAMES[SECOND], "distance": LENGTHS}
    renamed = {"i": NAMES[FIRST], "j": NAMES[SECOND], "value": LENGTHS, "kind": "plain_distances"}
    for read in (read_fields(plain), read_fields(renamed)):
        assert read.kind == "distances"
        assert "squared when they were read" in read.reading
        np.testing.assert_array_equal(read.map.rows(), by_number.map.rows())
        np.testing.assert_array_equal(read.values, by_number.values)
        assert [side.tolist() for side in read.labels] == [sorted(NAMES.tolist())] * 2
    entries = read_fields({"rows": NAMES[FIRST], "cols": NAMES[SECOND], "y": LENGTHS})
    assert entries.kind == "entries"
    assert entries.labels[0].tolist() == sorted(NAMES.tolist())
    noisy = {"i": FIRST, "j": SECOND, "distance2": np.r_[LENGTHS[:-1] ** 2, -1e-3]}
    assert "distance2: 1 of 36 squared distances are negative, taken as noise" in read_fields(noisy).notices[0]


def test_what_is_found_of_points_is_told_by_name():
    found = gpsense.recover({"i": NAMES[FIRST], "j": NAMES[SECOND], "distance": LENGTHS})
    at = {name: place for place, name in enumerate(NAMES.tolist())}
    centred = POINTS - POINTS[[at[name] for name in sorted(at)]].mean(0)
    rows = ["p3", "p0", "p8"]
    expected = [centred[at[name]] @ centred[at["p2"]] for name in rows]
    assert found.rank == 2
    np.testing.assert_allclose(found.entries(rows, ["p2"] * 3), expected, atol=1e-6)
    assert "in the order of .labels" in repr(found)
    last = (NAMES[FIRST] != "p4") & (NAMES[SECOND] != "p4")
    few = last | np.isin(NAMES[FIRST], ["p3", "p1"])
    found = gpsense.recover({"i": NAMES[FIRST[few]], "j": NAMES[SECOND[few]], "distance": LENGTHS[few]})
    assert "1 point with at most 2 distances, which may be mirrored: p4" in found.undetermined


def test_a_kind_may_be_given_beside_the_arrays():
    found = gpsense.recover({"i": FIRST, "j": SECOND, "y": LENGTHS}, kind="plain_distances")
    assert (found.rank, found.chosen_by) == (2, "exact")
    for kind, line in (
        ("lengths", "kind: there is no 'lengths'; use one of table .entries of any"),
        (3, "kind: there is no 3; "),
    ):
        with pytest.raises(BadInput, match=line):
            gpsense.recover({"i": FIRST, "j": SECOND, "y": LENGTHS}, kind=kind)
    with pytest.raises(BadInput, match="kind: 'table' is given beside a map"):
        gpsense.recover(maps.Distances(FIRST, SECOND, 9), LENGTHS**2, kind="table")


def test_frames_whose_columns_do_not_fit_are_told_what_is_missing():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"row": ROWS, "col": COLUMNS, "value": VALUES})
    text = pd.DataFrame([["1", "2"], ["3", ""], ["5", "6"]], index=list("abc"), columns=["p", "q"])
    for given, line in (
        (frame.rename(columns={"value": "val"}), r"they are row, col, val; did you mean value for val\?$"),
        (frame.set_index(["row", "col"]), r"they are value; call reset_index\(\), since its index holds row, col$"),
        (frame.rename(columns={"value": "stars"}), "they are row, col, stars; name them row,col,value or"),
    ):
        with pytest.raises(BadInput, match=f"^columns: {line}"):
            read_fields(given)
    for given in (frame.astype({"value": str}), text.rename(columns={"p": "value"})):
        with pytest.raises(BadInput, match=r"^value: holds numbers as text, such as '.*'; convert them"):
            read_fields(given)
    with pytest.raises(
        BadInput, match="^kind: there is no 'ratings'; use one of table .entries of any matrix, such as"
    ):
        read_fields(pd.DataFrame(np.ones((4, 4))), "ratings")


def test_places_as_text_are_names():
    """Digits too, as in a table of entries."""
    read = read_fields({"i": FIRST.astype(str), "j": SECOND.astype(str), "distance": LENGTHS})
    assert read.labels[0].tolist() == [str(each) for each in range(9)]


def _square(squares: bool = False) -> np.ndarray:
    full = np.zeros((9, 9))
    full[FIRST, SECOND] = full[SECOND, FIRST] = LENGTHS**2 if squares else LENGTHS
    return full


def test_wide_frames():
    """Labels in the index or in the first column; their order stays; rows without a value are told by name."""
    pd = pytest.importorskip("pandas")
    table = np.full((14, 11), np.nan)
    table[ROWS, COLUMNS] = VALUES
    table[5] = np.nan
    users, films = [f"u{i}" for i in range(14)][::-1], [f"film {j}" for j in range(11)]
    frame = pd.DataFrame(table, index=users, columns=films)
    for given in (frame, frame.rename_axis("who").reset_index()):
        found = gpsense.recover(given, offsets=False)
        assert found.labels[0].tolist() == users
        assert found.labels[1].tolist() == films
        kept = np.arange(14) != 5
        np.testing.assert_allclose(found.matrix[kept], (U @ V.T)[kept], atol=1e-7)
        np.testing.assert_allclose(found.entries(["u1"], ["film 2"]), U[12] @ V[2], atol=1e-7)
        assert f"row {users[5]} is in no measurement" in found.undetermined
    numbers = pd.DataFrame(table)
    with pytest.raises(BadInput, match="columns: they are 0, 1, 2, 3"):
        read_fields(numbers)
    assert read_fields(numbers, "table").map.sides == (14, 11)
    long = pd.DataFrame({"user": ["a", "a", "b"], "film": [1, 2, 3], "stars": [4.0, 5.0, 3.0]})
    with pytest.raises(BadInput, match="columns: they are user, film, stars; name them row,col,value .*kind='table'"):
        read_fields(long)


def test_what_is_wrong_with_a_wide_table_is_told_without_its_kind():
    pd = pytest.importorskip("pandas")
    table = np.full((14, 11), np.nan)
    table[ROWS, COLUMNS] = VALUES
    frame = pd.DataFrame(table, index=[f"u{i}" for i in range(14)], columns=[f"film {j}" for j in range(11)])
    twice, missing, word = frame.copy(), frame.copy(), frame.astype(object)
    twice.index = ["u3" if name == "u7" else name for name in frame.index]
    missing.index = ["" if name == "u7" else name for name in frame.index]
    word.loc["u5", "film 3"] = "3,5"
    for given, told in (
        (twice, "row_labels: 'u3' is the label of two rows"),
        (missing, "row_labels: a row has no label"),
        (word, "film 3: holds '3,5', not a number"),
    ):
        for one in (given, given.rename_axis("who").reset_index()):
            with pytest.raises(BadInput, match=told):
                read_fields(one)
    times = {"sensor": ["a", "a", "b"], "time": [1, 2, 1], "x": [1.0, 2.0, 3.0], "y2": [0, 0, 0], "z": [1, 2, 3]}
    with pytest.raises(BadInput, match="columns: they are sensor, time, x"):
        read_fields(pd.DataFrame(times))


def test_pivots_by_numbers_are_read_with_their_labels_before_and_after_reset_index():
    """A first column that may hold values is read as such, which is told."""
    pd = pytest.importorskip("pandas")
    long = pd.DataFrame({"row": ROWS, "col": COLUMNS, "value": VALUES})
    for rows in (("row", long), ("user", long.rename(columns={"row": "user"})), ("user", long.assign(user=7 * ROWS))):
        wide = rows[1].pivot(index=rows[0], columns="col", values="value")
        for frame in (wide, wide.reset_index()):
            with pytest.raises(BadInput, match="kind='table'") as refused:
                read_fields(frame)
            assert "reset_index" not in str(refused.value)
            read = read_fields(frame, "table")
            assert read.map.sides == (14, 11)
            np.testing.assert_array_equal(read.values, read_fields(long).values)
            np.testing.assert_array_equal(read.labels[0], wide.index)
        assert f"labels of rows are {rows[0]}" in read_fields(wide.reset_index(), "table").reading
    years = pd.DataFrame({"year": [1990, 1992, 1991], "a": [1.0, 2, 4], "b": [1.0, 3, 2]})
    read = read_fields(years, "table")
    assert read.map.sides == (3, 3)
    assert "year is read as values: if it holds labels, call set_index('year')" in read.reading
    assert "set_index" not in read_fields(years.set_index("year"), "table").reading


def test_pairs_that_seem_numbered_from_one_are_told():
    pairs = {"i": FIRST + 1, "j": SECOND + 1, "distance": LENGTHS}
    assert [each.split(";")[1] for each in read_fields(pairs).notices] == [" if they are numbered from 1, subtract 1"]
    for other in (pairs | {"i": FIRST, "j": SECOND}, pairs | {"dim": 10}, pairs | {"i": FIRST + 2, "j": SECOND + 2}):
        assert read_fields(other).notices == []


def test_wide_frames_of_pairs():
    pd = pytest.importorskip("pandas")
    for kind, squares in (("distances", True), ("plain_distances", False)):
        frame = pd.DataFrame(_square(squares), index=NAMES, columns=NAMES).iloc[:, ::-1]
        read = read_fields(frame, kind)
        assert read.labels[0].tolist() == NAMES.tolist()
        np.testing.assert_allclose(read.values, LENGTHS**2)
        np.testing.assert_array_equal(read.map.rows(), maps.Distances(FIRST, SECOND, 9).rows())
    frame = pd.DataFrame(_square(), index=NAMES, columns=NAMES)
    assert read_fields(frame, "entries").values.size == 45
    with pytest.raises(
        BadInput, match="kind: a symmetric table with zeros on its diagonal could be distances or a matrix; give"
    ):
        read_fields(frame)
    with pytest.raises(
        BadInput, match="kind: distances need the same labels on rows and columns, but 'p3' labels only"
    ):
        read_fields(frame.iloc[1:], "distances")
    with pytest.raises(BadInput, match="kind: distances need zeros on the diagonal, but 'p3' has another number there"):
        read_fields(frame + 1, "distances")
