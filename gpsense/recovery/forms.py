"""Reads and checks a user's measurements, which are arrays by name or columns of a table; errors name the array."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp

from gpsense.errors import BadInput, nearest, shown
from gpsense.recovery import maps
from gpsense.recovery.wide import NOTHING, Wide, read_wide

FORMS = {
    "dense": ("A",),
    "rank_one": ("x",),
    "entries": ("rows", "cols"),
    "distances": ("i", "j"),
    "table": ("row", "col"),
    "pauli": ("pauli",),
}
WANTED = "one of A, x, rows and cols, row and col, pauli, or i and j with distance2 or distance"
VALUES = ("y", "value", "distance2", "distance")
TABLES = {
    ("row", "col", "value"): "table",
    ("i", "j", "distance2"): "distances",
    ("i", "j", "distance"): "distances",
    ("pauli", "value"): "pauli",
}
PLAIN = "plain_distances"  # the kind of distances that are squared when they are read
KINDS = {
    "table": "entries of any matrix, such as ratings",
    "entries": "entries of a symmetric matrix",
    "distances": "squared distances",
    PLAIN: "distances, not squared",
    "pauli": "",
    "dense": "matrices A",
    "rank_one": "vectors x",
}
NAMED = {"table": ("row_labels", "column_labels"), "distances": ("labels",), "entries": ("labels",)}
SIDES = {"table": ("shape",), "distances": ("dim",), "entries": ("dim",)}
INDEXED = "row and col (of a table), or rows and cols (of a symmetric matrix)"
READINGS = {
    "entries": "rows and cols are read as places in one symmetric matrix (name them row and col for a table)",
    "plain": "distances, squared when they were read; noise and residual are in units of distance",
}
PLACES = ("rows", "cols", "i", "j")  # of rows, columns or points: numbers or names
WORDS = {"pauli", "row", "col", "kind", "labels", "row_labels", "column_labels"}
KNOWN = {"kind", "dim", "shape", *VALUES, *WORDS, *(name for names in FORMS.values() for name in names)}
HEADERS = tuple(dict.fromkeys(name for header in TABLES for name in header))
MEANT = (*HEADERS, *sorted(KNOWN - set(HEADERS)))  # in the order in which they are suggested
FEW = 5  # fewest measurements
LONGEST = 60  # characters of names shown in a message
LABELLED = "distinct row labels in its index or its first column"
LARGEST = 20000  # rows of a square matrix given by indices
CONTENTS = {"U": "text", "S": "text", "O": "objects", "M": "dates", "m": "durations"}  # of arrays, by NumPy's kinds
MOST_ROWS = 10**7  # of a table, and most columns
LIMIT = 1e70  # largest number, whose fourth power does not overflow; its inverse is the smallest


@dataclass
class Measured:
    """Checked measurements: kind, map, values (n,), labels of rows and columns (None if they had none), and notices.

    ``reading`` says how they were read, where that is not obvious; ``ignored`` are the names of arrays that were not
    read, ``known`` all names that this kind can have. ``squared``: the values are squares of the distances given.
    """

    kind: str
    map: maps.Map
    values: np.ndarray
    labels: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    notices: list[str] = field(default_factory=list)
    reading: str = ""
    ignored: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    squared: bool = False


def read_fields(fields: Any, kind: str | None = None) -> Measured:
    """The measurements in a mapping of arrays or a table with named columns; BadInput if they cannot be used.

    ``kind``, or else an entry of that name, says what was measured. A wide table, with row labels in its index or its
    first column, is read by :mod:`gpsense.recovery.wide`.
    """
    frame = hasattr(fields, "columns")
    if not frame and not isinstance(fields, Mapping):
        raise _unnamed(fields)
    keys = list(fields.columns if frame else fields)  # pyright: ignore[reportAttributeAccessIssue]
    names = list(map(str, keys))
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise BadInput("columns", f"two are called {shown(twice[0])}", "rename one of them")
    found = next((kind for header, kind in TABLES.items() if set(header) <= set(names)), None)
    if kind is not None and not (isinstance(kind, str) and kind in KINDS):
        raise unknown_kind(kind)
    if frame and not is_long(names) and (wide := _wide_frame(fields, names, kind)) is not None:
        return replace(_checked({name: _plain(name, each) for name, each in wide.fields.items()}), reading=wide.words)
    if frame and found is None and kind is None and "kind" not in names and "y" not in names:
        raise _unknown_columns(names, fields)
    given = {name: fields[key] for name, key in zip(names, keys, strict=True) if fields[key] is not None}
    if frame:
        given = {name: _column(name, column) if name in KNOWN else column for name, column in given.items()}
    if kind is not None or (found and "kind" not in given):
        given["kind"] = np.array(kind or found)
    plain = {name: _plain(name, array) for name, array in given.items() if name in KNOWN}
    return _checked(plain | {name: np.zeros(0) for name in given if name not in KNOWN})


def _unknown_columns(names: list[str], frame: Any) -> BadInput:
    """The error for a table whose columns do not say what was measured."""
    index = [name for name in getattr(getattr(frame, "index", None), "names", ()) if name in HEADERS]
    meant = _meant(names, HEADERS)
    remedy = " or ".join(",".join(header) for header in TABLES)
    if any(set(header) <= {*names, *index} for header in TABLES):
        remedy = f"call reset_index(), since its index holds {', '.join(index)}"
    elif any(set(header) <= {*names, *meant} for header in TABLES):
        remedy = _asked(meant)
    else:
        wide = f"; for a wide table give kind='table' and {LABELLED}" if len(set(HEADERS) & set(names)) < 2 else ""
        remedy = f"{_asked(meant)} name them {remedy}{wide}".strip()
    return BadInput("columns", f"they are {listed(names)}", remedy)


def unknown_kind(kind: Any) -> BadInput:
    """The error for an unknown kind, which lists the known ones."""
    near = nearest(kind, KINDS) if isinstance(kind, str) else ""
    told = ", ".join(f"{name} ({what})" if what else name for name, what in KINDS.items())
    return BadInput("kind", f"there is no {shown(kind)}", f"{near} use one of {told}".strip())


def _unnamed(given: Any) -> BadInput:
    """The error for input that is neither a table nor arrays by name."""
    if isinstance(given, str | PathLike):
        remedy = "read it first, for example with pandas.read_csv, or run python -m launch.recover FILE"
        return BadInput("measurements", f"{shown(str(given))} is the name of a file", remedy)
    if sp.issparse(given):
        remedy = "give its entries as row, col and value (matrix.tocoo())"
        return BadInput("measurements", "it is a sparse matrix", remedy)
    if not hasattr(given, "dtype"):
        remedy = 'give arrays by name, {"row": ..., "col": ..., "value": ...}, a DataFrame, or a map and its values'
        return BadInput("measurements", f"it is of type {type(given).__name__}", remedy)
    remedy = "give a matrix with gaps (NaN) as pandas.DataFrame(array), kind='table', or else arrays by name"
    return BadInput("measurements", "an array alone does not say what was measured", f'{remedy}, {{"A": A, "y": y}}')


def is_long(names: Iterable[str]) -> bool:
    """Whether columns with these names hold one measurement per row: its value, and its two indices or Pauli word."""
    given = set(names)
    places = any(set(FORMS[kind]) <= given for kind in ("entries", "distances", "table", "pauli"))
    return places and bool(given & set(VALUES))


def listed(names: Iterable[str]) -> str:
    """The names, separated by commas; only the first if they are many, and how many more there are."""
    texts, first = [name or "one without a name" for name in names], []
    while len(first) < len(texts) and (not first or len(", ".join((*first, texts[len(first)]))) <= LONGEST):
        first.append(texts[len(first)])
    rest = len(texts) - len(first)
    return (", ".join(first) or "nothing") + (f", and {rest} more" if rest else "")


def _wide_frame(frame: Any, names: list[str], kind: str | None) -> Wide | None:
    """The wide table in a DataFrame with row labels in its index or its first column; None if it is not one."""
    if not hasattr(frame, "index") or "kind" in names:
        return None
    columns = [frame[each].to_numpy() for each in frame.columns]
    index = np.asarray(frame.index)
    unnamed = bool(names) and names[0].startswith("Unnamed:")
    counted = np.array_equal(index, np.arange(index.size))
    named, told = not unnamed, ""
    first = columns and (unnamed or columns[0].dtype.kind not in "iufb" or _labels_first(frame, columns[0], kind))
    if frame.index.nlevels == 1 and not (counted and first):
        named = frame.index.name is not None and index.dtype.kind in "iuf"
        if counted and not named and len(columns) > 1 and _different(columns[0]) and isinstance(frame.columns[0], str):
            told = f"; {names[0]} is read as values: if it holds labels, call set_index({names[0]!r})"
    elif columns:
        told = f"; labels of rows are {names[0]}" if columns[0].dtype.kind in "iu" and not unnamed else ""
        index, names, columns = columns[0], names[1:], columns[1:]
    wide = read_wide(index, names, columns, kind, named=named) if columns else None
    wide = wide and wide._replace(words=wide.words + told)
    for name, column in zip(names, columns if wide else (), strict=bool(wide)):
        if text := [each for each in column if isinstance(each, str) and each.strip().lower() not in NOTHING]:
            raise text_for_numbers(name, text[0])
    return wide


def _labels_first(frame: Any, first: np.ndarray, kind: str | None) -> bool:
    """Whether whole numbers in the first column are row labels, as in a pivot table; False without a ``kind``.

    They must be distinct. In addition they must count the rows from 0 or 1, or the column must be called row, i, rows
    or index, or the other columns must have a common name (``columns.name``) or no text among their names.
    """
    if kind is None or not _different(first) or not isinstance(name := frame.columns[0], str):
        return False
    beside = frame.columns.name is not None or not any(isinstance(each, str) for each in frame.columns[1:])
    counted = any(np.array_equal(np.sort(first), np.arange(first.size) + start) for start in (0, 1))
    return counted or beside or name in ("row", "i", "rows", "index")


def _different(labels: np.ndarray) -> bool:
    """Whether the labels are distinct whole numbers."""
    return labels.dtype.kind in "iu" and np.unique(labels).size == labels.size


def _column(name: str, column: Any) -> Any:
    """A table's column as an array, text as Python objects; BadInput if values are missing."""
    if hasattr(column, "isna") and bool((gaps := np.asarray(column.isna())).any()):
        told = f"{int(gaps.sum())} of {gaps.size} rows have no value, the first is row {int(gaps.argmax())} (from 0)"
        raise BadInput(name, told, "remove those rows")
    if column.dtype.kind in "OSUT" or str(column.dtype) in ("object", "string", "str", "category"):
        return np.asarray(column, dtype=object)
    return column.to_numpy()


