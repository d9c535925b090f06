"""Run a grid: ``python -m launch.grid [CONFIG.yaml] [--section.field values] [--out DIR] [--dry-run]``.

Plans, runs what is missing chunk by chunk, collects one labelled Dataset, draws figures and a page, prints a table.
Run again to resume. Exit codes: 0 done, 1 every cell diverged, 2 refused, 130 interrupted (resumable).
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.arguments import Arguments, parse
from launch.config import Config, Refusal
from launch.shell import INTERRUPTED, guarded, interruptible, leave
from launch.values import Values

PREFIXES = {"problem": "", "train": "", "prune": "", "fine_tune": "fine_tune_", "baseline": "baseline_"}

if TYPE_CHECKING:
    import numpy as np

    from gpsense.grid import Grid, Plan
    from launch.store import Store


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    return guarded(lambda: run(parse(sys.argv[1:] if argv is None else argv)))


def run(arguments: Arguments) -> int:
    """Check everything, then plan, run and report."""
    config = arguments.config
    truth = read_truth(config, arguments.folder)
    digest = config.digest(b"" if truth is None else truth.tobytes())
    out = arguments.out or Path("runs") / f"{config.name}-{digest[:8]}"

    from gpsense.errors import BadInput
    from gpsense.grid import fitted, make_plan
    from launch import device, store

    manifest = store.check(out, digest)
    device.configure(config.run.precision)
    try:
        memory = device.memory_budget(config.run.memory_gib)
        grid = to_grid(config, truth)
        plan = make_plan(grid, memory, store.layouts(manifest))
        plan = plan if manifest else fitted(plan, memory)
    except BadInput as error:
        raise Refusal(str(error)) from None
    if arguments.dry_run:
        print(describe(plan))
        return 0
    place = store.Store(out)
    here = device.describe(config.run.precision)
    manifest = {"name": config.name, "digest": digest, "config": config.plain()} | here
    manifest = place.create(manifest | {"layouts": [[p.layout.outer, p.layout.inner] for p in plan.programs]})
    if any(manifest[key] != here[key] for key in ("versions", "devices")):
        print("notice: earlier chunks were made with other versions or devices, see manifest.json", file=sys.stderr)
    plan = make_plan(grid, memory, store.layouts(manifest))
    try:
        run_chunks(plan, place)
    except KeyboardInterrupt:
        chunks = len(plan.chunks)
        done = chunks - len(place.missing(plan))
        print(f"interrupted: {done} of {chunks} chunks are kept in {out}; run again to go on", file=sys.stderr)
        return INTERRUPTED
    return report(config, digest, plan, place)


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
    known = {name for role in (system.Spec, system.Instance, system.Setting) for name in Grid.fields(role)}
    axes = []
    for section, prefix in PREFIXES.items():
        part = getattr(config, section)
        for name, info in type(part).model_fields.items():
            value = getattr(part, name)
            if prefix + name in known and isinstance(value, Values):
                axes.append(Axis(prefix + name, value.values, value.listed))
            elif prefix + name not in known and isinstance(info.default, Values | None) and value != info.default:
                raise Refusal(f"{section}.{name}: system {config.system} has no such field; leave it out")
    constants: dict[str, Any] = {"dtype": config.run.precision, "form": config.run.form}
    constants["train_products"] = config.run.train_products
    constants["perturb"] = any(radius > 0 for radius in config.train.perturbation.values)
    constants["patience"] = config.train.patience
    if config.problem.measurements is None:
        axes.append(Axis("measurements", (system.Spec().measurements,), False))
    if config.problem.width is None:
        constants["width"] = None
    if config.problem.spectrum is not None:
        constants["spectrum"] = config.problem.spectrum
    if truth is not None:
        constants["truth"] = truth
    schedule = Schedule(config.train.steps, config.fine_tune.steps, config.run.record_every)
    seeds = Axis("seed", config.run.seeds.values)
    return Grid(system, schedule, seeds, tuple(axes), constants)


def describe(plan: "Plan") -> str:
    """The plan for people: programs, cells, chunks, bytes, operations and an estimate of the time."""
    compile_seconds, run_seconds, memory = estimate(plan)
    sizes = {axis.name for axis in plan.grid.axes} & plan.grid.traced
    lines = [
        f"programs {len(plan.programs)}   cells {plan.cells}   chunks {len(plan.chunks)}   "
        f"memory {memory / 2**20:.3g} MiB a chunk   results {plan.stored_bytes / 2**20:.3g} MiB",
        f"time about {run_seconds:.2g} s running + {compile_seconds:.2g} s compiling, "
        "measured on a few steps of the first program; nothing was written",
    ]
    for index, program in enumerate(plan.programs[:20]):
        spec = program.spec
        bounds = {
            name: f"{name} {'up to ' if name in sizes else ''}{getattr(spec, name)}" for name in ("width", "rank", "n")
        }
        lines.append(
            f"program {index}: {spec.method}, dim {spec.dim}, {', '.join(bounds.values())}, {spec.measurements}, "
            f"form {spec.form}, {spec.optimizer}; chunks of {program.layout.outer} x {program.layout.inner} cells, "
            f"{program.cost.flops:.3g} flops a step"
        )
    if len(plan.programs) > 20:
        lines.append(f"... and {len(plan.programs) - 20} more programs")
    return "\n".join(lines)


def estimate(plan: "Plan") -> tuple[float, float, int]:
    """Seconds to compile and to run a plan, about, and peak bytes of a chunk.

    Bytes are those of the first program, compiled as it would run; time comes from a few steps of a few of its cells.
    Training and what comes before are half of what a program compiles; the rest is taken to cost as much again.
    """
    from dataclasses import replace

    from gpsense.grid import Layout, Program

    first = plan.programs[0]
    memory = Program(plan.grid, first).prepare(plan.chunks[0])
    layout = Layout(1, first.layout.inner)
    probe = Program(plan.grid, replace(first, layout=layout))
    chunk = replace(plan.chunks[0], outer_stop=plan.chunks[0].outer + 1)
    compiling, step = probe.time_steps(chunk)
    per_flop = step / (first.cost.flops * first.layout.inner * probe.outer)
    return 2 * compiling * len(plan.programs), per_flop * plan.flops, memory


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


def report(config: Config, digest: str, plan: "Plan", place: "Store") -> int:
    """Collect the chunks, write results, summary, figures and page, print the table."""
    from gpsense.descent import DIVERGED
    from gpsense.grid import collect
    from launch import figures, store, table
    from launch.report import write_report

    seconds, compiling = place.seconds("seconds"), place.seconds("compile_seconds")
    dataset = collect(plan, place.chunks(plan))
    dataset.attrs |= {"config_digest": digest, "name": config.name}
    store.write_dataset(place.directory / "results.nc", dataset)
    rows = table.rows(dataset, config.plain())
    diverged = int((dataset["status"] == DIVERGED).sum())
    summary = {"name": config.name, "digest": digest, "cells": plan.cells, "programs": len(plan.programs)}
    summary |= {"diverged": diverged, "seconds": round(seconds, 3), "compile_seconds": round(compiling, 3)}
    summary |= {"table": rows}
    store.write_json(place.directory / "summary.json", summary)
    figures.draw(dataset, place.directory / "figures")
    page = write_report(place.directory)
    count = len(config.run.seeds.values)
    print(f"\nMedians over {count} seed{'s' if count > 1 else ''}; errors are ||UU^T - M||_F / ||M||_F")
    print(table.text(rows))
    print(
        f"\n{plan.cells} cells in {seconds:.1f} s, after {compiling:.1f} s of compiling"
        + (f", {diverged} diverged" if diverged else "")
    )
    print(f"results {place.directory / 'results.nc'}   figures {place.directory / 'figures'}   page {page}")
    return 1 if diverged == plan.cells else 0


if __name__ == "__main__":
    leave(main())
