# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Greedy pruning with a group lasso, and its laws
#
# In Colab, clone the repository, change into it and run the next cell. It installs without upgrading JAX, so the
# accelerator's own build stays.

# %%
import importlib.util
import os

if importlib.util.find_spec("equinox") is None:
    # %pip install -q -e .
    pass

tiny = "GPSENSE_TINY" in os.environ  # a fraction of the size, for tests

# %% [markdown]
# A factor `U` (d x k) with far too many columns is trained on
# `(1/n) ||A(U U^T) - y||^2 + lambda sum_j ||u_j||^2 / sqrt(||u_j||^2 + beta)`; columns of norm at most `2 sqrt(beta)`
# are deleted; the rest is fine-tuned on the loss alone (arXiv 2303.11453). The penalty's effect on the columns has
# closed forms, all in `gpsense.theory`. This notebook puts four of them beside what grids measure.
#
# ## Few large columns, the rest near zero
#
# Figure 1 of the paper, at a smaller size: without the penalty many columns are comparable to the largest.

# %%
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_default_matmul_precision", "highest")

from gpsense import Axis, Grid, Schedule, Sensing, run_grid, theory
from gpsense.plots import plot_columns, plot_curves, plot_measure

dim = 20 if tiny else 100
dataset = run_grid(
    Grid(
        Sensing(dim=dim, rank=4, measurements="population"),
        Schedule(train_steps=200 if tiny else 3000, fine_tune_steps=100, record_every=100),
        seeds=2 if tiny else 16,
        axes=(Axis("penalty", (0.0, 0.1)),),
        constants={"smoothing": 0.01, "rate": 0.05, "start_scale": 1.0, "tolerance": 1e-3},
    )
)
axes = plot_columns(dataset)

# %% [markdown]
# ## How many columns stay
#
# A zero column is unstable where an uncovered eigenvalue of the truth exceeds `tau = lambda / (2 sqrt(beta))`, and a
# column can stay on an eigenvalue only above `mu_low`, the fold (`theory.fold_eigenvalue`). So at least as many columns
# stay as eigenvalues exceed `tau`, at most as many as exceed `mu_low` (`theory.column_bounds`); in between the start
# decides. The truth here has the eigenvalues 1, 0.5, 0.25 and 0.1.

# %%
spectrum, smoothing = (1.0, 0.5, 0.25, 0.1), 0.01
penalties = (0.01, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24)
dataset = run_grid(
    Grid(
        Sensing(dim=12, rank=4, measurements="population", optimizer="momentum"),
        Schedule(train_steps=500 if tiny else 10000, fine_tune_steps=100, record_every=500),
        seeds=2 if tiny else 8,
        axes=(Axis("start_scale", (1e-3, 0.3)), Axis("penalty", penalties)),
        constants={"spectrum": spectrum, "smoothing": smoothing, "momentum": 0.95, "tolerance": 1e-6},
    )
)
axes = plot_measure(dataset.sel(start_scale=[0.3]), "rank")
bounds = [theory.column_bounds(jnp.array(spectrum), penalty, smoothing) for penalty in penalties]
above_tau, above_fold = np.transpose(bounds)
axes.plot(above_fold, "--", color="#D55E00", drawstyle="steps-mid", label="eigenvalues above the fold")
axes.plot(above_tau, ":", color="black", drawstyle="steps-mid", label="eigenvalues above τ")
legend = axes.legend()

# %% [markdown]
# ## What the penalty costs, and that fine-tuning takes it back
#
# A column trained on an eigenvalue `mu` has the squared norm `s` with `s + (lambda/4) psi(s) = mu`
# (`theory.column_root`), where `psi(s) = (s + 2 beta) / (s + beta)^(3/2)` is the slope of the penalty
# (`theory.penalty_slope`). The error after training is therefore `(lambda/4) sqrt(sum psi(s_j)^2)`
# (`theory.relative_bias`); fine-tuning removes it.

# %%
spectrum, penalties = (1.0, 0.7, 0.5), (0.01, 0.02, 0.03, 0.06, 0.09, 0.12)
dataset = run_grid(
    Grid(
        Sensing(dim=12, rank=3, measurements="population", optimizer="momentum"),
        Schedule(train_steps=500 if tiny else 5000, fine_tune_steps=200 if tiny else 2000, record_every=500),
        seeds=2 if tiny else 8,
        axes=(Axis("penalty", penalties),),
        constants={"spectrum": spectrum, "smoothing": 0.01, "rate": 0.02, "tolerance": 1e-6},
    )
)
axes = plot_measure(dataset, "error_trained", log=True)
axes.plot([theory.relative_bias(jnp.array(spectrum), penalty, 0.01) for penalty in penalties], "k--", label="law")
legend = axes.legend()
dataset[["rank", "error_trained", "error"]].median("seed").to_dataframe()[["rank", "error_trained", "error"]]

# %% [markdown]
# ## How many measurements
#
# Fine-tuned, the error is that of somebody who knew the rank, `sigma sqrt((r d - r (r - 1) / 2) / n)`
# (`theory.exact_rank_error`); without pruning it is larger (`theory.unpruned_error`).

# %%
numbers, noise, dim, rank = (1000, 2000, 4000, 8000), 1.0, 20, 2
dataset = run_grid(
    Grid(
        Sensing(dim=dim, rank=rank, n=max(numbers), optimizer="momentum"),
        Schedule(train_steps=300 if tiny else 2000, fine_tune_steps=300, record_every=100),
        seeds=2 if tiny else 16,
        axes=(Axis("n", numbers), Axis("penalty", (0.0, 0.25))),
        constants={"noise": noise, "smoothing": 0.0625, "rate": 0.01},
    )
)
laws = (theory.exact_rank_error, theory.unpruned_error)
scale = np.sqrt(rank)  # ||M||_F of two eigenvalues 1
axes = plot_measure(dataset.sel(penalty=[0.25]), "error", log=True)
exact, unpruned = ([law(noise, dim, rank, n) / scale for n in numbers] for law in laws)
axes.plot(exact, "k--", label="law, exact rank")
axes.plot(unpruned, ":", color="#D55E00", label="law, never pruned")
axes.set_ylim(top=1.2 * max(unpruned))
legend = axes.legend()

# %%
axes = plot_curves(dataset.sel(n=1000))

# %% [markdown]
# ## Other methods on the same draws
#
# `method` is an axis: greedy pruning beside what one would use instead. `spectral` and `scaled_gd` are given the true
# rank; `trace_norm` and `irls` are not.

# %%
methods = ("greedy_pruning", "trace_norm", "irls", "spectral", "scaled_gd")
dataset = run_grid(
    Grid(
        Sensing(dim=20, width=10, n=400),
        Schedule(train_steps=100 if tiny else 500, fine_tune_steps=200, record_every=100),
        seeds=2 if tiny else 16,
        axes=(Axis("method", methods),),
        constants={"noise": 0.3, "penalty": 0.2, "baseline_penalty": 0.01},
    )
)
axes = plot_measure(dataset, "error")

# %% [markdown]
# All claims, each with its interval and verdict: `python -m launch.claims --paper greedy_pruning`.
