"""Tasks: outputs and losses of small networks against NumPy loops, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.tickets.network import CRITERIA, Samples, Task, perceptron, squared

RNG = np.random.default_rng(0)
X, LABELS, USED = RNG.normal(size=(6, 3)), np.array([0, 1, 1, 0, 1, 0]), np.array([1.0, 1, 0, 1, 1, 0])
TARGETS = RNG.normal(size=(6, 2))


def _forward(layers, x):
    """ReLU between layers of weights and biases, entry by entry."""
    for place, (weight, bias) in enumerate(layers):
        x = [sum(w * t for w, t in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        x = [max(t, 0.0) for t in x] if place < len(layers) - 1 else x
    return x


TASKS = {
    "mlp": Task(lambda key: eqx.nn.MLP(3, 2, 4, 2, key=key), (3,)),
    "perceptron": Task(lambda key: perceptron(key, (3, 5, 4, 2)), (3, 1)),
}


@pytest.mark.parametrize("name", TASKS)
def test_networks_and_judges_are_their_formulas(name):
    task = TASKS[name]
    params = task.draw(jax.random.key(1), jnp.float64)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    layers = list(zip(leaves[::2], leaves[1::2], strict=True))
    outputs = np.array([_forward(layers, x) for x in X])
    inputs = jnp.asarray(X).reshape(6, *task.shape)

    samples = Samples(inputs, jnp.asarray(LABELS), jnp.asarray(USED))
    judged = jax.jit(lambda params: (task.outputs(params, inputs), task.risk(params, samples), task.flow(params)))
    found, risk, flow = judged(params)
    np.testing.assert_allclose(found, outputs, rtol=1e-12)
    losses = [np.log(sum(np.exp(t) for t in row)) - row[label] for row, label in zip(outputs, LABELS, strict=True)]
    used = [i for i in range(6) if USED[i]]
    np.testing.assert_allclose(risk, sum(losses[i] for i in used) / 4, rtol=1e-12)
    wrong = [float(np.argmax(row) != label) for row, label in zip(outputs, LABELS, strict=True)]
    assert float(task.mistakes(params, samples, inputs)) == sum(wrong[i] for i in used) / 4
    assert 0 < sum(wrong) < 6
    paths = sum(_forward([(abs(weight), 0 * bias) for weight, bias in layers], [1.0] * 3))
    np.testing.assert_allclose(flow, paths, rtol=1e-12)


def test_rows_that_are_not_in_use_may_hold_anything():
    judge = lambda outputs, targets: outputs[:, 0] / targets[:, 0]  # noqa: E731
    task = Task(lambda key: perceptron(key, (3, 2)), (3,), judge, judge)
    params = task.draw(jax.random.key(0), jnp.float64)
    samples = Samples(jnp.asarray(X), jnp.asarray(np.where(USED[:, None] > 0, TARGETS, 0.0)), jnp.asarray(USED))
    expected = np.mean([np.asarray(task.outputs(params, jnp.asarray(X)))[i, 0] / TARGETS[i, 0] for i in (0, 1, 3, 4)])
    np.testing.assert_allclose(task.risk(params, samples), expected, rtol=1e-12)


def test_squares_are_sums_over_a_row():
    outputs = RNG.normal(size=(6, 2))
    expected = [sum((o - y) ** 2 for o, y in zip(*rows, strict=True)) for rows in zip(outputs, TARGETS, strict=True)]
    np.testing.assert_allclose(
        CRITERIA["squared"].function(jnp.asarray(outputs), jnp.asarray(TARGETS)), expected, rtol=1e-12
    )
    one = squared(jnp.asarray(outputs[:, :1]), jnp.asarray(LABELS))  # whole numbers, one a row
    np.testing.assert_allclose(one, (outputs[:, 0] - LABELS) ** 2, rtol=1e-12)
    with pytest.raises(BadInput, match="as many numbers per row"):
        squared(jnp.asarray(outputs), jnp.asarray(TARGETS[:, 0]))


def test_a_draw_has_the_type_asked_for_and_fits_its_module():
    task = TASKS["mlp"]
    params = task.draw(jax.random.key(0), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert isinstance(task.model(params), eqx.nn.MLP)
    assert task.outputs(params, jnp.asarray(X, jnp.float32)).dtype == jnp.float32
    other = task.draw(jax.random.key(1), jnp.float32)
    assert (params.layers[0].weight != other.layers[0].weight).all()


class _Normed(eqx.Module):
    """Two linear layers with a batch norm between them, of either kind, and dropout."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key, mode="batch"):
        one, two = jax.random.split(key)
        self.first, self.norm = eqx.nn.Linear(3, 4, key=one), eqx.nn.BatchNorm(4, "rows", mode=mode)
        self.dropout, self.last = eqx.nn.Dropout(0.5), eqx.nn.Linear(4, 2, key=two)

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


