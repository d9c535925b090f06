"""Runs a grid: ``python -m launch.grid [CONFIG.yaml] [--section.field values] [--out DIR] [--dry-run]``.

With ``--shard i/N`` it runs one part of the grid, with ``--cluster local:N`` it uses dask workers, and with
``--distributed auto`` it is one of several processes. ``python -m launch.grid --verify DIR`` checks a stored run.

The command plans the grid, runs the missing chunks one by one, collects them in one labelled Dataset, draws figures and
a page, and prints a table. Rerun to resume. Exit codes: 0 done, 1 all diverged or OS error, 2 bad input, 130
interrupted.
"""

import sys
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpsense.errors import counted
from launch import device, plugins, processes
from launch.arguments import Arguments, Check, choices, parse
from launch.config import Config
from launch.schema import default, plain, schema
from launch.shell import INTERRUPTED, guarded, leave
from launch.work import ROOT, Work, collect, opened, plan, run_missing

if TYPE_CHECKING:
    import xarray as xr

    from gpsense.grid import Plan

__all__ = ["choices", "main"]
SETTLED = 0.1  # a cell has settled if one more step changes its loss by at most this share


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    device.use_cores()
    return guarded(lambda: run(parse(sys.argv[1:] if argv is None else argv)))


def run(arguments: Arguments | Check) -> int:
    """Verify a stored run, or plan, run and report a grid; returns the exit code."""
    if isinstance(arguments, Check):
        from launch.verify import verify

        return verify(arguments.directory, arguments.allow_plugins)
    parts, shard = arguments.shard[1] if arguments.shard else 1, arguments.shard
    if arguments.distributed is not None:
        parts, shard = processes.join(arguments.distributed, arguments.shard, arguments.out or ROOT), None
    work = plan(arguments.config, arguments.folder, arguments.out, parts=parts)
    if arguments.dry_run:
        print(describe(work.plan))
        return 0
    before = contents(work)
    try:
        if shard is not None:
            return run_shard(work, shard)
        work = run_missing(work, meanwhile=lambda: import_module("launch.report"), cluster=arguments.cluster)
    except KeyboardInterrupt:
        return INTERRUPTED
    return report(work, before) if processes.first() else processes.leave(work.out)


def run_shard(work: Work, shard: tuple[int, int]) -> int:
    """Run one part of the missing chunks and print how many of all chunks are stored."""
    made = run_missing(work, shard=shard).plan
    place, (index, count) = opened(work), shard
    there = f"{place.count(made)} of {len(made.chunks)} chunks are in {work.out}"
    print(f"part {index} of {count} is done; {there}; run the same command without --shard to collect them")
    return 0


def describe(plan: "Plan") -> str:
    """The plan in words: programs, cells, chunks, bytes, operations and an estimate of the time."""
    compile_seconds, run_seconds, memory = estimate(plan)
    sizes = [axis.name for axis in plan.grid.axes if axis.name in plan.grid.traced]
    bounds = f" ({', '.join(sizes)} up to this size)" if sizes else ""
    lines = [
        f"programs {len(plan.programs)}   cells {plan.cells}   chunks {len(plan.chunks)}   "
        f"memory {memory / 2**20:.3g} MiB a chunk   results {plan.stored_bytes / 2**20:.3g} MiB",
        f"time about {run_seconds:.2g} s running + {compile_seconds:.2g} s compiling, "
        "measured on a few steps of the first program; nothing was written",
    ]
    for index, program in enumerate(plan.programs[:20]):
        once = f" and {program.cost.once:.3g} once" if program.cost.once else ""
        lines.append(
            f"program {index}: {program.system.describe()}{bounds}; chunks of "
            f"{program.layout.outer} x {program.layout.inner} cells, {program.cost.flops:.3g} flops a step{once}"
        )
    if len(plan.programs) > 20:
        lines.append(f"... and {counted(len(plan.programs) - 20, 'more program')}")
    return "\n".join(lines)


def estimate(plan: "Plan") -> tuple[float, float, int]:
    """Approximate seconds to compile and to run a plan, and the peak memory of a chunk in bytes.

    The memory is that of the first program, compiled as it would run; the times are measured on a few training steps of
    a few of its cells. Compiling those steps is assumed to take half as long as compiling the whole program.
    """
    from dataclasses import replace

    from gpsense.grid import Program

    first = plan.programs[0]
    memory = Program(plan.grid, first).prepare(plan.chunks[0])
    layout = replace(first.layout, outer=1)
    probe = Program(plan.grid, replace(first, layout=layout))
    chunk = replace(plan.chunks[0], outer_stop=plan.chunks[0].outer + 1)
    compiling, seconds = probe.time_steps(chunk)
    timed = first.cost.flops if plan.grid.schedule.train_steps else first.cost.once
    cells = first.layout.inner * probe.outer
    share = plan.flops / (timed * cells) if timed else plan.cells / cells
    return 2 * compiling * len(plan.programs), seconds * share, memory


