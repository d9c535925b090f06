"""How the error depends on the number of measurements and on the width, beside the law at known rank."""

import jax.numpy as jnp
import numpy as np

from gpsense import theory
from launch.claims.drawing import law, log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import log_slope, mean, over_seeds, values


def error_law(runs: Runs) -> Outcome:
    """Squared errors against n: never pruned, pruned, fine-tuned, and by the oracle that is given the true rank."""
    cells, oracle = runs[""], runs["oracle"]
    n, dim, rank = cells["n"].values, int(cells["dim"]), int(cells["true_rank"])
    noise, scale = float(cells["noise"]), rank**0.5  # norm of a truth whose eigenvalues are all one
    kinds = {
        "never pruned": cells["error_trained"].isel(penalty=0),
        "pruned": cells["error_pruned"].isel(penalty=-1),
        "fine-tuned": cells["error"].isel(penalty=-1),
        "oracle rank": oracle["error"],
    }
    squares = {name: (values(array, "seed", "n") * scale) ** 2 for name, array in kinds.items()}
    figure, (axes,) = panels(1)
    for index, (name, square) in enumerate(squares.items()):
        points(axes, n * 1.03 ** (index - 1.5), square, index, name, "osD^"[index])
    fine = np.asarray(theory.exact_rank_error(noise, dim, rank, jnp.asarray(n))) ** 2
    full = np.asarray(theory.unpruned_error(noise, dim, rank, jnp.asarray(n))) ** 2
    law(axes, n, fine, "law at known rank")
    law(axes, n, full, "law, never pruned", ":")
    log_log(axes, "measurements n", "‖UUᵀ - M‖² (squared Frobenius error)")
    ratio = lambda v: v.mean(axis=0)  # noqa: E731
    quantities = {
        "slope, fine-tuned": log_slope(n, squares["fine-tuned"]),
        "columns kept": mean(values(cells["rank"].isel(penalty=-1), "seed", "n").mean(axis=1)),
        "fine-tuned over the law": over_seeds(ratio, squares["fine-tuned"] / fine),
        "fine-tuned over oracle rank": over_seeds(
            lambda a, b: (a.mean(axis=0) / b.mean(axis=0)).max(), squares["fine-tuned"], squares["oracle rank"]
        ),
        "never pruned over the law": over_seeds(ratio, squares["never pruned"] / full),
        "never pruned over fine-tuned": over_seeds(
            lambda a, b: (a.mean(axis=0) / b.mean(axis=0)).min(), squares["never pruned"], squares["fine-tuned"]
        ),
    }
    return Outcome(quantities, figure)


def width(runs: Runs) -> Outcome:
    """Columns kept and error after fine-tuning against the width of the factor."""
    cells = runs[""]
    widths, rank = cells["width"].values, int(cells["true_rank"])
    squares = values(cells["error"], "seed", "width") ** 2 * rank  # the truth has eigenvalues one
    ranks = values(cells["rank"], "seed", "width")
    expected = float(theory.exact_rank_error(float(cells["noise"]), int(cells["dim"]), rank, float(cells["n"]))) ** 2
    figure, (left, right) = panels(2)
    points(left, widths, ranks, 0, "columns kept")
    left.axhline(rank, color="black", ls="--", lw=1.4, label="rank r")
    points(right, widths, squares, 1, "after fine-tuning")
    law(right, widths, np.full(len(widths), expected), "law at known rank")
    left.set(xscale="log", xlabel="width k", ylabel="columns kept", ylim=(0, rank + 2))
    left.legend(fontsize=8)
    log_log(right, "width k", "‖UUᵀ - M‖² after fine-tuning")
    right.set_ylim(expected / 3, expected * 3)
    quantities = {
        "columns kept": mean(ranks),
        "error over the law": mean(squares / expected),
        "largest over smallest error": over_seeds(lambda v: np.ptp(v.mean(axis=0)) / v.mean() + 1, squares),
    }
    return Outcome(quantities, figure)
