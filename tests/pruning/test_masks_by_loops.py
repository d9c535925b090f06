"""Masks of every score and every rule, of a network with a convolution and norms, against loops in NumPy, float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.pruning import leaves, weight_scores
from gpsense.pruning import weights as masks

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(4, 1, 3, 3)), RNG.normal(size=(4, 2))
SHARES = np.array([0.08, 0.3, 0.55, 1.0])
KEY = jax.random.key(5)


class Network(eqx.Module):
    """A convolution with two filters, a group norm, a linear layer, a layer norm, and two outputs."""

    filters: eqx.nn.Conv2d
    grouped: eqx.nn.GroupNorm
    hidden: eqx.nn.Linear
    layered: eqx.nn.LayerNorm
    last: eqx.nn.Linear

    def __init__(self, key):
        one, two, three = jax.random.split(key, 3)
        self.filters, self.grouped = eqx.nn.Conv2d(1, 2, 2, key=one), eqx.nn.GroupNorm(1, 2)
        self.hidden, self.layered = eqx.nn.Linear(8, 4, key=two), eqx.nn.LayerNorm(4)
        self.last = eqx.nn.Linear(4, 2, key=three)

    def __call__(self, x):
        x = jax.nn.relu(self.grouped(self.filters(x))).ravel()
        return self.last(jax.nn.relu(self.layered(self.hidden(x))))


LAYERS = ["filters.weight", "hidden.weight", "last.weight"]
STATIC = Network(jax.random.key(0))
VALUES = {
    path: RNG.normal(size=leaf.shape)
    for path, leaf in zip(leaves.paths(STATIC), jax.tree.leaves(leaves.numbers(STATIC)), strict=True)
}
MODEL = jax.tree.unflatten(
    jax.tree.structure(leaves.numbers(STATIC)), [jnp.asarray(VALUES[path]) for path in leaves.paths(STATIC)]
)
CAN = leaves.prunable(STATIC)


def _normed(rows, gain, bias, plain):
    """Numbers less their mean over their deviation, times gains, with biases; ``plain``: times gains and no more."""
    if plain:
        return [g * x for x, g in zip(rows, gain, strict=True)]
    mean = sum(rows) / len(rows)
    deviation = np.sqrt(sum((x - mean) ** 2 for x in rows) / len(rows) + 1e-5)
    return [g * (x - mean) / deviation + b for x, g, b in zip(rows, gain, bias, strict=True)]


def _outputs(w, x, plain=False):
    """Outputs for one image, number by number; complex numbers pass, a ReLU looks at their real part."""
    relu = lambda t: t if t.real > 0 else 0 * t  # noqa: E731
    hidden = []
    for c in range(2):
        for i in range(2):
            for j in range(2):
                total = w["filters.bias"][c, 0, 0]
                for a in range(2):
                    for b in range(2):
                        total = total + w["filters.weight"][c, 0, a, b] * x[0, i + a, j + b]
                hidden.append(total)
    spread = [[w[f"grouped.{name}"][c] for c in range(2) for _ in range(4)] for name in ("weight", "bias")]
    hidden = [relu(t) for t in _normed(hidden, *spread, plain)]
    second = []
    for k in range(4):
        total = w["hidden.bias"][k]
        for i in range(8):
            total = total + w["hidden.weight"][k, i] * hidden[i]
        second.append(total)
    second = [relu(t) for t in _normed(second, w["layered.weight"], w["layered.bias"], plain)]
    return [w["last.bias"][o] + sum(w["last.weight"][o, k] * second[k] for k in range(4)) for o in range(2)]


def _loss(w):
    return sum((o - t) ** 2 for x, y in zip(X, Y, strict=True) for o, t in zip(_outputs(w, x), y, strict=True)) / 4


def _flow(w):
    """The sum of the outputs for ones, absolute values, biases 0 and norms that only multiply."""
    w = {path: 0 * a if "bias" in path else np.where(a.real < 0, -a, a) for path, a in w.items()}
    return sum(_outputs(w, np.ones((1, 3, 3)), plain=True))


def _slopes(function, w):
    """Derivatives in the weights that can be pruned, by complex steps."""
    found = {path: np.zeros(w[path].shape) for path in LAYERS}
    for path in LAYERS:
        for place in np.ndindex(w[path].shape):
            moved = {name: a.astype(complex) for name, a in w.items()}
            moved[path][place] += 1e-30j
            found[path][place] = function(moved).imag / 1e-30
    return found


def _scores():
    gradient, step = _slopes(_loss, VALUES), 1e-6
    ahead, behind = (
        _slopes(_loss, {path: a + sign * step * gradient[path] if path in LAYERS else a for path, a in VALUES.items()})
        for sign in (1, -1)
    )
    flow = _slopes(_flow, VALUES)
    return {
        "magnitude": {path: np.abs(VALUES[path]) for path in LAYERS},
        "snip": {path: np.abs(VALUES[path] * gradient[path]) for path in LAYERS},
        "grasp": {path: VALUES[path] * (ahead[path] - behind[path]) / (2 * step) for path in LAYERS},
        "movement": {path: -VALUES[path] * gradient[path] for path in LAYERS},
        "synflow": {path: np.abs(VALUES[path] * flow[path]) for path in LAYERS},
    }


def _best(scores, count):
    """The mask of so many numbers, the largest first, of each layer's places in order."""
    order = sorted(
        (-values[place], at, place) for at, values in enumerate(scores) for place in np.ndindex(values.shape)
    )
    kept = [np.zeros(values.shape, bool) for values in scores]
    for _, at, place in order[: max(1, round(count))]:
        kept[at][place] = True
    return kept