def _plain(name: str, array: Any) -> np.ndarray:
    """The array as a plain NumPy array; BadInput if it is sparse, has masked numbers, or text for numbers."""
    if sp.issparse(array):
        raise BadInput(name, "it is a sparse matrix", "give its entries as row, col and value (matrix.tocoo())")
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise BadInput(name, f"{int(np.ma.count_masked(array))} numbers are masked", "remove those measurements")
        array = array.data
    array = as_array(name, array)
    if array.dtype.kind in ("O" if name in ("dim", "shape") else "OSU") and name not in WORDS:
        text = next((each for each in array.ravel() if isinstance(each, str | bytes)), None)
        if name in PLACES and array.ndim <= 2 and (text is not None or strange(array.ravel())):
            return array
        if found := strange(array.ravel()):
            problem = f"row {found[0]} (from 0) holds {shown(found[1])}, not a number"
            raise BadInput(name, problem, "give a number there, or leave that measurement out")
        if text is not None:
            raise text_for_numbers(name, text)
        try:
            array = np.stack([np.asarray(each, float) for each in array.ravel()]).reshape(*array.shape, -1)
            array = array[..., 0] if array.shape[-1] == 1 else array
        except (TypeError, ValueError):
            raise BadInput(name, "holds arrays of different shapes", "give one array of numbers") from None
    return array.astype(float) if array.dtype == bool else array


