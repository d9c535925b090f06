"""Schedules by their formulas, pruned weights under every optimizer of optax, modules with a mask, gradual pruning."""

import inspect
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpsense.errors import BadInput
from gpsense.optimizers import OPTIMIZERS
from gpsense.pruning import leaves, training, weight_scores
from gpsense.pruning import weights as masks

RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(8, 3))), jnp.asarray(RNG.normal(size=(8, 2)))
PARAMS = {"w": jnp.asarray(RNG.normal(size=(3, 4))), "bias": jnp.ones(4), "v": jnp.asarray(RNG.normal(size=(4, 2)))}
MASK = {name: jnp.asarray(RNG.random(leaf.shape) < 0.5) | (name == "bias") for name, leaf in PARAMS.items()}


def _loss(params):
    return jnp.mean((jnp.tanh(X @ params["w"] + params["bias"][None]) @ params["v"] - Y) ** 2)


def test_schedules_are_their_formulas():
    shot, rounds = training.one_shot(50, 0.1), training.iterative(100, 0.2, 0.4)
    gradual = training.cubic(100, 500, 0.1, start=0.8, every=50)

    @jax.jit
    def at(step):
        return shot(step), rounds(step), gradual(step)

    for step in (0, 49, 50, 99, 100, 149, 150, 260, 399, 480, 499, 500, 10_000):
        found = at(step)
        left = 1.0
        for _ in range(step // 100):
            left = left - 0.2 * left
        past = min(max((100 + 50 * ((step - 100) // 50) - 100) / 400, 0), 1) if step < 500 else 1
        expected = (1.0 if step < 50 else 0.1, max(left, 0.4), 1 - (0.9 + (0.2 - 0.9) * (1 - past) ** 3))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    many = jax.vmap(lambda kept: training.cubic(0, 10, kept)(5))(jnp.asarray([0.1, 0.2]))
    np.testing.assert_allclose(many, [0.1 + 0.9 / 8, 0.2 + 0.8 / 8], rtol=1e-12)


def _largest_in_1000_steps(optimizer):
    """The largest absolute value that a pruned weight has after any of 1,000 steps, and how far the others moved."""
    optimizer = training.pruned(optimizer, MASK)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(_loss)(params)
            more = {"value": value, "grad": gradient, "value_fn": _loss}
            updates, state = optimizer.update(gradient, state, params, **more)
            params = optax.apply_updates(params, updates)
            gone = jax.tree.map(lambda keep, leaf: jnp.max(jnp.where(keep, 0, jnp.abs(leaf))), MASK, params)
            return (params, state), jnp.max(jnp.stack(jax.tree.leaves(gone)))

        (params, _), largest = jax.lax.scan(step, (params, optimizer.init(params)), None, length=1000)
        return params, jnp.max(largest)

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        after, largest = run(PARAMS)
    return float(largest), float(jnp.abs(after["w"] - PARAMS["w"])[MASK["w"]].max())


OTHERS = {
    "lbfgs": lambda: optax.lbfgs(),
    "decay": lambda: optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-0.01)),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.01, 0.9)),
    "polyak": lambda: optax.polyak_sgd(),
    "several steps": lambda: optax.MultiSteps(optax.adam(0.01), 3).gradient_transformation(),
    **{
        name: (lambda make=make: make(learning_rate=0.01))
        for name, make in vars(optax.contrib).items()
        if inspect.isfunction(make)
        and name in ("muon", "prodigy", "schedule_free_adamw", "schedule_free_sgd", "ademamix")
    },
}
SLOW = [name for name in (*OPTIMIZERS, *OTHERS) if name not in ("adamw", "momentum")]


@pytest.mark.parametrize("name", ["adamw", "momentum", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
@pytest.mark.filterwarnings("ignore")  # of optax: of names and arguments that it will change
def test_pruned_weights_stay_exactly_zero_through_1000_steps(name):
    """From a start where they are not 0 the first step takes them there; the others move."""
    make = OTHERS.get(name)
    largest, moved = _largest_in_1000_steps(OPTIMIZERS[name](0.01, 0.9) if make is None else make())
    assert largest == 0.0
    assert np.isnan(moved) or moved > 1e-4


def test_both_copies_of_lookahead_keep_pruned_weights_at_zero():
    """Fast and slow parameters from a start that is not masked; the slow ones learn."""
    optimizer = training.pruned(optax.lookahead(optax.adam(0.02), 5, 0.5), MASK)
    start = optax.LookaheadParams.init_synced(PARAMS)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(_loss)(params.fast), state, params)
            params = optax.apply_updates(params, updates)
            gone = jax.tree.map(lambda keep, *both: jnp.where(keep, 0, jnp.abs(jnp.stack(both))), MASK, *params)
            return (params, state), jnp.max(jnp.stack([jnp.max(leaf) for leaf in jax.tree.leaves(gone)]))

        (params, _), largest = jax.lax.scan(step, (params, optimizer.init(params)), None, length=100)
        return params, largest

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        params, largest = run(start)
    assert float(jnp.max(largest)) == 0.0
    assert float(_loss(params.slow)) < 0.8 * float(_loss(masks.apply(MASK, PARAMS)))


def test_momentum_moves_weights_that_are_masked_by_the_gradient_alone():
    """What the transform is for: a weight pruned in training goes on along its momentum where gradients are masked."""
    params, plain = PARAMS, optax.sgd(0.1, 0.9)
    updates, state = plain.update(jax.grad(_loss)(params), plain.init(params))
    cut = masks.apply(MASK, optax.apply_updates(params, updates))
    updates, _ = plain.update(masks.apply(MASK, jax.grad(_loss)(cut)), state)
    assert float(jnp.abs(optax.apply_updates(cut, updates)["w"])[~MASK["w"]].max()) > 0.01
    ours = training.pruned(plain)
    updates, _ = ours.update(jax.grad(_loss)(cut), state, cut, mask=MASK)
    assert float(jnp.abs(optax.apply_updates(cut, updates)["w"])[~MASK["w"]].max()) == 0.0
    for refused, call in (
        ("mask", lambda: ours.update(cut, state, cut)),
        ("params", lambda: ours.update(cut, state, mask=MASK)),
    ):
        with pytest.raises(BadInput) as refusal:
            call()
        assert refusal.value.field == refused


def test_pruned_weights_count_in_no_norm():
    """A clipped gradient is that of the kept weights alone."""
    gradient, optimizer = jax.grad(_loss)(PARAMS), training.pruned(optax.clip_by_global_norm(1e-3), MASK)
    updates, _ = optimizer.update(gradient, optimizer.init(PARAMS), masks.apply(MASK, PARAMS))
    np.testing.assert_allclose(optax.tree.norm(masks.apply(MASK, updates)), 1e-3, rtol=1e-6)


def test_modules_with_a_mask_and_without():
    module = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    mask = masks.keep_share(weight_scores.magnitude(module), leaves.prunable(module), 0.3)
    masked = training.mask_module(module, mask)
    plain = training.unmask_module(masked)
    assert type(plain) is eqx.nn.MLP
    for before, after, keep in zip(module.layers, plain.layers, mask.layers, strict=True):
        np.testing.assert_array_equal(after.weight, np.where(keep.weight, before.weight, 0))
        np.testing.assert_array_equal(after.bias, before.bias)
    np.testing.assert_array_equal(jax.vmap(masked)(X), jax.vmap(plain)(X))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(jax.vmap(m)(X) ** 2)))(masked)
    assert not np.asarray(gradient.module.layers[0].weight)[~np.asarray(mask.layers[0].weight)].any()
    np.testing.assert_array_equal(masked.module.layers[0].weight, module.layers[0].weight)