def _erk(shapes, kept):
    """Layers whose share would be above 1 are kept whole, until none is."""
    whole = set()
    while True:
        rest = [at for at in range(len(shapes)) if at not in whole]
        weights = kept * sum(np.prod(shape) for shape in shapes) - sum(np.prod(shapes[at]) for at in whole)
        if not rest:
            return [1.0] * len(shapes)
        factor = weights / sum(sum(shapes[at]) for at in rest)
        above = [at for at in rest if factor * sum(shapes[at]) / np.prod(shapes[at]) > 1 + 1e-12]
        if not above:
            return [1.0 if at in whole else factor * sum(s) / np.prod(s) for at, s in enumerate(shapes)]
        whole.add(max(above, key=lambda at: sum(shapes[at]) / np.prod(shapes[at])))


def _reference(rule, scores, kept):
    """The masks of a rule, a layer each."""
    sizes, shapes = [a.size for a in scores], [a.shape for a in scores]
    if rule == "global":
        return _best(scores, kept * sum(sizes))
    if rule in ("layer", "erk"):
        shares = [kept] * 3 if rule == "layer" else _erk(shapes, kept)
        return [_best([a], share * a.size)[0] for a, share in zip(scores, shares, strict=True)]
    if rule == "n of m":
        found = [np.ones(a.shape, bool) if at == 0 else np.zeros(a.shape, bool) for at, a in enumerate(scores)]
        for at, a in enumerate(scores[1:], 1):
            for row in range(a.shape[0]):
                for start in range(0, a.shape[1], 4):
                    group = sorted(range(start, start + 4), key=lambda i: (-a[row, i], i))
                    found[at][row, group[: round(4 * kept)]] = True
        return found
    axis = 1 if rule == "inputs" else 0
    means = [np.array([part.mean() for part in np.moveaxis(a, axis, 0)]) for a in scores]
    if rule == "filters, global":
        slices = _best(means, kept * sum(mean.size for mean in means))
    else:
        slices = [_best([mean], kept * mean.size)[0] for mean in means]
    return [
        np.moveaxis(np.broadcast_to(keep.reshape(-1, *(1,) * (a.ndim - 1)), np.moveaxis(a, axis, 0).shape), 0, axis)
        for keep, a in zip(slices, scores, strict=True)
    ]


RULES = {
    "global": lambda scores, kept: masks.keep_share(scores, CAN, kept),
    "layer": lambda scores, kept: masks.keep_share(scores, CAN, kept, spread="layer"),
    "erk": lambda scores, kept: masks.keep_share(scores, CAN, kept, spread="erk"),
    "n of m": lambda scores, kept: masks.keep_n_of_m(
        scores, leaves.prunable(STATIC, "!filters"), jnp.round(4 * kept), 4
    ),
    "filters": lambda scores, kept: masks.keep_groups(scores, CAN, kept),
    "filters, global": lambda scores, kept: masks.keep_groups(scores, CAN, kept, spread="global"),
    "inputs": lambda scores, kept: masks.keep_groups(scores, CAN, kept, axis=1),
}
SCORES = ("magnitude", "random", "snip", "grasp", "movement", "synflow")


@pytest.fixture(scope="module")
def found():
    """All scores, and all masks by them for all shares at once; the network is a whole module."""
    loss = lambda model: jnp.mean(jnp.sum((jax.vmap(model)(jnp.asarray(X)) - jnp.asarray(Y)) ** 2, axis=1))  # noqa: E731
    flow = weight_scores.synaptic_flow((1, 3, 3))

    @jax.jit
    def everything(arrays, shares):  # as constants the weights would be folded, which XLA of jaxlib 0.7.2 does wrong
        whole = eqx.combine(arrays, STATIC)
        scores = [getattr(weight_scores, name)(whole, loss=loss, key=KEY, flow=flow) for name in SCORES]
        stacked = jax.tree.map(lambda *each: jnp.stack(each), *scores)
        cut = lambda each, kept: {rule: choose(each, kept) for rule, choose in RULES.items()}  # noqa: E731
        return scores, jax.vmap(jax.vmap(cut, (None, 0)), (0, None))(stacked, shares)

    scores, cut = everything(MODEL, jnp.asarray(SHARES))
    pairs = {
        (name, rule): jax.tree.map(lambda leaf, at=at: np.asarray(leaf)[at], cut[rule])
        for at, name in enumerate(SCORES)
        for rule in RULES
    }
    return dict(zip(SCORES, scores, strict=True)), pairs


