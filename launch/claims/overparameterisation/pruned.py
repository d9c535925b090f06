"""Networks pruned at random before training."""

import numpy as np

from launch.claims.drawing import log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import mean, over_seeds, values


def random_pruning(runs: Runs) -> Outcome:
    """Test error and training loss against the share of weights kept."""
    cells = runs[""].sortby("share", ascending=False)
    kept = cells["share"].values
    errors, losses = (values(cells[name], "seed", "share") for name in ("error", "loss"))
    figure, (left, right) = panels(2)
    points(left, kept, errors, 0, "test error")
    left.axhline(0.5, color="black", ls="--", lw=1.4, label="chance")
    left.set(xscale="log", xlabel="share of weights kept", ylabel="test error", ylim=(0, 0.6))
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    points(right, kept, losses, 1, "training loss at the end")
    right.axhline(np.log(2), color="black", ls="--", lw=1.4, label="at the start")
    log_log(right, "share of weights kept", "training loss")
    return Outcome(
        {
            "test error, dense less best share": over_seeds(lambda v: (v[:, :1] - v).mean(axis=0).max(), errors),
            "test error, fewest weights": mean(errors[:, -1]),
            "training loss over that at the start, all shares": over_seeds(
                lambda v: v.mean(axis=0).max() / np.log(2), losses
            ),
        },
        figure,
    )
