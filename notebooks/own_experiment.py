# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Your own experiment: any function, any model
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
# ## A function, swept
#
# `sweep` runs any function of JAX arrays over all combinations of its parameters and over random seeds, as one compiled
# program. The names of the parameters are the axes: those that `draw` takes lie outside and their data are drawn once,
# those of the cell alone lie inside, vmapped over the same data. Here: linear regression on two of six inputs with an L1
# penalty, by an optax optimizer of your choice.

# %%
import jax
import jax.numpy as jnp
import optax

from gpsense import sweep


def draw(key, n, noise):
    x = jax.random.normal(key, (100, 6))
    y = x[:, 0] - 2 * x[:, 1] + noise * jax.random.normal(jax.random.fold_in(key, 1), (100,))
    return x, y, jnp.arange(100) < n  # n is traced: one program for all


def cell(problem, key, rate, penalty):
    x, y, used = problem
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.lion(rate))
    loss = lambda w: jnp.sum(used * (x @ w - y) ** 2) / jnp.sum(used) + penalty * jnp.sum(jnp.abs(w))

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jax.random.normal(key, (6,))
    (w, _), _ = jax.lax.scan(step, (w, optimizer.init(w)), None, length=300)
    return {"error": jnp.linalg.norm(w - jnp.array([1.0, -2, 0, 0, 0, 0])), "weights": w}


dataset = sweep(
    cell,
    draw,
    seeds=4 if tiny else 64,
    n=[10, 20, 50, 100],
    noise=1.0,
    rate=0.01,
    penalty=[0.0, 0.1, 0.2, 0.4],
    dims={"weights": ("weight",)},
    attrs={"error": {"long_name": "distance to the true weights"}},
)
dataset

# %% [markdown]
# Dimensions have names. A median over the seeds as a table, and as a map:

# %%
dataset["error"].median("seed").to_pandas().round(3)

# %%
from gpsense.plots import plot_measure

axes = plot_measure(dataset, "error")

# %% [markdown]
# Numbers are traced and cost no compilation. Names, flags, and parameters listed in `static` (those that give a shape)
# are compiled in, one program for each value. `out="runs/mine"` writes the results chunk by chunk; the same call resumes
# after an interruption, and several processes that call it share the work. A cell whose numbers are not finite says so
# in `status` and leaves the others as they are. From a shell, with both functions in a file `my_experiment.py`, table,
# figures and page come from
#
#     python -m launch.grid my_experiment.py:cell --n 20,100 --noise 0.1 --rate 0.01 --penalty 0,0.1,0.2 --seeds 64

# %% [markdown]
# ## A model, trained, pruned and fine-tuned
#
# A model of your own goes through the paper's pipeline (training with a smoothed group lasso, pruning, fine-tuning) as a
# subclass of `TrainPruneFineTune`. It says how data are drawn, where parameters start, what the loss is, and which
# `parts` are pruned. Each field is declared once, with its default, range and help.

# %%
from dataclasses import dataclass
from typing import Annotated

from gpsense import Axis, Field, Grid, Schedule, TrainPruneFineTune, run_grid
from gpsense.fields import Traced
from gpsense.systems.own import groups


class Noise(Traced):
    noise: Annotated[float, Field("problem", "standard deviation of the noise", at_least=0)] = 0.1


@dataclass(frozen=True, kw_only=True)
class LeastSquares(TrainPruneFineTune):
    """Linear regression on two of many inputs, pruned by input."""

    name, Data, parts = "least_squares", Noise, groups(lambda w: w, axis=0)
    dim: Annotated[int, Field("problem", "inputs", at_least=2)] = 20
    n: Annotated[int, Field("problem", "samples", at_least=1)] = 100

    def draw(self, data, key):
        drawn = jax.random.normal(key, (self.n, self.dim + 1), self.dtype)
        x = drawn[:, 1:]
        return x, x[:, 0] - 2 * x[:, 1] + data.noise * drawn[:, 0]

    def init(self, setting, key):
        return jnp.zeros(self.dim)

    def loss(self, w, problem):
        return jnp.mean((problem[0] @ w - problem[1]) ** 2)


axes = (Axis("noise", (0.1, 1.0)), Axis("threshold", (0.05, 0.1, 0.2, 0.5)))
grid = Grid(LeastSquares(), Schedule(500, 200, 100), seeds=2 if tiny else 16, axes=axes, constants={"penalty": 0.05})
dataset = run_grid(grid)
axes = plot_measure(dataset, "rank")

# %% [markdown]
# Two inputs stay where the threshold exceeds the weights that noise gives to the others. With the class in a file
# `my_system.py`, `python -m launch.grid my_system.py:LeastSquares --problem.noise 0.1,1 --help` treats it as a system of
# the package.

# %% [markdown]
# ## Plain functions and an Equinox network
#
# `TrainPruneFineTune.of` makes the same of plain functions: `draw(key, ...)`, whose further parameters are numbers to
# sweep, `init(key)` and `loss(params, problem)`. Parameters may be any tree, an Equinox module included; `groups` names
# columns, rows or whole neurons over several leaves, `weights()` single weights of leaves of two axes or more. Here the
# parts are the hidden neurons of a network, each its weights in and out.

# %%
import equinox as eqx


def draw_relu(key, noise=0.1):
    x = jax.random.normal(key, (200, 4))
    return x, jax.nn.relu(x[:, 0] - x[:, 1]) + noise * jax.random.normal(jax.random.fold_in(key, 1), (200,))


network = TrainPruneFineTune.of(
    draw=draw_relu,
    init=lambda key: eqx.nn.MLP(4, "scalar", 32, 1, key=key),
    loss=lambda model, problem: jnp.mean((jax.vmap(model)(problem[0]) - problem[1]) ** 2),
    parts=groups(lambda model: (model.layers[0].weight, model.layers[1].weight), axis=(0, 1), unit="neurons"),
    optimizer="adam",
)
steps = Schedule(100, 100, 50) if tiny else Schedule(1000, 500, 50)
penalties = Axis("penalty", (0.0, 0.001, 0.01))
dataset = run_grid(Grid(network, steps, seeds=2 if tiny else 8, axes=(penalties,), constants={"threshold": 0.1}))
dataset[["rank", "error"]].median("seed").to_dataframe()[["rank", "error"]].round(4)

# %% [markdown]
# The norms of the neurons after training, and the curves through both phases:

# %%
from gpsense.plots import plot_columns, plot_curves

plot_columns(dataset)
axes = plot_curves(dataset)
