"""How the results depend on choices: no penalty, the pruning rule, the optimizer, the parameters."""

import numpy as np
import xarray as xr

from gpsense import theory
from gpsense.plots.grids import share_above
from launch.claims.drawing import curve, law, legend_below, panels, points, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, exactly, mean, over_seeds, pooled_share, told, values


def law_at_known_rank(cells: xr.Dataset) -> float:
    """The relative error that the law at known rank predicts, for a truth whose eigenvalues are all one."""
    rank = int(cells["true_rank"])
    error = theory.exact_rank_error(float(cells["noise"]), int(cells["dim"]), rank, int(cells["n"]))
    return float(error) / rank**0.5


def unregularised(runs: Runs) -> Outcome:
    """Column norms without a penalty beside the chi-square law; errors of top-r pruning, also after a rotation."""
    cells = runs[""]
    width, rank = cells.sizes["column"], int(cells["true_rank"])
    plain, turned = cells.sel(rotation="none"), cells.sel(rotation="svd")
    norms = values(plain["column_norms"], "seed", "column")
    levels = np.linspace(0.01, 1, 100)
    above = np.array([share_above(one[None], levels) for one in norms])
    expected = np.array([float(theory.column_fraction(x, width, rank)) for x in levels])
    lost = float(theory.kept_columns_error(rank, width, rank))
    figure, (left, right) = panels(2)
    curve(left, levels, above, 1, "no penalty")
    law(left, levels, expected, "chi-square law")
    left.set(xlabel="x", ylabel="columns with norm ≥ x · largest [fraction]")
    left.legend(fontsize=8)
    pairs = {"top r": plain, "SVD, top r": turned}
    for index, (name, cell) in enumerate(pairs.items()):
        stages = np.stack([values(cell[kind], "seed") for kind in ("error_trained", "error_pruned", "error")], axis=1)
        points(right, np.arange(3) + 0.06 * index, np.maximum(stages, 1e-8), index, name, "os"[index])
    right.axhline(lost, color="black", ls="--", lw=1.4, label="law, top r")
    right.set(xticks=range(3), xticklabels=["trained", "pruned", "fine-tuned"], yscale="log", ylabel="relative error")
    right.legend(fontsize=8)
    pruned = values(plain["error_pruned"], "seed")
    at = lambda x: above[:, np.argmin(np.abs(levels - x))]  # noqa: E731
    law_at = lambda x: float(theory.column_fraction(x, width, rank))  # noqa: E731
    quantities = {
        "share above 1/4 over the law": mean(at(0.25) / law_at(0.25)),
        "share above 1/2 over the law": mean(at(0.5) / law_at(0.5)),
        "error after top-r pruning": mean(pruned),
        "the same over the law": over_seeds(lambda v: np.sqrt((v**2).mean()) / lost, pruned),
        "top r, after fine-tuning": mean(values(plain["error"], "seed")),
        "SVD first, top r, after pruning": mean(values(turned["error_pruned"], "seed")),
    }
    return Outcome(quantities, figure)