def certified(dataset: "xr.Dataset") -> dict[str, Any] | None:
    """How close to stationary the cells were where training stopped; None where that was not measured.

    Cells that had not settled are counted as ``unsettled``; the rest is about those that had, and did not diverge.
    ``gradient_norm`` is their largest gradient norm eps, and ``gamma = sqrt(eps)``. For each, the smallest Hessian
    eigenvalue has an upper and a lower bound; ``curvature`` is the least upper bound of all cells, and
    ``curvature_low`` the least lower bound. A cell counts among the ``minima`` if its lower bound is at least
    ``-gamma`` (each with probability 0.999), among the ``saddles`` if its upper bound is below ``-gamma``, else as
    ``undecided``.
    """
    if not {"gradient_norm_trained", "curvature_trained", "curvature_low"} <= set(dataset.data_vars):
        return None
    names = ("gradient_norm_trained", "curvature_trained", "curvature_low")
    gradient, high, low = (dataset[name].values for name in names)
    if np.isnan(high).all():
        return None
    moving = ~np.isnan(high) & unsettled(dataset)
    there = ~np.isnan(high) & ~moving
    gradient, high, low = gradient[there], high[there], low[there]
    if not there.any():
        numbers = dict.fromkeys(("gradient_norm", "gamma", "curvature", "curvature_low"))
        return {**numbers, "minima": 0, "saddles": 0, "undecided": 0, "unsettled": int(moving.sum())}
    eps = float(gradient.max())
    gamma = eps**0.5
    minima, open_ = int((low >= -gamma).sum()), int((high >= -gamma).sum())
    return {
        "gradient_norm": eps,
        "gamma": gamma,
        "curvature": float(high.min()),
        "curvature_low": float(low.min()) if bool((low > float("-inf")).all()) else None,
        "minima": minima,
        "saddles": high.size - open_,
        "undecided": open_ - minima,
        "unsettled": int(moving.sum()),
    }


def unsettled(dataset: "xr.Dataset") -> np.ndarray:
    """Whether each cell was still far from settled where training stopped, as an array of the cells' shape.

    The criterion: ``rate ||gradient||^2``, the first-order change of the loss in one step of gradient descent, exceeds
    a tenth of the loss. False everywhere if the dataset lacks ``loss_trained`` or ``rate``.
    """
    gradient = dataset["gradient_norm_trained"]
    if not {"loss_trained", "rate"} <= set(dataset.variables):
        return np.zeros(gradient.shape, bool)
    step = (dataset["rate"] * gradient**2).transpose(*gradient.dims)
    return (step > SETTLED * dataset["loss_trained"].transpose(*gradient.dims)).values


def certificate_words(found: dict[str, Any]) -> str:
    """The text under a run's table: what is proven about the points where training stopped."""
    moving = found["unsettled"]
    told = [
        f"In {counted(moving, 'cell')} one more step would change the loss by more than a tenth (train.rate times the "
        "squared gradient norm), so that nothing is said about where training would stop: lower train.rate, or give "
        "more train.steps."
    ] * (moving > 0)
    if found["gradient_norm"] is not None:
        low = f"{-found['gamma']:.2g}"
        cells = counted(found["minima"] + found["saddles"] + found["undecided"], "cell")
        counts = {
            f"approximate minim{'um' if found['minima'] == 1 else 'a'} (each with probability 0.999)": found["minima"],
            f"saddle{'s' * (found['saddles'] != 1)}": found["saddles"],
            "undecided (a larger run.curvature_steps may decide)": found["undecided"],
        }
        told += [
            f"Where training stopped, the gradient norm of {'the other ' if moving else ''}{cells} is at most "
            f"{found['gradient_norm']:.2g}. Their smallest Hessian eigenvalue classifies them: {low} (minus the "
            "square root of that norm) or more is an approximate minimum, less is a saddle. That makes "
            + ", ".join(f"{count} {words}" for words, count in counts.items() if count)
            + f"; the lowest eigenvalue found is {found['curvature']:.2g}."
        ]
    return " ".join(told)


class Contents(NamedTuple):
    """The number of chunks in a run directory, and the seconds that they took to run and to compile."""

    chunks: int
    seconds: float
    compiling: float


