"""Reads files of measurements (.csv, .tsv, .parquet, .npz, .mat) as arrays by name; does not import JAX."""

import csv
import difflib
import io
import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from gpsense.errors import BadInput, shown
from gpsense.grid.files import regular
from gpsense.recovery.forms import KNOWN, LONGEST, TABLES, VALUES, WANTED, is_long, listed, no_word, strange
from gpsense.recovery.forms import PLAIN as UNSQUARED
from gpsense.recovery.wide import KINDS, Wide, read_wide
from launch.shell import Refusal

MOST_COLUMNS = 20000
SIMILAR = 5  # names suggested for a file that does not exist
SECONDS = 300  # limit for reading a .mat file
PLAIN = """
import sys, zipfile
import numpy as np, scipy.io
fields = scipy.io.loadmat(sys.argv[1], squeeze_me=True, chars_as_strings=True)
with zipfile.ZipFile(sys.argv[2], "w") as file:
    for name, value in fields.items():
        array = np.asarray(value)
        if array.dtype == object and all(isinstance(each, str) for each in array.flat):
            array = array.astype(str)
        if not name.startswith("__") and not array.dtype.hasobject:
            with file.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
"""
READ = (".csv", ".tsv", ".parquet", ".npz", ".mat")
TEXTS = READ[:3]
FILES = f"{', '.join(READ[:-1])} or {READ[-1]}"
COMMAS = "rename it to .csv if it has a header and commas, semicolons or tabs between values"
TABULAR: dict[str, str] = dict.fromkeys((".txt", ".dat"), COMMAS)
TABULAR |= dict.fromkeys((".xlsx", ".xls", ".ods"), "save the sheet as .csv")
READING = "reading"  # the entry that says how a file was read, where that is not obvious
SOUGHT = {kind: header for header, kind in TABLES.items() if header[-1] != "distance"}  # columns of a kind
SOUGHT |= {UNSQUARED: ("i", "j", "distance")}
WIDE = "for a wide table, with row labels in the first column, add --kind table"
MOST_NAMED = 8  # most columns for which the names in a file are used in an example
HEADERS = " or ".join(",".join(names) for names in TABLES)


def read(path: Path, names: dict[str, str] | None = None, kind: str | None = None) -> dict[str, Any]:
    """The arrays of a file by name; raises Refusal, before much memory is used, if it is missing or unreadable.

    ``names`` maps a column's name in the file to its default name; ``kind`` says what was measured.
    """
    kind_of_file = path.suffix.lower()
    lines: list[int] = []  # the line number of each row of a text file
    readers = {".csv": partial(_csv, lines), ".tsv": partial(_csv, lines), ".parquet": _parquet, ".mat": _mat}
    readers |= {".npz": _npz, ".npy": _npz, "": _npz}
    if path.is_dir():
        raise Refusal(f"{path}: is a folder; give a file")
    try:
        if regular(path).stat().st_size > _most():
            remedy = "save fewer or shorter numbers, such as float32"
            raise Refusal(f"{path}: larger than an eighth of the memory; {remedy}")
        if kind_of_file not in readers:
            remedy = TABULAR.get(kind_of_file) or f"give {FILES}, with y and {WANTED}"
            raise Refusal(f"{path}: {path.suffix} files are not supported; {remedy}")
        fields: dict[str, Any] = readers[kind_of_file](path)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file; {_similar(path)}") from None
    except io.UnsupportedOperation as error:
        raise Refusal(f"{path}: {error}; save its contents as a regular file") from None
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror or 'damaged'}); save it again") from None
    names = names or {}
    renamed: dict[str, Any] = {names.get(name, name): array for name, array in fields.items()}
    missing = [given for given in names if given not in fields]
    if missing:
        raise Refusal(f"{missing[0]}: no such column, the file has {listed(fields)}; name one of them")
    if not names and (wide := _wide(path, renamed, kind)) is not None:
        return {**wide.fields, READING: np.array(wide.words)}
    for what in (name for name in VALUES if lines and name in renamed):
        if found := strange(renamed[what]) if renamed[what].dtype == object else None:
            called = next((given for given, meant in names.items() if meant == what), what)
            said = f"holds {shown(found[1])}" if found[1] else "holds nothing"
            comma = re.fullmatch(r"[-+]?\d*,\d+(e[-+]?\d+)?", str(found[1]).strip(), re.IGNORECASE)
            remedy = "write decimal points, not commas" if comma else "give a number there, or remove the line"
            raise Refusal(f"{path}: line {lines[found[0]]} {said} in column {called}; {remedy}")
    if lines and "pauli" in renamed and (bad := no_word(renamed["pauli"])):
        raise Refusal(f"{path}: line {lines[bad[0]]} holds {bad[1]}; {bad[2]}")
    if kind is None and "kind" not in renamed:
        kind = next((what for header, what in TABLES.items() if set(header) <= set(renamed)), None)
    return {**renamed, **({"kind": np.array(kind)} if kind else {})}