def _normed(params, x, known):
    """Outputs for x with the averages of the rows ``known``, number by number."""
    get = lambda layer, name: np.asarray(getattr(getattr(params, layer), name))  # noqa: E731
    before = lambda row: [  # noqa: E731
        sum(w * t for w, t in zip(weights, row, strict=True)) + b
        for weights, b in zip(get("first", "weight"), get("first", "bias"), strict=True)
    ]
    rows = [before(row) for row in known]
    means = [sum(row[k] for row in rows) / len(rows) for k in range(4)]
    spreads = [sum((row[k] - means[k]) ** 2 for row in rows) / len(rows) for k in range(4)]
    hidden = [
        max(get("norm", "weight")[k] * (t - means[k]) / np.sqrt(spreads[k] + 1e-5) + get("norm", "bias")[k], 0.0)
        for k, t in enumerate(before(x))
    ]
    return [
        sum(w * t for w, t in zip(weights, hidden, strict=True)) + b
        for weights, b in zip(get("last", "weight"), get("last", "bias"), strict=True)
    ]


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_batch_norms_average_over_the_rows_of_a_pass_and_over_all_known_rows_in_a_test(mode):
    task = Task(lambda key: eqx.nn.make_with_state(_Normed)(key, mode), (3,))
    assert task.stateful
    assert task.random
    params = task.draw(jax.random.key(1), jnp.float64)
    params = jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape)), params)
    x, known = jnp.asarray(X), jnp.asarray(RNG.normal(size=(5, 3)))

    @jax.jit
    def passed(params):
        keys = jax.random.key(0), jax.random.key(1)
        dropped = [task.outputs(params, x, key) for key in keys]
        vector = task.state_vector(params, known)
        return task.outputs(params, x), task.tested(params, x, known), dropped, vector, task.flow(params)

    training, tested, dropped, vector, flow = passed(params)
    np.testing.assert_allclose(training, [_normed(params, row, X) for row in X], rtol=1e-9)
    np.testing.assert_allclose(tested, [_normed(params, row, np.asarray(known)) for row in X], rtol=1e-9)
    assert all(float(jnp.abs(one - training).max()) > 0.01 for one in dropped)
    assert float(jnp.abs(dropped[0] - dropped[1]).max()) > 0.01
    module = eqx.nn.inference_mode(task.model(params))
    with jax.numpy_dtype_promotion("standard"):  # Equinox's own norm by the state
        own = jax.vmap(lambda row: module(row, task.state_of(vector))[0])(x)
    np.testing.assert_allclose(own, tested, rtol=1e-9)
    gains = np.abs(params.norm.weight) * np.abs(params.first.weight).sum(1)
    np.testing.assert_allclose(flow, np.abs(params.last.weight) @ gains @ np.ones(2), rtol=1e-9)


def test_whether_a_network_needs_a_key_is_seen():
    plain = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    cases = {
        True: [eqx.nn.Sequential([plain, eqx.nn.Dropout(0.5)])],
        False: [plain, eqx.nn.Sequential([plain, eqx.nn.Dropout(0.5, inference=True)])],
    }
    for needed, networks in cases.items():
        for network in networks:
            task = Task(lambda key, network=network: network, (3,))
            assert task.random is needed
            assert not task.stateful


class _Axes(eqx.Module):
    norms: list

    def __init__(self, key):
        self.norms = [eqx.nn.BatchNorm(3, name, mode="batch") for name in ("one", "two")]
        self.norms.append(eqx.nn.Linear(3, 3, key=key))

    def __call__(self, x, state):
        return self.norms[0](x, state)


class _Drawing(eqx.Module):
    layer: eqx.nn.Linear
    key: eqx.nn.StateIndex

    def __init__(self, key):
        self.layer, self.key = eqx.nn.Linear(3, 2, key=key), eqx.nn.StateIndex(key)


class _Counting(eqx.Module):
    weight: jax.Array
    calls: jax.Array

    def __call__(self, x):
        return self.weight @ x


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda key: eqx.nn.Lambda(jax.nn.relu), "no arrays"),
        (lambda key: _Counting(jnp.ones((2, 3)), jnp.int32(0)), "whole numbers"),
        (lambda key: _Normed(key), "make_with_state"),
        (lambda key: eqx.nn.make_with_state(_Drawing)(key), "state holds random keys"),
    ],
)
def test_modules_without_weights_or_with_counters_are_refused(make, problem):
    task = Task(make, (3,))
    with pytest.raises(BadInput, match=problem) as refused:
        task.model(task.draw(jax.random.key(0), jnp.float64))
    assert refused.value.field == "make"


def test_complex_weights_are_refused():
    with pytest.raises(BadInput, match="arrays of complex"):
        _ = Task(lambda key: _Counting(jnp.ones((2, 3)), jnp.ones(2, complex)), (3,)).still


def test_norms_over_several_axes_are_refused():
    task = Task(lambda key: eqx.nn.make_with_state(_Axes)(key), (3,))
    with pytest.raises(BadInput, match="average over the axes one, two"):
        task.outputs(task.draw(jax.random.key(0), jnp.float64), jnp.asarray(X))