def as_array(name: str, given: Any) -> np.ndarray:
    """The input as an array; BadInput for lists of different lengths and for arrays traced by JAX."""
    try:
        return np.asarray(given)
    except ValueError:
        raise BadInput(name, "it holds lists of different lengths", "give one array of numbers") from None
    except TypeError:
        raise BadInput(name, "it is traced by JAX", "call this outside of jit, vmap and grad") from None


def real_numbers(name: str, given: Any) -> np.ndarray:
    """Finite real numbers as float64; raises BadInput, with the reason, for anything else."""
    return _numbers(name, _plain(name, given), real=True)


def text_for_numbers(name: str, text: Any) -> BadInput:
    """The error for numbers that are given as text, with ``text`` as an example."""
    return BadInput(name, f"holds numbers as text, such as {shown(text)}", f"convert them, {name}.astype(float)")


def strange(values: Iterable[Any]) -> tuple[int, Any] | None:
    """Index and content of the first value that is neither a number nor an array of numbers; None if all are."""
    for place, value in enumerate(values):
        try:
            np.asarray(value, float)
        except (TypeError, ValueError):
            return place, value
    return None


def _checked(fields: dict[str, np.ndarray]) -> Measured:
    if "kind" in fields and not fields["kind"].size:
        raise unknown_kind("")
    said = str(fields["kind"].reshape(-1)[0]) if "kind" in fields else ""
    by_name = VALUES[::-1] if said in ("distances", PLAIN) else VALUES
    name = next((each for each in by_name if each in fields), None)
    if name is None:
        raise _without_values(fields)
    plain = said == PLAIN or (name == "distance" and said == "distances")
    if plain:
        if name == "distance2":
            remedy = "use kind distances, or name the values distance"
            raise BadInput("kind", f"{PLAIN} are not squared, but values named distance2 are", remedy)
        fields = fields | {"kind": np.array("distances")}
    if said == "table":
        fields = {{"rows": "row", "cols": "col"}.get(key, key): array for key, array in fields.items()}
    kind = _kind(fields, name)
    values = _flat(_numbers(name, fields[name], real=True))
    if values.ndim != 1:
        raise BadInput(name, f"shape {values.shape}", f"give a vector of at least {FEW} values")
    if not values.size:
        raise BadInput(name, "it holds no measurements", f"give at least {FEW}")
    needed = (name, *FORMS[kind])
    known = (*needed, *SIDES.get(kind, ()), *NAMED.get(kind, ()), "kind")
    ignored = tuple(other for other in fields if other not in known and not other.startswith("__"))
    notices = [f"{other}: ignored, since {kind} measurements consist of {', '.join(needed)}" for other in ignored]
    if kind == "distances":
        notices += _negative(name, values, plain)
    make = {"dense": _dense, "rank_one": _rank_one, "pauli": _pauli, "table": _table}.get(kind, _indexed)
    found = make(fields, values.size, kind)
    if values.size < fewest(found[0]):
        told = f"only {values.size} measurement{'s' * (values.size > 1)}"
        raise BadInput(name, told, f"give at least {fewest(found[0])}")
    if not values.any():
        raise BadInput(name, "is all zero", "give measurements of a matrix that is not zero")
    reading = READINGS.get("plain" if plain else kind, "")
    values = values**2 if plain else values
    return Measured(kind, found[0], values, found[1], notices + found[2], reading, ignored, known, plain)