def known(path: Path, fields: dict[str, Any], kind: str | None = None) -> dict[str, Any]:
    """The arrays of a file, unchanged; raises Refusal for a table in which no column has a known name.

    With a ``kind``, it also raises Refusal for a table without the columns of that kind; without one, for a table of
    more than three columns of which only the first is known.
    """
    if path.suffix.lower() in TEXTS and kind in SOUGHT:
        meant = {"rows": "row", "cols": "col"} if kind == "table" else {}
        there = {meant.get(name, name) for name in fields}
        *places, values = SOUGHT[kind]
        missing = [name for name in places if name not in there] + [values] * (not there & set(VALUES))
        if missing:
            names = listed(name for name in fields if name not in ("kind", READING))
            remedy = f"name them by {' '.join(f'--{name} NAME' for name in missing)}"
            raise Refusal(
                f"{path}: --kind {kind} needs the columns {','.join(SOUGHT[kind])}, the file has {names}; {remedy}"
            )
    if path.suffix.lower() in TEXTS and not KNOWN & set(fields):
        if _column("header", list(fields)).dtype != object:
            raise Refusal(
                f"{path}: its first line holds {listed(fields)}; put a header above it, such as row,col,value"
            )
        names = [shlex.quote(name) for name in fields if name]
        names = names if 3 <= len(names) <= MOST_NAMED else ["NAME"] * 3
        ratings, distances = (
            " ".join(f"--{what} {name}" for what, name in zip(header, names, strict=False))
            for header in (SOUGHT["table"], SOUGHT[UNSQUARED])
        )
        remedy = f"name them: for ratings {ratings}, for distances {distances}"
        raise Refusal(f"{path}: its columns are {listed(fields)}; {remedy}; {WIDE}")
    places = [name for name in fields if name in KNOWN]
    if path.suffix.lower() in TEXTS and kind is None and places == list(fields)[:1] and len(fields) > 3:
        raise Refusal(f"{path}: its columns are {listed(fields)}; {WIDE}; for one measurement per row name all columns")
    others = [name for name in fields if name and name not in KNOWN and name != READING]
    if path.suffix.lower() in TEXTS and kind is None and len(others) >= 2 and set(places) <= set(VALUES):
        pair = ("i", "j") if places[0] in ("distance", "distance2") else ("row", "col")
        options = " ".join(f"--{what} {shlex.quote(name)}" for what, name in zip(pair, others, strict=False))
        what = "the two points" if pair[0] == "i" else "the row and the column"
        remedy = f"name the columns that hold {what} of each measurement: {options}"
        raise Refusal(f"{path}: its columns are {listed(fields)}; {remedy}")
    return fields


def _wide(path: Path, fields: dict[str, Any], kind: str | None) -> Wide | None:
    """The wide table (labels in the first column and in the header) of a table file; None if it is not wide."""
    if path.suffix.lower() not in TEXTS or is_long(fields) or "kind" in fields or len(fields) < 3:
        return None
    first, *header = fields
    if kind is not None and (kind not in KINDS or set(header) & {"row", "col", "i", "j", "rows", "cols", *VALUES}):
        return None
    columns = [fields[name] for name in header]
    named = bool(first) and not first.startswith("Unnamed:")
    try:
        return read_wide(fields[first], header, columns, kind, named=named)
    except BadInput as error:
        options = ", ".join(f"--{name}" for name in SOUGHT.get(kind or "", ()) if "not a number" in error.problem)
        long = f"; if each row is one measurement, name the columns by {options}" if options else ""
        raise Refusal(f"{path}: {'--' if error.field == 'kind' else ''}{error}{long}") from None


def _similar(path: Path) -> str:
    """A hint that lists the files in the same folder with similar names, else all files there that could be read."""
    folder = path.parent
    try:
        names = sorted(each.name for each in folder.iterdir() if each.is_file() and each.name.isprintable())
    except OSError:
        return f"there is no folder {folder}" if not folder.is_dir() else "name one that exists"
    readable = [name for name in names if Path(name).suffix.lower() in READ]
    stems = difflib.get_close_matches(path.stem, {Path(name).stem for name in readable}, n=SIMILAR)
    found = [name for stem in stems for name in readable if Path(name).stem == stem][:SIMILAR] or readable
    where = f"in {folder}" if folder != Path() else "in this folder"
    return f"{where} there is {listed(found)}" if found else f"{where} there is no {FILES} file"


