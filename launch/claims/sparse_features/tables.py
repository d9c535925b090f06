"""A real table with added columns of noise: which columns are kept, and the test error on them."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gpsense.datasets import DIABETES_COLUMNS
from gpsense.estimators.fit_sparse import cross_validated_lasso
from gpsense.keys import seed_keys
from gpsense.sparse.samples import TableSamples
from gpsense.systems.diabetes import Diabetes
from launch.claims.drawing import legend_below, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import mean, values

RULES = {
    "gradient": "pruned",
    "magnitude": "by magnitude",
    "none": "unpruned",
    "oracle": "real columns",
    "random": "random",
}
LASSO = "Lasso"


def diabetes(runs: Runs) -> Outcome:
    """Real and noise columns kept, and errors on test rows, by the paper's rule, other rules and the Lasso."""
    cells = runs[""]
    ways = {label: cells.sel(rule=rule) for rule, label in RULES.items()}
    risks = {label: values(each["error"], "seed") for label, each in ways.items()}
    kept = {label: values(ways[label]["selected"], "seed", "coordinate") for label in ("pruned", "by magnitude")}
    kept[LASSO], risks[LASSO] = _lasso(cells)
    real = len(DIABETES_COLUMNS)
    figure, (left, right) = panels(2)
    for index, (label, columns) in enumerate(kept.items()):
        shares = np.concatenate([columns[:, :real], columns[:, real:].mean(axis=1, keepdims=True)], axis=1)
        points(left, np.arange(real + 1) + 0.12 * index, shares, index, label, "osd"[index])
    left.set(xticks=range(real + 1), xticklabels=[*DIABETES_COLUMNS, "noise"])
    left.set(
        xlabel="column; noise: mean of those drawn", ylabel="share of seeds in which it is kept", ylim=(-0.05, 1.05)
    )
    legend_below(left, columns=3)
    for place, (label, sample) in enumerate(risks.items()):
        points(right, [place], sample[:, None], place, label)
    right.axhline(1, color="black", ls="--", lw=1.4)
    right.set(xticks=range(len(risks)), ylabel="test error over the variance")
    right.set_xticklabels(list(risks), rotation=20)
    noise = {label: columns[:, real:].sum(axis=1) for label, columns in kept.items()}
    quantities = {f"real columns kept, {label}": mean(columns[:, :real].sum(axis=1)) for label, columns in kept.items()}
    quantities |= {f"noise columns kept, {label}": mean(count) for label, count in noise.items()}
    quantities |= {f"risk, {label}": mean(sample) for label, sample in risks.items()}
    for other in ("unpruned", LASSO, "by magnitude"):
        quantities[f"risk, pruned less {other}"] = mean(risks["pruned"] - risks[other])
    quantities[f"noise columns kept, pruned less {LASSO}"] = mean(noise["pruned"] - noise[LASSO])
    return Outcome(quantities, figure)


def _lasso(cells: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Columns kept (seeds, dim) and test errors (seeds,) of the Lasso, on the same rows as the cells."""
    size = cells.sizes["coordinate"] - len(DIABETES_COLUMNS)
    draw = jax.jit(Diabetes(n=int(cells["n"]), noise_columns=size).draw)
    kept, errors = [], []
    for seed in cells["seed"].values:
        problem = draw(Diabetes.Data(), seed_keys(int(seed)).problem)
        (x, y), (x_test, y_test) = _rows(problem.train), _rows(problem.test)
        model = cross_validated_lasso(x, y)
        kept.append(model.coef_ != 0)
        errors.append(np.mean((model.predict(x_test) - y_test) ** 2) / np.var(y_test))
    return np.array(kept, float), np.array(errors)


def _rows(stream: TableSamples) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, dim) and outputs (n,) of a stream; the rows that networks hold out come last in each block."""
    blocks = [stream.block(jnp.int32(index), None) for index in range(int(stream.blocks))]
    x, y, used = (np.concatenate([np.asarray(part) for part in parts], axis=-1) for parts in zip(*blocks, strict=True))
    return x[: stream.dim, used > 0].T.astype(np.float64), y[used > 0].astype(np.float64)