def fewest(map_: maps.Map) -> int:
    """The fewest measurements accepted: FEW, or 4 for a single qubit, which has only four Pauli words."""
    return min(FEW, int(np.prod(map_.sides))) if isinstance(map_, maps.Pauli) else FEW


def _negative(name: str, values: np.ndarray, plain: bool) -> list[str]:
    """Notices of negative squared distances; BadInput if half of them are negative, or any plain distance is."""
    negative = values < 0
    count = int(negative.sum())
    if not count:
        return []
    told = f"the one at index {int(negative.argmax())} (from 0) is {values[negative.argmax()]:.3g}"
    if plain or values.size < FEW or 2 * count >= values.size:
        what = "distances" if plain else "squared distances"
        raise BadInput(name, f"{what} cannot be negative, but {told}", "check the signs, or leave that measurement out")
    return [f"{name}: {count} of {values.size} squared distances are negative, taken as noise; {told}"]


def _without_values(fields: Mapping[str, np.ndarray]) -> BadInput:
    """The error for arrays none of which has a name of values (y, value, distance2 or distance)."""
    if not any(set(names) & set(fields) for names in FORMS.values()):
        return _unsaid(fields)
    meant = _meant(fields)
    near = next((each for each in VALUES if each in meant), None)
    name = near or ("value" if set(HEADERS) & set(fields) else "y")
    remedy = _asked(meant) if near else f"{_asked(meant)} add the values (n,), named {name}".strip()
    return BadInput(name, f"missing; the names given are {_names(fields)}", remedy)


