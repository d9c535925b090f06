"""Scores against NumPy loops and central differences, the laws they obey, and pruning in rounds by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.pruning import weights as masks
from gpsense.pruning.weight_scores import (
    SCORES,
    WEIGHT_RULES,
    WeightRule,
    absolute_flow,
    magnitude,
    prune_by,
    random,
    synflow,
)
from gpsense.systems import SYSTEMS

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
SHAPES = {"first": (4, 3), "shift": (4,), "second": (2, 4)}
PARAMS = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
MASK = {"first": RNG.random((4, 3)) < 0.7, "shift": np.ones(4, bool), "second": RNG.random((2, 4)) < 0.7}
CAN = {"first": True, "shift": False, "second": True}
KEY = jax.random.key(3)
FUNCTIONS = {"magnitude": magnitude} | {name: rule.score for name, rule in SCORES.items()}


def _forward(params, x):
    return params["second"] @ jax.nn.relu(params["first"] @ x + params["shift"])


def _loss(params, dtype=jnp.float64):
    outputs = jax.vmap(_forward, (None, 0))(params, jnp.asarray(X, dtype))
    return jnp.mean(jnp.sum((outputs - jnp.asarray(Y, dtype)) ** 2, axis=1))


def _gradient(params):
    """Backpropagation by loops over examples, hidden units, outputs and inputs; masked."""
    found = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for x, y in zip(X, Y, strict=True):
        before = [sum(params["first"][j, i] * x[i] for i in range(3)) + params["shift"][j] for j in range(4)]
        hidden = [max(t, 0.0) for t in before]
        for k in range(2):
            error = 2 * (sum(params["second"][k, j] * hidden[j] for j in range(4)) - y[k]) / len(X)
            for j in range(4):
                found["second"][k, j] += error * hidden[j]
                back = error * params["second"][k, j] * (before[j] > 0)
                found["shift"][j] += back
                for i in range(3):
                    found["first"][j, i] += back * x[i]
    return {name: np.where(MASK[name], found[name], 0.0) for name in SHAPES}


def _absolute(params):
    """``|w dR/dw|``: the products of all weights along the paths through a weight, added up, no biases."""
    found = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for k in range(2):
        for j in range(4):
            for i in range(3):
                path = abs(params["second"][k, j] * params["first"][j, i])
                found["second"][k, j] += path
                found["first"][j, i] += path
    return found


@pytest.fixture(scope="module")
def program():
    """All scores of the two-layer network."""
    flow = absolute_flow(_forward, (3,))

    def all_scores(params, mask):
        def loss(at):
            return _loss(at, params["first"].dtype)

        return {name: score(params, mask, loss, KEY, flow) for name, score in FUNCTIONS.items()}

    return jax.jit(all_scores)


@pytest.fixture(scope="module")
def found(program):
    """All scores at PARAMS and MASK, in both precisions."""
    return {
        dtype: program({name: jnp.asarray(w, dtype) for name, w in PARAMS.items()}, MASK)
        for dtype in ("float64", "float32")
    }


def test_scores_are_those_of_loops(found):
    at = {name: np.where(MASK[name], PARAMS[name], 0.0) for name in SHAPES}
    gradient, step = _gradient(at), 1e-6
    moves = {name: step * gradient[name] * CAN[name] for name in SHAPES}  # GraSP's g leaves biases out
    ahead, behind = (_gradient({name: at[name] + sign * moves[name] for name in SHAPES}) for sign in (1, -1))
    product = {name: (ahead[name] - behind[name]) / (2 * step) for name in SHAPES}
    expected = {
        "magnitude": {name: np.abs(at[name]) for name in SHAPES},
        "snip": {name: np.abs(at[name] * gradient[name]) for name in SHAPES},
        "grasp": {name: at[name] * product[name] for name in SHAPES},
        "synflow": _absolute(at),
    }
    for dtype, rtol in (("float64", 1e-7), ("float32", 1e-3)):
        for score, values in expected.items():
            for name in SHAPES:
                assert found[dtype][score][name].dtype == dtype
                np.testing.assert_allclose(found[dtype][score][name], values[name], rtol=rtol, atol=rtol)


def test_random_scores_are_uniform_and_zero_where_pruned(found):
    scores = found["float64"]["random"]
    for name in ("first", "second"):
        np.testing.assert_array_equal(scores[name] == 0, ~MASK[name])
    many = {"a": jnp.zeros((60, 50)), "b": jnp.zeros((60, 50))}
    draw = jax.jit(lambda key: random(many, masks.everything(many), _loss, key))
    one, other = draw(KEY), draw(jax.random.key(4))
    np.testing.assert_allclose(np.quantile(one["a"], [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    assert abs(np.corrcoef(one["a"].ravel(), one["b"].ravel())[0, 1]) < 0.06
    assert abs(np.corrcoef(one["a"].ravel(), other["a"].ravel())[0, 1]) < 0.06


def test_grasp_is_positive_where_removal_lowers_the_gradient():
    """Quadratic loss: without weight i, ``||g||^2`` changes by ``-2 w_i (H g)_i + w_i^2 ||H e_i||^2`` exactly."""
    rng = np.random.default_rng(1)
    hessian, (w, still) = rng.normal(size=(6, 6)), rng.normal(size=(2, 2, 3))
    hessian = hessian @ hessian.T
    target = hessian @ still.ravel()

    def loss(at):
        vector = at.ravel()
        return vector @ jnp.asarray(hessian) @ vector / 2 - jnp.asarray(target) @ vector

    @jax.jit
    def scored(w):
        return [FUNCTIONS[name](w, jnp.ones((2, 3), bool), loss, KEY) for name in ("grasp", "snip")]

    scores = np.asarray(scored(w)[0]).ravel()
    flat = w.ravel()
    before = np.sum((hessian @ flat - target) ** 2)
    for i in range(6):
        without = np.where(np.arange(6) == i, 0.0, flat)
        change = np.sum((hessian @ without - target) ** 2) - before
        np.testing.assert_allclose(change, -2 * scores[i] + flat[i] ** 2 * np.sum(hessian[:, i] ** 2), rtol=1e-9)
    # at the minimum the gradient is the rounding of H w, which the scores multiply by H and w
    rounding = 6 * np.finfo(float).eps * (np.linalg.norm(hessian, 2) * np.linalg.norm(still)) ** 2
    np.testing.assert_allclose(scored(still), 0.0, atol=rounding)


def test_layers_rescaled_against_each_other_score_alike(program, found):
    """``relu(3 W x + 3 b)`` and outgoing weights divided by 3 are the same network: SNIP and SynFlow see no change."""
    scaled = {"first": 3 * PARAMS["first"], "shift": 3 * PARAMS["shift"], "second": PARAMS["second"] / 3}
    scores = program(scaled, MASK)
    for name in ("snip", "synflow"):
        for leaf in ("first", "second"):
            np.testing.assert_allclose(scores[name][leaf], found["float64"][name][leaf], rtol=1e-10, atol=1e-14)


class _Convolutional(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Linear

    def __call__(self, x):
        return self.second(jax.nn.relu(self.first(x)).ravel())


MODELS = {
    "mlp": (lambda k: eqx.nn.MLP(5, 3, 4, 2, key=k), (5,)),
    "convolution": (lambda k: _Convolutional(eqx.nn.Conv2d(1, 2, 2, key=k), eqx.nn.Linear(8, 3, key=k)), (1, 3, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_equinox_models(name):
    """SNIP and GraSP by differences of the loss and the squared gradient in factors; SynFlow adds up to R per layer."""
    make, shape = MODELS[name]
    rng = np.random.default_rng(2)
    shapes, static = eqx.partition(eqx.filter_eval_shape(make, jax.random.key(1)), lambda leaf: hasattr(leaf, "shape"))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
    x = jnp.asarray(rng.normal(size=(6, *shape)))

    def forward(at, x):
        return eqx.combine(at, static)(x)

    def loss(at):
        return jnp.mean(jax.nn.logsumexp(jax.vmap(forward, (None, 0))(at, x), axis=1) ** 2)

    flow, can, mask = absolute_flow(forward, shape), masks.prunable(params), masks.everything(params)

    @jax.jit
    def evaluate(vector):
        at = masks.unflat(vector, params, can)
        gradient = jax.grad(loss)(at)
        square = jnp.sum(masks.flat(gradient, can) ** 2)
        scores = {kind: FUNCTIONS[kind](at, mask, loss, KEY, flow) for kind in ("snip", "grasp", "synflow")}
        return loss(at), square, scores, flow(at)

    vector, step = np.asarray(masks.flat(params, can)), 1e-5
    *_, scores, total = evaluate(vector)
    slopes = np.zeros((2, vector.size))
    for i in range(vector.size):
        for sign in (1, -1):
            moved = np.where(np.arange(vector.size) == i, vector * (1 + sign * step), vector)
            slopes[:, i] += sign * np.array(evaluate(moved)[:2]) / (2 * step)
    np.testing.assert_allclose(masks.flat(scores["snip"], can), np.abs(slopes[0]), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(2 * masks.flat(scores["grasp"], can), slopes[1], rtol=1e-5, atol=1e-7)
    layers = [leaf for leaf, use in zip(*map(jax.tree.leaves, (scores["synflow"], can)), strict=True) if use]
    np.testing.assert_allclose([np.sum(layer) for layer in layers], np.full(len(layers), total), rtol=1e-10)


def test_flow_with_biases_counts_them():
    params = jax.tree.map(jnp.asarray, PARAMS)
    hidden = np.abs(PARAMS["first"]) @ np.ones(3)
    weights = np.abs(PARAMS["second"]).sum(0)
    np.testing.assert_allclose(absolute_flow(_forward, (3,))(params), weights @ hidden)
    with_biases = weights @ (hidden + np.abs(PARAMS["shift"]))
    np.testing.assert_allclose(absolute_flow(_forward, (3,), biases=True)(params), with_biases)


@pytest.fixture(scope="module")
def pruned():
    """Masks by rounds of SynFlow for traced shares, from a full mask and from MASK."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    flow = absolute_flow(_forward, (3,))

    def cut(mask, kept):
        return prune_by(synflow, params, mask, CAN, _loss, KEY, kept, rounds=4, flow=flow)

    return jax.jit(jax.vmap(cut, (None, 0)))