def _layers(tree):
    return [np.asarray(getattr(tree, path.split(".")[0]).weight) for path in LAYERS]


def test_scores_and_masks_are_those_of_loops(found):
    scores, cut = found
    expected = _scores() | {"random": dict(zip(LAYERS, _layers(scores["random"]), strict=True))}
    for name in SCORES:
        values = [expected[name][path] for path in LAYERS]
        for mine, other in zip(_layers(scores[name]), values, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9, err_msg=name)
        for rule in RULES:
            for at, kept in enumerate(SHARES):
                reference = _reference(rule, values, kept)
                for mine, other in zip(_layers(cut[name, rule]), reference, strict=True):
                    np.testing.assert_array_equal(mine[at], other, err_msg=f"{name}, {rule}, {kept}")


def test_other_leaves_are_kept_whole_and_layers_are_told(found):
    for mask in found[1].values():
        for path, leaf in zip(leaves.paths(STATIC), jax.tree.leaves(mask), strict=True):
            assert path in LAYERS or bool(leaf.all())
    one = jax.tree.map(lambda leaf: leaf[1], found[1]["snip", "layer"])
    np.testing.assert_allclose(masks.kept_by_layer(one, CAN), [2 / 8, 10 / 32, 2 / 8])
    assert masks.layers(STATIC, CAN) == LAYERS


def test_shares_by_erk_add_up():
    shapes = [(300, 100), (8, 4, 3, 3), (100, 10), (10, 4)]
    sizes = np.array([np.prod(shape) for shape in shapes])
    shares = jax.jit(jax.vmap(lambda kept: masks.erk_shares(shapes, kept)))(jnp.asarray([0.01, 0.1, 0.5, 0.999, 1.0]))
    np.testing.assert_allclose(np.asarray(shares) @ sizes / sizes.sum(), [0.01, 0.1, 0.5, 0.999, 1.0], rtol=1e-9)
    assert (np.asarray(shares) <= 1).all()
    assert (np.asarray(shares)[1] == 1).any()


def test_no_weight_comes_back_and_counts_are_of_all_weights():
    scores = {"w": jnp.asarray([[1.0, 5, 3, 4], [8, 7, 2, 6]]), "bias": jnp.ones((2, 1))}
    can, mask = leaves.prunable(scores), {"w": jnp.asarray([[True, False, True, True], [True, True, True, False]])}
    mask["bias"] = jnp.ones((2, 1), bool)
    kept = lambda found: [tuple(place) for place in np.argwhere(np.asarray(found["w"]))]  # noqa: E731
    assert kept(masks.keep_share(scores, can, 0.5, mask)) == [(0, 2), (0, 3), (1, 0), (1, 1)]
    assert kept(masks.keep_n_of_m(scores, can, 2, 4, mask=mask)) == [(0, 2), (0, 3), (1, 0), (1, 1)]
    assert kept(masks.keep_n_of_m(scores, can, 1, 2, axis=0, mask=mask)) == [(0, 2), (0, 3), (1, 0), (1, 1)]
    assert kept(masks.keep_groups(scores, can, 0.5, mask=mask)) == [(1, 0), (1, 1), (1, 2)]
    grown = masks.restore(mask, masks.apply(mask, scores), scores)
    np.testing.assert_array_equal(grown["w"], scores["w"])


def test_scores_that_cannot_order_weights_are_refused():
    scores = {"w": jnp.zeros((2, 4)), "bias": jnp.ones(2)}
    can = leaves.prunable(scores)
    for cut in (masks.keep_share, masks.keep_groups, lambda s, c, k: masks.keep_n_of_m(s, c, 1, 2)):
        with pytest.raises(BadInput, match="score of every weight is 0"):
            cut(scores, can, 0.5)
        with pytest.raises(BadInput, match="scores of w are not finite"):
            cut(scores | {"w": jnp.asarray([[1.0, 2, 3, np.nan]])}, can, 0.5)
    fine = scores | {"w": jnp.ones((2, 4))}
    with pytest.raises(BadInput, match="did you mean global"):
        masks.keep_share(fine, can, 0.5, spread="globl")
    with pytest.raises(BadInput, match="use one of layer, global"):
        masks.keep_groups(fine, can, 0.5, spread="erk")
    with pytest.raises(BadInput, match=r"w of shape \(2, 4\) cannot be split into groups of 3"):
        masks.keep_n_of_m(fine, can, 1, 3)
    zero = jax.tree.map(jnp.zeros_like, MODEL)
    with pytest.raises(BadInput, match="all 0 or not finite"):
        weight_scores.prune_by(weight_scores.magnitude, zero, kept=0.5)
    for name in ("snip", "grasp", "movement"):
        with pytest.raises(BadInput, match="needs the loss"):
            getattr(weight_scores, name)(zero)
    with pytest.raises(BadInput, match="give a random key"):
        weight_scores.random(zero)
