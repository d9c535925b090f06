"""How fast gradient descent converges: linearly with the r columns kept, as 1/t with surplus columns."""

import jax.numpy as jnp
import numpy as np

from gpsense import theory
from launch.claims.drawing import curve, law, log_log, panels
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import exactly, over_seeds, values


def convergence(runs: Runs) -> Outcome:
    """Error of the matrix during fine-tuning, and during training without a penalty at full width."""
    cells, spare = runs[""], runs["never pruned"]
    rate, condition = float(cells["rate"]), float(cells["condition"])
    tuning = (cells["phase"] == "fine_tune").values
    steps = cells["step"].values[tuning] - int(cells.attrs["train_steps"])
    errors = values(cells["error_curve"], "seed", "step")[:, tuning]
    good = np.median(errors, axis=0) > 1e-11
    slow = 1 - 8 * rate / condition
    late = good & (np.median(errors, axis=0) < 1e-4)
    per_step = over_seeds(
        lambda v: np.exp(np.polyfit(steps[late], np.log(v[:, late]).mean(axis=0), 1)[0]) / slow, errors
    )
    figure, (left, right) = panels(2)
    curve(left, steps[good], errors[:, good], 0, "pruned to r columns")
    start = np.median(errors[:, 0])
    law(left, steps[good], start * slow ** (steps[good] - steps[0]), f"(1 - 8 η μ_r)ᵗ = {slow:.4f}ᵗ")
    left.set_xlabel("fine-tuning step t")
    log_log(left, "fine-tuning step t", "relative error of UUᵀ", both=False)
    train = (spare["phase"] == "train").values & (spare["step"].values > 0)
    t, open_errors = spare["step"].values[train], values(spare["error_curve"], "seed", "step")[:, train]
    sizes = int(spare["dim"]), int(spare["width"]), int(spare["true_rank"])
    norm = float(np.linalg.norm(float(spare["condition"]) ** -np.linspace(0, 1, int(spare["true_rank"]))))
    decay = np.asarray(theory.surplus_error(float(spare["rate"]), jnp.asarray(t), *sizes)) / norm
    curve(right, t, open_errors, 1, "k = 2d columns, no penalty")
    law(right, t, decay, "√m / (8 η t)")
    log_log(right, "training step t", "relative error of UUᵀ")
    last = t > t[-1] / 8
    slope = over_seeds(lambda v: np.polyfit(np.log(t[last]), np.log(v[:, last]).mean(axis=0), 1)[0], open_errors)
    quantities = {
        "factor per step over 1 - 8 η μ_r": per_step,
        "error left by fine-tuning": exactly(errors[:, -1].max()),
        "slope of log error in log t": slope,
        "error over √m / (8 η t)": over_seeds(lambda v: v.mean(axis=0)[-1] / decay[-1], open_errors),
    }
    return Outcome(quantities, figure)
