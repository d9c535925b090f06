"""Reading a user's measurements: every refusal names the array and the remedy. Nothing here imports JAX."""

import math
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from launch.shell import Refusal

FORMS = {"dense": ("A",), "rank_one": ("x",), "entries": ("rows", "cols"), "distances": ("i", "j")}
LONGEST = 60  # characters of a name
WANTED = "one of A, x, rows and cols, or i and j with kind='distances'"


@dataclass
class Measured:
    """Checked measurements: the kind of map, its arrays, the side of the matrices, the values, and what to tell."""

    kind: str
    arrays: dict[str, np.ndarray]
    dim: int
    values: np.ndarray
    notices: list[str] = field(default_factory=list)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; Refusal if it is missing or no such file, before much memory is taken."""
    try:
        with open(path, "rb") as start:
            single = start.read(6) == b"\x93NUMPY"
        if single:
            raise Refusal(f"{path}: is a single array; save y and {WANTED} with numpy.savez")
        with zipfile.ZipFile(path) as file:
            return {name: array for info in file.infolist() for name, array in [_member(file, info, _most())]}
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file; give the path of an .npz file with y and {WANTED}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError, TokenError):
        raise Refusal(f"{path}: is no .npz file of plain arrays; save it with numpy.savez") from None


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> tuple[str, np.ndarray]:
    """Name and array of a member; Refusal for one larger than ``most`` bytes or than its own header says."""
    name = info.filename.removesuffix(".npy")
    if not name.isprintable() or len(name) > LONGEST:
        raise Refusal(f"{name[:LONGEST]!r}: is no name of an array; save it with numpy.savez")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refusal(f"{name}: is compressed in a way that is not read; save it with numpy.savez")
    if info.file_size > most:
        size = f"{info.file_size / 2**30:.3g} GiB, more than an eighth of the memory"
        raise Refusal(f"{name}: holds {size}; save fewer or smaller numbers")
    with file.open(info) as member:
        form = np.lib.format.read_magic(member)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if form not in header:
            raise ValueError(f"format {form}")
        shape, fortran, dtype = header[form](member)
        if dtype.hasobject:
            raise ValueError("objects are code")
        count = math.prod(shape)
        data = member.read(info.file_size)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{count} numbers are {count * dtype.itemsize} bytes, not {len(data)}")
    return name, np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _most() -> int:
    """An eighth of the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8


def check(fields: dict[str, np.ndarray], precision: str = "float64") -> Measured:
    """Checked measurements; Refusal with one line for anything that cannot be used."""
    if "y" not in fields:
        raise Refusal(f"y: missing, the file holds {', '.join(fields) or 'nothing'}; add the measured values y (n,)")
    kind = _kind(fields)
    values = _real("y", fields["y"], precision)
    if values.ndim != 1 or values.size < 5:
        raise Refusal(f"y: shape {values.shape}; give a vector of at least 5 values")
    if not values.any():
        raise Refusal("y: is all zero; give measurements of a matrix that is not zero")
    known = {"y", "kind", "dim", *FORMS[kind]}
    needed = ", ".join(("y", *FORMS[kind]))
    notices = [f"{name}: not read, {kind} measurements need {needed}" for name in fields if name not in known]
    if kind in ("entries", "distances"):
        arrays, dim = _indices(kind, fields, values.size)
    elif kind == "rank_one":
        x = _real("x", fields["x"], precision)
        if x.ndim != 2 or x.shape[0] != values.size:
            raise Refusal(f"x: shape {x.shape} for {values.size} values; give (n, d) with one vector a value")
        arrays, dim = {"x": x}, x.shape[1]
    else:
        matrices, notice = _matrices(_real("A", fields["A"], precision), values.size)
        notices += notice
        arrays, dim = {"A": matrices}, matrices.shape[1]
    if not all(arrays[name].any() for name in ("A", "x") if name in arrays and arrays[name].size):
        raise Refusal(f"{FORMS[kind][0]}: is all zero; give what was measured with")
    if dim < 1:
        raise Refusal(f"{FORMS[kind][0]}: matrices of side 0; give at least one row")
    return Measured(kind, arrays, dim, values, notices)


def _kind(fields: dict[str, np.ndarray]) -> str:
    """Which of the four forms the file holds."""
    said = str(fields["kind"]) if "kind" in fields else None
    if said is not None and said not in FORMS:
        raise Refusal(f"kind: {said!r} is unknown; use one of {', '.join(FORMS)}")
    found = [kind for kind, names in FORMS.items() if any(name in fields for name in names)]
    if said is not None:
        found = [said]
    if len(found) != 1:
        problem = "no measurement matrices" if not found else f"{' and '.join(found)} at once"
        raise Refusal(f"A: {problem}; give {WANTED}")
    missing = [name for name in FORMS[found[0]] if name not in fields]
    if missing:
        raise Refusal(f"{missing[0]}: missing for {found[0]} measurements; give {', '.join(FORMS[found[0]])}")
    if found[0] == "distances" and said is None:
        raise Refusal("kind: i and j alone do not say what was measured; add kind='distances'")
    return found[0]


