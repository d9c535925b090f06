"""Tickets of a LeNet-300-100, stopped at the least loss on validation images: their accuracy there, and the steps."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gpsense import theory
from launch.claims.drawing import curve, panels
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, exactly, mean, over_seeds, values


class Stop(NamedTuple):
    """Test accuracy in per cent at the stop, and the steps to it; both (seeds, networks)."""

    accuracy: np.ndarray
    steps: np.ndarray


def stopped(errors: np.ndarray, losses: np.ndarray, steps: np.ndarray) -> Stop:
    """The stops of runs, at the least of ``losses``; NaN where no loss is finite.

    ``errors`` and ``losses`` (seeds, networks, records) were recorded after ``steps`` (records,).
    """
    losses = np.where(np.isfinite(losses), losses, np.inf)
    best = losses.argmin(axis=-1)
    lost = np.isinf(losses.min(axis=-1))
    accuracy = 100 * (1 - np.take_along_axis(errors, best[..., None], -1)[..., 0])
    return Stop(np.where(lost, np.nan, accuracy), np.where(lost, np.nan, steps[best]))


def by_rounds(cells: xr.Dataset) -> tuple[np.ndarray, Stop, Stop]:
    """Shares kept in each round of an iterative run; stops of its tickets, and of their masks with fresh weights."""
    every = int(cells["step"].values[1])
    length = int(cells["round_steps"]) // every
    curves = [values(cells[name], "seed", "step")[:, 1:] for name in ("error_curve", "validation_curve")]
    rounds = curves[0].shape[1] // (2 * length)
    parts = [each[:, : 2 * rounds * length].reshape(len(each), rounds, 2, length) for each in curves]
    steps = every * np.arange(1, length + 1)
    kept = (1 - float(cells["share"])) ** np.arange(rounds)
    tickets, drawn = (stopped(parts[0][:, :, place], parts[1][:, :, place], steps) for place in (0, 1))
    return kept, tickets, drawn


def by_phase(cells: xr.Dataset, phase: str) -> Stop:
    """The stops within one phase, for runs along the axis ``kept``."""
    places = np.flatnonzero(cells["phase"].values == phase)
    places = places[cells["step"].values[places] > 0]
    part = cells.isel(step=places)
    begun = 0 if phase == "train" else int(cells.attrs["train_steps"])
    errors, losses = (values(part[name], "seed", "kept", "step") for name in ("error_curve", "validation_curve"))
    return stopped(errors, losses, part["step"].values - begun)


def named(kept: float) -> str:
    """The words for a share in the names of quantities."""
    return f"{100 * kept:.2g} % kept"


def _ratio(one: np.ndarray, other: np.ndarray) -> float:
    """The ratio of the means."""
    return float(one.mean() / other.mean())


def lenet(runs: Runs) -> Outcome:
    """Tickets of every round, compared with the dense network, their masks on fresh weights, and random masks."""
    kept, tickets, drawn = by_rounds(runs[""])
    dense, dense_steps = tickets.accuracy[:, 0], tickets.steps[:, 0]
    quantities: dict[str, Quantity] = {"dense": mean(dense), "steps of the dense network": mean(dense_steps)}
    for place, share in enumerate(kept[1:], start=1):
        at, own, new = named(share), tickets.accuracy[:, place], drawn.accuracy[:, place]
        quantities[f"ticket less dense, {at}"] = mean(own - dense)
        quantities[f"drawn anew less dense, {at}"] = mean(new - dense)
        quantities[f"ticket less drawn anew, {at}"] = mean(own - new)
        quantities[f"steps of the ticket over dense, {at}"] = over_seeds(_ratio, tickets.steps[:, place], dense_steps)
        quantities[f"steps drawn anew over ticket, {at}"] = over_seeds(
            _ratio, drawn.steps[:, place], tickets.steps[:, place]
        )
    shares, random = runs["random"]["kept"].values, by_phase(runs["random"], "fine_tune")
    for place, share in enumerate(shares):
        near = int(np.argmin(np.abs(np.log(kept / share))))
        quantities[f"random less dense, {named(share)}"] = mean(random.accuracy[:, place] - dense)
        quantities[f"drawn anew less random, {named(share)}"] = mean(
            drawn.accuracy[:, near] - random.accuracy[:, place]
        )
    weights = float(runs[""]["rank"].mean() / runs[""]["kept_share"].mean())
    for share in kept[1:]:
        asked = float(theory.samples_needed(1, weights * share)) / float(runs[""]["n"])
        quantities[f"samples by the law of masked networks over those used, {named(share)}"] = exactly(asked)
    figure, (left, right) = panels(2)
    found = [("ticket", kept, tickets), ("drawn anew", kept, drawn), ("random mask, drawn anew", shares, random)]
    _draw(left, right, found, dense, dense_steps)
    return Outcome(quantities, figure)


def lenet_one_shot(runs: Runs) -> Outcome:
    """Tickets of one-shot pruning, compared with the dense network."""
    cells = runs[""]
    tickets, before = by_phase(cells, "fine_tune"), by_phase(cells, "train")
    dense, dense_steps = before.accuracy[:, 0], before.steps[:, 0]
    quantities: dict[str, Quantity] = {"dense": mean(dense), "steps of the dense network": mean(dense_steps)}
    for place, share in enumerate(kept := cells["kept"].values):
        quantities[f"one shot less dense, {named(share)}"] = mean(tickets.accuracy[:, place] - dense)
        steps = over_seeds(_ratio, tickets.steps[:, place], dense_steps)
        quantities[f"steps of the ticket over dense, {named(share)}"] = steps
    figure, (left, right) = panels(2)
    _draw(left, right, [("one shot", kept, tickets)], dense, dense_steps)
    return Outcome(quantities, figure)


def _draw(
    left: Axes, right: Axes, found: list[tuple[str, np.ndarray, Stop]], dense: np.ndarray, dense_steps: np.ndarray
) -> None:
    """Draws accuracy and steps at the stop against the share kept."""
    for index, (label, kept, stop) in enumerate(found):
        curve(left, 100 * kept, stop.accuracy, index, label)
        curve(right, 100 * kept, stop.steps, index, label)
    for axes, level in ((left, dense), (right, dense_steps)):
        axes.axhline(level.mean(), color="black", ls="--", lw=1.4, label="dense")
        axes.set(xscale="log", xlabel="share of the weights kept in %")
        axes.invert_xaxis()
    left.set(ylabel="test accuracy in % at the least validation loss", ylim=(max(dense.mean() - 8, 0), 100))
    right.set(ylabel="steps to the least validation loss")
    left.legend(fontsize=8)
