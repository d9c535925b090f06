"""Tickets found by iterative magnitude pruning, on a synthetic teacher and on images; starts by the tensor method."""

from functools import partial

import numpy as np
import xarray as xr

from launch.claims.drawing import curve, log_log, panels, points, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.lottery_ticket.samples import succeeded
from launch.claims.quantities import Quantity, each, log_slope, mean, over_seeds, share, values

TENTH = 0.1
SUCCESS = 1e-4  # errors below this count as equal
RULES = {
    "iterative_magnitude": "iterative",
    "magnitude": "one shot",
    "redraw": "iterative, drawn anew",
    "random": "random",
    "snip": "SNIP",
    "grasp": "GraSP",
    "synflow": "SynFlow",
}


def rounds(cells: xr.Dataset) -> tuple[np.ndarray, xr.DataArray]:
    """Shares kept in the rounds of one iterative run, and the error at the end of each; the first round is dense."""
    length = int(cells["round_steps"])
    ends = cells["step"].values
    ends = ends[(ends > 0) & (ends % length == 0)]
    shares_ = np.maximum((1 - float(cells["share"])) ** (ends // length - 1.0), float(cells["kept"]))
    return shares_, cells["error_curve"].sel(step=ends)


def iterative_teacher(runs: Runs) -> Outcome:
    """The error of tickets against the share pruned, for several numbers of samples."""
    cells = runs[""]
    kept, errors = rounds(cells)
    truth = 1 - int(cells["support"]) / int(cells["dim"])
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "n")):
        n, found = int(one["n"]), values(errors.sel(n=one["n"]), "seed", "step")
        curve(axes, 1 - kept, np.maximum(found, 1e-8), index, f"N = {n}")
        past = int(np.argmin(np.abs(1 - kept - truth))) + 2
        quantities[f"best share pruned, N = {n}"] = over_seeds(partial(_best, kept), found)
        quantities[f"best over dense, N = {n}"] = over_seeds(_gain, found)
        quantities[f"error two rounds past the truth, N = {n}"] = over_seeds(np.median, found[:, past])
    axes.axvline(truth, color="black", ls="--", lw=1.4, label="sparsity of the teacher")
    log_log(axes, "share of the weights pruned", "relative error of the weights (median)", both=False)
    return Outcome(quantities, figure)


def _floored(errors: np.ndarray) -> np.ndarray:
    """The medians over the seeds, with those below SUCCESS raised to it."""
    return np.maximum(np.median(errors, axis=0), SUCCESS)


def _best(kept: np.ndarray, errors: np.ndarray) -> float:
    """The share pruned at which the median error is least; in a tie, the largest."""
    return float(1 - kept[::-1][np.argmin(_floored(errors)[::-1])])


def _gain(errors: np.ndarray) -> float:
    """The least median error over the median error of the dense network."""
    return float(_floored(errors).min() / _floored(errors)[0])


def on_images(runs: Runs) -> Outcome:
    """Test accuracy in per cent against the share kept: iterative pruning and the baselines."""
    figure, (left, right) = panels(2)
    found: dict[str, np.ndarray] = {}
    for key, cells in runs.items():
        for one in each(cells, "rule"):
            rule = "redraw" if key == "redraw" else str(one["rule"].values)
            found[RULES[rule]] = 100 * (1 - values(one["error"], "seed"))
    kept, errors = rounds(runs[""].sel(rule="iterative_magnitude"))
    path = 100 * (1 - values(errors, "seed", "step"))
    dense, tenth = path[:, 0], int(np.argmin(np.abs(kept - TENTH)))
    share = f"{100 * kept[-1]:.2g} % kept"
    longer = 100 * (1 - values(runs[""].sel(rule="magnitude")["error_trained"], "seed"))
    quantities = {"dense": mean(dense), "dense, trained as long as the others": mean(longer)}
    quantities |= {f"iterative, {100 * kept[tenth]:.2g} % kept": mean(path[:, tenth])}
    quantities[f"iterative less dense, {100 * kept[tenth]:.2g} % kept"] = mean(path[:, tenth] - dense)
    quantities |= {f"{label}, {share}": mean(accuracy) for label, accuracy in found.items()}
    for label in ("one shot", "random"):
        quantities[f"iterative less {label}, {share}"] = mean(found["iterative"] - found[label])
    others = np.stack([accuracy for label, accuracy in found.items() if label != "iterative"], axis=1)
    quantities[f"iterative less the best of the others, {share}"] = over_seeds(_lead, found["iterative"], others)
    curve(left, kept, path, 0, "iterative, at the end of every round")
    for index, (label, accuracy) in enumerate(found.items()):
        points(left, [kept[-1]], accuracy[:, None], index, label, "os^dvx*"[index])
        points(right, [index], accuracy[:, None], index, label)
    for axes in (left, right):
        axes.axhline(dense.mean(), color="black", ls="--", lw=1.4, label="dense")
    left.set(xscale="log", xlabel="share of the weights kept", ylabel="test accuracy in %")
    left.legend(fontsize=8)
    right.set(xticks=range(len(found)), ylabel=f"test accuracy in %, {share}")
    right.set_xticklabels(list(found), rotation=30, ha="right", fontsize=8)
    return Outcome(quantities, figure)


def _lead(one: np.ndarray, others: np.ndarray) -> float:
    """The mean of ``one`` over the seeds, less the largest of the means of ``others`` (seeds, others)."""
    return float(one.mean() - others.mean(axis=0).max())


def starts(runs: Runs) -> Outcome:
    """Error of the tensor method's start and of a random one against n, and share of runs that succeed from each."""
    cells = runs[""]
    n = cells["n"].values
    figure, (left, right) = panels(2)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "start")):
        name = {"tensor": "tensor method", "gaussian": "random"}[str(one["start"].values)]
        begun, success = values(one["error_pruned"], "seed", "n"), succeeded(one, "n")
        curve(left, n, begun, index, name)
        shares(right, n, success, index, name, "os"[index])
        quantities[f"error of the start, {name}"] = over_seeds(lambda v: np.median(v, axis=0), begun)
        quantities[f"share that finds the teacher, {name}"] = share(success)
        if name == "tensor method":
            quantities["slope in n of the start's error"] = log_slope(n, begun)
            middle = np.median(begun, axis=0)
            left.plot(n, middle[-1] * (n / n[-1]) ** -0.5, "--", color="black", lw=1.4, label="slope -1/2")
    log_log(left, "samples N", "‖W0 - W*‖ / ‖W*‖, rows in their best order")
    right.set(xscale="log", xlabel="samples N", ylabel="share of runs that find the teacher", ylim=(-0.05, 1.05))
    right.legend(fontsize=8)
    return Outcome(quantities, figure)
