"""Scores of weights before or after training, the larger the better to keep; rules; pruning by a score in rounds.

A score is ``score(params, mask, loss, key, flow=None)``, a tree like params. Scores are taken at the masked
parameters ``w``, those of pruned weights are 0, and derivatives are those of ``w -> loss(mask . w)``: g the gradient
and H the Hessian, over all leaves, biases included. Leaves that are never pruned get numbers that nothing reads.
A new entry of :data:`SCORES` is a rule of every system pruned by weights.
"""

from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import Parameters, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.pruning.weights import MaskTree, Prunable, apply, flat, keep_largest, kept_count, prunable

Loss = Callable[[Any], Scalar]
Score = Callable[..., Parameters]


def magnitude(params: Parameters, mask: MaskTree, loss: Loss, key: RandomKey, flow: Loss | None = None) -> Parameters:
    """``|w|``."""
    return jax.tree.map(jnp.abs, apply(mask, params))


def random(params: Parameters, mask: MaskTree, loss: Loss, key: RandomKey, flow: Loss | None = None) -> Parameters:
    """Uniform draws from [0, 1), of each leaf with a key of its own, by its place among the leaves."""
    leaves, structure = jax.tree.flatten(params)
    draws = [
        jax.random.uniform(jax.random.fold_in(key, place), (leaf.size,), leaf.dtype).reshape(leaf.shape)
        for place, leaf in enumerate(leaves)
    ]
    return apply(mask, jax.tree.unflatten(structure, draws))


def snip(params: Parameters, mask: MaskTree, loss: Loss, key: RandomKey, flow: Loss | None = None) -> Parameters:
    """``|w . g|``: how fast the loss changes with a factor before the weight.

    SNIP, Lee, Ajanthan and Torr (ICLR 2019), less their division by the sum, which orders nothing anew.
    """
    at = apply(mask, params)
    return jax.tree.map(lambda w, g: jnp.abs(w * g), at, _gradient(loss, mask)(at))


def grasp(params: Parameters, mask: MaskTree, loss: Loss, key: RandomKey, flow: Loss | None = None) -> Parameters:
    """``w . (H g)``: with the sign, so that the weights are kept whose removal would lower ``||g||^2`` the most.

    Removal of weight i changes ``||g||^2`` by ``-2 w_i (H g)_i`` to first order. GraSP, Wang, Zhang and Grosse (ICLR
    2020), call ``-w . (H g)`` the score and remove the largest: this is its negative, and the same weights are kept.
    As in their formula the loss is taken as it is; their program divides the network's outputs by 200 first, and its
    gradients leave biases out.
    """
    at = apply(mask, params)
    gradient = _gradient(loss, mask)
    _, product = jax.jvp(gradient, (at,), (gradient(at),))
    return jax.tree.map(jnp.multiply, at, product)


def movement(params: Parameters, mask: MaskTree, loss: Loss, key: RandomKey, flow: Loss | None = None) -> Parameters:
    """``-w . g``: positive where a step of gradient descent takes the weight away from 0.

    One step of the sum that movement pruning gathers in training (Sanh, Wolf and Rush, NeurIPS 2020), taken before it.
    """
    at = apply(mask, params)
    return jax.tree.map(lambda w, g: -w * g, at, _gradient(loss, mask)(at))


def synflow(params: Parameters, mask: MaskTree, loss: Loss, key: RandomKey, flow: Loss | None = None) -> Parameters:
    """``|w . dR/dw|`` with ``R = flow(w)``, ``1^T prod_l |W_l| 1`` as :func:`absolute_flow` makes it; no data enter.

    SynFlow, Tanaka, Kunin, Yamins and Ganguli (NeurIPS 2020), who prune by it in 100 rounds (:func:`prune_by`). R
    grows as a product over layers and can overflow in float32 for deep or wide networks. BadInput without ``flow``.
    """
    if flow is None:
        raise BadInput("flow", "SynFlow needs the network with absolute weights", "give absolute_flow(forward, shape)")
    return snip(params, mask, flow, key)


