"""A run directory, of one config: its manifest, one file per chunk (written atomically), the collected results."""

import hashlib
import io
import json
import os
import platform
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.errors import BadInput
from gpsense.fields import shown
from gpsense.grid import chunkfile
from gpsense.grid.compiling import EFFORTS, options
from gpsense.grid.files import (
    LOG,
    atomic,
    logged,
    naming,
    own,
    read_json,
    regular,
    remove_left_over,
    unwritable,
    writable,
    write_json,
)
from gpsense.grid.leases import Leases, remove_ended
from gpsense.grid.plan import Chunk, Effort, Layout, Plan

if TYPE_CHECKING:
    import xarray as xr

Arrays = dict[str, np.ndarray]
MANIFEST = "manifest.json"
SEAL = b"\ngpsense BLAKE2b "  # before the checksum at the end of a netCDF file
UNCOUNTED = ("name", "run.memory_gib")  # settings that do not affect the results
PACKAGES = ("gpsense", "jax", "jaxlib", "optax", "equinox", "numpy", "xarray")


def write_dataset(path: Path, dataset: "xr.Dataset") -> None:
    """Write netCDF (zlib 1, shuffle) atomically, followed by a checksum of its bytes, which other readers ignore."""
    import h5netcdf
    from xarray.backends import H5NetCDFStore

    packed = {"zlib": True, "complevel": 1, "shuffle": True}
    encoding = {str(name): packed for name, values in dataset.data_vars.items() if values.ndim}
    with atomic(path) as aside:
        with open(aside, "wb+", buffering=0) as raw, LateErrors(raw) as late, h5netcdf.File(late, "w") as file:
            dataset.dump_to_store(H5NetCDFStore(file), encoding=encoding)
        with open(aside, "rb+") as file:
            file.write(SEAL + _checksum(file, file.seek(0, os.SEEK_END)))


class LateErrors(io.RawIOBase):
    """A file whose errors (a full disk, say) are raised at the end of ``with``; else some make HDF5 end the process."""

    def __init__(self, file: io.FileIO):
        self._file = file
        self._error: OSError | None = None

    def __exit__(self, *_: object) -> None:
        if self._error is not None:
            raise self._error from None

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size = left.nbytes
        while left.nbytes and self._error is None:
            left = left[self._tried(self._file.write, left) or 0 :]
        return size

    def truncate(self, size: int | None = None, /) -> int:
        return self._tried(self._file.truncate, size) or 0

    def readinto(self, buffer: Any, /) -> int:
        return self._tried(self._file.readinto, buffer) or 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _tried(self, work: Callable[[Any], int | None], argument: Any) -> int | None:
        try:
            return work(argument)
        except OSError as error:
            self._error = self._error or error
            return None


def read_dataset(path: Path) -> "xr.Dataset":
    """The dataset that :func:`write_dataset` wrote, loaded; ValueError in one line for a damaged or foreign file.

    Its checksum is verified first, since HDF5 may hang on a damaged file or raise errors of many kinds.
    """
    import xarray as xr  # imported here, so that no run waits for it before its first chunk

    with open(regular(path), "rb") as file:
        size = max(file.seek(0, os.SEEK_END) - len(SEAL) - chunkfile.DIGEST, 0)
        file.seek(size)
        sealed = file.read(len(SEAL)) == SEAL and file.read()
        if not sealed:
            raise ValueError("it ends without the checksum that gpsense writes")
        if sealed != _checksum(file, size):
            raise ValueError("its checksum does not match its bytes")
    return xr.load_dataset(path, engine="h5netcdf")


def _checksum(file: BinaryIO, size: int) -> bytes:
    """The BLAKE2b checksum of the first ``size`` bytes of a file, which is left positioned after them."""
    found = hashlib.blake2b(digest_size=chunkfile.DIGEST)
    file.seek(0)
    while data := file.read(min(2**20, size - file.tell())):
        found.update(data)
    return found.digest()