def _unsaid(fields: Mapping[str, np.ndarray]) -> BadInput:
    """The error for arrays whose names do not say what was measured."""
    meant = _meant(fields)
    if any({*names, value} <= {*fields, *meant} for names in FORMS.values() for value in VALUES):
        remedy = _asked(meant)
    else:
        remedy = f"{_asked(meant)} give the values y and {WANTED}".strip()
    problem = f"the names given are {_names(fields)}, none of which says what was measured"
    return BadInput("measurements", problem if set(fields) - {"kind"} else "hold nothing", remedy)


def _names(fields: Mapping[str, np.ndarray]) -> str:
    return listed(name for name in fields if name != "kind")


Made = tuple[maps.Map, tuple[np.ndarray | None, np.ndarray | None], list[str]]


def _kind(fields: Mapping[str, np.ndarray], values: str) -> str:
    """The kind of the measurements, from the arrays' names (``values``: that of the values); BadInput if unclear."""
    said = str(np.asarray(fields["kind"]).reshape(-1)[0]) if "kind" in fields else None
    if said is not None and said not in FORMS:
        raise unknown_kind(said)
    found = [kind for kind, names in FORMS.items() if any(name in fields for name in names)]
    found = [said] if said is not None else found
    meant = _meant(fields)
    if not found:
        raise _unsaid(fields)
    if len(found) > 1:
        first = next(name for name in FORMS[found[0]] if name in fields)
        indexed = set(found) == {"entries", "table"}
        problem = f"the names are those of {' and '.join(found)} at once"
        raise BadInput(first, problem, f"give {INDEXED if indexed else WANTED}")
    missing = [name for name in FORMS[found[0]] if name not in fields]
    if missing:
        needed = f"{', '.join(FORMS[found[0]])} and {values}"
        problem = f"missing; {found[0]} measurements consist of {needed}, and the names given are {_names(fields)}"
        add = INDEXED if found[0] == "entries" else missing[0]
        raise BadInput(
            missing[0], problem, _asked(meant) if missing[0] in meant else f"{_asked(meant)} give {add}".strip()
        )
    if found[0] == "distances" and said is None:
        remedy = (
            "name the values distance (plain) or distance2 (squared), or add the entry 'kind': 'distances' (squared)"
        )
        raise BadInput("kind", "i and j alone do not say what was measured", remedy)
    return found[0]


def _meant(given: Iterable[str], wanted: Iterable[str] = MEANT) -> dict[str, str]:
    """The wanted names that are missing, each with a similar name that was given; the most similar are paired first."""
    names, found = set(given), {}
    left = {name.lower(): name for name in names if name not in wanted}
    near = {want: want.lower() for want in wanted if want not in names}
    pairs = [
        (difflib.SequenceMatcher(None, like, text).ratio(), want, left[like])
        for want, text in near.items()
        for like in difflib.get_close_matches(text, left, len(near), 0.6 if len(want) > 1 else 1.0)
    ]
    for _, want, name in sorted(pairs, key=lambda pair: -pair[0]):
        if want not in found and name not in found.values():
            found[want] = name
    return {want: found[want] for want in near if want in found}


def _asked(meant: Mapping[str, str]) -> str:
    """A question such as ``did you mean row for Row?``, for all pairs in ``meant``; empty if there are none."""
    return f"did you mean {', '.join(f'{want} for {name}' for want, name in meant.items())}?" if meant else ""


