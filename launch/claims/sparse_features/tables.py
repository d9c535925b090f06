"""Real tables among columns of noise: what stays, and how well the network that is left predicts."""

import numpy as np
import xarray as xr

from gpsense.datasets import DIABETES_COLUMNS
from launch.claims.drawing import panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import mean, values

RULES = {
    "gradient": "pruned",
    "magnitude": "by magnitude",
    "none": "unpruned",
    "oracle": "real columns",
    "random": "random",
}


def diabetes(runs: Runs) -> Outcome:
    """Real and drawn columns kept, and errors on test rows: the paper's rule, others, and the Lasso."""
    ways = {label: runs[""].sel(rule=rule) for rule, label in RULES.items()} | {"Lasso": runs["lasso"]}
    risks = {label: values(cells["error"], "seed") for label, cells in ways.items()}
    figure, (left, right) = panels(2)
    for index, label in enumerate(("pruned", "by magnitude", "Lasso")):
        kept = _kept(ways[label])
        points(left, np.arange(kept.shape[1]) + 0.12 * index, kept, index, label, "osd"[index])
    left.set(xticks=range(len(DIABETES_COLUMNS) + 1), xticklabels=[*DIABETES_COLUMNS, "noise"])
    left.set(
        xlabel="column; noise: mean of those drawn", ylabel="share of seeds in which it is kept", ylim=(-0.05, 1.05)
    )
    left.legend(fontsize=8)
    for place, (label, sample) in enumerate(risks.items()):
        points(right, [place], sample[:, None], place, label)
    right.axhline(1, color="black", ls="--", lw=1.4)
    right.set(xticks=range(len(risks)), ylabel="squared error on test rows over their variance")
    right.set_xticklabels(list(risks), rotation=20)
    counts = {
        f"{words} kept, {label}": mean(values(ways[label][name], "seed"))
        for name, words in {"real": "real columns", "noise_kept": "noise columns"}.items()
        for label in ("pruned", "by magnitude", "Lasso")
    }
    quantities = counts | {f"risk, {label}": mean(sample) for label, sample in risks.items()}
    for other in ("unpruned", "Lasso", "by magnitude"):
        quantities[f"risk, pruned less {other}"] = mean(risks["pruned"] - risks[other])
    return Outcome(quantities, figure)


def _kept(cells: xr.Dataset) -> np.ndarray:
    """Whether each real column is kept (seeds, 10), and the share of those drawn (seeds, 1)."""
    selected = values(cells["selected"], "seed", "coordinate")
    real = len(DIABETES_COLUMNS)
    return np.concatenate([selected[:, :real], selected[:, real:].mean(axis=1, keepdims=True)], axis=1)
