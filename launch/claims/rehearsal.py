"""Checks the names in a claim before its grids are run, by running its check on stand-ins for their results.

The stand-ins have the axes, names and shapes that the grids will give, and made-up numbers; nothing is compiled.
"""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import numpy as np

from gpsense.fields import nearest
from launch import plugins
from launch.claims.quantities import without_intervals
from launch.config import Config
from launch.shell import Refusal

if TYPE_CHECKING:
    import xarray as xr

    from launch.claims.experiment import Experiment

MOST_BYTES = 2**30  # largest stand-ins; the names of a larger grid are checked after it was run
Fill = Callable[[tuple[int, ...]], np.ndarray]
Shapes = dict[str, list[dict[str, tuple[int, ...]]]]  # by grid: for each of its programs, the shapes of its outputs


def _random(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def _falling(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that fall from 1 to 1e-9 along the last axis, like an error curve."""
    return np.broadcast_to(np.geomspace(1.0, 1e-9, shape[-1]), shape)


FILLS: tuple[Fill, ...] = (_random, _falling, lambda shape: 2.0 + _random(shape))


def check_names(experiment: "Experiment") -> None:
    """Raises Refusal if a claim expects a quantity that its check does not measure, or the check reads an unknown name.

    Other failures of the check on the stand-ins are ignored, since their numbers mean nothing.
    """
    claim, path = experiment.claim, experiment.path
    from launch.claims.experiment import absent

    if absent(experiment):
        return
    measured = recorded(path.parent / "claims.json").get(experiment.name, set())
    if not set(claim.expect) <= measured:
        measured = names_measured(experiment) or claim.expect
    unknown(path, claim.expect, measured)


def names_measured(experiment: "Experiment") -> Collection[str]:
    """The names of the quantities that the check measures on the first stand-ins it accepts; () if it fails on all."""
    known: Shapes = {}
    return next(filter(None, (_measured(experiment, fill, known) for fill in FILLS)), ())


def _measured(experiment: "Experiment", fill: Fill, known: Shapes) -> Collection[str]:
    """The names that the check measures on stand-ins filled by ``fill``; () where it fails because of their numbers."""
    try:
        with without_intervals(), redirect_stdout(StringIO()), catch_warnings(), np.errstate(all="ignore"):
            simplefilter("ignore")  # about made-up numbers
            runs = {
                name: stand_in(config, experiment.folder, fill, known.setdefault(name, []))
                for name, config in experiment.grids.items()
            }
            return experiment.check(runs).quantities
    except Exception as error:
        refusal = isinstance(error, Refusal)
        cause = error.__cause__ if refusal else error
        if _of_a_name(cause) or (refusal and cause is None):  # a refusal without a cause does not depend on the numbers
            words = str(error) if refusal else unfit(experiment.claim.check, error)
            raise Refusal(f"{experiment.path.name}: {words}") from error
        return ()


def _of_a_name(error: BaseException | None) -> bool:
    """Whether an error is about a missing name, and so does not depend on the numbers."""
    if isinstance(error, KeyError):
        return bool(error.args) and isinstance(error.args[0], str)
    return isinstance(error, AttributeError | NameError)


def unfit(check: str, error: Exception) -> str:
    """The message for an error that a check raised on its grids."""
    reason = f"{type(error).__name__}: {' '.join(str(error).splitlines()[:1])}"
    return f"claim.check: {check} cannot measure these grids ({reason}); give them the axes and names that it reads"


def unknown(path: Path, expect: Mapping[str, Any], measured: Collection[str]) -> None:
    """Raises Refusal, with the nearest name in ``measured``, if ``expect`` has a name that is not in it."""
    for name in expect:
        if name not in measured:
            near = nearest(name, measured) or f"use any of {', '.join(measured)}"
            raise Refusal(f"{path.name}: claim.expect: {name} is not measured; {near}")


@lru_cache(maxsize=16)
def recorded(path: Path) -> dict[str, set[str]]:
    """For each claim in the claims.json at ``path``, the names of its recorded quantities; {} if it is unreadable."""
    try:
        return {each["claim"]: set(each["measured"]) for each in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def stand_in(config: Config, folder: Path, fill: Fill, known: list[dict[str, tuple[int, ...]]]) -> "xr.Dataset":
    """The Dataset that a config's grid will give, filled with made-up numbers; MemoryError above MOST_BYTES.

    ``known`` holds the output shapes of the grid's programs; an empty list is filled by tracing these.
    """
    import jax

    from gpsense.grid import collect, make_plan
    from gpsense.grid.plan import Chunk, one_cell
    from gpsense.keys import key_shapes
    from gpsense.pipeline import run_cell
    from launch import device
    from launch.schema import sections_named
    from launch.work import labelled, read_arrays, to_grid

    device.configure(config.values["run.precision"])
    with plugins.blamed(config.reference), sections_named(config.system):
        plan = make_plan(to_grid(config, read_arrays(config, folder)), 2**60)
    if plan.stored_bytes > MOST_BYTES:
        raise MemoryError
    (data, setting), schedule = one_cell(plan.grid), plan.grid.schedule
    unmoved, records = replace(schedule, train_steps=0, fine_tune_steps=0), sum(map(len, schedule.recorded_steps()))

    def shapes(system: Any) -> dict[str, tuple[int, ...]]:
        """The shapes of a cell's outputs, traced without steps: these change the shapes of the curves alone."""
        cell = lambda keys: run_cell(system, unmoved, data, setting, keys)  # noqa: E731
        found = {name: each.shape for name, each in jax.eval_shape(cell, key_shapes()).items() if name != "state"}
        curve = lambda name, shape: name.endswith("_curve") and shape[:1] == (1,)  # noqa: E731
        return {name: (records, *shape[1:]) if curve(name, shape) else shape for name, shape in found.items()}

    known[:] = known or [shapes(program.system) for program in plan.programs]
    chunks = []
    for index, found in enumerate(known):
        arrays = {}
        for name, shape in found.items():
            size = (plan.n_outer, plan.n_inner, *shape)
            arrays[name] = np.ones(size, np.int32) if name.startswith("status") else fill(size)
        chunks.append((Chunk(index, index, 0, plan.n_outer, 0, plan.n_inner), arrays))
    return labelled(config, collect(plan, chunks))
