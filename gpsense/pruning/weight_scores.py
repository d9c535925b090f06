"""Scores of weights, before or after training (the highest are kept); pruning rules; pruning by a score in rounds.

A score is a function ``score(params, mask=None, loss=None, key=None, flow=None, can=None)`` that uses the arguments its
formula needs: ``loss(params)`` returns a number, ``key`` is for random draws, ``flow`` for SynFlow, and
``can`` says which leaves can be pruned (default :func:`gpsense.pruning.leaves.prunable`). Parameters are any tree, an
Equinox module included; scores have the structure of that tree filtered to its floating-point arrays. They are
evaluated at the masked parameters ``w``, pruned weights score 0, and derivatives are those of ``w -> loss(mask . w)``:
gradient g, Hessian H. Scores of leaves that are never pruned are not used. A new entry of :data:`SCORES` becomes a
pruning rule of every system with weight pruning.
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
    """The magnitude ``|w|`` of each weight."""
    return jax.tree.map(jnp.abs, _Point(params, mask).at)


def random(
    params: Any,
    mask: MaskTree | None = None,
    loss: Loss | None = None,
    key: RandomKey | None = None,
    flow: Loss | None = None,
    can: Prunable | None = None,
) -> Parameters:
    """Uniform draws from [0, 1); each leaf has its own key, derived from ``key`` and the position of the leaf."""
    if key is None:
        raise BadInput("key", "random scores need a key", "give a random key, such as jax.random.key(0)")
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
    """The sensitivity ``|w * g|``, elementwise: the loss's derivative in a factor of the weight, at 1, without sign.

    SNIP, Lee, Ajanthan and Torr (ICLR 2019), without their division by the sum, which does not change the order.
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
    """The product ``w . (H g)``, with its sign: weights are kept whose removal would lower ``||g||^2`` the most.

    g and H are taken over the prunable weights only: ``theta`` in the paper are the weights that get a mask, and the
    authors' program differentiates in these alone; biases, gains and embedding tables are constants. Removing weight i
    changes ``||g||^2`` by ``-2 w_i (H g)_i`` to first order. GraSP, Wang, Zhang and Grosse (ICLR 2020), call
    ``-w . (H g)`` the score and remove the largest: this is its negative, so the same weights are kept. As in their
    formula the loss is used unscaled; their program first divides the network's outputs by 200.
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
    """The product ``-w . g``: positive where a step of gradient descent moves the weight away from 0.

    One term of the sum that movement pruning accumulates in training (Sanh, Wolf and Rush, NeurIPS 2020): sum it over
    the steps to get their score.
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
    """The elementwise product ``|w * dR/dw|`` with ``R = flow(w)``, which needs no data.

    With a flow of :func:`synaptic_flow`, R is ``1^T prod_l |W_l| 1`` over the layers l. This is SynFlow by Tanaka,
    Kunin, Yamins and Ganguli (NeurIPS 2020), who prune by it in 100 rounds (:func:`prune_by`). R grows as a product
    over layers and can overflow in float32 for deep or wide networks. Raises BadInput without ``flow``.
    """
    if flow is None:
        raise BadInput("flow", "SynFlow needs the network with absolute weights", "give synaptic_flow(input_shape)")
    return snip(params, mask, flow)


@dataclass(frozen=True)
class WeightRule:
    """A rule that chooses which weights to keep by a ``score``; ``at`` says when it prunes.

    ``at``: start (before training), end (after training, at once), rounds (in rounds of training, pruning and
    rewinding), given (by a given mask) or never; given and never have no score. ``rounds``: the default number of
    rounds of scoring before training.
    """

    help: str
    score: Score | None = None
    rounds: int = 1
    at: Literal["start", "end", "rounds", "given", "never"] = "start"

    @property
    def trained(self) -> bool:
        """Whether the rule prunes trained weights; those kept can then be rewound."""
        return self.at in ("end", "rounds")


