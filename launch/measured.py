"""Files of measurements: .npz, .mat, .csv and .parquet, as arrays by name. Nothing here imports JAX."""

import csv
import io
import math
import os
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

from gpsense.grid.files import regular
from gpsense.recovery.forms import KNOWN, LONGEST, TABLES, VALUES, WANTED, quoted, strange
from launch.shell import Refusal

MOST_COLUMNS = 1000
SECONDS = 300  # that reading a .mat file may take
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
FILES = ".csv, .tsv, .parquet, .npz or .mat"
HEADERS = " or ".join(",".join(names) for names in TABLES)


def read(path: Path, names: dict[str, str] | None = None, kind: str | None = None) -> dict[str, Any]:
    """The arrays of a file by name; Refusal if it is missing or no such file, before much memory is taken.

    ``names`` maps what a column is called in the file to what it is; ``kind`` says what was measured.
    """
    kind_of_file = path.suffix.lower()
    lines: list[int] = []  # of a file of text, that of each row
    readers = {".csv": partial(_csv, lines), ".tsv": partial(_csv, lines), ".parquet": _parquet, ".mat": _mat}
    readers |= {".npz": _npz, ".npy": _npz, "": _npz}
    if path.is_dir():
        raise Refusal(f"{path}: is a folder; give a file")
    try:
        if regular(path).stat().st_size > _most():
            raise Refusal(f"{path}: larger than an eighth of the memory; save fewer or smaller numbers")
        if kind_of_file not in readers:
            raise Refusal(f"{path}: {path.suffix} files are not read; give {FILES}, with y and {WANTED}")
        fields: dict[str, Any] = readers[kind_of_file](path)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file; give a file with y and {WANTED}") from None
    except io.UnsupportedOperation as error:
        raise Refusal(f"{path}: {error}; save what it gives as one") from None
    except OSError as error:
        raise Refusal(f"{path}: cannot be read ({error.strerror or 'damaged'}); save it again") from None
    names = names or {}
    renamed: dict[str, Any] = {names.get(name, name): array for name, array in fields.items()}
    missing = [given for given in names if given not in fields]
    if missing:
        raise Refusal(f"{missing[0]}: no such column, there is {', '.join(fields)[:LONGEST]}; name one of them")
    for what in (name for name in VALUES if lines and name in renamed):
        if found := strange(renamed[what]) if renamed[what].dtype == object else None:
            called = next((given for given, meant in names.items() if meant == what), what)
            said = f"holds {quoted(found[1])}" if found[1] else "holds nothing"
            raise Refusal(f"{path}: line {lines[found[0]]} {said} as {called}; give a number there, or remove the line")
    if kind is None and "kind" not in renamed:
        kind = next((what for header, what in TABLES.items() if set(header) <= set(renamed)), None)
    return {**renamed, **({"kind": np.array(kind)} if kind else {})}


def known(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """The arrays of a file; Refusal for a table none of whose columns has a name that means something here."""
    if path.suffix.lower() in (".csv", ".tsv", ".parquet") and not KNOWN & set(fields):
        said = "".join(f" --{what} {name}" for what, name in zip(("row", "col", "value"), fields, strict=False))
        raise Refusal(f"{path}: its columns are {', '.join(fields)[:LONGEST]}; say which is which, such as{said}")
    return fields


def _csv(lines: list[int], path: Path) -> dict[str, np.ndarray]:
    """Columns under a header, between commas, semicolons or tabs; a column of numbers, or else of words.

    The number of the line where each row ends is put into ``lines``.
    """
    numbers = [0]  # of lines that were read

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
            between = next((mark for mark in ",;\t" if mark in first), ",")
            listed = csv.reader(chain([first], text), delimiter=between)
            header = [name.strip() for name in next(listed, [])]
            for row in filter(None, listed):
                rows.append(row)
                lines.append(numbers[-1])
    except (UnicodeDecodeError, csv.Error):
        raise Refusal(f"{path}: is not a table of text in UTF-8; save it as CSV with a header {HEADERS}") from None
    if not header or len(header) > MOST_COLUMNS or len(set(header)) < len(header):
        raise Refusal(f"{path}: has no header of different names; start it with {HEADERS}")
    if not all(name.isprintable() and len(name) <= LONGEST for name in header):
        raise Refusal(f"{path}: its first line does not name the columns; start it with {HEADERS}")
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
    except Exception:  # damaged files end it in errors of many kinds
        raise Refusal(f"{path}: is not a parquet file; save it with DataFrame.to_parquet") from None
    if not all(str(name).isprintable() and len(str(name)) <= LONGEST for name in frame.columns):
        raise Refusal(f"{path}: a column has no name that can be printed; rename it")
    return {str(name): frame[name].to_numpy() for name in frame.columns}


def _mat(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a MATLAB file up to version 7; one-element arrays are single numbers, strings are words.

    Another process reads it, since damaged files end SciPy's reader in errors of many kinds and the process, too.
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
    """Name and array of a member; Refusal for one larger than ``most`` bytes or than its own header says."""
    name = info.filename.removesuffix(".npy")
    if not name.isprintable() or len(name) > LONGEST:
        raise Refusal(f"{name[:LONGEST]!r}: is not the name of an array; save it with numpy.savez")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refusal(f"{name}: is compressed in a way that is not supported; save it with numpy.savez")
    if info.file_size > most:
        size = f"{info.file_size / 2**30:.3g} GiB, more than an eighth of the memory"
        raise Refusal(f"{name}: holds {size}; save fewer or smaller numbers")
    with file.open(info) as member:
        return name, _array(member, info.file_size)


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy file; OSError or ValueError for anything else, before much memory is taken."""
    try:
        with open(regular(path), "rb") as file:
            return _array(file, min(os.fstat(file.fileno()).st_size, _most()))
    except (EOFError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """An array as numpy.save writes it, of at most ``size`` bytes; ValueError if it is not what its header says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers of long ago
        form = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if form not in header:
            raise ValueError(f"format {form}")
        try:
            shape, fortran, dtype = header[form](file)
        except (SyntaxError, TokenError, TypeError, MemoryError):  # memory: of Python's parser, for nested brackets
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
