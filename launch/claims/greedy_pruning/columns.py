"""Number and norms of the columns after training, with and without the penalty."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gpsense import theory
from gpsense.plots.grids import share_above
from launch.claims.drawing import PALETTE, curve, law, legend_below, log_log, panels, points, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import exactly, mean, over_seeds, pooled_share, share, told, values


def tau_of(cells: xr.Dataset) -> np.ndarray:
    """``tau = lambda / (2 sqrt(beta))`` along the penalties."""
    return np.asarray(cells["penalty"]) / (2 * np.sqrt(float(cells["smoothing"])))


def figure1(runs: Runs) -> Outcome:
    """Both panels of Figure 1: share of columns with norm at least x times the largest, and the histogram of norms."""
    cells = runs[""]
    norms = {bool(p): values(cells["column_norms"].sel(penalty=p), "seed", "column") for p in cells["penalty"].values}
    levels = np.linspace(0, 1, 101)
    above = {name: np.array([share_above(one[None], levels) for one in found]) for name, found in norms.items()}
    penalised = cells.isel(penalty=-1)
    figure, (left, right) = panels(2)
    for with_penalty, colour in ((True, 0), (False, 1)):
        label = "with the regulariser" if with_penalty else "without"
        curve(left, levels, above[with_penalty], colour, label)
        right.hist(
            norms[with_penalty].ravel(), list(np.linspace(0, 1.02, 52)), color=PALETTE[colour], alpha=0.6, label=label
        )
    width, rank = cells.sizes["column"], int(cells["true_rank"])
    law(left, levels[1:], [theory.column_fraction(x, width, rank) for x in levels[1:]], "chi-square law, without")
    root = float(theory.column_root(1.0, float(penalised["penalty"]), float(cells["smoothing"]))) ** 0.5
    right.axvline(root, color="black", ls="--", lw=1.4, label=f"root law {root:.3f}")
    left.set(xlabel="x", ylabel="columns with norm ≥ x · largest [fraction]")
    log_log(right, "column norm", "columns", both=False)
    left.legend(fontsize=8)
    quantities = {
        "columns with it": mean(values(penalised["rank"], "seed")),
        "their norm over the root": mean(norms[True][:, :rank].mean(axis=1) / root),
        "largest of the others": exactly(norms[True][:, rank:].max()),
        "training steps with it": mean(values(penalised["steps_train"], "seed")),
        "share above 1/4 without": mean(above[False][:, np.abs(levels - 0.25).argmin()]),
        "share above 1/2 without": mean(above[False][:, np.abs(levels - 0.5).argmin()]),
    }
    return Outcome(quantities, figure)


def column_count(runs: Runs) -> Outcome:
    """Columns kept against tau (:func:`tau_of`), per start scale, and the largest distance of a norm from its law."""
    cells = runs[""]
    spectrum, smoothing = np.asarray(cells.attrs["spectrum"]), float(cells["smoothing"])
    ranks = values(cells["rank"], "seed", "start_scale", "penalty")
    norms = values(cells["column_norms"], "seed", "start_scale", "penalty", "column")
    worst = 0.0
    penalties = [float(penalty) for penalty in cells["penalty"].values]
    roots = np.sqrt([np.asarray(theory.column_root(jnp.asarray(spectrum), each, smoothing)) for each in penalties])
    for place in np.ndindex(ranks.shape):
        for root, norm in zip(roots[place[2]][: int(np.nan_to_num(ranks[place]))], norms[place], strict=False):
            worst = max(worst, abs(norm - root))
    worst = np.inf if np.isnan(ranks).any() else worst
    tau = tau_of(cells)
    figure, (axes,) = panels(1)
    grid = np.linspace(0, 1.1 * tau.max(), 500)
    law(axes, grid, (spectrum[:, None] > grid).sum(0), "eigenvalues above the threshold τ", "-")
    lowest = jax.vmap(lambda t: theory.fold_eigenvalue(2 * t * smoothing**0.5, smoothing))(jnp.asarray(grid))
    law(axes, grid, (spectrum[:, None] > np.asarray(lowest)).sum(0), "eigenvalues with a root", ":")
    for index, scale in enumerate(cells["start_scale"].values):
        points(axes, tau, ranks[:, index], index, f"start scale {scale:g}", "os"[index % 2])
    axes.set(
        xlabel="threshold τ = λ / (2 √β) on eigenvalues [penalty λ, smoothing β]",
        ylabel="columns kept",
        ylim=(-0.2, len(spectrum) + 0.5),
    )
    axes.legend(fontsize=8)
    bounds = [theory.column_bounds(jnp.asarray(spectrum), each, smoothing) for each in penalties]
    low, high = (np.asarray([pair[i] for pair in bounds]) for i in range(2))
    small = tau < spectrum.min()
    quantities = {
        "columns for τ < μ_r, all starts": mean(ranks[..., small].mean(axis=(1, 2))),
        "runs outside the bounds": exactly((~((ranks >= low) & (ranks <= high))).sum()),
        "distance to the root": exactly(worst),
        "median from a tiny start": over_seeds(lambda v: np.median(v, axis=0), ranks[:, 0]),
        "median from a larger start": over_seeds(lambda v: np.median(v, axis=0), ranks[:, -1]),
    }
    return Outcome(quantities, figure)


def root_law(runs: Runs) -> Outcome:
    """Squared norms of converged columns against the eigenvalues of the truth that they fit, with the root law."""
    cells = runs[""]
    spectrum, smoothing = np.asarray(cells.attrs["spectrum"]), float(cells["smoothing"])
    squares = values(cells["column_norms"], "seed", "penalty", "column")[..., : len(spectrum)] ** 2
    figure, (axes,) = panels(1)
    worst = []
    for index, penalty in enumerate(cells["penalty"].values):
        residual = squares[:, index] + penalty / 4 * np.asarray(
            theory.penalty_slope(jnp.asarray(squares[:, index]), smoothing)
        )
        worst.append(np.abs(residual - spectrum).max())
        s = np.linspace(1e-4, 1, 400)
        mu = s + penalty / 4 * np.asarray(theory.penalty_slope(jnp.asarray(s), smoothing))
        law(axes, mu, s, "s + (λ/4) ψ(s) = μ" if index == 0 else "", colour=index)
        points(axes, spectrum, squares[:, index], index, f"penalty λ = {penalty:g}")
    axes.set(xlabel="eigenvalue μ of the truth", ylabel="squared norm s of the trained column", xlim=(0, 1.05))
    axes.set(ylim=(0, 1.05))
    axes.legend(fontsize=8)
    kept = mean(values(cells["rank"], "seed", "penalty"))
    return Outcome({"columns kept": kept, "largest residual": exactly(max(worst))}, figure)


def bias_law(runs: Runs) -> Outcome:
    """Error of the trained point, before pruning, against the penalty."""
    cells = runs[""]
    spectrum = np.asarray(cells.attrs["spectrum"])
    errors = values(cells["error_trained"], "seed", "smoothing", "penalty")
    penalties = cells["penalty"].values
    figure, (axes,) = panels(1)
    expected = np.empty(errors.shape[1:])
    for row, smoothing in enumerate(cells["smoothing"].values):
        for column, penalty in enumerate(penalties):
            expected[row, column] = theory.relative_bias(jnp.asarray(spectrum), penalty, smoothing)
        law(axes, penalties, expected[row], "(λ/4) ‖ψ(s)‖ / ‖M‖" if row == 0 else "", colour=row)
        points(axes, penalties, errors[:, row], row, f"smoothing β = {smoothing:g}")
    log_log(axes, "penalty λ", "relative error of UUᵀ after training")
    after = float(cells["error"].values.max())
    worst = np.abs(errors / expected - 1).max()
    return Outcome({"deviation from the law": exactly(worst), "error after fine-tuning": exactly(after)}, figure)


def noise_window(runs: Runs) -> Outcome:
    """Share of runs with the right rank, and the columns kept, against tau for several levels of noise.

    Below the noise floor, only noise levels and penalties count at which columns trained on noise pass the threshold.
    """
    cells = runs[""]
    tau, noises, smoothing = tau_of(cells), cells["noise"].values, float(cells["smoothing"])
    ranks = values(cells["rank"], "seed", "noise", "penalty")
    right = told(ranks == int(cells["true_rank"]), ranks)
    floors = np.asarray(theory.noise_floor(jnp.asarray(noises), float(cells["dim"]), float(cells["n"])))
    figure, (left, middle) = panels(2)
    for index, noise in enumerate(noises):
        shares(left, tau, right[:, index], index, f"noise σ = {noise:g}, its floor ν = {floors[index]:.2f}")
        points(middle, tau, ranks[:, index], index, f"noise σ = {noise:g}")
        for axes in (left, middle):
            axes.axvline(floors[index], color=PALETTE[index], ls="--", lw=1.2)
    for axes in (left, middle):
        axes.axvline(1.0, color="black", ls=":", lw=1.4, label="least eigenvalue μ_r")
        axes.set_xscale("log")
        axes.set_xlabel("threshold τ = λ / (2 √β) on eigenvalues; dashed: noise floor ν = σ √(2d/n)")
        axes.legend(fontsize=8)
    left.set_ylabel("share of runs with the right rank")
    middle.set(ylabel="columns kept", ylim=(0, None))
    kept = [theory.exceeds_threshold(jnp.asarray(floors), float(p), smoothing) for p in cells["penalty"].values]
    below = (tau < 0.5 * floors[:, None]) & np.stack(kept, axis=1)
    inside = (tau > 1.25 * floors[:, None]) & (tau < 0.8)
    at = lambda sigma, value: right[:, np.abs(noises - sigma).argmin(), np.abs(tau - value).argmin()]  # noqa: E731
    quantities = {
        "right rank for 1.25 ν < τ < 0.8": pooled_share(right[:, inside]),
        "right rank at σ = 1, τ = 0.25": share(at(1.0, 0.25)),
    }
    if below.any():
        quantities["right rank for τ < ν / 2"] = pooled_share(right[:, below])
        quantities["columns for τ < ν / 2"] = mean(ranks[:, below].mean(axis=1))
    return Outcome(quantities, figure)


def narrow_window(runs: Runs) -> Outcome:
    """Share of runs with the right rank against noise floor / fold (the least eigenvalue that can keep a column).

    The law: in the d - r directions outside the truth, noise is a symmetric Gaussian matrix with variance sigma^2 / n
    on the diagonal and half of that off it; the rank is right where none of its eigenvalues exceeds the fold.
    """
    cells = runs[""]
    noises, penalties, smoothing = cells["noise"].values, cells["penalty"].values, float(cells["smoothing"])
    n, dim, rank = float(cells["n"]), int(cells["dim"]), int(cells["true_rank"])
    folds = np.array([float(theory.fold_eigenvalue(float(penalty), smoothing)) for penalty in penalties])
    floors = np.asarray(theory.noise_floor(jnp.asarray(noises), float(dim), n))
    ratio = floors[:, None] / folds
    ranks = values(cells["rank"], "seed", "noise", "penalty")
    right = told(ranks == rank, ranks)
    figure, (left, middle) = panels(2)
    for index, penalty in enumerate(penalties):
        shares(left, ratio[:, index], right[..., index], index, f"penalty λ = {penalty:g}", "os^D"[index % 4])
        points(middle, ratio[:, index], ranks[..., index], index, f"penalty λ = {penalty:g}", "os^D"[index % 4])
    drawn = np.random.default_rng(0).normal(size=(400, dim - rank, dim - rank)) / np.sqrt(n)
    largest = np.linalg.eigvalsh((drawn + drawn.transpose(0, 2, 1)) / 2)[:, -1]
    grid = np.linspace(ratio.min(), ratio.max(), 200)
    unit = float(theory.noise_floor(1.0, float(dim), n))
    law(left, grid, (largest[:, None] < unit / grid).mean(axis=0), "no eigenvalue of the noise above the fold")
    for axes in (left, middle):
        axes.set(xscale="log", xlabel="noise floor ν / fold μ_low of the root equation")
        axes.axvline(1.0, color="black", ls=":", lw=1.4)
    legend_below(left, columns=5)
    left.set_ylabel("share of runs with the right rank")
    middle.set(ylabel="columns kept", ylim=(0, None))
    quantities = {
        "right rank for ν < 0.9 μ_low": pooled_share(right[:, ratio < 0.9]),
        "right rank for ν > 2 μ_low": pooled_share(right[:, ratio > 2]),
        "columns for ν > 2 μ_low": mean(ranks[:, ratio > 2].mean(axis=1)),
    }
    return Outcome(quantities, figure)


def weight_decay(runs: Runs) -> Outcome:
    """Columns kept, and norms of all columns, under the group lasso, weight decay and no penalty."""
    cells = runs[""]
    figure, (left, right) = panels(2)
    kinds = [str(kind) for kind in cells["penalty_kind"].values]
    words = ["no penalty" if kind == "none" else kind.replace("_", " ") for kind in kinds]
    quantities: dict[str, Any] = {}
    for index, kind in enumerate(kinds):
        one = cells.sel(penalty_kind=kind)
        norms = values(one["column_norms"], "seed", "column")
        places = np.arange(1, norms.shape[1] + 1)
        left.plot(places, np.median(norms, axis=0), color=PALETTE[index], lw=2, label=words[index])
        points(right, [index], values(one["rank"], "seed")[:, None], index, words[index])
        active = (norms > 0.1 * norms.max(axis=1, keepdims=True)).sum(axis=1)
        quantities[f"columns kept, {kind}"] = mean(values(one["rank"], "seed"))
        quantities[f"columns above a tenth, {kind}"] = mean(active)
    threshold = 2 * float(cells["smoothing"]) ** 0.5
    left.axhline(threshold, color="black", ls="--", lw=1.4, label="threshold 2 √β")
    right.axhline(int(cells["true_rank"]), color="black", ls="--", lw=1.4, label="rank r")
    left.set(xlabel="column, largest first", ylabel="column norm after training")
    right.set(ylabel="columns kept", xticks=range(len(kinds)), xticklabels=words, xlim=(-0.5, len(kinds) - 0.5))
    left.legend(fontsize=8)
    return Outcome(quantities, figure)


def plain_lasso(runs: Runs) -> Outcome:
    """Columns kept by the smoothed and the plain group lasso against the scale of the start."""
    cells = runs[""]
    figure, (axes,) = panels(1)
    scales = cells["start_scale"].values
    quantities = {}
    for index, kind in enumerate(cells["penalty_kind"].values):
        ranks = values(cells["rank"].sel(penalty_kind=kind), "seed", "start_scale")
        points(axes, scales * 1.1**index, ranks, index, str(kind).replace("_", " "), "os"[index % 2])
        quantities[f"from the smallest start, {kind}"] = mean(ranks[:, 0])
        quantities[f"from the largest start, {kind}"] = mean(ranks[:, -1])
    axes.axhline(int(cells["true_rank"]), color="black", ls="--", lw=1.4, label="rank r")
    axes.set(xscale="log", xlabel="start scale (root mean square column norm)", ylabel="columns kept")
    axes.legend(fontsize=8)
    return Outcome(quantities, figure)
