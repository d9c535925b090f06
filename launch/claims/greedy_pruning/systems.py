"""Other systems: networks with quadratic activation, on synthetic and real data, and rectangular matrices."""

import jax.numpy as jnp
import numpy as np

from gpsense import theory
from launch.claims.drawing import PALETTE, law, log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import exactly, mean, over_seeds, pooled_share, told, values


def root_mean_square(sample: np.ndarray) -> np.ndarray:
    """The root mean square over the seeds (first axis)."""
    return np.sqrt((sample**2).mean(axis=0))


def quadratic_network(runs: Runs) -> Outcome:
    """Neurons kept and error after fine-tuning against the number of samples."""
    cells = runs[""]
    n, dim, rank = cells["n"].values, int(cells["dim"]), int(cells["true_rank"])
    ranks = values(cells["rank"], "seed", "n", "penalty")
    errors = values(cells["error"], "seed", "n", "penalty") * np.sqrt(rank)
    expected = np.asarray(theory.network_rank_error(float(cells["noise"]), dim, rank, jnp.asarray(n)))
    figure, (left, right) = panels(2)
    for index, penalty in enumerate(cells["penalty"].values):
        points(left, n * 1.02**index, ranks[..., index], index, f"penalty λ = {penalty:g}", "os"[index % 2])
        label = f"penalty λ = {penalty:g}"
        right.plot(n, root_mean_square(errors[..., index]), "os"[index % 2], color=PALETTE[index], label=label)
    left.axhline(rank, color="black", ls="--", lw=1.4, label="neurons of the teacher")
    law(right, n, expected, "σ √((r d - r(r-1)/2) / (2n))")
    left.set(xscale="log", xlabel="samples n", ylabel="neurons kept", ylim=(0, rank + 2))
    left.legend(fontsize=8)
    log_log(right, "samples n", "‖UUᵀ - M‖ after fine-tuning, root mean square")
    quantities = {
        "runs with the teacher's neurons": pooled_share(told(ranks == rank, ranks)),
        "error over the law": over_seeds(lambda v: root_mean_square(v).mean(axis=-1) / expected, errors),
    }
    return Outcome(quantities, figure)


def digits(runs: Runs) -> Outcome:
    """Held-out accuracy of networks that tell two digits apart, before and after pruning and fine-tuning."""
    stages = {"trained": "error_trained", "pruned": "error_pruned", "fine-tuned": "error"}
    networks = {"group lasso": runs[""], "no penalty, cut to 2": runs["no penalty"]}
    figure, (left, right) = panels(2)
    accuracy = {}
    for index, (name, cells) in enumerate(networks.items()):
        found = {stage: 1 - values(cells[kind], "seed", "positive", "negative") for stage, kind in stages.items()}
        accuracy[name] = {stage: sample.mean(axis=(1, 2)) for stage, sample in found.items()}
        spread = np.stack(list(accuracy[name].values()), axis=1)
        points(left, np.arange(3) + 0.08 * index, spread, index, name, "os"[index])
    kept = values(runs[""]["rank"], "seed", "positive", "negative")
    norms = values(runs[""]["column_norms"], "seed", "positive", "negative", "column")
    bare = values(runs["no penalty"]["column_norms"], "seed", "positive", "negative", "column")
    for index, (name, sample) in enumerate(zip(networks, (norms, bare), strict=True)):
        middle = np.median(sample.reshape(-1, sample.shape[-1]), axis=0)
        right.plot(1 + np.arange(len(middle)), middle, color=PALETTE[index], lw=2, label=name.split(",")[0])
    right.axhline(2 * float(runs[""]["smoothing"]) ** 0.5, color="black", ls="--", lw=1.4, label="threshold 2 √β")
    left.set(xticks=range(3), xticklabels=list(stages), ylabel="held-out accuracy, mean over the pairs", ylim=(0.8, 1))
    right.set(xlabel="neuron, largest first", ylabel="weight norm after training, median")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    ours, theirs = accuracy["group lasso"], accuracy["no penalty, cut to 2"]
    quantities = {
        "neurons kept of 40": mean(kept.mean(axis=(1, 2))),
        "accuracy before pruning": mean(ours["trained"]),
        "accuracy after pruning": mean(ours["pruned"]),
        "accuracy after fine-tuning": mean(ours["fine-tuned"]),
        "lost by pruning": mean(ours["trained"] - ours["pruned"]),
        "lost by pruning and fine-tuning": mean(ours["trained"] - ours["fine-tuned"]),
        "lost by the cut without a penalty": mean(theirs["trained"] - theirs["pruned"]),
        "no penalty, after the cut": mean(theirs["pruned"]),
        "no penalty, after fine-tuning": mean(theirs["fine-tuned"]),
    }
    return Outcome(quantities, figure)


def rectangular(runs: Runs) -> Outcome:
    """Singular values kept, from norms of stacked columns [u; v], and the error after fine-tuning on noisy data."""
    cells, noisy = runs[""], runs["noisy"]
    spectrum, smoothing = np.asarray(cells.attrs["spectrum"]), float(cells["smoothing"])
    penalty = float(cells["penalty"])
    kept = values(cells["column_norms"], "seed", "column")[:, : len(spectrum)] ** 2 / 2
    roots = np.array([float(theory.rectangular_root(value, penalty, smoothing)) for value in spectrum])
    figure, (left, right) = panels(2)
    p = np.linspace(1e-4, 1, 300)
    sigma = p + penalty / 2 * np.asarray(theory.penalty_slope(jnp.asarray(2 * p), smoothing))
    law(left, sigma, p, "σ - p = (λ/2) ψ(2p)")
    points(left, spectrum, kept, 0, "half the squared stacked norm")
    left.set(xlabel="singular value σ of the truth", ylabel="singular value p that is kept", xlim=(0, 1.05))
    left.legend(fontsize=8)
    n, rank = noisy["n"].values, int(noisy["true_rank"])
    errors = values(noisy["error"], "seed", "n") * np.sqrt(rank)
    sides = float(noisy["dim"]), float(noisy["columns"])
    expected = np.asarray(theory.rectangular_rank_error(float(noisy["noise"]), *sides, rank, jnp.asarray(n)))
    right.plot(n, root_mean_square(errors), "o", color=PALETTE[1], label="after fine-tuning")
    law(right, n, expected, "σ √(r (d₁ + d₂ - r) / n)")
    log_log(right, "measurements n", "‖UVᵀ - M‖, root mean square")
    ranks = values(noisy["rank"], "seed", "n")
    quantities = {
        "columns kept": mean(values(cells["rank"], "seed")),
        "distance to the root": exactly(np.abs(kept - roots).max()),
        "right rank with noise": pooled_share(told(ranks == rank, ranks)),
        "error over the law": over_seeds(lambda v: root_mean_square(v) / expected, errors),
    }
    return Outcome(quantities, figure)