def pruning_rules(runs: Runs) -> Outcome:
    """Error after pruning and after fine-tuning under every rule, with and without the penalty."""
    cells = runs[""]
    rules, rotations = ([str(v) for v in cells[name].values] for name in ("rule", "rotation"))
    combinations = [(rule, rotation) for rotation in rotations for rule in rules]
    known = law_at_known_rank(cells)
    figure, panes = panels(2)
    for axes, (kind, title) in zip(panes, (("error_pruned", "pruned"), ("error", "fine-tuned")), strict=True):
        for index, penalty in enumerate(cells["penalty"].values):
            sample = [values(cells[kind].sel(rule=r, rotation=t, penalty=penalty), "seed") for r, t in combinations]
            label = f"penalty λ = {penalty:g}"
            points(axes, np.arange(len(sample)) + 0.1 * index, np.stack(sample, axis=1), 1 - index, label, "so"[index])
        names = [rule if rotation == "none" else f"{rule}, SVD" for rule, rotation in combinations]
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axes.set(yscale="log", ylabel=f"relative error, {title}")
        axes.axhline(known, color="black", ls="--", lw=1.4, label="law at known rank")
    legend_below(panes[0], columns=3)

    def final(rule: str, rotation: str, which: int, kind: str = "error") -> Quantity:
        error = values(cells[kind].sel(rule=rule, rotation=rotation).isel(penalty=which), "seed")
        return over_seeds(lambda v: np.median(v) / known, error)

    quantities = {
        "penalty, threshold": final("threshold", "none", -1),
        "penalty, largest gap": final("largest_gap", "none", -1),
        "penalty, random": final("random", "none", -1),
        "penalty, random, before fine-tuning": final("random", "none", -1, "error_pruned"),
        "no penalty, threshold": final("threshold", "none", 0),
        "no penalty, largest gap": final("largest_gap", "none", 0),
        "no penalty, top r": final("top_r", "none", 0),
        "no penalty, SVD, top r": final("top_r", "svd", 0),
        "no penalty, SVD, largest gap": final("largest_gap", "svd", 0),
    }
    return Outcome(quantities, figure)


def optimizers(runs: Runs) -> Outcome:
    """Rank and error under every optimizer, and under minibatch gradient descent."""
    methods: dict[str, xr.Dataset] = {str(v): runs[""].sel(optimizer=v) for v in runs[""]["optimizer"].values}
    methods["minibatch"] = runs["minibatch"]
    figure, (left, right) = panels(2)
    quantities = {}
    for index, (name, cells) in enumerate(methods.items()):
        rank, known = int(cells["true_rank"]), law_at_known_rank(cells)
        ranks = values(cells["rank"], "seed", "start_scale")
        right_rank = told(ranks == rank, ranks)
        errors = values(cells["error"], "seed", "start_scale")
        shares(left, cells["start_scale"].values * 1.04**index, right_rank, index, name)
        points(right, cells["start_scale"].values * 1.04**index, errors, index, name)
        quantities[f"right rank, {name}"] = pooled_share(right_rank)
        quantities[f"error over the law, {name}"] = over_seeds(lambda v, k=known: np.median(v) / k, errors)
        if index == 0:
            right.axhline(known, color="black", ls="--", lw=1.4, label="law at known rank")
    left.set(xscale="log", xlabel="start scale", ylabel="share of runs with the right rank", ylim=(-0.05, 1.05))
    right.set(xscale="log", xlabel="start scale", ylabel="relative error after fine-tuning")
    legend_below(right, columns=6)
    return Outcome(quantities, figure)


def prescription(runs: Runs) -> Outcome:
    """Share of runs with the right rank under this project's parameter rule, per start scale and condition number."""
    figure, (axes,) = panels(1)
    right_ranks, worst = [], 0.0
    for index, cells in enumerate(runs.values()):
        condition = float(cells["condition"])
        rank = int(cells["true_rank"])
        ranks = values(cells["rank"], "seed", "start_scale")
        found = told(ranks == rank, ranks)
        norm = np.linalg.norm(condition ** -np.linspace(0, 1, rank))
        worst = max(worst, float(cells["error_pruned"].values.max()) * norm * 2 * condition)
        both = f"penalty λ = {float(cells['penalty']):.3g}, smoothing β = {float(cells['smoothing']):.3g}"
        label = f"condition {condition:g}: {both}"
        shares(axes, cells["start_scale"].values * 1.05**index, found, index, label)
        right_ranks.append(found)
    axes.set(xscale="log", xlabel="start scale", ylabel="share of runs with the right rank", ylim=(-0.05, 1.05))
    axes.legend(fontsize=8)
    quantities = {
        "right rank": pooled_share(np.stack(right_ranks, axis=1)),
        "largest pruned error over μ_r / 2": exactly(worst),
    }
    return Outcome(quantities, figure)
