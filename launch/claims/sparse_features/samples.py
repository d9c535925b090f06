"""How many samples the first layer needs to find the directions, against the dimension."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from gpsense import theory
from gpsense.sparse.hermite import ACTIVATIONS, link
from gpsense.systems.sparse_features import SparseFeatures
from launch.claims.drawing import PALETTE, law, legend_below, log_log, panels
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, each, independently, over_seeds, values

HALF = 0.5  # energy that counts as found
NAMES = {
    "gradient": "pruned",
    "none": "unpruned",
    "even": "pruned, even parts",
    "spectral": "spectral",
    "diagonal_spectral": "diagonal threshold, spectral",
    "lasso": "Lasso",
}


class Curve(NamedTuple):
    """The energies (seed, n) of a method at one dimension."""

    dim: int
    n: np.ndarray
    energy: np.ndarray


def crossing(n: np.ndarray, energy: np.ndarray) -> float:
    """n50, where the median ``energy`` over seeds (first axis) crosses 1/2, with log-odds linear in log n; else NaN."""
    middle = np.clip(np.median(energy, axis=0), 1e-9, 1 - 1e-9)
    odds = np.log(middle / (1 - middle))
    above = np.flatnonzero(middle >= HALF)
    if not above.size or above[0] == 0:
        return np.nan
    right = int(above[0])
    share = -odds[right - 1] / (odds[right] - odds[right - 1])
    return float(np.exp(np.log(n[right - 1]) * (1 - share) + np.log(n[right]) * share))


def slope(curves: list[Curve]) -> Quantity:
    """Slope of log n50 against log d, with the bootstrap's interval over the seeds of every dimension."""
    return _over(curves, lambda found: _slope(curves, found))


def _slope(curves: list[Curve], found: np.ndarray) -> float:
    """The slope of log ``found``, one number per curve, against the log of its dimension."""
    return np.polyfit(np.log([one.dim for one in curves]), np.log(found), 1)[0]


def slope_less(steeper: list[Curve], flatter: list[Curve]) -> Quantity:
    """The slope of ``steeper`` minus that of ``flatter``; if all have equally many seeds, they are resampled alike."""
    count = len(steeper)
    less = lambda found: _slope(steeper, found[:count]) - _slope(flatter, found[count:])  # noqa: E731
    return _over([*steeper, *flatter], less)


def needed(curves: list[Curve]) -> Quantity:
    """n50 at every dimension, with intervals."""
    return _over(curves, lambda found: found)


def over_law(curves: list[Curve], laws: np.ndarray) -> Quantity:
    """Measured n50 over that of the law (``laws``) at every dimension, with intervals."""
    return _over(curves, lambda found: found / laws)


def _over(curves: list[Curve], statistic: Callable[[np.ndarray], Any]) -> Quantity:
    """A statistic of the n50 of all curves, with its bootstrap interval."""

    def from_energies(*energies: np.ndarray) -> Any:
        return statistic(np.asarray([crossing(one.n, energy) for one, energy in zip(curves, energies, strict=True)]))

    together = len({len(one.energy) for one in curves}) == 1  # the same seeds at every dimension
    return (over_seeds if together else independently)(from_energies, *(one.energy for one in curves))


def methods(runs: Runs) -> dict[str, list[Curve]]:
    """The curves of every method, rule and parity over all grids, by name in legends, in order of dimension."""
    found: dict[str, list[Curve]] = {}
    for cells in runs.values():
        for one in each(cells, "method", "rule", "parity", "dim"):
            method, rule, parity = (str(one[name].values) for name in ("method", "rule", "parity"))
            key = method if method != "greedy_pruning" else rule if parity == "both" or rule == "none" else parity
            curve = Curve(int(one["dim"]), one["n"].values, values(one["energy"], "seed", "n"))
            found.setdefault(NAMES.get(key, key.replace("_", " ")), []).append(curve)
    return {name: sorted(curves, key=lambda one: one.dim) for name, curves in found.items()}


def model(runs: Runs) -> tuple[Any, float, str]:
    """The link, the noise and the activation of the grids."""
    cells = runs[""]
    return (
        link(np.atleast_1d(cells.attrs.get("link", SparseFeatures().link)).tolist()),
        float(cells["noise"]),
        str(cells["activation"].values),
    )


