"""How many samples, and how close a start, a student with the teacher's masks needs to find the teacher."""

from typing import Any

import numpy as np
import xarray as xr

from gpsense import theory
from launch.claims.drawing import PALETTE, law, panels, points, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.lottery_ticket.rates import factors, predicted
from launch.claims.quantities import Quantity, each, over_seeds, values


def succeeded(cells: xr.Dataset, *axes: str) -> np.ndarray:
    """1 for runs that found the teacher, 0 for others, diverged ones included (seeds, axes)."""
    return (values(cells["success"], "seed", *axes) > 0).astype(float)


def half(x: np.ndarray, successes: np.ndarray) -> float:
    """The x where the share of ``successes`` (seeds, x) first crosses 1/2, linearly interpolated; else NaN."""
    middle = successes.mean(axis=0) - 0.5
    crossed = np.flatnonzero(np.signbit(middle[1:]) != np.signbit(middle[:-1]))
    if not crossed.size:
        return np.nan
    left = int(crossed[0])
    return float(x[left] + (x[left + 1] - x[left]) * middle[left] / (middle[left] - middle[left + 1]))


def halves(x: np.ndarray, successes: np.ndarray) -> Quantity:
    """The x where each of several curves (seeds, curves, x) first crosses 1/2, with intervals."""
    return over_seeds(lambda s: _halves(x, s), successes)


def _halves(x: np.ndarray, successes: np.ndarray) -> np.ndarray:
    return np.asarray([half(x, successes[:, place]) for place in range(successes.shape[1])])


def _spread(numbers: np.ndarray) -> float:
    """The largest of the numbers over the smallest; NaN if one is NaN."""
    return numbers.max() / numbers.min()


def phase_map(runs: Runs) -> Outcome:
    """N50 (samples at which half of the runs succeed) against support size r: slope and R^2, per start distance."""
    cells = runs[""]
    r, n, neurons = cells["support"].values, cells["n"].values, int(cells["neurons"])
    figure, (left, right) = panels(2)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "distance")):
        label = f"start at {float(one['distance']):g}"
        success = succeeded(one, "support", "n")
        found = halves(n, success)
        _crossings(right, r, found, index, label)
        quantities[f"N50, {label}"] = found
        quantities[f"slope in r, {label}"] = over_seeds(lambda s: np.polyfit(r, _halves(n, s), 1)[0], success)
        quantities[f"R^2, {label}"] = over_seeds(lambda s: np.corrcoef(r, _halves(n, s))[0, 1] ** 2, success)
        quantities[f"N50 over K r, {label}"] = over_seeds(lambda s: _halves(n, s) / (neurons * r), success)
        if index == 0:
            image = left.pcolormesh(r, n, success.mean(axis=0).T, shading="nearest", cmap="gray", vmin=0, vmax=1)
            figure.colorbar(image, ax=left, label=f"share of runs that find the teacher, {label}")
            left.plot(r, found.value, "o-", color=PALETTE[index], label="N50")
    for axes in (left, right):
        for constant, style in ((1.0, ":"), (1.2, "--")):
            needed = np.asarray([theory.samples_needed(neurons, float(k), constant) for k in r])
            axes.plot(r, needed, style, color="black" if axes is right else PALETTE[3], label=f"{constant:g} K r")
        axes.set(xlabel="inputs r that a neuron sees", ylabel="samples N")
        axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def convex_up_to(cells: xr.Dataset) -> np.ndarray:
    """1 where the gradient is monotone at all distances up to this one, else 0 (seeds, support, distance).

    Tested between a point at that distance and others along its flattest directions; a failed measurement counts as 0.
    """
    return np.minimum.accumulate(
        (values(cells["secant_curvature"], "seed", "support", "distance") > 0).astype(float), 2
    )


