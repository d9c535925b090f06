"""One config as work: checked, planned, run into its directory chunk by chunk, collected.

What ``launch.grid`` and ``launch.claims`` share; they add what is printed and drawn.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from launch.config import Config, Refusal
from launch.shell import interruptible
from launch.values import Values

PREFIXES = {"problem": "", "train": "", "prune": "", "fine_tune": "fine_tune_", "baseline": "baseline_"}
SCHEDULED = {"steps", "fine_tune_steps"}  # of every system
CONSTANTS = (
    ("problem", "link"),
    ("prune", "bias_values"),
    ("run", "form"),
    ("run", "train_products"),
    ("run", "curvature_steps"),
    ("run", "hessian"),
    ("problem", "folder"),
    ("train", "layers"),
    ("train", "patience"),
)

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from gpsense.grid import Grid, Plan
    from launch.store import Store


class Work(NamedTuple):
    """A config that was checked and planned, and where its results go."""

    config: Config
    digest: str
    out: Path
    plan: "Plan"
    memory: float


def planned(config: Config, folder: Path, out: Path | None = None, root: Path = Path("runs")) -> Work:
    """Check a config and its run directory and plan the grid; Refusal for anything wrong, before anything compiles.

    ``folder`` is where the config's files are looked for; ``out`` None means ``NAME-DIGEST`` below ``root``.
    """
    truth = read_truth(config, folder)
    digest = config.digest(b"" if truth is None else truth.tobytes())
    out = out or root / f"{config.name}-{digest[:8]}"

    from gpsense.errors import BadInput
    from gpsense.grid import fitted, make_plan
    from launch import device, store

    manifest = store.check(out, digest)
    device.configure(config.run.precision)
    try:
        memory = device.memory_budget(config.run.memory_gib)
        plan = make_plan(to_grid(config, truth), memory, store.layouts(manifest))
        plan = plan if manifest else fitted(plan, memory)
    except BadInput as error:
        raise Refusal(str(error)) from None
    return Work(config, digest, out, plan, memory)


def filled(work: Work) -> Work:
    """Run what is missing, cut as the run directory says; ctrl-C tells what is kept and goes on up."""
    from gpsense.grid import make_plan
    from launch import device, store

    config, place = work.config, store.Store(work.out)
    here = device.describe(config.run.precision)
    manifest = {"name": config.name, "digest": work.digest, "config": config.plain()} | here
    layouts = [[p.layout.outer, p.layout.inner] for p in work.plan.programs]
    manifest = place.create(manifest | {"layouts": layouts})
    if any(manifest[key] != here[key] for key in ("versions", "devices")):
        print("notice: earlier chunks were made with other versions or devices, see manifest.json", file=sys.stderr)
    plan = make_plan(work.plan.grid, work.memory, store.layouts(manifest))
    try:
        run_chunks(plan, place)
    except KeyboardInterrupt:
        chunks = len(plan.chunks)
        done = chunks - len(place.missing(plan))
        print(f"interrupted: {done} of {chunks} chunks are kept in {work.out}; run again to go on", file=sys.stderr)
        raise
    return work._replace(plan=plan)


def collected(work: Work) -> "xr.Dataset":
    """The chunks of a run as one labelled Dataset, written to results.nc."""
    from gpsense.grid import collect
    from launch import store

    dataset = collect(work.plan, store.Store(work.out).chunks(work.plan))
    dataset.attrs |= {"config_digest": work.digest, "name": work.config.name, "system": work.config.system}
    for name in ("spectrum", "link"):
        if getattr(work.config.problem, name) is not None:
            dataset.attrs[name] = list(getattr(work.config.problem, name))
    store.write_dataset(work.out / "results.nc", dataset)
    return dataset


def read_truth(config: Config, folder: Path) -> "np.ndarray | None":
    """The factor U* of ``problem.truth``, looked up here and beside the config; Refusal unless it is usable."""
    if config.problem.truth is None:
        return None
    import numpy as np

    name, field = config.problem.truth, "problem.truth"
    try:
        path = next((p for p in (Path(name), folder / name) if p.is_file()), None)
        if path is None:
            raise Refusal(f"{field}: no file {name}; give the path of a .npy file with a factor (dim, rank)")
        with open(path, "rb") as file:
            truth = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError):
        raise Refusal(f"{field}: {name} is not a .npy array; save the factor with numpy.save") from None
    (dim, *more), rank = config.problem.dim.values, config.problem.rank.values[0]
    if more or truth.shape != (dim, rank):
        raise Refusal(f"{field}: {name} has shape {truth.shape}; give one dim and rank that match (dim, rank)")
    real = truth.dtype.kind in "iuf"
    truth = truth.astype(np.float64) if real else truth
    if not real or not np.isfinite(truth).all() or not truth.any():
        raise Refusal(f"{field}: {name} must hold finite real numbers, not all zero; mend the file")
    return truth


def to_grid(config: Config, truth: "np.ndarray | None" = None) -> "Grid":
    """A checked config as axes over the system's fields; Refusal for a field that is set and that the system lacks."""
    from gpsense.grid import Axis, Grid
    from gpsense.pipeline import Schedule
    from gpsense.systems import SYSTEMS

    system = SYSTEMS[config.system]
    roles = (system.Setting, system.Instance, system.Spec)
    known = {name for role in roles for name in Grid.fields(role)}
    defaults = {name: value for role in roles for name, value in vars(role()).items()}
    own = {name: value for name, value in defaults.items() if isinstance(value, str | float | int) and name != "width"}
    axes = []
    for section, prefix in PREFIXES.items():
        part = getattr(config, section)
        for name, info in type(part).model_fields.items():
            value = getattr(part, name)
            if prefix + name in known and isinstance(value, Values):
                axes.append(Axis(prefix + name, value.values, value.listed))
            elif prefix + name in own and value is None:
                axes.append(Axis(prefix + name, (own[prefix + name],), False))
            elif prefix + name in known | SCHEDULED:
                continue
            elif isinstance(info.default, Values | None) and value != info.default:
                raise Refusal(f"{section}.{name}: system {config.system} has no such field; leave it out of the config")
    constants = {"dtype": config.run.precision} | _constants(config, known)
    if config.problem.width is None and "width" in known:
        constants["width"] = None
    if config.problem.spectrum is not None:
        constants["spectrum"] = config.problem.spectrum
    if truth is not None:
        constants["truth"] = truth
    given = (config.train.steps, config.fine_tune.steps)
    train, fine_tune = (own if value is None else value for value, own in zip(given, system.steps, strict=True))
    schedule = Schedule(train, fine_tune, config.run.record_every)
    seeds = Axis("seed", config.run.seeds.values)
    return Grid(system, schedule, seeds, tuple(axes), constants)