def _numbers(name: str, array: np.ndarray, real: bool = False) -> np.ndarray:
    """Finite numbers as float64 (complex128 where allowed); raises BadInput, with the reason, for anything else."""
    if np.iscomplexobj(array) and real:
        raise BadInput(name, "holds complex numbers", "give real ones")
    if array.dtype.kind not in "fiuc":
        raise BadInput(name, f"holds {CONTENTS.get(array.dtype.kind, array.dtype)}, not numbers", "give numbers")
    largest = max(abs(int(array.max())), abs(int(array.min()))) if array.dtype.kind in "iu" and array.size else 0
    if largest > 2**53:
        problem = f"integers of magnitude up to {largest:.3g} are too large (2^53 at most)"
        raise BadInput(name, problem, "use a larger unit")
    if not (finite := np.isfinite(array).all(axis=tuple(range(1, array.ndim)))).all():
        told = f"{int((~finite).sum())} of {finite.size} measurements, the first at index {int(finite.argmin())}"
        raise BadInput(name, f"NaN or infinity in {told}", "remove them")
    size = float(np.abs(array).max(initial=0.0))
    if size > LIMIT or 0 < size < 1 / LIMIT:
        raise BadInput(name, f"numbers of the size of {size:.1g} would overflow or underflow", "use another unit")
    return np.ascontiguousarray(array, complex if np.iscomplexobj(array) else float)


def _flat(array: np.ndarray) -> np.ndarray:
    """The array, flattened if it is a single row or column, as loadmat returns vectors."""
    return array.reshape(-1) if array.ndim == 2 and 1 in array.shape else array


def _dense(fields: Mapping[str, np.ndarray], n: int, kind: str) -> Made:
    matrices = _numbers("A", fields["A"])
    if matrices.ndim != 3:
        raise BadInput("A", f"shape {matrices.shape} for {n} values", "give (n, d, d) or (n, rows, columns)")
    if matrices.shape[0] != n:
        raise BadInput("A", f"{matrices.shape[0]} matrices for {n} values", "give as many values as matrices")
    if 0 in matrices.shape:
        raise BadInput("A", "matrices of side 0", "give at least one row")
    if not matrices.any():
        raise BadInput("A", "is all zero", "give the matrices of the measurements")
    square = matrices.shape[1] == matrices.shape[2]
    if not square:
        if np.iscomplexobj(matrices):
            raise BadInput("A", "complex rectangular matrices", "give real ones, or square Hermitian ones")
        return maps.Dense(matrices, semidefinite=False), (None, None), []
    half = (matrices + matrices.conj().transpose(0, 2, 1)) / 2
    gap, size = float(np.abs(matrices - half).max()), float(np.abs(matrices).max())
    told = f"A: not symmetric (Hermitian), by up to {2 * gap:.3g}; (A + A^H) / 2 is used, as only it acts on U U^H"
    return maps.Dense(half), (None, None), [told] if gap > 1e-6 * size else []


def _rank_one(fields: Mapping[str, np.ndarray], n: int, kind: str) -> Made:
    x = _numbers("x", fields["x"])
    if x.ndim != 2 or x.shape[1] < 1:
        raise BadInput("x", f"shape {x.shape} for {n} values", "give (n, d), one vector per value")
    if x.shape[0] != n:
        raise BadInput("x", f"{x.shape[0]} vectors for {n} values", "give as many values as vectors")
    if not x.any():
        raise BadInput("x", "is all zero", "give the vectors of the measurements")
    return maps.RankOne(x), (None, None), []


def _pauli(fields: Mapping[str, np.ndarray], n: int, kind: str) -> Made:
    words = [str(word).strip() for word in fields["pauli"].reshape(-1)]
    if len(words) != n:
        raise BadInput("pauli", f"{len(words)} words for {n} values", "give one word per value")
    if (bad := no_word(words)) is not None:
        place, problem, remedy = bad
        raise BadInput("pauli", f"row {place} (from 0) holds {problem}", remedy)
    lengths = {len(word) for word in words}
    if len(lengths) > 1:
        raise BadInput("pauli", f"words of {min(lengths)} to {max(lengths)} letters", "give one letter per qubit")
    if max(lengths) > 12:
        raise BadInput("pauli", f"{max(lengths)} qubits", "give at most 12")
    return maps.Pauli.of(words), (None, None), []