def samples(runs: Runs) -> Outcome:
    """n50 of every method against the dimension, its slope and, for the unpruned network, its law."""
    function, noise, activation = model(runs)
    found = methods(runs)
    figure, axes = panels(2)
    quantities: dict[str, Quantity] = {}
    for index, (name, curves) in enumerate(found.items()):
        _energies(axes[0], curves, index)
        counts = needed(curves)
        dims = [one.dim for one in curves]
        _crossings(axes[1], dims, counts, index, name)
        quantities[f"n50, {name}"] = counts
        if len(curves) > 1:
            quantities[f"slope, {name}"] = slope(curves)
    if all(len(found.get(name, [])) > 1 for name in ("unpruned", "pruned")):
        quantities["slope, unpruned less pruned"] = slope_less(found["unpruned"], found["pruned"])
    if "unpruned" in found:
        dims = np.asarray([one.dim for one in found["unpruned"]])
        laws = np.asarray([theory.unpruned_samples(function, int(d), noise, ACTIVATIONS[activation]) for d in dims])
        law(axes[1], dims, laws, "law of the unpruned step")
        quantities["unpruned over its law"] = over_law(found["unpruned"], laws)
    _csq(axes[1], found, function.information_exponent)
    axes[0].axhline(HALF, color="black", ls=":", lw=1.2)
    axes[0].set(xscale="log", xlabel="samples n", ylabel="energy ‖WᵀV‖² / ‖W‖² (darker: larger d)", ylim=(0, 1))
    log_log(axes[1], "dimension d", "samples at which the energy is 1/2")
    if (inside := axes[1].get_legend()) is not None:
        inside.remove()
    legend_below(axes[1], columns=3)
    return Outcome(quantities, figure)


def _csq(axes: Axes, found: dict[str, list[Curve]], exponent: int) -> None:
    """Draws the least slope that correlational queries allow methods that do not depend on the basis."""
    every = [one.dim for curves in found.values() for one in curves]
    dims = np.asarray([min(every), max(every)], float)
    pruned = found.get("pruned", next(iter(found.values())))
    start = crossing(pruned[0].n, pruned[0].energy)
    height = dims ** theory.csq_exponent(exponent)
    law(axes, dims, start * height / height[0], f"CSQ slope {theory.csq_exponent(exponent):g} without sparsity", ":")


def _energies(axes: Axes, curves: list[Curve], colour: int, label: str | None = None) -> None:
    """Draws median energies against n, one line per dimension, darker for larger ones."""
    for place, one in enumerate(curves):
        strength = (place + 1) / len(curves)
        style = {"color": PALETTE[colour % len(PALETTE)], "alpha": 0.3 + 0.7 * strength, "lw": 1.6, "marker": "."}
        named = f"{label}, d = {one.dim}" if label and strength == 1 else None
        axes.plot(one.n, np.median(one.energy, axis=0), label=named, **style)


def _crossings(axes: Axes, dims: list[int], counts: Quantity, colour: int, label: str) -> None:
    """Draws n50 with its 95 % intervals, except those that are infinite."""
    assert counts.low is not None
    assert counts.high is not None
    spread = np.maximum([counts.value - counts.low, counts.high - counts.value], 0.0)
    spread = np.where(np.isfinite(spread).all(axis=0), spread, 0.0)
    style = {"fmt": "o-", "ms": 5, "capsize": 3, "lw": 1.4, "color": PALETTE[colour % len(PALETTE)]}
    axes.errorbar(dims, counts.value, spread, label=label, **style)


def dense_step(runs: Runs) -> Outcome:
    """Energy after one step of the unpruned network against n, per activation, with its law."""
    cells = runs[""]
    function, noise, _ = model(runs)
    dim = int(cells["dim"])
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "activation")):
        name = str(one["activation"].values)
        n, energy = one["n"].values, values(one["energy"], "seed", "n")
        expected = np.asarray([theory.unpruned_energy(function, dim, int(k), noise, ACTIVATIONS[name]) for k in n])
        _energies(axes, [Curve(dim, n, energy)], index, name)
        expected = expected + (1 - expected) * int(one["directions"]) / dim  # a share of the noise lies in V, too
        law(axes, n, expected, "law n / (n + n50), plus the noise in V" if index == 0 else "", colour=index)
        quantities[f"odds over the law, {name}"] = over_seeds(
            lambda e, expected=expected: (
                np.median(e, axis=0) / (1 - np.median(e, axis=0)) / (expected / (1 - expected))
            ),
            energy,
        )
    axes.set(xscale="log", xlabel="samples n", ylabel="energy ‖WᵀV‖² / ‖W‖² (median over seeds)", ylim=(0, 1))
    axes.legend(fontsize=8)
    return Outcome(quantities, figure)
