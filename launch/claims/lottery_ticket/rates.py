"""How fast the error of a masked student falls, and where noise stops it."""

import numpy as np
import xarray as xr

from gpsense import theory
from launch.claims.drawing import law, log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, each, log_slope, mean, over_seeds, values

START, END = 1e-2, 1e-9  # errors that are fitted: below this share of the first, above this value


def factor(errors: np.ndarray, steps: np.ndarray) -> float:
    """The error ratio per step of a curve of errors, from the slope of its log between START and END.

    Of successive equal records, as after a run has stopped, only the first is used; NaN if fewer than three are left.
    """
    moving = np.concatenate([[True], errors[1:] != errors[:-1]])
    inside = moving & np.isfinite(errors) & (errors < START * errors[0]) & (errors > END)
    if inside.sum() < 3:
        return np.nan
    return float(np.exp(np.polyfit(steps[inside], np.log(errors[inside]), 1)[0]))


def factors(cells: xr.Dataset, *axes: str) -> np.ndarray:
    """The measured error ratios per step (seeds, axes)."""
    curves = values(cells["error_curve"], "seed", *axes, "step")
    return np.apply_along_axis(factor, -1, curves, cells["step"].values)


def predicted(cells: xr.Dataset, *axes: str) -> np.ndarray:
    """The error ratios per step (seeds, axes) that the Hessian at the teacher on the same samples predicts."""
    names = ("least_eigenvalue", "largest_eigenvalue", "rate", "momentum")
    shaped = xr.broadcast(*(cells[name] for name in names), cells["error"])[:4]
    found = np.vectorize(lambda *numbers: float(theory.momentum_rate(*numbers)))
    return found(*(values(each_, "seed", *axes) for each_ in shaped))


def momentum(runs: Runs) -> Outcome:
    """The error ratio per step against the momentum, with the curve that the Hessian at the teacher predicts."""
    cells = runs[""]
    beta = cells["momentum"].values
    measured, expected = factors(cells, "momentum"), predicted(cells, "momentum")
    figure, (left, right) = panels(2)
    for index, one in enumerate(each(cells, "momentum")):
        errors = np.median(values(one["error_curve"], "seed", "step"), axis=0)
        left.plot(one["step"].values, errors, color=f"C{index}", lw=1.4, label=f"momentum {float(one['momentum']):g}")
    points(right, beta, measured, 0, "measured")
    fine = np.linspace(0, 0.98, 99)
    least, largest = (cells[name].mean("seed").values.ravel()[0] for name in ("least_eigenvalue", "largest_eigenvalue"))
    curve = [float(theory.momentum_rate(least, largest, float(cells["rate"]), b)) for b in fine]
    law(right, fine, curve, "from the Hessian at the teacher (mean of the seeds)")
    right.plot(fine, np.sqrt(fine), ":", color="gray", label="plateau sqrt(momentum)")
    log_log(left, "step", "relative error of the weights (median)", both=False)
    right.set(xlabel="momentum", ylabel="error ratio per step", ylim=(0.6, 1.0))
    right.legend(fontsize=8)
    gap = np.abs(measured - expected)
    worst = lambda v: v.mean(axis=0).max()  # noqa: E731
    high = beta >= 0.5
    quantities = {
        "factor a step": mean(measured),
        "predicted": mean(expected),
        "off the prediction, momentum 0.5 and more": over_seeds(worst, gap[:, high]),
        "off the prediction, less momentum": over_seeds(worst, gap[:, ~high]),
    }
    return Outcome(quantities, figure)


def rate_size(runs: Runs) -> Outcome:
    """The error ratio per step of heavy ball and of gradient descent against the support size r."""
    cells = runs[""]
    r = cells["support"].values
    figure, (left, right) = panels(2)
    quantities: dict[str, Quantity] = {}
    for index, one in enumerate(each(cells, "momentum")):
        label = f"momentum {float(one['momentum']):g}" if float(one["momentum"]) else "gradient descent"
        measured, expected = factors(one, "support"), predicted(one, "support")
        quantities[f"factor a step, {label}"] = mean(measured)
        quantities[f"off the prediction, {label}"] = mean(np.abs(measured - expected).max(axis=1))
        for words, x in (("sqrt(r)", np.sqrt(r)), ("r", r)):
            quantities[f"R^2 in {words}, {label}"] = over_seeds(
                lambda v, x=x: np.corrcoef(x, v.mean(axis=0))[0, 1] ** 2, measured
            )
        for axes, x in ((left, r), (right, np.sqrt(r))):
            points(axes, x, measured, index, label, "os"[index % 2])
            law(axes, x, expected.mean(axis=0), "from the Hessian at the teacher" if index == 0 else "", colour=index)
    left.set(xlabel="inputs r that a neuron sees", ylabel="error ratio per step")
    right.set(xlabel="sqrt(r)", ylabel="error ratio per step")
    for axes in (left, right):
        axes.legend(fontsize=8)
    return Outcome(quantities, figure)