def test_gradual_pruning_in_one_program_over_traced_shares():
    """Two shares at once under vmap: the mask is cut along the cubic schedule inside a scan, and ends at each share."""
    optimizer, can = training.pruned(optax.adam(0.01)), leaves.prunable(PARAMS)

    def run(kept):
        shares = training.cubic(10, 40, kept, every=5)

        def step(carry, at):
            params, state, mask = carry
            mask = masks.keep_share(weight_scores.magnitude(params, mask), can, shares(at), mask)
            updates, state = optimizer.update(jax.grad(_loss)(params), state, params, mask=mask)
            return (optax.apply_updates(params, updates), state, mask), masks.kept_share(mask, can)

        start = PARAMS, optimizer.init(PARAMS), masks.everything(PARAMS)
        (params, _, mask), curve = jax.lax.scan(step, start, jnp.arange(60))
        return params, mask, curve

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        params, mask, curve = jax.jit(jax.vmap(run))(jnp.asarray([0.25, 0.5]))
    np.testing.assert_allclose(curve[:, -1], [5 / 20, 10 / 20])
    np.testing.assert_allclose(curve[:, 12], 1.0)
    assert (np.diff(np.asarray(curve), axis=1) <= 0).all()
    for name in ("w", "v"):
        assert ((np.asarray(params[name]) != 0) == np.asarray(mask[name])).all()


def test_the_loop_of_the_notebook_prunes_and_learns():
    """Iterative pruning of scikit-learn's digits to 6 % of the weights, as printed, on its 1,000 images to train on."""
    from sklearn.datasets import load_digits

    text = (Path(__file__).parents[2] / "notebooks" / "lottery_tickets.py").read_text(encoding="utf-8")
    (code,) = [each for each in re.split(r"(?m)^# %%.*\n", text) if "training.pruned(" in each]
    x, y = load_digits(return_X_y=True)
    make = lambda key: eqx.nn.MLP(64, 10, 128, 2, key=key)  # noqa: E731
    known = {"x": jnp.asarray(x / 16), "y": jnp.asarray(y), "eqx": eqx, "make": make, "tiny": False}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(code, known)
    model, mask = known["model"], known["mask"]
    assert float(jnp.mean(jnp.argmax(jax.vmap(model)(known["x"][1000:]), axis=1) == known["y"][1000:])) > 0.85
    left = [np.asarray(layer.weight != 0).sum() for layer in model.layers]
    assert sum(left) == round(0.06 * (64 * 128 + 128 * 128 + 128 * 10))
    assert left == [np.asarray(layer.weight).sum() for layer in mask.layers]
