"""Which arrays of ten networks are pruned and which are not, what a user says instead, layers that stand twice."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.pruning import leaves
from gpsense.pruning import weights as masks


class _ResNetBlock(eqx.Module):
    convolutions: list
    norms: list
    stateful: eqx.nn.BatchNorm
    skip: eqx.nn.Conv2d

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.convolutions = [eqx.nn.Conv2d(2, 4, 3, key=keys[0]), eqx.nn.Conv2d(4, 4, 3, use_bias=False, key=keys[1])]
        self.norms = [eqx.nn.GroupNorm(2, 4), eqx.nn.GroupNorm(2, 4)]
        self.stateful = eqx.nn.BatchNorm(4, "batch", mode="batch")
        self.skip = eqx.nn.Conv2d(2, 4, 1, key=keys[2])


class _MixerBlock(eqx.Module):
    patches: eqx.nn.MLP
    channels: eqx.nn.MLP
    norms: tuple

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.patches, self.channels = eqx.nn.MLP(6, 6, 4, 1, key=one), eqx.nn.MLP(3, 3, 4, 1, key=two)
        self.norms = eqx.nn.LayerNorm((3, 6)), eqx.nn.RMSNorm((3, 6))


class _AttentionBlock(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    pos_embed: jax.Array
    cls_token: jax.Array
    cls: jax.Array

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.attention, self.mlp = eqx.nn.MultiheadAttention(2, 4, key=one), eqx.nn.Linear(4, 4, key=two)
        self.norm, self.pos_embed, self.cls_token = eqx.nn.LayerNorm(4), jnp.ones((5, 4)), jnp.ones((1, 4))
        self.cls = jnp.ones((1, 4))


class _Member(eqx.Module):
    layers: list

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.layers = [eqx.nn.Linear(3, 4, key=one), eqx.nn.LayerNorm(4), eqx.nn.PReLU(), eqx.nn.Linear(4, 2, key=two)]


def _shared(key):
    one, two = jax.random.split(key)
    pair = eqx.nn.Linear(4, 4, key=one), eqx.nn.Linear(4, 4, key=two)
    return eqx.nn.Shared(pair, lambda both: both[1].weight, lambda both: both[0].weight)


class _Sentences(eqx.Module):
    embedding: eqx.nn.Embedding
    last: eqx.nn.Linear
    wte: jax.Array
    temperature: jax.Array
    tied: eqx.nn.Shared

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.embedding, self.last = eqx.nn.Embedding(9, 4, key=one), eqx.nn.Linear(4, 2, key=two)
        self.wte, self.temperature = jnp.ones((9, 4)), jnp.ones((1, 1))
        pair = eqx.nn.Linear(4, 9, key=two), eqx.nn.Embedding(9, 4, key=one)  # the weight is the table of words, too
        self.tied = eqx.nn.Shared(pair, lambda both: both[1].weight, lambda both: both[0].weight)

    def __call__(self, words):
        return self.last(jnp.mean(jax.vmap(self.embedding)(words), axis=0))


def _cells(key):
    return {
        "gru": eqx.nn.GRUCell(3, 4, key=key),
        "lstm": eqx.nn.LSTMCell(3, 4, key=key),
        "init_state": jnp.zeros((2, 4)),
        "many": eqx.filter_vmap(lambda k: eqx.nn.GRUCell(3, 4, key=k))(jax.random.split(key, 2)),
    }


class _ChannelNorm(eqx.Module):
    weight: jax.Array
    project: eqx.nn.Linear


class _Own(eqx.Module):
    first: jax.Array
    b: jax.Array
    out_b: jax.Array
    scale: jax.Array
    lora_b: jax.Array
    norm: _ChannelNorm
    steps: jax.Array
    normed: eqx.nn.WeightNorm

    def __init__(self, key):
        self.first, self.b, self.out_b, self.scale = jnp.ones((2, 3)), *(jnp.ones((2, 1)) for _ in range(3))
        self.lora_b, self.steps = jnp.ones((2, 3)), jnp.zeros((2, 2), jnp.int32)
        self.norm = _ChannelNorm(jnp.ones((2, 1, 1)), eqx.nn.Linear(2, 2, key=key))
        self.normed = eqx.nn.WeightNorm(eqx.nn.Linear(2, 2, key=key))


ATTENTION = ["query_proj.weight", "key_proj.weight", "value_proj.weight", "output_proj.weight"]
NETWORKS: dict[str, tuple[Any, list[str]]] = {
    "mlp": (lambda key: eqx.nn.MLP(3, 2, 4, 1, key=key), ["layers.0.weight", "layers.1.weight"]),
    "cnn": (
        lambda key: eqx.nn.Sequential([eqx.nn.Conv2d(1, 2, 3, key=key), eqx.nn.ConvTranspose2d(2, 1, 3, key=key)]),
        ["layers.0.weight", "layers.1.weight"],
    ),
    "resnet block": (
        lambda key: eqx.nn.make_with_state(_ResNetBlock)(key)[0],
        ["convolutions.0.weight", "convolutions.1.weight", "skip.weight"],
    ),
    "mixer block": (
        _MixerBlock,
        [f"{part}.layers.{place}.weight" for part in ("patches", "channels") for place in (0, 1)],
    ),
    "attention block": (_AttentionBlock, [*(f"attention.{name}" for name in ATTENTION), "mlp.weight"]),
    "vmapped ensemble": (
        lambda key: eqx.filter_vmap(_Member)(jax.random.split(key, 3)),
        ["layers.0.weight", "layers.3.weight"],
    ),
    "shared weights": (_shared, ["pytree.0.weight"]),
    "embedding": (_Sentences, ["last.weight"]),
    "rnn cells": (_cells, [f"{name}.weight_{part}" for name in ("gru", "lstm", "many") for part in ("ih", "hh")]),
    "own module": (_Own, ["first", "lora_b", "norm.project.weight", "normed.layer.weight"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_array_is_pruned_that_a_user_would_not_prune(name):
    """A tenth of the weights stays; biases, norms, tables, tokens, counters and functions are as they were."""
    make, expected = NETWORKS[name]
    module = make(jax.random.key(0))
    can = leaves.prunable(module)
    assert masks.layers(module, can) == expected
    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    assert jax.tree.leaves(leaves.prunable(shapes)) == jax.tree.leaves(can)

    @eqx.filter_jit
    def pruned(module):
        scores = jax.tree.map(lambda leaf: jnp.arange(1.0, leaf.size + 1).reshape(leaf.shape), leaves.numbers(module))
        return masks.apply(masks.keep_share(scores, can, 0.1), jax.tree.map(lambda x: x + 1, leaves.numbers(module)))

    before = jax.tree.map(lambda x: x + 1, leaves.numbers(module))
    after, kept, total = pruned(module), 0, 0
    for path, old, new in zip(leaves.paths(module), jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if path in expected:
            kept, total = kept + int((new != 0).sum()), total + new.size
        else:
            np.testing.assert_array_equal(new, old)
    assert kept == max(round(0.1 * total), 1)


def test_names_tell_in_dictionaries_and_lists():
    tree = {
        "dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones((2, 1))},
        "LayerNorm_0": {"scale": jnp.ones((2, 2)), "offset": jnp.ones((2, 2))},
        "embed": {"embeddings": jnp.ones((4, 2))},
        "pairs": [(jnp.ones((2, 2)), jnp.ones(2)), (jnp.ones((2, 2)), jnp.ones(2))],
        "biases": [jnp.ones((2, 2))],
        "b1": jnp.ones((2, 2)),
        "B": jnp.ones((2, 2)),
    }
    assert masks.layers(tree, leaves.prunable(tree)) == ["B", "dense.kernel", "pairs.0.0", "pairs.1.0"]
    assert leaves.prunable(jnp.ones((2, 2))) is True
    assert leaves.prunable(jnp.ones(2)) is False


def test_patterns_functions_and_trees_say_what_else():
    module = _AttentionBlock(jax.random.key(0))
    plain = masks.layers(module, leaves.prunable(module))

    def chosen(what):
        return set(masks.layers(module, leaves.prunable(module, what)))

    assert chosen("pos_embed") == {*plain, "pos_embed"}
    assert chosen("!attention") == {"mlp.weight"}
    assert chosen(("!attention.*", "attention.key_proj")) == {"mlp.weight", "attention.key_proj.weight"}
    assert chosen(["!*", "*_proj.weight"]) == {f"attention.{name}" for name in ATTENTION}
    assert chosen(lambda path, leaf: leaf.shape == (4, 4) and "key" in path) == {"attention.key_proj.weight"}
    nothing = jax.tree.map(lambda leaf: False, eqx.filter(module, eqx.is_array))
    assert chosen(eqx.tree_at(lambda m: m.mlp.weight, nothing, True)) == {"mlp.weight"}
    whole = jax.tree.map(lambda leaf: False, module)
    assert chosen(eqx.tree_at(lambda m: (m.mlp, m.norm), whole, (True, False))) == {"mlp.weight", "mlp.bias"}
    tree = "not a tree of booleans"
    for what, problem in (("layers.*", "no array matches"), (3, tree), ([True], tree)):
        with pytest.raises(BadInput, match=problem) as refused:
            leaves.prunable(module, what)
        assert refused.value.field == "prune"
    with pytest.raises(BadInput, match=r"did you mean mlp\.weight"):
        leaves.prunable(module, "mlp.weights")


def test_norms_that_pass_their_gain_alone():
    """Of any shape and kind, in a list that is told apart by class, vmapped; other layers are as they were."""
    x, gain = jnp.arange(6.0).reshape(2, 3), jnp.asarray([[1.0, -2, 3], [0.5, 1, 2]])
    image = eqx.tree_at(lambda norm: norm.weight, eqx.nn.LayerNorm((2, 3)), gain)
    channels = eqx.tree_at(lambda norm: norm.weight, eqx.nn.GroupNorm(1, 2), gain[:, 0])
    batch, state = eqx.nn.make_with_state(lambda: eqx.nn.BatchNorm(2, "batch", mode="batch"))()
    batch = eqx.tree_at(lambda norm: norm.weight, batch, gain[:, 1])
    linear = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    modules = leaves.gains_alone([image, channels, batch, linear, eqx.nn.RMSNorm(3, use_weight=False, use_bias=False)])
    assert [isinstance(one, type(other)) for one, other in zip(modules, [image, channels, batch, linear], strict=False)]
    np.testing.assert_array_equal(modules[0](x), x * gain)
    np.testing.assert_array_equal(modules[1](x), x * gain[:, :1])
    found, same = modules[2](x, state)
    np.testing.assert_array_equal(found, x * gain[:, 1:2])
    assert same is state
    assert type(modules[3]) is eqx.nn.Linear
    np.testing.assert_array_equal(modules[4](x[0]), x[0])
    several = eqx.tree_at(lambda norm: norm.weight, eqx.filter_vmap(lambda k: eqx.nn.LayerNorm(3))(jnp.ones(2)), gain)
    found = eqx.filter_vmap(lambda norm, row: norm(row))(leaves.gains_alone(several), x)
    np.testing.assert_array_equal(found, x * gain)


def test_what_is_shared_is_not_told_by_a_filtered_tree():
    """Where what is tied decides, a tree without its functions is refused; where it does not, it is enough."""
    with pytest.raises(BadInput, match=r"tree: equinox\.nn\.Shared was filtered .* give the module as it was"):
        leaves.prunable(eqx.filter(_Sentences(jax.random.key(0)), eqx.is_array))
    whole = _shared(jax.random.key(0))
    assert leaves.prunable(eqx.filter(whole, eqx.is_array)).pytree[0].weight


def test_what_stands_twice_is_found_and_what_is_shared_is_not():
    linear = eqx.nn.Linear(3, 3, key=jax.random.key(0))
    relu = eqx.nn.Lambda(jax.nn.relu)
    with pytest.raises(BadInput, match=r"same Linear stands at layers\.0 and at layers\.2.*equinox\.nn\.Shared"):
        leaves.verify_untied(eqx.nn.Sequential([linear, relu, linear]))
    with pytest.raises(BadInput, match=r"same Linear stands at layers\.0 and at layers\.2") as refused:
        leaves.prunable(eqx.nn.Sequential([linear, relu, linear]))
    assert refused.value.field == "tree"
    other = eqx.tree_at(lambda layer: layer.weight, eqx.nn.Linear(3, 3, key=jax.random.key(1)), linear.weight)
    with pytest.raises(BadInput, match=r"same .* at 0\.weight and at 1\.weight"):
        leaves.verify_untied([linear, other])
    leaves.verify_untied(eqx.nn.Sequential([eqx.nn.Linear(3, 3, key=jax.random.key(1)), relu, relu]))
    leaves.verify_untied(_shared(jax.random.key(0)))
    zeros = jnp.zeros(3)  # one array that two biases start from
    leaves.verify_untied([{"bias": zeros}, {"bias": zeros}])
