"""Masks over any tree of parameters: how many weights are kept, and which ones by their scores.

A mask has the structure of the tree filtered to its floating-point arrays, with None elsewhere, like gradients of
``equinox.filter_grad``. It holds booleans of the parameters' shapes, True where a weight is kept and in all leaves that
are never pruned. Any JAX tree will do, Equinox modules included, whole or filtered. A tree of Python booleans,
:func:`gpsense.pruning.leaves.prunable`, says which leaves can be pruned: it is static, so close over it under ``jit``.
Shares and counts may be traced: one compiled program serves all values, also under ``vmap``.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from gpsense._types import Flags, Integer, MaskTree, Parameters, Prunable, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, unknown_name
from gpsense.pruning.leaves import numbers, paths, prunable

SHARE = Field(name="kept", kind="number", above=0, at_most=1)  # checked only where known: not under jit
Tree = TypeVar("Tree")
NumbersVector = Float[Array, " numbers"]
NumbersMask = Bool[Array, " numbers"]


def everything(params: PyTree) -> MaskTree:
    """The mask that keeps everything; as in :func:`prunable`, only the shapes of ``params`` are used."""
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), numbers(params))


def apply(mask: MaskTree, tree: Tree) -> Tree:
    """The tree with 0 where the mask is False, also in place of NaN; leaves that no mask covers stay as they are."""

    def masked(keep: Any, leaf: Any) -> Any:
        return leaf if keep is None else jnp.where(keep, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(masked, mask, tree, is_leaf=lambda node: node is None)


def restore(mask: MaskTree, tree: Tree, dense: Tree) -> Tree:
    """The tree with the entries of ``dense`` where the mask is False: pruned weights regain their former values."""

    def filled(keep: Any, leaf: Any, before: Any) -> Any:
        return leaf if keep is None else jnp.where(keep, leaf, before)

    return jax.tree.map(filled, mask, tree, dense, is_leaf=lambda node: node is None)


def flat(tree: PyTree[Shaped[Array, "..."]], prunable: Prunable) -> Shaped[Array, " weights"]:
    """The entries of the prunable leaves of a mask, or of a tree of the same structure, as one vector (weights,).

    Leaves are in the order of ``jax.tree.leaves``, each row by row.
    """
    chosen = [leaf.ravel() for leaf in _chosen(tree, prunable)]
    return jnp.concatenate(chosen) if chosen else jnp.zeros((0,), bool)


def unflat(vector: Shaped[Array, " weights"], tree: Tree, prunable: Prunable) -> Tree:
    """The tree with its prunable leaves read from a vector (weights,), others unchanged: inverse of :func:`flat`."""
    leaves, structure = jax.tree.flatten(tree)
    filled, start = [], 0
    for leaf, can in zip(leaves, jax.tree.leaves(prunable), strict=True):
        filled.append(vector[start : start + leaf.size].reshape(leaf.shape) if can else leaf)
        start += leaf.size if can else 0
    return jax.tree.unflatten(structure, filled)


class Numbers:
    """Converts trees of the given ``shapes`` to vectors (numbers,) and back, in the order of ``jax.tree.leaves``.

    The attribute ``prunable`` (numbers,) is True for the numbers in leaves that can be pruned, according to ``can``
    (default: :func:`gpsense.pruning.leaves.prunable`). It is a NumPy array, static under ``jit``.
    """

    def __init__(self, shapes: PyTree, can: Prunable | None = None):
        self._shapes = shapes
        self._all = jax.tree.map(lambda leaf: True, shapes)
        can = prunable(shapes) if can is None else can
        leaves = jax.tree.leaves(jax.tree.map(lambda leaf, can: np.full(leaf.size, can), shapes, can))
        self.prunable = np.concatenate(leaves)

    def vector(self, tree: PyTree[Shaped[Array, "..."]]) -> Shaped[Array, " numbers"]:
        """The vector of all numbers of a tree, such as parameters, gradients or a mask."""
        return flat(tree, self._all)

    def tree(self, vector: Shaped[Array, " numbers"]) -> PyTree[Shaped[Array, "..."]]:
        """The tree whose numbers are those of a vector."""
        return unflat(vector, self._shapes, self._all)


def kept_share(mask: MaskTree, prunable: Prunable) -> Scalar:
    """Share of the prunable weights that the mask keeps, in the default precision."""
    kept = flat(mask, prunable)
    return jnp.sum(kept, dtype=jnp.int32).astype(float) / kept.size


def kept_by_layer(mask: MaskTree, prunable: Prunable) -> Float[Array, " layers"]:
    """Share of weights kept in each prunable leaf, in the default precision and the order of :func:`layers`."""
    chosen = _chosen(mask, prunable)
    shares = [jnp.sum(keep, dtype=jnp.int32).astype(float) / keep.size for keep in chosen]
    return jnp.stack(shares) if shares else jnp.zeros((0,))


def layers(tree: PyTree, prunable: Prunable) -> list[str]:
    """The paths of the prunable leaves of a tree, in the order of its leaves."""
    return [path for path, can in zip(paths(tree), jax.tree.leaves(prunable), strict=True) if can]


def kept_count(total: int, kept: ScalarLike) -> Integer:
    """The number ``round(kept * total)`` of weights for a share ``kept``, from 1 to ``total``; halves round to even."""
    return jnp.clip(jnp.round(jnp.asarray(kept, float) * total), 1, total).astype(jnp.int32)


def keep_largest(scores: Parameters, mask: MaskTree, prunable: Prunable, count: Integer | ScalarLike) -> MaskTree:
    """The mask cut to the ``count`` prunable weights with the highest scores, over all leaves together.

    Exactly ``count`` of the weights in ``mask`` are kept, or all if there are fewer; of equal scores, those that come
    first in :func:`flat`. NaN ranks below every score. ``count`` may be traced, and is rounded to the nearest whole
    number. Leaves that are not prunable keep their mask. Raises BadInput for a count below 0.

    >>> scores, mask = {"w": jnp.array([[3.0, 1.0, 2.0]])}, {"w": jnp.array([[True, True, True]])}
    >>> gpsense.keep_largest(scores, mask, {"w": True}, count=2)["w"].tolist()
    [[True, False, True]]
    """
    count = Field(name="count", kind="number", at_least=0).check(count)
    chosen = _chosen(scores, prunable), _chosen(mask, prunable)
    stays = iter(_largest(*chosen, jnp.asarray(count)) if chosen[0] else ())
    leaves, structure = jax.tree.flatten(mask)
    cut = [next(stays) if can else keep for keep, can in zip(leaves, jax.tree.leaves(prunable), strict=True)]
    return jax.tree.unflatten(structure, cut)


@jax.jit
def _largest(scores: list[Array], mask: list[Array], count: Array) -> list[Array]:
    """:func:`keep_largest` for leaves that are all prunable, compiled as one program if called outside ``jit``."""
    prunable = [True] * len(mask)
    kept = flat(mask, prunable)
    places = _places(flat(scores, prunable), kept)
    most = jnp.round(count).astype(jnp.int32)
    limit = jnp.sort(places)[jnp.clip(most - 1, 0, places.size - 1)]
    better, equal = places < limit, places == limit
    free = most - jnp.sum(better, dtype=jnp.int32)
    stays = better | (equal & (jnp.cumsum(equal, dtype=jnp.int32) <= free))
    return unflat(kept & stays & (most > 0), mask, prunable)


def sound(scores: Parameters, mask: MaskTree, prunable: Prunable) -> Flags:
    """Whether the scores of the weights that a mask keeps can rank them: all finite, and not all 0."""
    return _sound(_chosen(scores, prunable), _chosen(mask, prunable))


@jax.jit
def _sound(scores: list[Array], mask: list[Array]) -> Flags:
    values, kept = (flat(leaves, [True] * len(leaves)) for leaves in (scores, mask))
    finite = jnp.all(jnp.isfinite(values) | ~kept)
    return finite & jnp.any((values != 0) & kept)


def verify_scores(scores: Parameters, mask: MaskTree, prunable: Prunable) -> None:
    """Raises BadInput where no leaf is prunable, and for scores that are not :func:`sound` (not under ``jit``)."""
    if not any(jax.tree.leaves(prunable)):
        raise BadInput("prunable", "no weight can be pruned", "say which arrays can be, by prunable(tree, what)")
    verdict = sound(scores, mask, prunable)
    if not isinstance(verdict, Tracer) and not bool(verdict):
        raise unsound(scores, mask, prunable)


def unsound(scores: Parameters, mask: MaskTree, prunable: Prunable, field: str = "scores") -> BadInput:
    """The BadInput for scores that are not :func:`sound`, which names the leaves with scores that are not finite."""
    chosen = zip(layers(scores, prunable), _chosen(scores, prunable), _chosen(mask, prunable), strict=True)
    wild = [path for path, values, kept in chosen if not bool(jnp.all(jnp.isfinite(values) | ~kept))]
    if wild:
        remedy = "use smaller initial weights, float64 or another score"
        return BadInput(field, f"scores of {', '.join(wild)} are not finite", remedy)
    remedy = "use a start in which no layer is all zeros, or another score"
    return BadInput(field, "the score of every weight is 0", remedy)


def keep_share(
    scores: Parameters,
    prunable: Prunable,
    kept: ScalarLike | Float[Array, " layers"],
    mask: MaskTree | None = None,
    spread: str = "global",
) -> MaskTree:
    """The mask that keeps the share ``kept`` of the prunable weights, those with the highest scores.

    With ``spread`` global, ``round(kept * weights)`` weights of all leaves together are kept; with layer, the same
    share of every leaf, or one share per leaf if ``kept`` is a vector (layers,); with erk, the shares of
    :func:`erk_shares`. At least one weight is kept; with layer and erk, at least one in every leaf. Weights pruned in
    ``mask`` stay pruned; shares are nevertheless of all weights. ``kept`` may be traced. Among equal scores the first
    are kept. Raises BadInput for an unknown ``spread``, for a vector of wrong length or with another spread, and (not
    under ``jit``) for shares not in (0, 1] and scores that are all 0 or not finite.
    """
    mask = everything(scores) if mask is None else mask
    verify_scores(scores, mask, prunable)
    if spread not in SPREADS:
        raise unknown_name("spread", spread, SPREADS)
    sizes = [leaf.shape for leaf in _chosen(scores, prunable)]
    if jnp.ndim(kept) and (spread != "layer" or jnp.shape(kept) != (len(sizes),)):
        fix = f"give one share or, with spread='layer', one for each of the {len(sizes)} layers"
        raise BadInput("kept", f"has the shape {jnp.shape(kept)}", fix)
    kept = SHARE.check(kept)
    return cut_to_share(scores, prunable, kept, mask, spread)


def cut_to_share(
    scores: Parameters,
    prunable: Prunable,
    kept: ScalarLike | Float[Array, " layers"],
    mask: MaskTree,
    spread: str = "global",
) -> MaskTree:
    """:func:`keep_share` without its checks of the arguments: scores that are all 0 keep the first weights."""
    sizes = [leaf.shape for leaf in _chosen(scores, prunable)]
    shares = SPREADS[spread](sizes, kept)
    if shares is None:
        total = sum(int(np.prod(size)) for size in sizes)
        return keep_largest(scores, mask, prunable, kept_count(total, kept))
    each = iter(shares)

    def cut(can: bool, values: Any, keep: Any) -> Any:
        return keep_largest(values, keep, True, kept_count(values.size, next(each))) if can else keep

    return jax.tree.map(cut, prunable, scores, mask)


def erk_shares(shapes: Sequence[tuple[int, ...]], kept: ScalarLike) -> Float[Array, " layers"]:
    """The shares of the layers that the Erdos-Renyi-kernel rule keeps, ``min(1, c sum(shape) / prod(shape))``.

    In all, the share ``kept`` of the weights is kept. Small layers keep a larger share. The factor c, for which
    ``sum_l share_l n_l = kept sum_l n_l``, is computed in closed form, so that ``kept`` may be traced. Evci, Gale,
    Menick, Castro and Elsen (ICML 2020), after Mocanu et al. (2018).
    """
    sizes = np.array([np.prod(shape) for shape in shapes], float)
    raw = np.array([np.sum(shape) for shape in shapes], float) / sizes
    order = np.argsort(-raw, kind="stable")
    full = np.concatenate([[0.0], np.cumsum(sizes[order])])[:-1]  # weights in the first 0, 1, ... layers, kept whole
    rest = np.cumsum((sizes * raw)[order][::-1])[::-1]
    wanted = jnp.asarray(kept, float) * sizes.sum()
    factors = jnp.maximum(wanted - full, 0.0) / rest
    fits = factors * raw[order] <= 1.0  # the fewest whole layers for which no other share exceeds 1
    factor = jnp.where(jnp.any(fits), factors[jnp.argmax(fits)], jnp.inf)
    return jnp.minimum(factor * raw, 1.0)


SPREADS: dict[str, Callable[[Sequence[tuple[int, ...]], ScalarLike], Any]] = {
    "global": lambda shapes, kept: None,
    "layer": lambda shapes, kept: jnp.broadcast_to(jnp.asarray(kept, float), (len(shapes),)),
    "erk": erk_shares,
}


def keep_n_of_m(
    scores: Parameters,
    prunable: Prunable,
    n: Integer | ScalarLike,
    m: int,
    axis: int = 1,
    mask: MaskTree | None = None,
) -> MaskTree:
    """The mask with N:M sparsity: of every m consecutive weights along an axis of a leaf, the n highest are kept.

    ``axis`` 1 is the input axis of Equinox's linear layers and convolutions; ``n`` may be traced. Among equal scores
    the first are kept; weights pruned in ``mask`` stay pruned. Raises BadInput, naming the leaf, where m does not
    divide the length of the axis, and for an n that is not from 1 to m.
    """
    mask = everything(scores) if mask is None else mask
    verify_scores(scores, mask, prunable)
    names = iter(layers(scores, prunable))
    count = jnp.asarray(Field(name="n", kind="number", at_least=1, at_most=m).check(n)).astype(jnp.int32)

    def cut(can: bool, values: Any, keep: Any) -> Any:
        if not can:
            return keep
        name = next(names)
        if not -values.ndim <= axis < values.ndim or m < 1 or values.shape[axis] % m:
            problem = f"{name} of shape {values.shape} cannot be split into groups of {m} along axis {axis}"
            raise BadInput("m", problem, "use a divisor of the axis's length, or leave that leaf out of prunable")
        places, kept = (jnp.moveaxis(each, axis, -1) for each in (_places(values, keep), keep))
        groups = places.reshape(*places.shape[:-1], -1, m)
        one, other = groups[..., :, None], groups[..., None, :]
        earlier = jnp.asarray(np.tri(m, k=-1, dtype=bool))
        first = (other < one) | ((other == one) & earlier.reshape((1,) * (groups.ndim - 1) + (m, m)))
        before = jnp.sum(first, axis=-1, dtype=jnp.int32)
        stays = (before < count).reshape(places.shape) & kept
        return jnp.moveaxis(stays, -1, axis)

    return jax.tree.map(cut, prunable, scores, mask)


def keep_groups(
    scores: Parameters,
    prunable: Prunable,
    kept: ScalarLike,
    axis: int = 0,
    mask: MaskTree | None = None,
    spread: str = "layer",
) -> MaskTree:
    """The mask that keeps whole slices along an axis, such as rows or filters: those of highest mean score.

    ``axis`` 0 is the output axis of Equinox's layers, 1 the input axis. With ``spread`` layer, the share ``kept`` of
    the slices of each prunable leaf is kept, at least one; with global, that share of all slices together. Slices and
    single weights pruned in ``mask`` stay pruned. This is structured pruning; with magnitudes as scores, it ranks
    filters by L1 norm as Li, Kadav, Durdanovic, Samet and Graf (ICLR 2017) do. The bias of a pruned row is kept.
    Raises BadInput, naming the leaf, where it has no such axis, and as in :func:`keep_share`.
    """
    if spread not in ("layer", "global"):
        raise unknown_name("spread", spread, ("layer", "global"))
    mask = everything(scores) if mask is None else mask
    for name, leaf in zip(layers(scores, prunable), _chosen(scores, prunable), strict=True):
        if not -leaf.ndim <= axis < leaf.ndim:
            problem = f"{name} of shape {leaf.shape} has no axis {axis}"
            raise BadInput("axis", problem, "use another axis, or leave that leaf out of prunable")

    def others(leaf: Any) -> tuple[int, ...]:
        return tuple(place for place in range(leaf.ndim) if place != axis % leaf.ndim)

    means = jax.tree.map(lambda can, leaf: jnp.mean(leaf, axis=others(leaf)) if can else leaf, prunable, scores)
    there = jax.tree.map(lambda can, keep: jnp.any(keep, axis=others(keep)) if can else keep, prunable, mask)
    stay = keep_share(means, prunable, kept, there, spread)

    def spread_out(can: bool, keep: Any, slices: Any) -> Any:
        return keep & jnp.expand_dims(slices, others(keep)) if can else keep

    return jax.tree.map(spread_out, prunable, mask, stay)


def _chosen(tree: PyTree, prunable: Prunable) -> list[Any]:
    """The prunable leaves of a tree; raises BadInput where ``prunable`` has another number of leaves."""
    leaves, can = jax.tree.leaves(tree), jax.tree.leaves(prunable)
    if len(leaves) != len(can):
        problem = f"it has {len(can)} leaves, the tree {len(leaves)}"
        raise BadInput("prunable", problem, "make it from the same tree, filtered to its floating-point arrays")
    return [leaf for leaf, chosen in zip(leaves, can, strict=True) if chosen]


def _places(values: Float[Array, "*shape"], kept: Bool[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Integers that increase as values decrease; then come NaN and, largest of all, entries that are not kept.

    They are made of the bits of the values, so that one integer sort suffices: a stable sort by three keys takes ten
    times as long.
    """
    size = 8 * values.dtype.itemsize
    kind = jnp.dtype(f"uint{size}")
    unsigned_zero = jnp.where(values == 0, jnp.zeros((), values.dtype), values)
    bits = jax.lax.bitcast_convert_type(unsigned_zero, kind)
    negative, last = jnp.asarray(1 << (size - 1), kind), jnp.asarray(2**size - 1, kind)
    descending = jnp.where(bits >= negative, bits, ~(bits | negative))
    return jnp.where(kept, jnp.where(jnp.isnan(values), last - jnp.ones((), kind), descending), last)
