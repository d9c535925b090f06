"""How the results depend on choices: parts of the activation, shifted basis, pool; and the baselines."""

from typing import Any

import numpy as np

from gpsense.sparse.hermite import link
from launch.claims.drawing import PALETTE, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, each, mean, over_seeds, values


def parity_split(runs: Runs) -> Outcome:
    """Coordinates outside the support that outscore the lowest in it, with the whole activation or its even part."""
    cells = runs[""]
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    outside = int(cells["dim"]) - int(cells["directions"])
    names = {"none": "whole activation", "even": "even part"}
    for index, one in enumerate(each(cells, "parity")):
        name = names[str(one["parity"].values)]
        ahead = values(one["ahead"], "seed")
        axes.hist(ahead, list(np.linspace(0, outside + 1, outside + 2)), color=PALETTE[index], alpha=0.7, label=name)
        quantities[f"share ahead of the support, {name}"] = mean(ahead / outside)
        quantities[f"support kept, {name}"] = mean(values(one["captured"], "seed"))
    axes.set(xlabel="coordinates outside the support that score above its lowest", ylabel="seeds")
    axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def shifted_basis(runs: Runs) -> Outcome:
    """Share of the direction V in the coordinate that scores highest, against the contraction c of the basis."""
    cells = runs[""]
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "dim")):
        dim, captured = int(one["dim"]), values(one["captured"], "seed", "contraction")
        points(axes, one["contraction"].values, captured, index, f"d = {dim}", "os^"[index % 3])
        quantities[f"captured at c < 0.6, d = {dim}"] = mean(captured[:, one["contraction"].values < 0.6].mean(axis=1))
        quantities[f"captured at c = 1, d = {dim}"] = mean(captured[:, one["contraction"].values == 1].mean(axis=1))
    axes.set(
        xlabel="contraction c of the basis (1: not shifted)", ylabel="share of V in the coordinate kept", ylim=(0, 1.05)
    )
    axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def sensitivity(runs: Runs) -> Outcome:
    """Energy ``||W^T V||^2 / ||W||^2`` of weights W, and share of V in kept rows, by contraction, parity and pool."""
    figure, panes = panels(3)
    quantities: dict[str, Quantity] = {}
    captured: dict[str, np.ndarray] = {}
    energies: dict[str, np.ndarray] = {}
    for index, one in enumerate(each(runs[""], "parity")):
        parity, contraction = str(one["parity"].values), one["contraction"].values
        energies[parity] = energy = values(one["energy"], "seed", "contraction")
        captured[parity] = values(one["captured"], "seed", "contraction")
        points(panes[0], contraction, captured[parity], index, parity, "os^"[index])
        points(panes[1], contraction, energy, index, parity, "os^"[index])
        quantities[f"energy along c, {parity}"] = over_seeds(lambda v: np.median(v, axis=0), energy)
    middle, least = (np.abs(runs[""]["contraction"].values - c).argmin() for c in (0.5, 0.0))
    for name, found in (("energy", energies), ("share of V captured", captured)):
        quantities[f"{name}, even less both, c = 1/2"] = mean((found["even"] - found["both"])[:, middle])
    for parity in ("even", "both"):
        lost = energies[parity][:, middle] - energies[parity][:, least]
        quantities[f"energy, c = 1/2 less the least c, {parity}"] = mean(lost)
    pools = [one for one in each(runs["pool"], "pool")]
    sizes = [int(one["pool"]) for one in pools]
    for index, name in enumerate(("captured", "energy")):
        found = np.stack([values(one[name], "seed") for one in pools], axis=1)
        points(panes[2], sizes, found, index, name, "os"[index])
        quantities[f"{name} along M"] = over_seeds(lambda v: np.median(v, axis=0), found)
    panes[0].set(xlabel="contraction c", ylabel="share of V in the kept rows", ylim=(0, 1.05))
    panes[1].set(xlabel="contraction c", ylabel="energy ‖WᵀV‖² / ‖W‖²", ylim=(0, 1.05))
    panes[2].set(xlabel="pool M (both parts, c = 1/2)", ylim=(0, 1.05))
    panes[2].axvline(int(runs[""]["sparsity"]), color="black", ls="--", lw=1.4, label="sparsity s")
    for axes in panes:
        axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def baselines(runs: Runs) -> Outcome:
    """Energies of every method on the same data, for links of information exponent 1 and 2."""
    quantities: dict[str, Quantity] = {}
    groups: dict[str, dict[str, np.ndarray]] = {}
    for cells in runs.values():
        group = groups.setdefault(f"k* = {_exponent(cells.attrs['link'])}, n = {int(cells['n'])}", {})
        for one in each(cells, "method", "rule"):
            method, rule = str(one["method"].values), str(one["rule"].values)
            label = {"gradient": "pruned", "magnitude": "by magnitude", "random": "at random"}.get(rule, rule)
            group[label if method == "greedy_pruning" else method.replace("_", " ")] = values(one["energy"], "seed")
    figure, panes = panels(len(groups))
    for axes, (title, group) in zip(panes, groups.items(), strict=True):
        for place, (label, energy) in enumerate(group.items()):
            points(axes, [place], energy[:, None], place, label)
            quantities[f"{title.split(',')[0]}, {label}"] = mean(energy)
        axes.set(title=title, xticks=range(len(group)), ylabel="energy ‖WᵀV‖² / ‖W‖²", ylim=(0, 1.05))
        axes.set_xticklabels(list(group), rotation=30, ha="right", fontsize=8)
    return Outcome(quantities, figure)


def _exponent(coefficients: Any) -> int:
    """The information exponent of a link's coefficients."""
    return link(np.atleast_1d(coefficients).tolist()).information_exponent