def _constants(config: Config, known: set[str]) -> dict[str, Any]:
    """What is the same in every cell, as far as the system's ``known`` fields go; Refusal where it is set beyond."""
    constants: dict[str, Any] = {}
    for section, name in CONSTANTS:
        part = getattr(config, section)
        value = getattr(part, name)
        if name in known and value is not None:
            constants[name] = value
        elif name not in known and value != type(part).model_fields[name].default:
            raise Refusal(f"{section}.{name}: system {config.system} has no such field; leave it out of the config")
    if "perturb" in known:
        constants["perturb"] = any(radius > 0 for radius in config.train.perturbation.values)
    return constants


def run_chunks(plan: "Plan", place: "Store") -> None:
    """Run what is missing, one file a chunk, with a progress bar."""
    from tqdm import tqdm

    from gpsense.grid import Program, chunk_dataset

    programs: dict[int, Program] = {}
    missing = place.missing(plan)
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    total = sum(chunk.cells for chunk in missing)
    bar = tqdm(total=total, desc=f"{plan.cells} cells", bar_format=layout, disable=None)
    with bar, interruptible() as check:
        for chunk in missing:
            check()
            if chunk.program not in programs:
                programs.clear()
                programs[chunk.program] = Program(plan.grid, plan.programs[chunk.program])
            program = programs[chunk.program]
            start, compiled = time.perf_counter(), program.compile_seconds
            arrays = program.run(chunk, _mover(bar, chunk.cells, check))
            place.write(chunk, chunk_dataset(chunk, arrays))
            compiling = program.compile_seconds - compiled
            place.log(_log_line(chunk, arrays, time.perf_counter() - start - compiling, compiling))


def _mover(bar: Any, cells: int, check: Callable[[], None]) -> Callable[[float], None]:
    """Move the bar by a share of a chunk's cells, and stop if ctrl-C came."""

    def move(share: float) -> None:
        check()
        bar.update(share * cells)

    return move


def _log_line(chunk: Any, arrays: Any, seconds: float, compiling: float) -> dict[str, Any]:
    """What metrics.jsonl keeps of a chunk; ``seconds`` without those of compiling."""
    import numpy as np

    from gpsense.descent import STATUS_NAMES

    finite = arrays["error"][np.isfinite(arrays["error"])]
    counts = {name: int((arrays["status"] == code).sum()) for code, name in enumerate(STATUS_NAMES) if code}
    return {
        "chunk": chunk.number,
        "program": chunk.program,
        "cells": chunk.cells,
        "seconds": round(seconds, 3),
        "compile_seconds": round(compiling, 3),
        "median_error": float(np.median(finite)) if finite.size else None,
    } | counts
