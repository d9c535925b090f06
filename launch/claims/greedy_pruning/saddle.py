"""Points where training may stop: the saddle of identical columns, and approximate second-order points."""

import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps

from gpsense import theory
from launch.claims.drawing import PALETTE, curve, law, log_log, panels
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import exactly, mean, pooled_share, told, values


def saddle(runs: Runs) -> Outcome:
    """Training from identical columns without and with a perturbation: loss, curvature and number of columns left."""
    cells = runs[""]
    radii = cells["perturbation"].values
    norms = values(cells["column_norms"], "seed", "perturbation", "column")
    alive = (norms > 0.1 * norms.max(axis=-1, keepdims=True)).sum(axis=-1)
    curvatures = values(cells["curvature_trained"], "seed", "perturbation")
    expected = float(
        theory.saddle_curvature(1.0, float(cells["width"]), float(cells["penalty"]), float(cells["smoothing"]))
    )
    figure, (left, right) = panels(2)
    train = (cells["phase"] == "train").values
    losses = values(cells["loss_curve"], "seed", "perturbation", "step")[..., train]
    for index, radius in enumerate(radii):
        label = f"perturbed by {radius:g}" if radius else "plain gradient descent"
        curve(left, 1 + cells["step"].values[train], losses[:, index], index, label)
        right.plot(1 + np.arange(norms.shape[-1]), norms[0, index], "os"[index], color=PALETTE[index], label=label)
    identical = np.sqrt(float(theory.column_root(1 / 8, float(cells["penalty"]) / 8, float(cells["smoothing"]))))
    single = np.sqrt(float(theory.column_root(1.0, float(cells["penalty"]), float(cells["smoothing"]))))
    right.axhline(identical, color="black", ls=":", lw=1.4, label="law, identical columns")
    right.axhline(single, color="black", ls="--", lw=1.4, label="law, one column")
    log_log(left, "training step + 1", "loss without the penalty")
    right.set(xlabel="column, largest first", ylabel="column norm after training", ylim=(-0.05, 1.1))
    right.legend(fontsize=8)
    quantities = {
        "columns left, plain": mean(alive[:, 0]),
        "curvature, plain": mean(curvatures[:, 0]),
        "curvature, plain, over the law": mean(curvatures[:, 0] / expected),
        "columns left, perturbed": mean(alive[:, -1]),
        "curvature, perturbed": exactly(curvatures[:, -1].min()),
    }
    return Outcome(quantities, figure)


def approximate_points(runs: Runs) -> Outcome:
    """Largest squared cosine between kept columns against its bound, where training stopped at various tolerances."""
    cells = runs[""]
    dims = ("seed", "penalty", "tolerance")
    coherence, gradient, curvature, ranks = (
        values(cells[name], *dims) for name in ("coherence", "gradient_norm_trained", "curvature_low", "rank")
    )
    squares = values(cells["column_norms"], *dims, "column") ** 2
    failed = np.isnan(ranks)
    last = np.take_along_axis(squares, np.maximum(np.nan_to_num(ranks).astype(int) - 1, 0)[..., None], -1)[..., 0]
    penalty = cells["penalty"].values[None, :, None]
    negative = np.maximum(0.0, -curvature)
    bound = np.asarray(theory.cosine_bound(*map(jnp.asarray, (squares[..., 0], last, negative, gradient, penalty))))
    several = ranks >= 2
    figure, (axes,) = panels(1)
    tolerances = cells["tolerance"].values
    for index in np.linspace(0, len(tolerances) - 1, 6).round().astype(int):
        shown = several[..., index]
        colour = colormaps["viridis"](index / (len(tolerances) - 1))
        x, y = bound[..., index][shown], np.maximum(coherence[..., index][shown], 1e-18)
        axes.plot(x, y, "o", ms=4, color=colour, alpha=0.7, label=f"stopped at gradient {tolerances[index]:.0e}")
    ends = np.array([bound[several].min(), bound[several].max()])
    law(axes, ends, ends, "bound")
    log_log(axes, "bound (s_max / s_min) (γ √s_max + 2.12 ε) / penalty λ", "largest cos² between kept columns")
    finest = coherence[..., np.argmin(tolerances)]
    quantities = {
        "share of points within the bound": pooled_share(told(coherence <= bound, coherence, bound), several | failed),
        "largest cos² at the finest": exactly(finest.max()),
    }
    return Outcome(quantities, figure)