def no_word(words: Iterable[Any]) -> tuple[int, str, str] | None:
    """Index of the first word that is not a Pauli word, the problem and the remedy; None if all are."""
    texts = (str(word).strip() for word in words)
    place, bad = next(((at, word) for at, word in enumerate(texts) if not word or set(word) - set("IXYZ")), (0, None))
    if bad is None:
        return None
    capitals = bad and not set(bad.upper()) - set("IXYZ")
    remedy = f"write capital letters, {bad.upper()[:LONGEST]}" if capitals else "write one of I, X, Y, Z for each qubit"
    return place, f"{bad[:LONGEST]!r}, which is not a Pauli word", remedy


def _table(fields: Mapping[str, np.ndarray], n: int, kind: str) -> Made:
    """The map of a rectangular table's entries, given by row and column numbers or labels; its labels; its notices."""
    index, labels = [], []
    for name in ("row", "col"):
        given = _flat(fields[name])
        if given.shape != (n,):
            raise BadInput(name, f"shape {given.shape} for {n} values", "give one index or label per value")
        if given.dtype.kind in "fc" and not np.isfinite(given).all():
            raise BadInput(name, "holds NaN or infinity", "remove those rows")
        _verify_numbering(name, given)
        whole = given.dtype.kind in "iuf"
        if whole and "shape" in fields:
            given = given.astype(np.int64)
            index.append(given)
            labels.append(None)
            continue
        known, places = np.unique(given if whole else _words(name, given), return_inverse=True)
        index.append(places.reshape(-1))
        labels.append(known)
    sides = _shape(fields, index)
    for place, (name, side) in enumerate(zip(NAMED["table"], sides, strict=True)):
        if name in fields:
            if "shape" not in fields or labels[place] is not None:
                problem = "it needs row and col numbered from 0, and shape"
                raise BadInput(name, problem, f"give these, or leave {name} out")
            labels[place] = _named(name, fields, side)
    return maps.Table(index[0].astype(np.int64), index[1].astype(np.int64), sides), (labels[0], labels[1]), []


def _verify_numbering(name: str, given: np.ndarray) -> None:
    """Raises BadInput for finite numbers that cannot be indices: negative, fractional or complex ones."""
    if given.dtype.kind not in "iufc":
        return
    odd = np.ones(given.shape, bool) if given.dtype.kind == "c" else (given < 0) | (given != np.round(given))
    if odd.any():
        remedy = "use whole numbers from 0 or 1, or give names as text"
        raise BadInput(name, f"row {int(odd.argmax())} (from 0) holds {shown(given[odd][0])}", remedy)


def _words(name: str, given: np.ndarray) -> np.ndarray:
    """The labels as text; BadInput if one is missing."""
    words = given.astype(str)
    empty = words == ""
    if given.dtype == object:
        empty |= np.array([each is None or str(each) in ("nan", "<NA>", "NaT") for each in given])
    if empty.any():
        remedy = "give a name there, or leave that measurement out"
        raise BadInput(name, f"row {int(empty.argmax())} (from 0) holds nothing", remedy)
    return words


def _named(name: str, fields: Mapping[str, np.ndarray], side: int) -> np.ndarray:
    """The names of ``side`` rows or columns, in their order; BadInput unless all differ. Numbers stay numbers."""
    given = fields[name].reshape(-1)
    known = given if given.dtype.kind in "iuf" else _words(name, given)
    if known.size != side or np.unique(known).size != side:
        problem = f"{known.size} names, {np.unique(known).size} distinct, for a side of {side}"
        raise BadInput(name, problem, "give each row or column a name of its own")
    return known


def _shape(fields: Mapping[str, np.ndarray], index: list[np.ndarray]) -> tuple[int, int]:
    largest = [int(each.max()) + 1 for each in index]
    if "shape" not in fields:
        return largest[0], largest[1]
    given = fields["shape"].reshape(-1)
    if (
        given.size != 2
        or given.dtype.kind not in "iuf"
        or not all(each > 0 and float(each).is_integer() for each in given)
    ):
        raise BadInput("shape", "is not two whole numbers above 0", "give the numbers of rows and columns")
    if given.max() > MOST_ROWS:
        raise BadInput("shape", f"a side of {int(given.max())}", f"give at most {MOST_ROWS}, or leave shape out")
    for name, each, most, side in zip(("row", "col"), index, largest, given, strict=True):
        if int(each.min()) < 0 or most > side:
            raise BadInput(
                name,
                f"index {int(each.min()) if each.min() < 0 else most - 1} for a side of {int(side)}",
                f"count from 0 to {int(side) - 1}",
            )
    return int(given[0]), int(given[1])