SCORES: dict[str, WeightRule] = {
    "random": WeightRule("drawn at random before training", random),
    "snip": WeightRule("weights the loss depends on most, before training", snip),
    "grasp": WeightRule("weights that keep the gradient large, before training", grasp),
    "movement": WeightRule("weights that the first step moves away from 0", movement),
    "synflow": WeightRule("weights on the strongest paths, before training, no data needed", synflow, rounds=100),
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
    """The function ``R(module)``: the sum of a module's outputs, with absolute weights and an input of ones.

    The input has the shape ``shape``. Here Equinox's norm layers are made to multiply by their gain alone, as batch
    norms with their initial averages do in the authors' program, so that R is a sum over paths of products of absolute
    weights and gains. A softmax over equal inputs has no flow: queries and keys of an attention layer score 0. For
    ``biases`` see :func:`absolute_flow`; ``dtype`` is the type of the input, by default that of the weights.
    """
    return absolute_flow(lambda module, x: leaves.gains_alone(module)(x), shape, biases, dtype)


def absolute_flow(
    forward: Callable[[Any, Array], Array], shape: tuple[int, ...], biases: bool = False, dtype: Any = None
) -> Loss:
    """The function ``R(params) = sum(forward(|params|, 1))``: summed outputs for one input of ones.

    The input has the shape ``shape``. Weights, gains of norms and embedding tables are replaced by their absolute
    values. Added terms are replaced by 0: biases, shifts, positions, and vectors outside modules that are not named as
    a weight or gain. The scores of every layer of a ReLU network then sum to R. With ``biases`` True, added terms are
    replaced by their absolute values instead, as in the authors' program.
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
    """The mask cut to the share ``kept`` of the prunable weights in ``rounds`` rounds, each with newly computed scores.

    Round i of 1..rounds leaves ``s (kept / s)^(i / rounds)`` of all prunable weights, where s is the share that
    ``mask`` keeps; from a full mask this is ``kept^(i / rounds)``, the exponential schedule of SynFlow. ``rounds`` is
    static and compiled as one loop. ``kept`` may be traced; it is a share of all prunable weights, not only of those in
    ``mask``. Random scores are drawn anew in each round. ``spread``: as in :func:`gpsense.pruning.weights.keep_share`.
    Raises BadInput for a share not in (0, 1], and where the scores of a round are all 0 or not finite; under ``jit``,
    where these cannot be checked, use :func:`prune_in_rounds`.
    """
    if not callable(score):
        raise BadInput("score", f"{shown(score)} is not a function", "give one, such as weight_scores.magnitude")
    kept = SHARE.check(kept)
    mask, usable = prune_in_rounds(score, params, mask, prunable, loss, key, kept, rounds, flow, spread)
    if not isinstance(usable, Tracer) and not bool(usable):
        raise BadInput("score", "the scores are all 0 or not finite", "use another score, another start or float64")
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
    """The mask of :func:`prune_by`, and whether all scores were usable (False: all 0 or not finite in some round)."""
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
    """The point at which scores are evaluated: masked arrays ``at`` of a tree, their mask, the rest of the tree."""

    def __init__(self, params: Any, mask: MaskTree | None):
        arrays, self.rest = eqx.partition(params, leaves.is_numbers)
        self.mask = everything(arrays) if mask is None else mask
        self.at = apply(self.mask, arrays)

    def gradient(self, score: str, loss: Loss | None) -> Callable[[Parameters], Parameters]:
        """The gradient function of the loss in the masked arrays; ``score`` is the name for errors."""
        if loss is None:
            raise BadInput("loss", f"{score} needs the loss", "give a function of the parameters that returns a number")

        def value(at: Parameters) -> Scalar:
            found = loss(eqx.combine(apply(self.mask, at), self.rest))
            if jnp.shape(found):
                raise BadInput("loss", f"it returned shape {jnp.shape(found)}", "return one number, such as the mean")
            return found

        return jax.grad(value)