@dataclass(frozen=True)
class WeightRule:
    """A rule that chooses weights: by which score, and when.

    ``at`` the start, in ``rounds`` scorings unless others are asked for; at the end of training, at once; in rounds of
    training, pruning and rewinding; where a mask is given; or never. The last two have no score.
    """

    help: str
    score: Score | None = None
    rounds: int = 1
    at: Literal["start", "end", "rounds", "given", "never"] = "start"

    @property
    def trained(self) -> bool:
        """Whether trained weights are pruned, which can be rewound."""
        return self.at in ("end", "rounds")


SCORES: dict[str, WeightRule] = {
    "random": WeightRule("drawn at random before training", random),
    "snip": WeightRule("those the loss depends on most before training", snip),
    "grasp": WeightRule("those that keep the gradient large before training", grasp),
    "movement": WeightRule("those that the first step moves away from 0", movement),
    "synflow": WeightRule("those on the strongest paths before training, no data needed", synflow, rounds=100),
}
WEIGHT_RULES: ChainMap[str, WeightRule] = ChainMap(
    {"none": WeightRule("all weights", at="never")},
    SCORES,
    {
        "iterative_magnitude": WeightRule("the largest, in rounds of training and rewinding", magnitude, at="rounds"),
        "magnitude": WeightRule("the largest after training, at once", magnitude, at="end"),
    },
)


def absolute_flow(
    forward: Callable[[Any, Float[Array, "..."]], Float[Array, "..."]], shape: tuple[int, ...], biases: bool = False
) -> Loss:
    """``R(params) = sum(forward(|params|, 1))``: the outputs for one input of ones (shape), weights made absolute.

    Leaves that are not :func:`prunable`, such as biases, are 0: then every layer of a ReLU network has the same sum
    of scores, R. With ``biases`` they count with their absolute values, as in the authors' program: needed
    where such a leaf multiplies, as the scale of a norm does.
    """

    def flow(params: Any) -> Scalar:
        absolute = jax.tree.map(
            lambda leaf, can: jnp.abs(leaf) if can or biases else jnp.zeros_like(leaf), params, prunable(params)
        )
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return jnp.sum(forward(absolute, jnp.ones(shape, dtype)))

    return flow


def prune_by(
    score: Score,
    params: Parameters,
    mask: MaskTree,
    prunable: Prunable,
    loss: Loss,
    key: RandomKey,
    kept: ScalarLike,
    rounds: int = 1,
    flow: Loss | None = None,
) -> MaskTree:
    """The mask cut to the share ``kept`` of the prunable weights, in ``rounds`` with scores taken anew in each.

    Round i of 1..rounds leaves ``s (kept / s)^(i / rounds)`` of all prunable weights, s the share that ``mask`` keeps:
    ``kept^(i / rounds)`` from a full mask, the exponential schedule of SynFlow. Rounds are static, one compiled body;
    ``kept`` is traced, a share of all prunable weights and not of those in ``mask``. Random scores are drawn anew.
    """
    if rounds < 1:
        raise BadInput("rounds", f"{rounds} rounds", "use 1 or more")
    present = flat(mask, prunable)
    total = present.size
    last = jnp.asarray(kept, float)
    first = jnp.sum(present, dtype=jnp.int32).astype(float) / total

    def cut(i: Array, mask: MaskTree) -> MaskTree:
        share = jnp.where(i == rounds, last, first * (last / first) ** (i.astype(float) / rounds))
        scores = score(params, mask, loss, jax.random.fold_in(key, i), flow)
        return keep_largest(scores, mask, prunable, kept_count(total, share))

    return jax.lax.fori_loop(1, rounds + 1, cut, mask)


def _gradient(loss: Loss, mask: MaskTree) -> Callable[[Parameters], Parameters]:
    return jax.grad(lambda at: loss(apply(mask, at)))
