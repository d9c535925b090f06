"""The risk of the trained network: against the number of samples, for several directions, after further descent."""

import numpy as np
import xarray as xr

from gpsense.pruning.inputs import PARITIES
from launch.claims.drawing import PALETTE, curve, law, log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, each, mean, over_seeds, values

RULES = {"gradient": "pruned", "none": "unpruned", "oracle": "oracle support", "magnitude": "by magnitude"}


def excess_risk(runs: Runs) -> Outcome:
    """Excess risk against n: pruned, unpruned and given the support, beside the slope -1/2 of the paper's rate."""
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(part for cells in runs.values() for part in each(cells, "rule")):
        name, n = RULES[str(one["rule"].values)], one["n"].values
        error = values(one["error"], "seed", "n")
        curve(axes, n, error, index, name)
        for place, count in enumerate(n):
            quantities[f"{name}, n = {int(count)}"] = over_seeds(np.median, error[:, place])
        if name == "pruned":
            law(axes, n, np.median(error[:, 0]) * (n / n[0]) ** -0.5, "slope -1/2", ":")
    log_log(axes, "samples n", "excess risk / variance of the target")
    return Outcome(quantities, figure)


def multi_index(runs: Runs) -> Outcome:
    """Energy in the span of several directions, and excess risk, against n."""
    figure, (left, right) = panels(2)
    quantities: dict[str, Quantity] = {}
    colour = 0
    for cells in runs.values():
        for one in each(cells, "rule", "residual"):
            name = RULES[str(one["rule"].values)]
            if name == "pruned":
                name += {"none": "", "mean": ", y - <mu, x>", "ols": ", y - least squares"}[str(one["residual"].values)]
            energy, error = values(one["energy"], "seed", "n"), values(one["error"], "seed", "n")
            curve(left, one["n"].values, energy, colour, name)
            curve(right, one["n"].values, error, colour, name)
            quantities[f"energy at the most samples, {name}"] = mean(energy[:, -1])
            quantities[f"excess risk at the most samples, {name}"] = over_seeds(np.median, error[:, -1])
            colour += 1
    left.set(xscale="log", xlabel="samples n", ylabel="energy ‖WᵀV‖² / ‖W‖²", ylim=(0, 1))
    left.legend(fontsize=8)
    log_log(right, "samples n", "excess risk / variance of the target")
    return Outcome(quantities, figure)


def operations(cells: xr.Dataset) -> np.ndarray:
    """Operations per sample (seeds,), as a plan counts them: scores, steps on all coordinates, steps on those kept.

    Scores take ``2 d^2`` per bias and part of the activation; a step of m pairs of neurons on d inputs, ``12 m d``.
    """
    dim, neurons, dense = int(cells["dim"]), int(cells["neurons"]), str(cells["method"].values) == "descent"
    parts = len(PARITIES[str(cells["parity"].values)].parts)
    scores = 0 if dense else 2.0 * dim**2 * int(cells["biases"]) * parts
    kept, before, after = (values(cells[name], "seed") for name in ("rank", "steps_train", "steps_fine_tune"))
    return scores + 12.0 * neurons * (before * dim + (after + (0 if dense else 1)) * kept)


def general_scheme(runs: Runs) -> Outcome:
    """Pruning, one step, ridge and descent on all parameters, compared with dense training and magnitude pruning."""
    figure, (left, right) = panels(2)
    quantities: dict[str, Quantity] = {}
    names = {"": "pruned at the start", "dense": "trained, then pruned by magnitude"}
    stages = ("error_trained", "error_pruned", "error")
    cost, risk = ({key: measure(runs[key]) for key in names} for measure in (operations, _risk))
    for index, (key, name) in enumerate(names.items()):
        cells = runs[key]
        errors = np.stack([values(cells[stage], "seed") for stage in stages], axis=1)
        points(left, np.arange(3) + 0.06 * index, errors, index, name, "os"[index])
        right.plot(cost[key], risk[key], "os"[index], color=PALETTE[index], ms=5, label=name)
        for stage, label in zip(stages, ("before pruning", "after pruning", "fine-tuned"), strict=True):
            quantities[f"{label}, {name}"] = over_seeds(np.median, values(cells[stage], "seed"))
    quantities["cost of dense over pruned at the start"] = over_seeds(np.median, cost["dense"] / cost[""])
    quantities["risk, dense less pruned at the start"] = over_seeds(np.median, risk["dense"] - risk[""])
    quantities["risk, fine-tuned over one step"] = over_seeds(
        np.median, risk[""] / values(runs[""]["error_pruned"], "seed")
    )
    left.set(xticks=range(3), yscale="log", ylabel="excess risk / variance of the target")
    left.set_xticklabels(["before pruning", "after pruning", "fine-tuned"])
    left.legend(fontsize=8)
    log_log(right, "operations a sample, scores and training", "excess risk / variance of the target")
    return Outcome(quantities, figure)


def _risk(cells: xr.Dataset) -> np.ndarray:
    """The final excess risk of every seed."""
    return values(cells["error"], "seed")
