# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Sparse features: the few columns of a table that matter
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
# ## A table of your own
#
# `fit_sparse` scores every column by the gradients of neurons that look along it, keeps a pool of the best before
# anything is trained, and fits a two-layer network to those (Algorithms 1 and 2 of arXiv 2406.08658). A fifth of the
# rows is put aside before anything is computed and measures the risk, relative to the variance of y: 1 is no better
# than a constant. Here: scikit-learn's diabetes table, ten columns, with 200 columns of noise added.

# %%
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes

from gpsense import fit_sparse

x, y = load_diabetes(return_X_y=True, as_frame=True)
noise = np.random.default_rng(0).normal(size=(len(x), 200))
x = pd.concat([x, pd.DataFrame(noise, columns=[f"noise {i}" for i in range(200)])], axis=1)
fit = fit_sparse(x, y, pool=5)
print("kept:", ", ".join(fit.kept_names))
print(f"risk {fit.held_out_risk:.3f}; unpruned {fit.unpruned_risk:.3f}; Lasso {fit.lasso_risk:.3f}")
fit.predict(x[:3])  # finds the columns by name

# %% [markdown]
# The Lasso (scikit-learn's `LassoCV` on the same rows) is hard to beat on nearly linear data such as this table. Where y
# depends on its columns through a square, it sees nothing. Without `pool`, a fifth of the other rows serves as validation
# rows: they choose it, and columns that hardly lower the error on them are dropped:

# %%
rng = np.random.default_rng(1)
x = rng.normal(size=(1000 if tiny else 3000, 100))
y = (x[:, 3] + x[:, 7]) ** 2 + 0.1 * rng.normal(size=len(x))
fit = fit_sparse(x, y)
print("kept:", sorted(fit.coordinates.tolist()))
print(f"risk {fit.held_out_risk:.3f}; unpruned {fit.unpruned_risk:.3f}; Lasso {fit.lasso_risk:.3f}")
print("first direction:", {int(i): round(float(fit.directions[i, 0]), 2) for i in fit.coordinates})

# %% [markdown]
# ## How many samples
#
# `y = sigma*(V^T x) + sigma e`, x Gaussian in d dimensions, V (d, r) with few rows that are not zero. A dense two-layer
# network needs `d^k*` samples before one gradient step finds V, `k*` being the information exponent of the link (2 for
# `he_2`); pruned before it is trained it needs hardly more in more dimensions. `energy` is the share of the first layer
# that lies in the span of V, `captured` the share of V in the coordinates kept, `error` the excess risk over the
# variance of y.

# %%
from gpsense import Axis, Grid, Schedule, SparseFeatures, run_grid
from gpsense.plots import plot_measure

dim = 64 if tiny else 256
numbers = (500, 1000) if tiny else (500, 1000, 2000, 4000)
seeds = 2 if tiny else 8


def measured(rule, residual):
    system = SparseFeatures(dim=dim, sparsity=8, link=(0.0, 1.0), n=max(numbers), rule=rule, residual=residual)
    return run_grid(Grid(system, Schedule(0, 0), seeds, axes=(Axis("n", numbers),), constants={"noise": 0.1}))


pruned, unpruned = measured("gradient", "ols"), measured("none", "none")
axes = plot_measure(pruned, "error")
axes.plot(unpruned["error"].median("seed"), "s--", color="0.4", label="median, never pruned")
legend = axes.legend()

# %%
axes = plot_measure(pruned, "captured")

# %% [markdown]
# The scores of the coordinates alone, for a pipeline of your own, are `gpsense.gradient_scores`. Rules and methods to
# compare with (magnitude, random or oracle pruning, dense training first, Lasso, spectral methods) are in
# `python -m launch.grid --system sparse_features --help`. The paper's method is optimal among correlational statistical
# query methods, and only in the exponent of d; methods outside that class need fewer samples here. All claims:
# `python -m launch.claims --paper sparse_features`.