def rate_neurons(runs: Runs) -> Outcome:
    """One minus the error ratio per step, at each seed's best step size, with and without momentum, against K."""
    grids = sorted(runs.values(), key=lambda cells: int(cells["neurons"]))
    neurons = np.asarray([int(cells["neurons"]) for cells in grids])
    best: dict[str, list[np.ndarray]] = {"gradient descent": [], "heavy ball": []}
    tuned: dict[str, list[float]] = {"gradient descent": [], "heavy ball": []}
    for cells in grids:
        measured = np.nan_to_num(factors(cells, "rate", "momentum"), nan=1.0)
        still = int(np.flatnonzero(cells["momentum"].values == 0)[0])
        best["gradient descent"].append(1 - measured[:, :, still].min(axis=1))
        best["heavy ball"].append(1 - measured.min(axis=(1, 2)))
        least, largest = (float(cells[name].mean()) for name in ("least_eigenvalue", "largest_eigenvalue"))
        tuned["gradient descent"].append(1 - float(theory.tuned_descent(least, largest)[1]))
        tuned["heavy ball"].append(1 - float(theory.tuned_momentum(least, largest)[2]))
    figure, (axes,) = panels(1)
    quantities: dict[str, Quantity] = {}
    for index, (label, samples) in enumerate(best.items()):
        found = np.stack(samples, axis=1)
        points(axes, neurons, found, index, label, "os"[index])
        law(axes, neurons, tuned[label], "tuned on the Hessian at the teacher" if index == 0 else "", colour=index)
        exponent = theory.paper_rate_exponent(momentum=label == "heavy ball")
        reference = found[:, 0].mean() * (neurons / neurons[0]) ** exponent
        law(axes, neurons, reference, f"slope {exponent:g}, recalled", ":")
        quantities[f"1 - factor, {label}"] = mean(found)
        quantities[f"slope in K, {label}"] = log_slope(neurons, found)
    logs = np.log(neurons)
    steeper = lambda slow, fast: np.polyfit(logs, np.log(fast.mean(axis=0) / slow.mean(axis=0)), 1)[0]  # noqa: E731
    both = (np.stack(best[label], axis=1) for label in ("gradient descent", "heavy ball"))
    quantities["slope in K, heavy ball less gradient descent"] = over_seeds(steeper, *both)
    log_log(axes, "neurons K", "1 - error ratio per step, at the best step size")
    return Outcome(quantities, figure)


def ends(ratios: np.ndarray) -> list[float]:
    """The smallest and the largest of the means over the seeds (first axis)."""
    means = ratios.reshape(len(ratios), -1).mean(axis=0)
    return [means.min(), means.max()]


def noise(runs: Runs) -> Outcome:
    """The error that noise leaves, relative to least squares at the teacher and to the law in K r / N."""
    cells = runs[""]
    figure, (left, right) = panels(2)
    ratios, laws, forms = [], [], []
    neurons = int(cells["neurons"])
    for index, one in enumerate(each(cells, "support")):
        r, n = float(one["support"]), one["n"].values
        for place, part in enumerate(each(one, "noise")):
            sigma = float(part["noise"])
            error, floor = (values(part[name], "seed", "n") for name in ("error", "noise_floor"))
            form = np.asarray([float(theory.noise_error(sigma, 1.0, neurons, r, float(k), 1.0)) for k in n])
            ratios.append(error / floor)
            laws.append(error / form)
            forms.append(form)
            label = f"r = {int(r)}" if place == 0 else ""
            points(left, n, error, index, label, "os^"[place % 3])
            law(left, n, floor.mean(axis=0), "least squares at the teacher" if index + place == 0 else "", colour=index)
            points(right, form, error, index, label, "os^"[place % 3])
    span = np.asarray([np.min(forms), np.max(forms)])
    for constant, style in ((1.6, "--"), (2.1, ":")):
        law(right, span, constant * span, f"{constant:g} times the law", style)
    log_log(left, "samples N", "relative error of the weights")
    log_log(right, "(noise σ / rms y) sqrt(K r / (N - K r))", "relative error of the weights")
    over_floor, over_law = np.stack(ratios, axis=1), np.stack(laws, axis=1)
    quantities = {
        "over least squares at the teacher": over_seeds(lambda v: v.mean(), over_floor),
        "over least squares, smallest and largest": over_seeds(ends, over_floor),
        "over the law, smallest and largest": over_seeds(ends, over_law),
    }
    return Outcome(quantities, figure)
