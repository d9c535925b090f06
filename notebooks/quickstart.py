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
# fine-tuned. The whole grid is one compiled program. The config is the one that `python -m launch.grid` runs.

# %%
import jax

jax.config.update("jax_default_matmul_precision", "highest")

from gpsense.grid import run_grid
from launch.config import DEFAULT, build, read_yaml
from launch.work import to_grid

fields = read_yaml(DEFAULT)
if os.environ.get("GPSENSE_TINY"):
    fields["run"] = {"seeds": 2, "record_every": 50}
    fields["train"] |= {"steps": 100, "penalty": [0, 0.2]}
dataset = run_grid(to_grid(build(fields)))
dataset

# %% [markdown]
# Results are labelled: dimensions are the axes by name. Medians over seeds, as a table:

# %%
measures = ["rank", "error_trained", "error_pruned", "error"]
dataset[measures].median("seed").to_dataframe()[measures].round(4)

# %% [markdown]
# Column norms after training (the penalty separates few large columns from zeros) and the curves through both phases:

# %%
from pathlib import Path
from tempfile import mkdtemp

from IPython.display import Image, display

from gpsense.plots import grids

for path in grids.draw(dataset, Path(mkdtemp())):
    if path.name in ("columns.png", "curves.png", "error.png"):
        display(Image(str(path), width=900))

# %% [markdown]
# ## Real places from a part of their distances
#
# 72 European cities; 30 % of the pairwise squared distances, each with 2 % noise. A squared distance is a linear
# measurement of the Gram matrix of the points, `A = (e_i - e_j)(e_i - e_j)^T`. That the map is flat, rank 2, is not told:
# it must come out of the path of penalties, judged on held-out distances.

# %%
import jax.numpy as jnp

from gpsense import Distances, recover
from launch import cities

example = cities.example(share=0.3, noise=0.02, seed=0)
pairs = (jnp.asarray(example.fields[name]) for name in ("i", "j"))
measurements = Distances(*pairs, len(example.places))
values = jnp.asarray(example.fields["y"], jnp.float32)
blocks = 10 if os.environ.get("GPSENSE_TINY") else 40
result = recover(measurements, values, blocks=blocks)
result.rank, example.score(result.factor)

# %%
from gpsense.plots import recoveries

folder = Path(mkdtemp())
headline = f"rank {result.rank}, error {100 * example.score(result.factor)['error']:.2f} %"
display(Image(str(recoveries.draw_map(example, result.factor, folder / "map.png", headline)), width=900))
predicted = measurements.forward(jnp.asarray(result.factor))
display(Image(str(recoveries.draw(result, predicted, values, folder)[0]), width=900))
