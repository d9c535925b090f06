# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Train, prune, fine-tune: a grid, and a map
#
# In Colab, clone the repository, change into it and run the next cell. It installs without upgrading JAX, so the
# accelerator's own build stays.

# %%
import importlib.util
import os

if importlib.util.find_spec("equinox") is None:
    # %pip install -q -e .
    pass

# %% [markdown]
# ## A grid of cells
#
# Every combination of penalty, noise and seed is one *cell*: an over-parameterised factor `U` is trained on measurements
# of a rank-2 matrix with a smoothed group lasso on its columns, columns below a threshold are deleted, the rest is
# fine-tuned. The whole grid is one compiled program. It is the grid of `configs/quickstart.yaml`, which
# `python -m launch.grid` runs.

# %%
import jax

jax.config.update("jax_default_matmul_precision", "highest")

from gpsense import Axis, Grid, Schedule, Sensing, run_grid

tiny = "GPSENSE_TINY" in os.environ  # a fraction of the size, for tests
grid = Grid(
    Sensing(dim=20, rank=2, n=400),
    Schedule(train_steps=100 if tiny else 1000, fine_tune_steps=300, record_every=50),
    seeds=2 if tiny else 16,
    axes=(Axis("noise", (0.3, 1.0)), Axis("penalty", (0.0, 0.025, 0.05, 0.1, 0.2, 0.4))),
    constants={"smoothing": 0.04, "rate": 0.02, "start_scale": 0.3},
)
dataset = run_grid(grid)
dataset

# %% [markdown]
# Results are labelled: dimensions are the axes by name. Medians over seeds, as a table:

# %%
measures = ["rank", "error_trained", "error_pruned", "error"]
dataset[measures].median("seed").to_dataframe()[measures].round(4)

# %% [markdown]
# Column norms after training (the penalty separates few large columns from zeros), the curves through both phases, and
# the error after fine-tuning:

# %%
from gpsense.plots import plot_columns, plot_curves, plot_measure

plot_columns(dataset)
plot_curves(dataset)
axes = plot_measure(dataset, "error", log=True)

# %% [markdown]
# ## Real places from a part of their distances
#
# 72 European cities; 30 % of the pairwise squared distances, each with 2 % noise. A squared distance is a linear
# measurement of the Gram matrix of the points, `A = (e_i - e_j)(e_i - e_j)^T`. The method is not given the rank, 2 for
# points in a plane: columns enter along a path of falling penalties, until the residual looks like noise.

# %%
import jax.numpy as jnp

from gpsense import Distances, recover
from launch import cities

example = cities.example(share=0.3, noise=0.02, seed=0)
pairs = (jnp.asarray(example.fields[name]) for name in ("i", "j"))
measurements = Distances(*pairs, len(example.places))
result = recover(measurements, example.fields["y"])
result.rank, example.score(result.factor)

# %%
from gpsense.plots import plot_map, plot_ranks

axes = plot_map(example.names, example.places, example.aligned(result.factor))
axes.set_title(f"rank {result.rank}, error {100 * example.score(result.factor)['error']:.2f} %")
axes = plot_ranks(result)