def _indexed(fields: Mapping[str, np.ndarray], n: int, kind: str) -> Made:
    """The map of a symmetric matrix's entries or of distances, with side ``dim`` if given; its labels; its notices."""
    one, two = FORMS[kind]
    given_at = {name: _flat(fields[name]) for name in (one, two)}
    for name, given in given_at.items():
        if given.shape != (n,):
            raise BadInput(name, f"shape {given.shape} for {n} values", "give one index or name per value")
    what = "points" if kind == "distances" else "rows and columns"
    numbered = f"number the {what} from 0 without gaps"
    known = None
    if any(given.dtype.kind in "OSU" for given in given_at.values()):
        words = np.concatenate([_words(name, given) for name, given in given_at.items()])
        known, places = np.unique(words, return_inverse=True)
        if kind == "entries" and not set(words[:n]) & set(words[n:]):
            raise BadInput(one, f"no name is in both {one} and {two}", "for a rectangular table name them row and col")
        given_at = dict(zip(given_at, places.reshape(2, n), strict=True))
    index = []
    for name, given in given_at.items():
        if given.dtype.kind not in "iuf" or not np.isfinite(given).all():
            where = ~np.isfinite(given) if given.dtype.kind == "f" else np.ones(n, bool)
            problem = f"holds {shown(given[where][0])}, not a whole number"
            raise BadInput(name, problem, f"number the {what} from 0, or give names as text")
        _verify_numbering(name, given)
        if int(given.max()) > LARGEST and "dim" not in fields:
            raise BadInput(name, f"index {int(given.max())} is above {LARGEST}", numbered)
        if int(given.max()) >= 2**62:
            raise BadInput(name, f"index {int(given.max())} is too large", numbered)
        index.append(given.astype(np.int64))
    first, second = index
    if kind == "distances" and (same := np.flatnonzero(first == second)).size:
        name = (np.arange(first.max() + 1) if known is None else known)[first[same[0]]]
        told = f"row {same[0]} (from 0) pairs {name} with itself"
        more = f", and so do {same.size - 1} more" if same.size > 2 else ", and so does one more" * (same.size - 1)
        raise BadInput(one, told + more, f"remove {'it, its' if same.size == 1 else 'them, their'} distance is 0")
    largest = int(max(first.max(), second.max()))
    dim = _side(fields["dim"]) if "dim" in fields else largest + 1
    if dim <= largest:
        raise BadInput(one, f"index {largest} is beyond dim {dim}", "count from 0 or raise dim")
    if known is not None and dim != known.size:
        raise BadInput(
            "dim", f"{dim} for {known.size} names", "leave dim out, or give numbers from 0 in place of names"
        )
    if dim > LARGEST:
        remedy = (
            f"leave out some {what}" if known is not None else "give a smaller dim" if "dim" in fields else numbered
        )
        raise BadInput(one, f"the matrix would have side {dim}, more than the {LARGEST} allowed", remedy)
    shifted = known is None and not {"dim", "labels"} & set(fields) and min(first.min(), second.min()) == 1
    open_ = "row 0 is in no measurement, which leaves unknowns undetermined"
    notices = [f"{one}, {two}: {open_}; if they are numbered from 1, subtract 1"] if shifted else []
    if "labels" in fields:
        if known is not None:
            raise BadInput("labels", f"{one} and {two} are names already", "leave labels out")
        dim = dim if "dim" in fields else max(dim, fields["labels"].size)
        known = _named("labels", fields, dim)
    make = maps.Distances if kind == "distances" else maps.Entries
    return make(first, second, dim), (known, known), notices


def _side(given: np.ndarray) -> int:
    """The side as an int, from a number or an array of one; BadInput if it is not a whole number."""
    array = np.asarray(given)
    if array.size != 1 or array.dtype.kind not in "iuf" or not float(array.item()).is_integer():
        told = " ".join(str(array).split())[:LONGEST]
        raise BadInput("dim", f"{told} is not a whole number", "give the number of points or rows")
    return int(array.item())
