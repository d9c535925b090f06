"""Masks over any tree of parameters: which weights can be pruned, how many are kept, and the best of them by score.

A mask has the structure of the parameters and booleans of their shapes, True where a weight is kept and everywhere in
leaves that are never pruned. Trees are those of JAX, Equinox modules filtered to their arrays included. A tree of
Python booleans, ``prunable``, says which leaves can be pruned: it is static, so close over it under ``jit``.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from gpsense._types import Integer, Scalar, ScalarLike

Tree = TypeVar("Tree")
MaskTree = PyTree[Bool[Array, "..."]]
Prunable = PyTree[bool]
NumbersVector = Float[Array, " numbers"]
NumbersMask = Bool[Array, " numbers"]


def prunable(params: PyTree) -> Prunable:
    """Which leaves can be pruned: those of two axes or more that are not named ``bias``.

    The name counts because the bias of an Equinox convolution has as many axes as an image. Norms and other biases
    have one axis.
    """

    def can_be(path: tuple[Any, ...], leaf: Any) -> bool:
        last = path[-1] if path else None
        return leaf.ndim >= 2 and getattr(last, "name", getattr(last, "key", None)) != "bias"

    return jax.tree_util.tree_map_with_path(can_be, params)


def everything(params: PyTree) -> MaskTree:
    """The mask that keeps everything; as for :func:`prunable`, only the shapes of params are used."""
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)


def apply(mask: MaskTree, tree: Tree) -> Tree:
    """The tree with 0 where the mask is False, whatever stood there, NaN included."""
    return jax.tree.map(lambda keep, leaf: jnp.where(keep, leaf, jnp.zeros((), leaf.dtype)), mask, tree)


def flat(tree: PyTree[Shaped[Array, "..."]], prunable: Prunable) -> Shaped[Array, " weights"]:
    """The entries of the prunable leaves of a mask, or of any tree like it, as one vector (weights,).

    Leaves follow each other as in ``jax.tree.leaves``, row by row.
    """
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(prunable), strict=True)
    chosen = [leaf.ravel() for leaf, can in leaves if can]
    return jnp.concatenate(chosen) if chosen else jnp.zeros((0,), bool)


def unflat(vector: Shaped[Array, " weights"], tree: Tree, prunable: Prunable) -> Tree:
    """The tree with its prunable leaves read from a vector (weights,), the others as they were: undoes :func:`flat`."""
    leaves, structure = jax.tree.flatten(tree)
    filled, start = [], 0
    for leaf, can in zip(leaves, jax.tree.leaves(prunable), strict=True):
        filled.append(vector[start : start + leaf.size].reshape(leaf.shape) if can else leaf)
        start += leaf.size if can else 0
    return jax.tree.unflatten(structure, filled)


class Numbers:
    """All numbers of a tree of these shapes as one vector (numbers,), leaf after leaf as in ``jax.tree.leaves``.

    ``prunable`` (numbers,) tells those of leaves that can be pruned; it is an array of NumPy, static under ``jit``.
    """

    def __init__(self, shapes: PyTree):
        self._shapes = shapes
        self._all = jax.tree.map(lambda leaf: True, shapes)
        leaves = jax.tree.leaves(jax.tree.map(lambda leaf, can: np.full(leaf.size, can), shapes, prunable(shapes)))
        self.prunable = np.concatenate(leaves)

    def vector(self, tree: PyTree[Shaped[Array, "..."]]) -> Shaped[Array, " numbers"]:
        """The numbers of a tree: parameters, gradients, a mask."""
        return flat(tree, self._all)

    def tree(self, vector: Shaped[Array, " numbers"]) -> PyTree[Shaped[Array, "..."]]:
        """The tree of a vector."""
        return unflat(vector, self._shapes, self._all)


def kept_share(mask: MaskTree, prunable: Prunable) -> Scalar:
    """Share of the prunable weights that the mask keeps, in the default precision."""
    kept = flat(mask, prunable)
    return jnp.sum(kept, dtype=jnp.int32).astype(float) / kept.size


def kept_count(total: int, kept: ScalarLike) -> Integer:
    """``round(kept * total)`` weights, at least 1 and at most total; half to the even number. ``kept``: a share."""
    return jnp.clip(jnp.round(jnp.asarray(kept, float) * total), 1, total).astype(jnp.int32)


def keep_largest(
    scores: PyTree[Float[Array, "..."]], mask: MaskTree, prunable: Prunable, count: Integer | ScalarLike
) -> MaskTree:
    """The mask cut to the ``count`` prunable weights of the highest scores, over all leaves together.

    Exactly ``count`` of those that the mask keeps stay, all where it keeps fewer: of equal scores those that come first
    in :func:`flat`. NaN is lower than any score. ``count`` is traced, to the nearest whole number. Leaves that are not
    prunable keep their mask.
    """
    kept = flat(mask, prunable)
    places = _places(flat(scores, prunable), kept)
    most = jnp.round(jnp.asarray(count)).astype(jnp.int32)
    limit = jnp.sort(places)[jnp.clip(most - 1, 0, places.size - 1)]
    better, equal = places < limit, places == limit
    free = most - jnp.sum(better, dtype=jnp.int32)
    stays = better | (equal & (jnp.cumsum(equal, dtype=jnp.int32) <= free))
    return unflat(kept & stays & (most > 0), mask, prunable)


def _places(values: Float[Array, " weights"], kept: Bool[Array, " weights"]) -> Shaped[Array, " weights"]:
    """Whole numbers that ascend as values descend, NaN and then what is not kept last.

    The bits of a number, so that one sort of whole numbers does: a stable sort by three keys takes ten times as long.
    """
    size = 8 * values.dtype.itemsize
    kind = jnp.dtype(f"uint{size}")
    unsigned_zero = jnp.where(values == 0, jnp.zeros((), values.dtype), values)
    bits = jax.lax.bitcast_convert_type(unsigned_zero, kind)
    negative, last = jnp.asarray(1 << (size - 1), kind), jnp.asarray(2**size - 1, kind)
    descending = jnp.where(bits >= negative, bits, ~(bits | negative))
    return jnp.where(kept, jnp.where(jnp.isnan(values), last - jnp.ones((), kind), descending), last)
