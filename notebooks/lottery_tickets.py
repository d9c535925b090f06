# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Lottery tickets of your own network
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
# ## Rules compared
#
# Iterative magnitude pruning with rewinding trains, deletes the smallest 20 % of the weights that are left, puts the
# others back where they were, and repeats. `find_tickets` does so with your own Equinox network on your own arrays, and
# gives every rule the same number of training steps: as many rounds as iterative pruning takes, and one more for what is
# left. Here: scikit-learn's handwritten digits.

# %%
import equinox as eqx
from sklearn.datasets import load_digits

from gpsense import find_tickets

x, y = load_digits(return_X_y=True)
x = x / 16
make = lambda key: eqx.nn.MLP(64, 10, 32 if tiny else 128, 2, key=key)
tickets = find_tickets(
    make,
    train=(x[:1000], y[:1000]),
    test=(x[1000:], y[1000:]),
    rules=("iterative_magnitude", "magnitude", "random"),
    kept=(0.5,) if tiny else (0.3, 0.1, 0.03),
    seeds=2 if tiny else 3,
    steps=20 if tiny else 200,
    batch=100,
)
(1 - tickets.results["error"].median("seed")).to_series().unstack().round(3)

# %% [markdown]
# Results are one Dataset over rule, seed and share kept; `tickets.network` gives a trained ticket as an Equinox module,
# its pruned weights 0.

# %%
from gpsense.plots import plot_measure

axes = plot_measure(tickets.results, "error") if not tiny else None
network = tickets.network("iterative_magnitude", kept=float(tickets.results["kept"][-1]), seed=0)
tickets.results["kept_by_layer"].median("seed").isel(kept=-1).to_pandas().round(3)

# %% [markdown]
# More of `find_tickets`: a regression takes `loss="squared"`; the error is then the same unless you name another. Rules
# are also `snip`, `grasp`, `synflow`, `none`. Weights of linear, convolutional, recurrent and attention layers are pruned;
# biases, norms and embeddings are not, unless `prune` says so (`prune="embedding"`, `"!layers.2"`, a function of path and
# array, a tree of booleans). A warning and `status` tell which tickets lost a whole layer. `make` may return module and
# state (`eqx.nn.make_with_state`, batch norm), and the module may take a `key` (dropout). With `validation=(x, y)` and
# `record_every` the results have `stop_step` and `stop_error`, the step of least validation loss and the test error
# there. `out="runs/mine"` keeps chunks and resumes; `tickets.save("tickets.nc")` and
# `gpsense.estimators.Tickets.load("tickets.nc", make)` write and read them.
#
# ## Pruning in a training loop of your own
#
# Masks are trees of booleans, and pruning is a function of your parameters; any optax optimizer trains what is left.
# `training.pruned` keeps pruned weights at exactly 0, through momentum and weight decay.

# %%
import jax
import optax

from gpsense.pruning import leaves, training, weight_scores, weights

start = model = make(jax.random.key(0))
can, mask, arrays = leaves.prunable(model), weights.everything(model), lambda model: eqx.filter(model, eqx.is_array)
optimizer = training.pruned(optax.adamw(5e-3))
entropy = optax.losses.softmax_cross_entropy_with_integer_labels
loss = lambda model: entropy(jax.vmap(model)(x[:1000]), y[:1000]).mean()


@eqx.filter_jit
def step(model, state, mask):
    updates, state = optimizer.update(eqx.filter_grad(loss)(model), state, arrays(model), mask=mask)
    return eqx.apply_updates(model, updates), state


for kept in (1.0, 0.4, 0.16, 0.06):
    mask = weights.keep_share(weight_scores.magnitude(model), can, kept, mask)
    model = weights.apply(mask, start)  # rewound; leave this out for pruning without
    state = optimizer.init(arrays(model))
    for _ in range(10 if tiny else 100):
        model, state = step(model, state, mask)
    right = float((jax.vmap(model)(x[1000:]).argmax(1) == y[1000:]).mean())
    print(f"{100 * kept:.0f} % of the weights: {100 * right:.1f} % right")

# %% [markdown]
# Other scores take what they need: `snip(model, loss=loss)`, `grasp`, `movement`, `synflow(model,
# flow=synaptic_flow((64,)))`, `random(model, key=key)`; `prune_by` scores in rounds. `keep_share` spreads a share over
# all layers, each `layer`, or by `erk`; `keep_n_of_m` makes 2:4 sparsity, `keep_groups` deletes whole rows and filters.
# `training` has schedules (`one_shot`, `iterative`, `cubic`) and `mask_module`. Shares may be traced: `vmap` over them.

# %%
from gpsense.pruning.weight_scores import magnitude

sizes = jax.vmap(lambda share: weights.kept_share(weights.keep_share(magnitude(model), can, share), can))
sizes(jax.numpy.array([0.5, 0.05, 0.01]))

# %% [markdown]
# ## How many samples a ticket saves
#
# A student that is given a teacher's mask needs samples for the weights that the mask leaves, not for those it prunes
# (arXiv 2110.05667). `TeacherStudent` draws such teachers, K neurons that see `support` of the inputs each; `n` and
# `support` are traced, so that the map is one program. `success` is an error of at most 1e-4.

# %%
from gpsense import Axis, Grid, Schedule, TeacherStudent, run_grid

supports, numbers = ((10, 30), (80, 240)) if tiny else ((10, 20, 30, 40, 50), (40, 80, 120, 160, 200, 240, 280, 320))
phase = run_grid(
    Grid(
        TeacherStudent(dim=100, support=max(supports), n=max(numbers)),
        Schedule(0, 200 if tiny else 2000, 2000),
        seeds=2 if tiny else 5,
        axes=(Axis("n", numbers), Axis("support", supports)),
        constants={"fine_tune_tolerance": 1e-8},
    )
)
success = phase["success"].astype(float).mean("seed")
success.to_pandas().round(2)

# %%
axes = plot_measure(phase, "error", log=True)

# %% [markdown]
# All claims: `python -m launch.claims --paper lottery_ticket`.
