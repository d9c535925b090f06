"""From how many samples, and from how far, the student of a masked teacher finds it."""

from typing import Any

import numpy as np
import xarray as xr

from gpsense import theory
from launch.claims.drawing import PALETTE, law, panels, points, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.lottery_ticket.rates import factors, predicted
from launch.claims.quantities import Quantity, each, over_seeds, values


def succeeded(cells: xr.Dataset, *axes: str) -> np.ndarray:
    """Which runs found the teacher (seeds, axes), 1 or 0; one that diverged has not."""
    return (values(cells["success"], "seed", *axes) > 0).astype(float)


def half(x: np.ndarray, successes: np.ndarray) -> float:
    """Where the share of successes (seeds, x) first crosses 1/2, linear between points; NaN where it does not."""
    middle = successes.mean(axis=0) - 0.5
    crossed = np.flatnonzero(np.signbit(middle[1:]) != np.signbit(middle[:-1]))
    if not crossed.size:
        return np.nan
    left = int(crossed[0])
    return float(x[left] + (x[left + 1] - x[left]) * middle[left] / (middle[left] - middle[left + 1]))


def halves(x: np.ndarray, successes: np.ndarray) -> Quantity:
    """Where each of several curves (seeds, curves, x) crosses 1/2."""
    return over_seeds(lambda s: _halves(x, s), successes)


def _halves(x: np.ndarray, successes: np.ndarray) -> np.ndarray:
    return np.asarray([half(x, successes[:, place]) for place in range(successes.shape[1])])


def _spread(numbers: np.ndarray) -> float:
    """The largest over the smallest; NaN if one is."""
    return numbers.max() / numbers.min()


def phase_map(runs: Runs) -> Outcome:
    """N50 against the support size r, its slope and R^2 of a straight line, for every distance of the start."""
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
            figure.colorbar(image, ax=left, label=f"share that finds the teacher, {label}")
            left.plot(r, found.value, "o-", color=PALETTE[index], label="N50")
    for axes in (left, right):
        for constant, style in ((1.0, ":"), (1.2, "--")):
            needed = np.asarray([theory.samples_needed(neurons, float(k), constant) for k in r])
            axes.plot(r, needed, style, color="black" if axes is right else PALETTE[3], label=f"{constant:g} K r")
        axes.set(xlabel="inputs r that a neuron sees", ylabel="samples N")
        axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def convex_up_to(cells: xr.Dataset) -> np.ndarray:
    """Whether the gradient was monotone at all distances up to each (seeds, support, distance), 1 or 0.

    Of pairs along the flattest directions of a point at that distance; where it failed to be measured it was not.
    """
    return np.minimum.accumulate(
        (values(cells["secant_curvature"], "seed", "support", "distance") > 0).astype(float), 2
    )


def radius(runs: Runs) -> Outcome:
    """The distance from which half of the runs still find the teacher, and up to which f is convex, against r."""
    cells = runs[""]
    r, distance = cells["support"].values, cells["distance"].values
    success = succeeded(cells, "support", "distance")
    found = halves(distance, success)
    figure, (left, last, right) = panels(3)
    for index, size in enumerate(r):
        shares(left, distance, success[:, index], index, f"r = {int(size)}")
    _crossings(right, np.sqrt(r), found, 0, "distance for 1/2")
    slope = np.polyfit(np.sqrt(r), found.value, 1)
    law(right, np.sqrt(r), np.polyval(slope, np.sqrt(r)), "straight line: the form a - b sqrt(r/N), recalled")
    left.set(xlabel="‖W0 - W*‖ / ‖W*‖ of the start", ylabel="share that finds the teacher")
    right.set(xlabel="sqrt(r)", ylabel="distance at which half of the runs succeed")
    fall = over_seeds(lambda s: np.polyfit(np.sqrt(r), _halves(distance, s), 1)[0], success)
    near = runs["convex"]
    size, reach, convex = near["support"].values, near["distance"].values, convex_up_to(near)
    region = halves(reach, convex)
    for index, one in enumerate(size):
        shares(last, reach, convex[:, index], index, f"r = {int(one)}")
    _crossings(right, np.sqrt(size), region, 1, "gradient monotone up to, for 1/2")
    ratio = over_seeds(lambda c: half(reach, c[:, 0]) / half(reach, c[:, -1]), convex)
    last.set(xlabel="‖W - W*‖ / ‖W*‖", ylabel="share with a monotone gradient up to there", xscale="log")
    for axes in (left, right, last):
        axes.legend(fontsize=8)
    quantities = {"radius": found, "slope in sqrt(r)": fall, "radius of convexity": region}
    return Outcome(quantities | {"radius of convexity, fewest over most inputs": ratio}, figure)


def overlap(runs: Runs) -> Outcome:
    """N50 and the factor a step of heavy ball against the overlap of the supports, beside the effective size."""
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
    """Shares that find a teacher whose neurons all see the same r inputs, for several numbers of inputs d."""
    cells = runs[""]
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    n, success = cells["n"].values, succeeded(cells, "dim", "n")
    for index, dim in enumerate(cells["dim"].values):
        shares(axes, n, success[:, index], index, f"d = {int(dim)}", "os^"[index % 3])
        quantities[f"N50, d = {int(dim)}"] = over_seeds(lambda s: half(n, s), success[:, index])
    quantities["N50, largest over smallest"] = over_seeds(lambda s: _spread(_halves(n, s)), success)
    axes.set(xlabel="samples N", ylabel="share that finds the teacher")
    axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def _crossings(axes: Any, x: Any, found: Quantity, colour: int, label: str) -> None:
    """Crossings with their 95 % intervals."""
    assert found.low is not None
    assert found.high is not None
    spread = np.nan_to_num(np.maximum([found.value - found.low, found.high - found.value], 0.0))
    style = {"fmt": "o-", "ms": 5, "capsize": 3, "lw": 1.4, "color": PALETTE[colour % len(PALETTE)]}
    axes.errorbar(x, found.value, spread, label=label, **style)