def radius(runs: Runs) -> Outcome:
    """Against r: the start distance at which half of the runs succeed, and that to which the gradient is monotone."""
    cells = runs[""]
    r, distance = cells["support"].values, cells["distance"].values
    success = succeeded(cells, "support", "distance")
    found = halves(distance, success)
    figure, (left, last, right) = panels(3)
    for index, size in enumerate(r):
        shares(left, distance, success[:, index], index, f"r = {int(size)}")
    _crossings(right, np.sqrt(r), found, 0, "start distance: half succeed")
    slope = np.polyfit(np.sqrt(r), found.value, 1)
    law(right, np.sqrt(r), np.polyval(slope, np.sqrt(r)), "straight line: the form a - b sqrt(r/N), recalled")
    left.set(xlabel="‖W0 - W*‖ / ‖W*‖ of the start", ylabel="share of runs that find the teacher")
    right.set(xlabel="sqrt(r)", ylabel="distance at which half of the runs succeed")
    fall = over_seeds(lambda s: np.polyfit(np.sqrt(r), _halves(distance, s), 1)[0], success)
    near = runs["convex"]
    size, reach, convex = near["support"].values, near["distance"].values, convex_up_to(near)
    region = halves(reach, convex)
    for index, one in enumerate(size):
        shares(last, reach, convex[:, index], index, f"r = {int(one)}")
    _crossings(right, np.sqrt(size), region, 1, "gradient monotone up to: half")
    ratio = over_seeds(lambda c: half(reach, c[:, 0]) / half(reach, c[:, -1]), convex)
    last.set(xlabel="‖W - W*‖ / ‖W*‖", ylabel="share with a monotone gradient up to this distance", xscale="log")
    for axes in (left, right, last):
        axes.legend(fontsize=8)
    quantities = {"radius": found, "slope in sqrt(r)": fall, "radius of convexity": region}
    return Outcome(quantities | {"radius of convexity, fewest over most inputs": ratio}, figure)


def overlap(runs: Runs) -> Outcome:
    """Against the overlap of supports: N50 (samples at which half of the runs succeed) and heavy ball's error ratio.

    N50 stands beside the law K r~, r~ being the effective size of the masks; the error ratio per step beside that
    predicted from the Hessian at the teacher.
    """
    cells, rate = runs[""].sortby("overlap"), runs["rate"]
    figure, (left, right) = panels(2)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "distance")):
        label = f"start at {float(one['distance']):g}"
        n, success = one["n"].values, succeeded(one, "overlap", "n")
        found = halves(n, success)
        _crossings(left, one["overlap"].values, found, index, label)
        quantities[f"N50, {label}"] = found
        quantities[f"N50, most over least overlap, {label}"] = over_seeds(
            lambda s, n=n: half(n, s[:, -1]) / half(n, s[:, 0]), success
        )
    sizes = cells["effective_size"].mean([name for name in cells["effective_size"].dims if name != "overlap"]).values
    law(left, cells["overlap"].values, sizes * int(cells["neurons"]), "K r~, recalled", ":")
    measured, expected = factors(rate, "overlap"), predicted(rate, "overlap")
    points(right, rate["overlap"].values, measured, 0, "measured")
    law(right, rate["overlap"].values, expected.mean(axis=0), "from the Hessian at the teacher")
    quantities["factor a step"] = over_seeds(lambda v: v.mean(axis=0), measured)
    quantities["measured less predicted"] = over_seeds(lambda v: v.mean(axis=0), measured - expected)
    left.set(
        xlabel="share of each support common to all neurons",
        ylabel="samples at which half of the runs succeed (N50)",
        ylim=(0, None),
    )
    right.set(xlabel="share of each support common to all neurons", ylabel="error ratio per step")
    for axes in (left, right):
        axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def inputs(runs: Runs) -> Outcome:
    """Share of runs that find a teacher whose neurons all see the same r inputs, for several numbers of inputs d."""
    cells = runs[""]
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    n, success = cells["n"].values, succeeded(cells, "dim", "n")
    for index, dim in enumerate(cells["dim"].values):
        shares(axes, n, success[:, index], index, f"d = {int(dim)}", "os^"[index % 3])
        quantities[f"N50, d = {int(dim)}"] = over_seeds(lambda s: half(n, s), success[:, index])
    quantities["N50, largest over smallest"] = over_seeds(lambda s: _spread(_halves(n, s)), success)
    axes.set(xlabel="samples N", ylabel="share of runs that find the teacher")
    axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def _crossings(axes: Any, x: Any, found: Quantity, colour: int, label: str) -> None:
    """Draws crossings with their 95 % intervals."""
    assert found.low is not None
    assert found.high is not None
    spread = np.nan_to_num(np.maximum([found.value - found.low, found.high - found.value], 0.0))
    style = {"fmt": "o-", "ms": 5, "capsize": 3, "lw": 1.4, "color": PALETTE[colour % len(PALETTE)]}
    axes.errorbar(x, found.value, spread, label=label, **style)
