"""Scores of weights before or after training, the larger the better to keep; rules; pruning by a score in rounds.

A score is ``score(params, mask=None, loss=None, key=None, flow=None, can=None)`` and reads what its formula names:
``loss(params)`` a number, ``key`` for random draws, ``flow`` for SynFlow, ``can`` the leaves that can be pruned (by
default :func:`gpsense.pruning.leaves.prunable`). Parameters are any tree, an Equinox module included; what comes back
has the structure of the tree filtered to its floating-point arrays. Scores are taken at the masked parameters ``w``,
those of pruned weights are 0, and derivatives are those of ``w -> loss(mask . w)``: g the gradient and H the Hessian.
Leaves that are never pruned get numbers that nothing reads. A new entry of :data:`SCORES` is a rule of every system
pruned by weights.
"""

from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array

from gpsense._types import Flags, Parameters, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import shown
from gpsense.pruning import leaves
from gpsense.pruning.leaves import Prunable
from gpsense.pruning.weights import SHARE, MaskTree, apply, everything, flat, keep_share, sound

Loss = Callable[[Any], Scalar]
Score = Callable[..., Parameters]


def magnitude(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """``|w|``."""
    return jax.tree.map(jnp.abs, _Point(params, mask).at)


def random(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """Uniform draws from [0, 1), of each leaf with a key of its own, by its place among the leaves."""
    if key is None:
        raise BadInput("key", "random scores are drawn", "give a random key")
    point = _Point(params, mask)
    arrays, structure = jax.tree.flatten(point.at)
    draws = [
        jax.random.uniform(jax.random.fold_in(key, place), (leaf.size,), leaf.dtype).reshape(leaf.shape)
        for place, leaf in enumerate(arrays)
    ]
    return apply(point.mask, jax.tree.unflatten(structure, draws))


def snip(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """``|w . g|``: how fast the loss changes with a factor before the weight.

    SNIP, Lee, Ajanthan and Torr (ICLR 2019), less their division by the sum, which orders nothing anew.
    """
    point = _Point(params, mask)
    return jax.tree.map(lambda w, g: jnp.abs(w * g), point.at, point.gradient("SNIP", loss)(point.at))


def grasp(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """``w . (H g)``: with the sign, so that the weights are kept whose removal would lower ``||g||^2`` the most.

    g and H are those of the weights that can be pruned: ``theta`` of the paper are the weights that get a mask, and the
    authors' program takes gradients of those alone; biases, gains and tables stand still. Removal of weight i changes
    ``||g||^2`` by ``-2 w_i (H g)_i`` to first order. GraSP, Wang, Zhang and Grosse (ICLR 2020), call ``-w . (H g)`` the
    score and remove the largest: this is its negative, and the same weights are kept. As in their formula the loss is
    taken as it is; their program divides the network's outputs by 200 first.
    """
    point = _Point(params, mask)
    can = leaves.prunable(point.at) if can is None else can
    gradient = point.gradient("GraSP", loss)
    _, product = jax.jvp(gradient, (point.at,), (leaves.only(can, gradient(point.at)),))
    return jax.tree.map(jnp.multiply, point.at, product)


def movement(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """``-w . g``: positive where a step of gradient descent takes the weight away from 0.

    One step of the sum that movement pruning gathers in training (Sanh, Wolf and Rush, NeurIPS 2020): sum this
    over the steps to get theirs.
    """
    point = _Point(params, mask)
    return jax.tree.map(lambda w, g: -w * g, point.at, point.gradient("movement pruning", loss)(point.at))


def synflow(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """``|w . dR/dw|`` with ``R = flow(w)``, ``1^T prod_l |W_l| 1`` as :func:`synaptic_flow` makes it; no data enter.

    SynFlow, Tanaka, Kunin, Yamins and Ganguli (NeurIPS 2020), who prune by it in 100 rounds (:func:`prune_by`). R
    grows as a product over layers and can overflow in float32 for deep or wide networks. BadInput without ``flow``.
    """
    if flow is None:
        raise BadInput("flow", "SynFlow needs the network with absolute weights", "give synaptic_flow(shape)")
    return snip(params, mask, flow)


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


def synaptic_flow(shape: tuple[int, ...], biases: bool = False, dtype: Any = None) -> Loss:
    """``R(module) = sum(module(1))`` with absolute weights: the flow of a whole Equinox module, one input (shape).

    Norm layers of Equinox multiply by their gain and do no more, as batch norms with their initial averages do in the
    authors' program: R stays a sum over paths of products of absolute weights, gains among them. Through a softmax over
    equal inputs nothing flows: queries and keys of an attention layer score 0. Else as :func:`absolute_flow`, ``dtype``
    that of the input where it is not that of the weights.
    """
    return absolute_flow(lambda module, x: leaves.gains_alone(module)(x), shape, biases, dtype)


def absolute_flow(
    forward: Callable[[Any, Array], Array], shape: tuple[int, ...], biases: bool = False, dtype: Any = None
) -> Loss:
    """``R(params) = sum(forward(|params|, 1))``: the outputs for one input of ones (shape), weights made absolute.

    What multiplies has its absolute value: weights, gains of norms, tables of embeddings. What is added, biases and
    leaves of one axis without a name that tells, is 0: then every layer of a ReLU network has the same sum of scores,
    R. With ``biases`` these count with their absolute values, as in the authors' program.
    """

    def flow(params: Any) -> Scalar:
        kind = jnp.result_type(*jax.tree.leaves(leaves.numbers(params))) if dtype is None else dtype
        return jnp.sum(forward(leaves.absolute(params, biases), jnp.ones(shape, kind)))

    return flow


def prune_by(
    score: Score,
    params: Any,
    mask: MaskTree | None = None,
    prunable: Prunable | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    kept: ScalarLike = 1.0,
    rounds: int = 1,
    flow: Loss | None = None,
    spread: str = "global",
) -> MaskTree:
    """The mask cut to the share ``kept`` of the prunable weights, in ``rounds`` with scores taken anew in each.

    Round i of 1..rounds leaves ``s (kept / s)^(i / rounds)`` of all prunable weights, s the share that ``mask`` keeps:
    ``kept^(i / rounds)`` from a full mask, the exponential schedule of SynFlow. Rounds are static, one compiled body;
    ``kept`` is traced, a share of all prunable weights and not of those in ``mask``. Random scores are drawn anew.
    ``spread``: as in :func:`gpsense.pruning.weights.keep_share`. BadInput for a share not above 0 or above 1, and where
    the scores of a round are all 0 or not finite; under ``jit`` that cannot be seen: :func:`prune_in_rounds` tells it.
    """
    if not callable(score):
        raise BadInput("score", f"{shown(score)} is not a function", "give one, such as weight_scores.magnitude")
    kept = SHARE.check(kept)
    mask, usable = prune_in_rounds(score, params, mask, prunable, loss, key, kept, rounds, flow, spread)
    if not isinstance(usable, Tracer) and not bool(usable):
        raise BadInput("score", "its scores are all 0 or not finite", "use another score, start or more precision")
    return mask


def prune_in_rounds(
    score: Score,
    params: Any,
    mask: MaskTree | None,
    prunable: Prunable | None,
    loss: Loss | None,
    key: RandomKey | None,
    kept: ScalarLike,
    rounds: int = 1,
    flow: Loss | None = None,
    spread: str = "global",
) -> tuple[MaskTree, Flags]:
    """As :func:`prune_by`, with whether the scores of all rounds could order the weights (False: all 0, not finite)."""
    if rounds < 1:
        raise BadInput("rounds", f"{rounds} rounds", "use 1 or more")
    mask = everything(params) if mask is None else mask
    can = leaves.prunable(params) if prunable is None else prunable
    present = flat(mask, can)
    total = present.size
    last = jnp.asarray(kept, float)
    first = jnp.sum(present, dtype=jnp.int32).astype(float) / total

    def cut(i: Array, carry: tuple[MaskTree, Flags]) -> tuple[MaskTree, Flags]:
        mask, usable = carry
        share = jnp.where(i == rounds, last, first * (last / first) ** (i.astype(float) / rounds))
        drawn = None if key is None else jax.random.fold_in(key, i)
        scores = score(params, mask, loss, drawn, flow, can)
        usable = usable & sound(scores, mask, can)
        return keep_share(scores, can, share, mask, spread), usable

    return jax.lax.fori_loop(1, rounds + 1, cut, (mask, jnp.asarray(True)))


class _Point:
    """Where scores are taken: the masked arrays ``at`` of a tree, their mask, and the rest of the tree."""

    def __init__(self, params: Any, mask: MaskTree | None):
        arrays, self.rest = eqx.partition(params, leaves.is_numbers)
        self.mask = everything(arrays) if mask is None else mask
        self.at = apply(self.mask, arrays)

    def gradient(self, score: str, loss: Loss | None) -> Callable[[Parameters], Parameters]:
        """The gradient of the loss of the masked arrays, in these."""
        if loss is None:
            raise BadInput("loss", f"{score} needs the loss", "give a function of the parameters that returns a number")

        def value(at: Parameters) -> Scalar:
            found = loss(eqx.combine(apply(self.mask, at), self.rest))
            if jnp.shape(found):
                raise BadInput("loss", f"it returned shape {jnp.shape(found)}", "return one number, such as the mean")
            return found

        return jax.grad(value)