def contents(work: Work) -> Contents:
    """The :class:`Contents` of a run's directory at present."""
    place = opened(work)
    return Contents(place.count(work.plan), place.seconds(), place.seconds("compile_seconds"))


def time_words(cells: str, before: Contents, now: Contents) -> str:
    """How long a run took, in words; for a resumed run, the chunks that were stored before are told separately."""
    ran, compiling = now.seconds - before.seconds, now.compiling - before.compiling
    if not before.chunks:
        return f"{cells} in {ran:.1f} s, after {compiling:.1f} s of compiling"
    there = f"the chunks took {before.seconds:.1f} s, and {before.compiling:.1f} s of compiling"
    if before.chunks == now.chunks:
        return f"{cells}; {there}"
    new = counted(now.chunks - before.chunks, "chunk")
    there = f"{before.chunks} of {now.chunks} chunks were there before, which took {before.seconds:.1f} s"
    return f"{cells}; {new} in {ran:.1f} s now, after {compiling:.1f} s of compiling; {there}"


def defaults_words(config: Config) -> str:
    """The optimizer and rate of a user's own system, in words, where they are the defaults; otherwise empty."""
    fields = schema(config.system) if plugins.is_code(config.reference) else {}
    places = [place for place in ("train.optimizer", "train.rate") if place in fields]
    told = [f"{fields[p].name} {plain(v)}" for p in places if (v := config.values[p]) == default(fields[p])]
    return f"; {' and '.join(told)} by default" if told else ""


def risen(dataset: "xr.Dataset") -> int:
    """The number of cells that did not diverge but end at a loss more than ten times the initial one."""
    if "loss_curve" not in dataset:
        return 0
    first, last = (dataset["loss_curve"].isel(step=at) for at in (0, -1))
    return int((last > 10 * first).sum())


def report(work: Work, before: Contents | None = None) -> int:
    """Write results, summary, figures and page, and print the table; ``before``: what was stored before the run."""
    from gpsense.descent import COLLAPSED, DIVERGED
    from gpsense.grid import files, store
    from gpsense.plots.view import others, problem_words
    from launch import figures, table
    from launch.report import write_report

    config, place = work.config, store.Store(work.out)
    now = contents(work)
    dataset = collect(work)
    rows = table.rows(dataset, config.system.table)
    cells = counted(work.plan.cells, "cell")
    diverged, collapsed = (int((dataset["status"] == code).sum()) for code in (DIVERGED, COLLAPSED))
    summary = {
        "name": config.name,
        "digest": work.digest,
        "cells": work.plan.cells,
        "programs": len(work.plan.programs),
    }
    certificate = certified(dataset)
    summary |= {
        "certificate": certificate,
        "diverged": diverged,
        "collapsed": collapsed,
        "seconds": round(now.seconds, 3),
        "compile_seconds": round(now.compiling, 3),
    }
    summary |= {"table": rows}
    files.write_json(place.directory / "summary.json", summary)
    figures.draw(dataset, place.directory / "figures")
    page = write_report(place.directory)
    held = textwrap.fill(", ".join(problem_words(dataset).values()), 120)
    seeds = counted(dataset.sizes["seed"], "seed")
    words = f"Medians over {seeds}" if dataset.sizes["seed"] > 1 else f"Values of {seeds}"
    meaning = dataset["error"].attrs["long_name"] if "error" in dataset else "error"
    words += f"; errors: {meaning}" if meaning not in ("error", f"error of {config.system.name}") else ""
    words += defaults_words(config)
    print("\n".join(["", *filter(None, [held]), words]))
    print(table.text(rows, table.headings(dataset)))
    if left := others(dataset, rows[0]):
        print("\n" + textwrap.fill(left, 120))
    if certificate is not None:
        print("\n" + textwrap.fill(certificate_words(certificate), 120))
    rising = risen(dataset)
    lower = "; lower train.rate" if (diverged or rising) and "train.rate" in config.values else ""
    print(
        f"\n{time_words(cells, before or now, now)}"
        + (f", {diverged} diverged" * bool(diverged))
        + ", so that no figure is drawn" * (diverged == work.plan.cells)
        + (f", {rising} with a loss more than ten times that of the start" * bool(rising))
        + lower
        + (f", {collapsed} with a layer that has no weight left (kept_by_layer)" if collapsed else "")
    )
    drawn = f"   figures {place.directory / 'figures'}" * (diverged < work.plan.cells)
    print(f"results {place.directory / 'results.nc'}{drawn}   page {page}")
    return 1 if diverged == work.plan.cells else 0


if __name__ == "__main__":
    leave(main())