def read(directory: Path) -> dict[str, Any]:
    """The manifest of a run; BadInput where there is none and, with the reason, where it is damaged."""
    path = directory / MANIFEST
    try:
        manifest = read_json(path)
        if not isinstance(manifest, dict):
            raise ValueError("it is not an object")
        digest = manifest.get("digest")
        if not isinstance(digest, str) or not re.fullmatch("[0-9A-Za-z]{1,64}", digest):
            raise ValueError("it has no digest")
        if not isinstance(manifest.get("config"), dict | None):  # None: made from Python
            raise ValueError("its config is not an object")
        if not isinstance(manifest.get("settings"), dict | None):  # of a run made from Python
            raise ValueError("its settings are not an object")
        layouts(manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput("out", f"{directory} is not a gpsense run", "name the directory of a run") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        problem = f"{path} cannot be read ({reason})"
        raise BadInput("out", problem, "restore it from a copy, or run the grid in another directory") from None
    return manifest


def check(
    directory: Path, digest: str, written: bool = True, settings: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The manifest of a run to resume, None for a new or empty directory; BadInput for one that cannot be used.

    Hidden files are ignored. Nothing is written; ``written``: whether the directory must be writable. ``settings``:
    those of the run to start, as in a manifest; the error for another run's directory states which ones differ.
    """
    if written:
        writable(directory)
        own(directory)
    if not directory.exists() or all(path.name.startswith(".") for path in directory.iterdir()):
        return None
    try:
        manifest = read(directory)
    except BadInput as error:
        if (directory / MANIFEST).exists():
            raise
        problem = f"{directory} is not empty and not a gpsense run"
        raise BadInput(error.field, problem, "choose another directory") from None
    if manifest["digest"] != digest:
        told = differing(manifest, {"digest": digest, "config": settings})
        raise BadInput("out", f"{directory} belongs to another run ({told})", "choose another directory")
    return manifest


def differing(one: Mapping[str, Any], other: Mapping[str, Any], where: tuple[str, str] = ("there", "now")) -> str:
    """The differences between the runs of two manifests, in words: system, else three settings, with both values."""
    settings = [each.get("config") or each.get("settings") for each in (one, other)]
    if None in settings:
        return ", ".join(f"digest {each['digest']} {place}" for each, place in zip((one, other), where, strict=True))
    found = differences(*settings)
    found = [each for each in found if each[0] == "system"] or found  # another system has other settings
    words = "; ".join(f"{name}: {a} {where[0]}, {b} {where[1]}" for name, a, b in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{words}{more}" if found else "the settings are the same; data or code differ"


def differences(*settings: Any) -> list[tuple[str, ...]]:
    """The settings in which runs differ: name and each run's value, in words; settings in UNCOUNTED are ignored."""
    flat = [dict(_flat(each)) for each in settings]
    names = list(dict.fromkeys(name for each in flat for name in each if name not in UNCOUNTED))
    found = []
    for name in names:
        values = [each.get(name, "not given") for each in flat]
        if any(value != values[0] for value in values):
            words = [_in_words(name, value) for value in values]
            found.append((name, *(words if len(set(words)) > 1 else map(str, values))))
    return found


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All settings as pairs of ``section.key`` and value."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _in_words(name: str, value: Any) -> str:
    """The value of a setting as text, long lists shortened."""
    if isinstance(value, list) and name.endswith("seeds") and value == list(range(len(value))):
        return str(len(value))
    if isinstance(value, list) and len(value) == 3 and isinstance(value[1], list):  # an array, as in run.identified
        return f"{value[0]} {'x'.join(map(str, value[1]))} with digest {value[2]}"
    if isinstance(value, list):
        text = ",".join(_in_words("", each) for each in value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def versions() -> dict[str, Any]:
    """What results depend on besides the config: versions, devices, precision and flags."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.local_devices()],
        "backend": jax.default_backend(),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "precision": str(jnp.result_type(float)),
        "flags": {
            "jax_default_matmul_precision": jax.config.jax_default_matmul_precision,  # pyright: ignore[reportAttributeAccessIssue]
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            "compile_options": {effort: options(effort) for effort in EFFORTS},
        },
    }


def _warn(words: str) -> None:
    warnings.warn(words, stacklevel=4)


class Store:
    """The files of one run; ``digest`` is that of its config.

    ``tell`` is called with a line when a chunk's file is set aside: moved to chunks/damaged, as it is not valid.
    """

    def __init__(self, directory: Path, digest: str = "", tell: Callable[[str], None] = _warn):
        self.directory, self.digest, self.tell = directory, digest, tell

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make the directory and its manifest unless they exist; returns the manifest that is then there.

        Half-written files of killed processes are removed. BadInput where writing fails or the directory belongs to
        another run.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(self.directory / MANIFEST, manifest, keep=True)
            (self.directory / "chunks").mkdir(exist_ok=True)
            remove_left_over(self.directory)
            remove_ended(self.directory / "chunks")
        except OSError as error:
            raise unwritable(self.directory, error) from None
        settings = manifest.get("config") or manifest.get("settings")
        return check(self.directory, manifest["digest"], settings=settings) or manifest

    def path(self, chunk: Chunk) -> Path:
        """The file of a chunk."""
        return self.directory / "chunks" / f"{chunk.number:06d}.chunk"

    def leases(self) -> Leases:
        """The leases by which the processes that use the directory divide its chunks among themselves."""
        return Leases(self.directory / "chunks")

    def count(self, plan: Plan) -> int:
        """The number of chunks of a plan that are stored."""
        return sum(self.path(chunk).exists() for chunk in plan.chunks)

    def missing(self, plan: Plan, among: Collection[Chunk] | None = None) -> list[Chunk]:
        """The chunks of a plan, or of ``among``, that are still to be run; files that are not valid are set aside."""
        wanted = plan.chunks if among is None else [chunk for chunk in plan.chunks if chunk in among]
        return [chunk for chunk in wanted if self.read(chunk) is None]

    def read(self, chunk: Chunk) -> Arrays | None:
        """The arrays of a stored chunk, else None; a file that is not valid is set aside.

        A valid file matches its checksum and was made for this digest and this place in the grid.
        """
        path = self.path(chunk)
        try:
            if path.is_symlink():
                raise ValueError("it is a link, whose target may change")
            facts, arrays = chunkfile.decode(regular(path).read_bytes())
            self._check(chunk, facts, arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error) if isinstance(error, OSError | ValueError) and str(error) else "it cannot be read"
            self._set_aside(path, reason)
            return None
        return arrays

    def _check(self, chunk: Chunk, facts: Mapping[str, Any], arrays: Arrays) -> None:
        if facts["digest"] != self.digest:
            raise ValueError("it belongs to another run")
        if facts["place"] != _place(chunk):
            raise ValueError(f"it is chunk {facts['place'][0]}, or belongs to a run cut into other chunks")
        cells = (chunk.outer_stop - chunk.outer, chunk.inner_stop - chunk.inner)
        if wrong := [name for name, values in arrays.items() if values.shape[:2] != cells]:
            raise ValueError(f"{wrong[0]} does not have the chunk's {cells[0]} x {cells[1]} cells")

    def _set_aside(self, path: Path, reason: str) -> None:
        """Move a file to ``chunks/damaged`` and report it."""
        folder = path.parent / "damaged"
        try:
            folder.mkdir(exist_ok=True)
            free = (folder / (path.name + (f".{index}" if index else "")) for index in range(10**6))
            os.replace(path, next(place for place in free if not place.exists()))
        except OSError as error:
            raise unwritable(self.directory, error) from None
        self.tell(f"{path} was set aside in {folder}, and its chunk must be run again: {reason}")

    def write(self, chunk: Chunk, arrays: Arrays) -> None:
        """Store a chunk."""
        with atomic(self.path(chunk)) as aside:
            aside.write_bytes(chunkfile.encode({"digest": self.digest, "place": _place(chunk)}, arrays))

    def chunks(self, plan: Plan) -> Iterator[tuple[Chunk, Arrays]]:
        """The stored chunks of a plan; files that are not valid are set aside and left out."""
        for chunk in plan.chunks:
            if (arrays := self.read(chunk)) is not None:
                yield chunk, arrays

    def whole(self, plan: Plan) -> Iterator[tuple[Chunk, Arrays]]:
        """All chunks of a plan that was run; BadInput where one is missing or no longer valid."""
        for chunk in plan.chunks:
            if (arrays := self.read(chunk)) is None:
                problem = f"{self.path(chunk)} was damaged or removed after it was written"
                raise BadInput("out", problem, "run the same grid again to restore it")
            yield chunk, arrays

    def keep(self, chunk: Chunk, arrays: Arrays, line: dict[str, Any]) -> None:
        """Store a chunk and its line of metrics.jsonl."""
        self.write(chunk, arrays)
        self.log(line)

    def seconds(self, kind: str = "seconds") -> float:
        """The seconds that all chunks in metrics.jsonl took together; ``kind``: seconds or compile_seconds."""
        taken = 0.0
        for entry in logged(self.directory).values():
            with suppress(ValueError, KeyError, TypeError, OverflowError):  # the chunk counts, its time is not known
                seconds = float(entry[kind])
                taken += seconds if 0 <= seconds < float("inf") else 0.0
        return taken

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, on a new line even if a killed process left half a line."""
        path = self.directory / LOG
        with naming(path), open(path, "ab+") as file:
            torn = file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
            file.write(("\n" if torn else "").encode() + json.dumps(line).encode() + b"\n")


def _place(chunk: Chunk) -> list[int]:
    """The place of a chunk in the grid: its number, program, rows and columns."""
    return [chunk.number, chunk.program, chunk.outer, chunk.outer_stop, chunk.inner, chunk.inner_stop]


def described(plan: Plan) -> list[list[Any]]:
    """The layouts of a plan's programs (chunk sizes and compiling efforts), in the form that a manifest holds."""
    return [[p.layout.outer, p.layout.inner, *p.layout.effort] for p in plan.programs]


def layouts(manifest: dict[str, Any] | None) -> tuple[Layout, ...] | None:
    """The layouts of an earlier run (None without a manifest); its chunks can only be reused with the same layouts."""
    if not manifest:
        return None
    listed = manifest.get("layouts")
    if not isinstance(listed, list) or not listed:
        raise ValueError("it has no layouts")
    return tuple(map(_layout, listed))


def _layout(given: Any) -> Layout:
    """The layout that a manifest holds as a list; ValueError where it is not valid."""
    most = 2 + len(Effort._fields)
    if not isinstance(given, list) or not 2 <= len(given) <= most:
        raise ValueError(f"{shown(given)} is not a layout")
    outer, inner, *effort = given
    if any(not isinstance(each, str) or each not in EFFORTS for each in effort):
        raise ValueError(f"{shown(effort)} is not a compiling effort")
    if not all(isinstance(size, int) and 0 < size < 2**31 for size in (outer, inner)):
        raise ValueError(f"a chunk cannot have {shown(outer)} x {shown(inner)} cells")
    return Layout(outer, inner, Effort(*effort))
