"""A run directory: manifest, one atomic file per chunk, collected results. It belongs to one config."""

import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr

from gpsense.errors import BadInput
from gpsense.grid.compiling import EFFORTS, options
from gpsense.grid.files import atomic, unwritable, writable, write_json
from gpsense.grid.plan import Chunk, Effort, Layout, Plan

MANIFEST = "manifest.json"
PACKAGES = ("gpsense", "jax", "jaxlib", "optax", "equinox", "numpy", "xarray")


def write_dataset(path: Path, dataset: xr.Dataset) -> None:
    """netCDF (zlib 1, shuffle), atomically."""
    packed = {"zlib": True, "complevel": 1, "shuffle": True}
    encoding = {str(name): packed for name, values in dataset.data_vars.items() if values.ndim}
    with atomic(path) as aside:
        dataset.to_netcdf(aside, engine="h5netcdf", encoding=encoding)


def read_dataset(path: Path) -> xr.Dataset:
    """A netCDF file, loaded and closed."""
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        return dataset.load()


def check(directory: Path, digest: str) -> dict[str, Any] | None:
    """The manifest of a run to resume, None for a fresh directory; BadInput for one that cannot be used.

    Hidden files do not count. Writes nothing.
    """
    writable(directory)
    if not directory.exists() or all(path.name.startswith(".") for path in directory.iterdir()):
        return None
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        theirs = manifest["digest"]
        layouts(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput("out", f"{directory} is not empty and not a gpsense run", "choose another directory") from None
    if theirs != digest:
        problem = f"{directory} belongs to another config (digest {theirs}, this one {digest})"
        raise BadInput("out", problem, "choose another directory")
    return manifest


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def versions() -> dict[str, Any]:
    """What a number depends on besides the config: versions, devices, precision and flags."""
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "backend": jax.default_backend(),
        "host": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "precision": str(jnp.result_type(float)),
        "flags": {
            "jax_default_matmul_precision": jax.config.jax_default_matmul_precision,  # pyright: ignore[reportAttributeAccessIssue]
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            "compile_options": {effort: options(effort) for effort in EFFORTS},
        },
    }


class Store:
    """The files of one run."""

    def __init__(self, directory: Path):
        self.directory = directory

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Make the directory and its manifest unless they are there; returns the manifest that stands.

        BadInput where that is not possible or the manifest that stands is of another config.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(self.directory / MANIFEST, manifest, keep=True)
            (self.directory / "chunks").mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(self.directory, error) from None
        return check(self.directory, manifest["digest"]) or manifest

    def path(self, chunk: Chunk) -> Path:
        """The file of a chunk."""
        return self.directory / "chunks" / f"{chunk.number:06d}.nc"

    def missing(self, plan: Plan) -> list[Chunk]:
        """The chunks that are still to be run."""
        return [chunk for chunk in plan.chunks if not self.path(chunk).exists()]

    def write(self, chunk: Chunk, dataset: xr.Dataset) -> None:
        """Store a chunk."""
        write_dataset(self.path(chunk), dataset)

    def chunks(self, plan: Plan) -> Iterator[tuple[Chunk, xr.Dataset]]:
        """The stored chunks of a plan; BadInput where one is damaged."""
        for chunk in plan.chunks:
            if self.path(chunk).exists():
                try:
                    yield chunk, read_dataset(self.path(chunk))
                except (OSError, ValueError):
                    raise BadInput("out", f"{self.path(chunk)} is damaged", "delete it and rerun") from None

    def keep(self, chunk: Chunk, dataset: xr.Dataset, line: dict[str, Any]) -> None:
        """Store a chunk and what metrics.jsonl says of it."""
        self.write(chunk, dataset)
        self.log(line)

    def seconds(self, kind: str = "seconds") -> float:
        """What the stored chunks took in all, as metrics.jsonl tells; ``kind`` seconds or compile_seconds."""
        taken: dict[int, float] = {}
        path = self.directory / "metrics.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
                taken[entry["chunk"]] = entry[kind]
            except (ValueError, KeyError, TypeError):  # torn by a kill: the chunk counts, its time is not known
                continue
        return sum(taken.values())

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl, on a line of its own whatever a kill left before."""
        path = self.directory / "metrics.jsonl"
        torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        with open(path, "a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + json.dumps(line) + "\n")


def described(plan: Plan) -> list[list[Any]]:
    """How a plan is cut and compiled, a program at a time, as a manifest holds it."""
    return [[p.layout.outer, p.layout.inner, *p.layout.effort] for p in plan.programs]


def layouts(manifest: dict[str, Any] | None) -> tuple[Layout, ...] | None:
    """How an earlier run was cut and compiled; its chunks keep their meaning only if that is done again."""
    return tuple(_layout(*each) for each in manifest["layouts"]) if manifest else None


def _layout(outer: int, inner: int, *effort: str) -> Layout:
    if any(each not in EFFORTS for each in effort):
        raise ValueError(f"no effort {effort}")
    return Layout(int(outer), int(inner), Effort(*effort))
