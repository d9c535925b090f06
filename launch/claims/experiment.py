"""Runs one claim as an experiment: reads its config, runs its grids, measures, draws and evaluates quantities."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from gpsense.fields import nearest
from gpsense.grid.run import settle
from gpsense.grid.tracing import Traces
from gpsense.keys import MOST_SEED
from gpsense.plots.view import without_failures
from launch import figures
from launch.claims.drawing import finish
from launch.claims.expectations import EXTRAS, Claim, Expectation
from launch.claims.quantities import Quantity
from launch.claims.rehearsal import unfit, unknown
from launch.claims.verdicts import SKIPPED, UNDECIDED, Verdict, judge, together
from launch.config import Config, merged, read_yaml, verify_used
from launch.config import build as launch_build
from launch.shell import Refusal
from launch.values import Values
from launch.work import Work, begin, check_plan, collect, plan, run_missing


class Outcome(NamedTuple):
    """What a check returns: quantities by name, and the figure of measurements and law."""

    quantities: dict[str, Quantity]
    figure: Figure


OWN = "own"  # in place of a paper's name
REQUIRED = [name for name, field in Claim.model_fields.items() if field.is_required()]
Runs = dict[str, xr.Dataset]
Check = Callable[[Runs], Outcome]


class Experiment(NamedTuple):
    """A claim with the configs of its grids: its own config under the name "", further grids under their names.

    ``offset`` was added to all seeds, on top of the claim's ``first_seed``.
    """

    paper: str
    name: str
    claim: Claim
    check: Check
    grids: dict[str, Config]
    path: Path
    size: str
    offset: int = 0

    @property
    def folder(self) -> Path:
        """The folder in which files that the config names are looked for."""
        return self.path.parent


def read_claims(folder: Path, full: bool, offset: int = 0) -> list[Experiment]:
    """The claims of a paper, every config checked; raises Refusal with the file and the field that are wrong."""
    found = (_read(path, folder.name, full, offset) for path in sorted(folder.glob("*.yaml")))
    return [experiment for experiment in found if experiment is not None]


def read_own(path: Path, full: bool, offset: int = 0) -> Experiment:
    """The claim of a user's config, whose Python file is imported; raises Refusal if the config has no claim."""
    found = _read(path, OWN, full, offset)
    if found is None:
        raise Refusal(f"{path.name}: claim: is missing; add a section claim with {', '.join(REQUIRED)}")
    return found


def _read(path: Path, paper: str, full: bool, offset: int) -> Experiment | None:
    """The claim of one config; None where it has none."""
    fields, folder = read_yaml(path), path.parent
    build = partial(launch_build, folder=folder, allow_plugins=paper == OWN)
    try:
        claim = build(fields).claim
        if claim is None:
            return None
        check = _check(claim, paper, folder)
        changes = {"": {}} | claim.grids | (claim.full_grids if full else {})
        size = claim.full if full else {}
        grids = {name: build(merged(merged(fields, size), change)) for name, change in changes.items()}
        for name, change in changes.items():
            verify_used(grids[name], fields, size, change)
        grids = {name: _moved(config, claim.first_seed, offset) for name, config in grids.items()}
        for config in grids.values() if paper == OWN else ():
            check_plan(config, folder)
    except Refusal as refusal:
        raise Refusal(f"{path.name}: {refusal}") from None
    name, words = grids[""].name, "full" if full else "small"
    return Experiment(paper, name, claim, check, grids, path, words, offset)


def _check(claim: Claim, paper: str, folder: Path) -> Check:
    """The function that measures a claim: an entry of its paper's CHECKS, or a user's own."""
    if paper == OWN:
        from launch.claims.own import own_check

        return own_check(claim, folder)
    checks = import_module(f"launch.claims.{paper}").CHECKS
    if claim.check not in checks:
        near = nearest(claim.check, checks)
        raise Refusal(f"claim.check: no check {claim.check}; {near or 'use one of ' + ', '.join(checks)}")
    return checks[claim.check]


def _moved(config: Config, first: int, offset: int) -> Config:
    """The config with ``first + offset`` added to all of its seeds; raises Refusal if one becomes too large."""
    seeds = [seed + first + offset for seed in config.values["run.seeds"].values]
    if max(seeds) > MOST_SEED:
        field = "--seed-offset" if offset else "claim.first_seed"
        raise Refusal(f"{field}: moves seeds beyond {MOST_SEED}; give a smaller number")
    return replace(config, values={**config.values, "run.seeds": Values(tuple(seeds), True)})


def caveat(paper: str) -> str:
    """The note that is printed beside all verdicts of a paper; empty where it has none."""
    return "" if paper == OWN else getattr(import_module(f"launch.claims.{paper}"), "CAVEAT", "")