def _real(name: str, array: np.ndarray, precision: str) -> np.ndarray:
    """Finite real numbers in the working precision, or a Refusal that says why not."""
    if np.iscomplexobj(array):
        raise Refusal(f"{name}: holds complex numbers; give real ones")
    if array.dtype.kind not in "fiu":
        raise Refusal(f"{name}: holds {array.dtype}, not numbers; give real numbers")
    if array.dtype.kind in "iu" and array.size:
        largest = max(abs(int(array.max())), abs(int(array.min())))
        if largest > 2 ** (np.finfo(precision).nmant + 1):
            raise Refusal(f"{name}: integers up to {largest:.3g} are too large for {precision}; divide by a unit")
    if not np.isfinite(array).all():
        raise Refusal(f"{name}: holds NaN or infinity; remove those measurements")
    with np.errstate(over="ignore"):
        converted = array.astype(precision)
    limit = float(np.finfo(precision).max) ** 0.25
    if converted.size and not np.abs(converted.astype(np.float64)).max() < limit:
        raise Refusal(f"{name}: holds numbers beyond {limit:.1g}, too large for {precision}; divide them by a unit")
    return converted


def _indices(kind: str, fields: dict[str, np.ndarray], n: int) -> tuple[dict[str, np.ndarray], int]:
    """Index arrays of entries or distances, and the side: the field dim or the largest index plus one."""
    arrays = {}
    for name in FORMS[kind]:
        index = fields[name]
        if index.shape != (n,):
            raise Refusal(f"{name}: shape {index.shape} for {n} values; give one index a value")
        if index.dtype.kind not in "iu":
            raise Refusal(f"{name}: holds {index.dtype}; give integers counted from 0")
        if int(index.min()) < 0:
            raise Refusal(f"{name}: holds negative indices; count from 0")
        arrays[name] = index
    first, second = (arrays[name] for name in FORMS[kind])
    if kind == "distances" and (first == second).any():
        raise Refusal(f"i: {int((first == second).sum())} pairs with i = j; remove them, their distance is 0")
    largest = int(max(first.max(), second.max()))
    dim = _side(fields["dim"]) if "dim" in fields else largest + 1
    if dim <= largest:
        raise Refusal(f"{FORMS[kind][0]}: index {largest} is beyond dim {dim}; count from 0 or raise dim")
    if dim > 5000:
        raise Refusal(f"{FORMS[kind][0]}: index {largest} makes matrices of side {dim}; number from 0 without gaps")
    return {name: index.astype(np.int32) for name, index in arrays.items()}, dim


def _side(given: np.ndarray) -> int:
    """A whole number, which may be alone in an array."""
    array = np.asarray(given)
    if array.size != 1 or array.dtype.kind not in "iuf" or not float(array.item()).is_integer():
        raise Refusal(
            f"dim: {' '.join(str(array).split())[:LONGEST]} is no whole number; give the number of points or rows"
        )
    return int(array.item())


def _matrices(matrices: np.ndarray, n: int) -> tuple[np.ndarray, list[str]]:
    """Dense A_i, symmetrised with a notice where they are not symmetric."""
    if matrices.ndim != 3 or matrices.shape[0] != n or matrices.shape[1] != matrices.shape[2]:
        raise Refusal(f"A: shape {matrices.shape} for {n} values; give (n, d, d), one square matrix a value")
    if matrices.shape[1] == 0:
        return matrices, []
    gap = float(np.abs(matrices - matrices.transpose(0, 2, 1)).max())
    size = float(np.abs(matrices).max())
    if gap <= 1e-6 * size:
        return matrices, []
    return matrices, [f"A: not symmetric (up to {gap:.3g}); only (A + A^T) / 2 acts on U U^T, and it is used"]


def to_map(measured: Measured) -> Any:
    """The measurements as a map of :mod:`gpsense.sensing.measurements` and the values, as JAX arrays."""
    import jax.numpy as jnp

    from gpsense.sensing import measurements as maps

    arrays = {name: jnp.asarray(array) for name, array in measured.arrays.items()}
    built = {
        "dense": lambda: maps.dense_measurements(arrays["A"]),
        "rank_one": lambda: maps.RankOne(arrays["x"]),
        "entries": lambda: maps.Entries(arrays["rows"], arrays["cols"], measured.dim),
        "distances": lambda: maps.Distances(arrays["i"], arrays["j"], measured.dim),
    }[measured.kind]()
    return built, jnp.asarray(measured.values)