def test_rounds_are_those_of_a_loop(pruned):
    shares = np.array([0.1, 0.3, 0.55, 1.0])
    full = {name: np.ones(shape, bool) for name, shape in SHAPES.items()}
    for start in (full, MASK):
        found = pruned(start, jnp.asarray(shares))
        first = (start["first"].sum() + start["second"].sum()) / 20
        for cell, kept in enumerate(shares):
            mask = {name: start[name].copy() for name in SHAPES}
            for i in range(1, 5):
                at = {name: np.where(mask[name], PARAMS[name], 0.0) for name in SHAPES}
                scores = _absolute(at)
                ranked = sorted(
                    (-scores[name][place], order, name, place)
                    for order, name in enumerate(("first", "second"))
                    for place in np.ndindex(SHAPES[name])
                    if mask[name][place]
                )
                for *_, name, place in ranked[max(1, round(20 * first * (kept / first) ** (i / 4))) :]:
                    mask[name][place] = False
            for name in SHAPES:
                np.testing.assert_array_equal(found[name][cell], mask[name])
    everything = pruned(full, jnp.asarray(shares))
    np.testing.assert_array_equal(everything["first"].sum((1, 2)) + everything["second"].sum((1, 2)), [2, 6, 11, 20])


def test_every_score_is_a_rule_and_a_new_one_becomes_one(monkeypatch):
    assert {"iterative_magnitude", "magnitude", "none", *SCORES} == set(WEIGHT_RULES)
    assert [SCORES[name].rounds for name in ("snip", "synflow")] == [1, 100]
    monkeypatch.setitem(SCORES, "largest", WeightRule("the largest before training", magnitude))
    assert WEIGHT_RULES["largest"].score is magnitude
    for name in ("teacher_student", "images"):
        assert SYSTEMS[name](rule="largest", n=10).learner.rule is SCORES["largest"]


def test_unusable_calls_are_refused():
    params, mask = jax.tree.map(jnp.asarray, PARAMS), jax.tree.map(jnp.asarray, MASK)
    with pytest.raises(BadInput, match="flow"):
        synflow(params, mask, _loss, KEY)
    with pytest.raises(BadInput, match="rounds"):
        prune_by(magnitude, params, mask, CAN, _loss, KEY, 0.5, rounds=0)