class Running(NamedTuple):
    """An experiment being run: its output folder, the phases traced so far, and dask workers, if any."""

    experiment: Experiment
    out: Path
    known: Traces
    cluster: Any = None

    def work(self, name: str) -> Work:
        """The grid of this name, checked and planned."""
        return plan(self.experiment.grids[name], self.experiment.folder, root=self.out / "grids")

    def begin(self, name: str, precision: str) -> None:
        """Begin to compile a grid before its turn, if its precision is the one in use."""
        if self.experiment.grids[name].values["run.precision"] == precision:
            begin(self.work(name), self.known)


def evaluate(running: Running, following: Running | None = None) -> dict[str, Any]:
    """Run, measure, draw and evaluate a claim; returns its record for ``claims.json``.

    While the last program of a grid runs, the first of the next grid (of this claim or of ``following``) is compiled.
    """
    experiment, out = running.experiment, running.out
    if absent(experiment):
        return _record(experiment, {}, {}, SKIPPED, 0.0)
    if following and absent(following.experiment):
        following = None
    began = time.perf_counter()
    grids = [(running, name) for name in experiment.grids]
    ahead = [*grids[1:], (following, "") if following else None]
    datasets = {name: _dataset(running, name, next_) for (_, name), next_ in zip(grids, ahead, strict=True)}
    file = experiment.path.name
    try:
        quantities, figure = experiment.check(datasets)
    except Refusal as refusal:
        raise Refusal(f"{file}: {refusal}") from refusal
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise Refusal(f"{file}: {unfit(experiment.claim.check, error)}") from error
    expect = experiment.claim.expect
    unknown(experiment.path, expect, quantities)
    draw(figure, experiment, out / "figures")
    verdicts = {name: judge(expected, quantities[name]) for name, expected in expect.items()}
    word = together(verdicts.values()).word
    return _record(experiment, quantities, verdicts, word, time.perf_counter() - began)


def absent(experiment: Experiment) -> bool:
    """Whether the package that brings a claim's data is missing."""
    extra = experiment.claim.extra
    return extra is not None and find_spec(EXTRAS[extra]) is None


def _record(
    experiment: Experiment,
    quantities: dict[str, Quantity],
    verdicts: dict[str, Verdict],
    verdict: str,
    seconds: float,
) -> dict[str, Any]:
    """The claim's record for ``claims.json``."""
    expect = experiment.claim.expect
    return {
        "paper": experiment.paper,
        "claim": experiment.name,
        "size": experiment.size,
        "seed_offset": experiment.offset,
        "first_seed": experiment.claim.first_seed,
        "statement": experiment.claim.statement,
        "source": experiment.claim.source,
        "kind": experiment.claim.kind,
        "extra": experiment.claim.extra,
        "kinds": {name: expected.kind or experiment.claim.kind for name, expected in expect.items()},
        "precision": sorted({config.values["run.precision"] for config in experiment.grids.values()}),
        "expected": {name: expected_of(expected) for name, expected in expect.items()},
        "measured": {name: quantity.plain() for name, quantity in quantities.items()},
        "tolerance": {name: expected.within for name, expected in expect.items()},
        "verdicts": {name: each.word for name, each in verdicts.items()},
        "deciding_seeds": {name: each.seeds for name, each in verdicts.items() if each.word == UNDECIDED},
        "verdict": verdict,
        "digests": {name: config.digest() for name, config in experiment.grids.items()},
        "config": experiment.path.read_text(encoding="utf-8"),
        "seconds": round(seconds, 1),
    }


def _dataset(running: Running, name: str, following: tuple[Running, str] | None) -> xr.Dataset:
    """The results of a grid, run into a directory of its own or read from there; failed cells are NaN."""
    settle()
    precision = running.experiment.grids[name].values["run.precision"]
    meanwhile = partial(following[0].begin, following[1], precision) if following else lambda: None
    ran = run_missing(running.work(name), running.known, meanwhile, cluster=running.cluster)
    return without_failures(collect(ran))


def expected_of(expected: Expectation) -> Any:
    """An expectation for JSON: a number, a list of numbers, or a dict of both bounds."""
    if expected.value is not None:
        return list(expected.value) if isinstance(expected.value, tuple) else expected.value
    return {"at_least": expected.at_least, "at_most": expected.at_most}


def draw(figure: Figure, experiment: Experiment, folder: Path) -> None:
    """Save the figure as NAME.png, with the claim's name above the panels and its statement below."""
    finish(figure, experiment.name, experiment.claim.statement)
    figures.save(figure, folder / f"{experiment.name}.png")