def _csv(lines: list[int], path: Path) -> dict[str, np.ndarray]:
    """The columns of a text table with a header, between commas, semicolons or tabs; as numbers, else as text.

    The number of the line on which each row ends is appended to ``lines``.
    """
    numbers = [0]  # of the lines that were read

    def counted(file: Iterable[str]) -> Iterator[str]:
        for number, line in enumerate(file, 1):
            if not line.startswith("#"):
                numbers.append(number)
                yield line

    rows: list[list[str]] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = counted(file)
            first = next(text, "")
            between = next((mark for mark in ",;\t" if mark in re.sub(r'"[^"]*"', "", first)), ",")
            listed = csv.reader(chain([first], text), delimiter=between)
            header = [name.strip() for name in next(listed, [])]
            for row in filter(None, listed):
                rows.append(row)
                lines.append(numbers[-1])
    except (UnicodeDecodeError, csv.Error):
        raise Refusal(f"{path}: is not a text table in UTF-8; save it as CSV with a header {HEADERS}") from None
    if not header or len(header) > MOST_COLUMNS or len(set(header)) < len(header):
        raise Refusal(f"{path}: has no header of distinct names; start it with {HEADERS}")
    if not all(name.isprintable() and len(name) <= LONGEST for name in header):
        raise Refusal(f"{path}: its first line does not name the columns; start it with {HEADERS}")
    if rows and all(len(row) == len(header) + 1 for row in rows):
        header = ["", *header]  # no name above the row labels, as R writes them
    short = next((place for place, row in enumerate(rows) if len(row) != len(header)), None)
    if short is not None:
        counts = f"{len(rows[short])} fields, the header has {len(header)}"
        raise Refusal(f"{path}: line {lines[short]} has {counts}; fix that line")
    return {name: _column(name, [row[place].strip() for row in rows]) for place, name in enumerate(header)}


def _column(name: str, words: list[str]) -> np.ndarray:
    try:
        return np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        return np.array(words, dtype=object)


def _parquet(path: Path) -> dict[str, Any]:
    try:
        import pandas as pd
    except ImportError:
        raise Refusal(f"{path}: reading parquet needs pandas and pyarrow; pip install pandas pyarrow") from None
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise Refusal(f"{path}: reading parquet needs pyarrow; pip install pyarrow") from None
    except Exception:  # damaged files raise errors of many kinds
        raise Refusal(f"{path}: is not a parquet file; save it with DataFrame.to_parquet") from None
    if not all(str(name).isprintable() and len(str(name)) <= LONGEST for name in frame.columns):
        raise Refusal(f"{path}: a column has a name that is too long or cannot be printed; rename it")
    index = np.asarray(frame.index)
    wide = frame.index.nlevels == 1 and not is_long(map(str, frame.columns))
    labels = {str(frame.index.name or ""): index} if wide and not np.array_equal(index, np.arange(index.size)) else {}
    return labels | {str(name): frame[name].to_numpy() for name in frame.columns}


def _mat(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB file up to version 7; one-element arrays become single numbers, strings become text.

    A process of its own reads it, since on damaged files SciPy's reader raises errors of many kinds or crashes.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.npz"
        command = [sys.executable, "-P", "-W", "ignore", "-c", PLAIN, str(path.resolve()), str(plain)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise Refusal(
                f"{path}: is not a MATLAB file of version 7 or earlier; save it with save(..., '-v7')"
            ) from None
        try:
            return _npz(plain)
        except Refusal as refusal:
            raise Refusal(str(refusal).replace(str(plain), str(path))) from None


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as start:
            single = start.read(6) == b"\x93NUMPY"
        if single:
            raise Refusal(f"{path}: is a single array; save y and {WANTED} with numpy.savez")
        with zipfile.ZipFile(path) as file:
            return {name: array for info in file.infolist() for name, array in [_member(file, info, _most())]}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError):
        raise Refusal(
            f"{path}: is not an .npz file of plain arrays; save it with numpy.savez, or as .csv, .parquet or .mat"
        ) from None


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> tuple[str, np.ndarray]:
    """Name and array of a zip member; raises Refusal above ``most`` bytes, and ValueError if it is damaged."""
    name = info.filename.removesuffix(".npy")
    if not name.isprintable() or len(name) > LONGEST:
        problem = f"{name[:LONGEST]!r} is no name for an array"
        raise Refusal(f"{file.filename}: {problem}; save the arrays with numpy.savez")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refusal(f"{name}: is compressed in a way that is not supported; save it with numpy.savez")
    if info.file_size > most:
        size = f"{info.file_size / 2**30:.3g} GiB, more than an eighth of the memory"
        raise Refusal(f"{name}: holds {size}; save fewer or shorter numbers, such as float32")
    with file.open(info) as member:
        return name, _array(member, info.file_size)


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file; raises OSError or ValueError for any other file, before much memory is used."""
    try:
        with open(regular(path), "rb") as file:
            return _array(file, min(os.fstat(file.fileno()).st_size, _most()))
    except (EOFError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array that numpy.save wrote, of at most ``size`` bytes; raises ValueError if data and header do not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers of old NumPy versions
        form = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if form not in header:
            raise ValueError(f"format {form}")
        try:
            shape, fortran, dtype = header[form](file)
        except (SyntaxError, TokenError, TypeError, MemoryError):  # MemoryError: Python's parser, nested brackets
            raise ValueError("its header cannot be read") from None
    if dtype.hasobject:
        raise ValueError("objects are code")
    count, data = math.prod(shape), file.read(size)
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"{count} numbers are {count * dtype.itemsize} bytes, not {len(data)}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _most() -> int:
    """An eighth of the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8
