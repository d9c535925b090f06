"""Reading a wide table as measurements: row labels, a header of column labels, a number or nothing in each cell."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpsense.errors import BadInput
from gpsense.fields import shown

NOTHING = {"", "na", "n/a", "nan", "null", "none", "<na>", "nat"}  # texts of an empty cell
KINDS = ("table", "entries", "distances", "plain_distances")
# Without a kind, a table that would look wide but for one fault is refused because of the fault, if it has at least FEW
# columns, at most the share WORDS of each column is text, and at least the share DIFFERENT of its labels are distinct
FEW, WORDS, DIFFERENT = 4, 0.5, 0.9
CLOSE = 1e-9  # relative difference up to which the two numbers of a pair are one, written twice


class Wide(NamedTuple):
    """The arrays by name, and a sentence that says how they were read."""

    fields: dict[str, np.ndarray]
    words: str


def read_wide(
    labels: Any, header: Sequence[str], columns: Sequence[Any], kind: str | None, *, named: bool = True
) -> Wide | None:
    """The wide table with these row labels, header and columns; None if it does not look like one.

    Labels are distinct. Without a ``kind`` they are text, or numbers in a column without a name (not ``named``) that do
    not merely count the rows. Raises BadInput for text among numbers and for a missing or repeated label, if ``kind``
    is given or all else looks like a wide table; for pairs whose row and column labels differ; and, without a kind, for
    what looks like distances.
    """
    labels = np.asarray(labels)
    if kind not in (None, *KINDS) or len(header) < 2 or not labels.size:
        return None
    numbers = [_numbers(column) for column in columns]
    words = labels.dtype.kind not in "iuf"
    if kind is None:
        numbered = not words and np.array_equal(labels, np.arange(labels.size))
        looks = words or not (named or numbered)
        worded = [given for column, given in zip(numbers, columns, strict=True) if column is None]
        if not looks or any(_share_of_words(given) > WORDS for given in worded):
            return None
    texts = labels.astype(str).tolist()
    repeated = [text for text, count in Counter(texts).items() if count > 1 or not text.strip()]
    if repeated:
        if kind is None and (len(header) < FEW or len(set(texts)) < DIFFERENT * len(texts)):
            return None
        twice = f"{shown(repeated[0])} is the label of two rows" if repeated[0].strip() else "a row has no label"
        raise BadInput("row_labels", twice, "give each row a label of its own")
    for name, column, given in zip(header, numbers, columns, strict=True):
        if column is None:
            if kind is None and len(header) < FEW:
                return None
            word = next(each for each in np.asarray(given).ravel() if _number(each) is None)
            raise BadInput(name, f"holds {str(word)[:40]!r}, not a number", "leave the cell empty, or give a number")
    matrix = np.stack([column for column in numbers if column is not None], axis=1)
    if kind is None and _like_distances(texts, header, matrix):
        remedy = "give the kind: plain_distances, distances (squared), entries or table"
        raise BadInput("kind", "a symmetric table with zeros on its diagonal could be distances or a matrix", remedy)
    if kind in (None, "table"):
        return _entries(labels, header, matrix)
    return _pairs(labels.astype(str), header, matrix, kind)


def _share_of_words(column: Any) -> float:
    return float(np.mean([_number(each) is None for each in np.asarray(column).ravel()]))


def _like_distances(labels: Sequence[str], header: Sequence[str], matrix: np.ndarray) -> bool:
    """Whether row and column labels agree, and numbers are symmetric, at least 0, and 0 or empty on the diagonal."""
    if list(labels) != list(header) or np.isnan(matrix).all():
        return False
    symmetric = np.allclose(matrix, matrix.T, rtol=CLOSE, equal_nan=True)
    return symmetric and bool(np.nanmin(matrix) >= 0) and not np.nan_to_num(np.diag(matrix)).any()


def _number(given: Any) -> float | None:
    """The cell as a float: NaN if it is empty, None if it is text."""
    if str(given).strip().lower() in NOTHING:
        return np.nan
    try:
        return float(given)
    except (TypeError, ValueError):
        return None


def _numbers(column: Any) -> np.ndarray | None:
    array = np.asarray(column)
    if array.dtype.kind in "iuf":
        return array.astype(float)
    found = [_number(each) for each in array.ravel()] if array.dtype.kind != "c" else [None]
    return None if any(each is None for each in found) else np.array(found, float)


def _entries(labels: np.ndarray, header: Sequence[str], matrix: np.ndarray) -> Wide:
    rows, columns = np.nonzero(~np.isnan(matrix))
    fields = {"row": rows, "col": columns, "value": matrix[rows, columns], "shape": np.array(matrix.shape)}
    fields |= {"row_labels": labels, "column_labels": np.array(header), "kind": np.array("table")}
    count = f"{rows.size} of {matrix.size} cells hold a value"
    words = f"read as a table of {matrix.shape[0]} rows and {matrix.shape[1]} columns with labels; {count}"
    return Wide(fields, words)


def _pairs(labels: np.ndarray, header: Sequence[str], matrix: np.ndarray, kind: str) -> Wide:
    """The pairs of a square table with equal row and column labels; equal ones at (i, j) and (j, i) are read once."""
    if set(labels.tolist()) != set(header):
        odd = sorted(set(labels.tolist()) ^ set(header))[0]
        problem = f"{kind} need the same labels on rows and columns, but {odd!r} labels only one of them"
        raise BadInput("kind", problem, "give rows and columns the same labels, or use kind table")
    place = {name: number for number, name in enumerate(header)}
    square = matrix[:, [place[name] for name in labels.tolist()]]
    distances = kind != "entries"
    if distances and (own := np.flatnonzero(np.nan_to_num(np.diag(square)))).size:
        problem = f"{kind} need zeros on the diagonal, but {labels.tolist()[own[0]]!r} has another number there"
        raise BadInput("kind", problem, "leave that cell empty")
    there = ~np.isnan(square)
    if distances:
        np.fill_diagonal(there, False)
    with np.errstate(invalid="ignore"):
        same = np.abs(square - square.T) <= CLOSE * np.maximum(np.abs(square), np.abs(square.T))
    first, second = np.nonzero(there & ~np.tril(there.T & same, -1))
    one, two = ("i", "j") if distances else ("rows", "cols")
    fields = {one: first, two: second, "value": square[first, second], "labels": labels, "kind": np.array(kind)}
    what = {"entries": "entries of a symmetric matrix", "distances": "squared distances"}.get(kind, "distances")
    return Wide(
        fields, f"read as {first.size} {what} of {labels.size} rows with labels, each pair once if its numbers agree"
    )
