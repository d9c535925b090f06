"""Finds the leaves of a tree of parameters that hold prunable weights, by the layer they belong to and by their name.

Any JAX tree will do: nested dictionaries and lists, Equinox modules whole or filtered to their arrays. Results have the
structure of the tree filtered to its floating-point arrays, with None elsewhere, like gradients of
``equinox.filter_grad``.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from gpsense._types import Parameters, Prunable
from gpsense.errors import BadInput
from gpsense.fields import nearest

What = str | Sequence[str] | Callable[[str, Any], bool] | Prunable
ModuleT = TypeVar("ModuleT")

NORMS = (eqx.nn.LayerNorm, eqx.nn.RMSNorm, eqx.nn.GroupNorm, eqx.nn.BatchNorm)
_ALONE = (*NORMS, eqx.nn.Embedding, eqx.nn.PReLU, eqx.nn.StateIndex)
_SHIFTS = frozenset({"beta", "shift", "shifts", "offset", "offsets"})
_SCALES = frozenset({"scale", "scales", "gain", "gains", "gamma", "temperature", "temperatures"})
_PLACES = frozenset({"position", "positions", "positional", "pos", "wpe", "token", "tokens", "cls", "state", "states"})
_TABLES = frozenset({"embedding", "embeddings", "embed", "emb", "wte"})


def prunable(tree: PyTree, what: What | None = None) -> Prunable:
    """Which leaves can be pruned, as a tree of booleans: weights of linear, convolutional, recurrent, attention layers.

    By default these are the leaves of two axes or more, except for:

    - leaves of Equinox's norms (LayerNorm, RMSNorm, GroupNorm, BatchNorm), Embedding, PReLU and states, and the gains
      of its WeightNorm;
    - leaves of a class of your own whose name ends in ``Norm``;
    - leaves whose name says bias (bias, bias_n, b, b1), scale (scale, gain, gamma, temperature), shift (beta, shift,
      offset), embedding (embedding, embed, emb, wte), position (position, pos, wpe), token (token, cls) or state;
    - weights that ``equinox.nn.Shared`` ties to one of these.

    ``what`` changes this default by one or several :mod:`fnmatch` patterns on the leaves' :func:`paths`, applied in
    order (``"embedding.weight"`` or ``"layers.*"`` adds leaves; ``"!layers.2"`` excludes all leaves of layer 2). Or it
    replaces the default: by a function of path and leaf, or by a tree of booleans, each for a leaf or a whole subtree,
    as for ``equinox.filter``. Of leaves, only paths and shapes are used. Raises BadInput for a pattern that matches
    nothing, an invalid ``what``, and a module that occurs at two places of the tree (:func:`verify_untied`).
    """
    verify_untied(tree, "tree", arrays=False)
    found = list(_walk(tree))
    tied = {id(leaf) for leaf in _tied(tree)}
    can = [_is_weight(*each) and id(each[1]) not in tied for each in found]
    if isinstance(what, str):
        can = _matched(can, [path for path, *_ in found], (what,))
    elif isinstance(what, list | tuple) and what and all(isinstance(each, str) for each in what):
        can = _matched(can, [path for path, *_ in found], what)
    elif callable(what) and not isinstance(what, eqx.Module):
        can = [_answer(what, path, leaf) for path, leaf, *_ in found]
    elif what is not None:
        can = _as_told(tree, what)
    return jax.tree.unflatten(jax.tree.structure(numbers(tree)), can)


def numbers(tree: ModuleT) -> ModuleT:
    """The tree filtered to its floating-point arrays, or their shapes; None elsewhere."""
    return eqx.filter(tree, is_numbers)


def is_numbers(leaf: Any) -> bool:
    """Whether a leaf is a floating-point array, or the shape of one."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def paths(tree: PyTree) -> list[str]:
    """The path of each floating-point array as text, such as ``layers.0.weight``, in the order of the leaves."""
    return [path for path, *_ in _walk(tree)]


def absolute(tree: ModuleT, biases: bool = False) -> ModuleT:
    """The tree with absolute values of weights, gains of norms and embedding tables, and 0 in all other arrays.

    The other arrays are biases, shifts, positions, and vectors outside modules that are not named as a weight or gain;
    with ``biases`` True, they have their absolute values, too.
    """
    arrays, rest = eqx.partition(tree, is_numbers)
    found = [
        abs(leaf) if biases or _multiplies(path, leaf, *owner) else jnp.zeros_like(leaf)
        for path, leaf, *owner in _walk(arrays)
    ]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), found), rest)


def gains_alone(module: ModuleT) -> ModuleT:
    """The module with each of Equinox's norm layers replaced by one that only multiplies by its gain."""
    return called_as(module, NORMS, _multiply)


def called_as(module: ModuleT, kinds: tuple[type, ...], call: Callable[..., Any]) -> ModuleT:
    """The module, its layers of the classes ``kinds`` turned into ones of subclasses whose ``__call__`` is ``call``."""
    is_one = lambda node: isinstance(node, kinds)  # noqa: E731
    return jax.tree.map(lambda node: _called_as(node, call) if is_one(node) else node, module, is_leaf=is_one)


def verify_untied(module: PyTree, field: str = "make", arrays: bool = True) -> None:
    """Raises BadInput where the same module, or the same array of weights, occurs at two places of a tree.

    JAX makes two copies of it, which would differ from the first training step on. ``arrays``: check arrays, too.
    """
    seen: dict[int, str] = {}
    for path, node in _parts(module):
        if not (arrays or isinstance(node, eqx.Module)):
            continue
        if (first := seen.setdefault(id(node), path)) != path:
            what = type(node).__name__ if isinstance(node, eqx.Module) else "array"
            problem = f"the same {what} stands at {first} and at {path}, and would be trained as two"
            raise BadInput(field, problem, "tie them with equinox.nn.Shared, or create one for each place")


def _walk(tree: PyTree) -> Iterator[tuple[str, Any, Any, int]]:
    """Yields path, leaf, nearest enclosing module and depth within it, for every floating-point array."""

    def inside(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any, Any, int]]:
        is_other = lambda each: each is not node and isinstance(each, eqx.Module)  # noqa: E731
        for keys, leaf in jax.tree_util.tree_flatten_with_path(node, is_leaf=is_other)[0]:
            if isinstance(leaf, eqx.Module):
                yield from inside(leaf, (*path, *keys))
            elif is_numbers(leaf):
                yield _text((*path, *keys)), leaf, node, len(keys)

    return inside(tree, ())


def _parts(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Yields path and node of every module that holds weights and of every array of weights, outer ones first."""

    def inside(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        is_other = lambda each: each is not node and isinstance(each, eqx.Module)  # noqa: E731
        for keys, leaf in jax.tree_util.tree_flatten_with_path(node, is_leaf=is_other)[0]:
            here = (*path, *keys)
            if isinstance(leaf, eqx.Module):
                if any(map(is_numbers, jax.tree.leaves(leaf))):
                    yield _text(here), leaf
                yield from inside(leaf, here)
            elif is_numbers(leaf) and _is_weight(_text(here), leaf, node, len(keys)):
                yield _text(here), leaf

    return inside(tree, ())


def _tied(tree: PyTree) -> Iterator[Any]:
    """Yields the leaves that ``equinox.nn.Shared`` also puts into a layer that is not pruned."""
    for node in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, eqx.nn.Shared)):
        if isinstance(node, eqx.nn.Shared):
            is_alone = lambda part: isinstance(part, _ALONE)  # noqa: E731
            alone = filter(is_alone, jax.tree.leaves(node.pytree, is_leaf=is_alone))
            inside = {id(part) for layer in alone for part in vars(layer).values()}
            if inside:
                if node.where is None or node.get is None:
                    remedy = "give the module as it was before eqx.filter"
                    raise BadInput("tree", "equinox.nn.Shared was filtered and no longer says what is shared", remedy)
                pairs = node.where(node.pytree), node.get(node.pytree)
                places, sources = (each if isinstance(each, list | tuple) else (each,) for each in pairs)
                yield from (source for place, source in zip(places, sources, strict=True) if id(place) in inside)
            yield from _tied(node.pytree)


def _text(keys: tuple[Any, ...]) -> str:
    """A JAX path as text: names and numbers joined by dots."""
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in keys)


def _words(path: str) -> list[str]:
    """The words of the last name of a path, list indices ignored, in lower case except for single letters."""
    names = [name for name in path.split(".") if not name.isdigit()]
    words = re.split(r"[_\d\W]+|(?<=[a-z])(?=[A-Z])", names[-1] if names else "")
    return [word if len(word) == 1 else word.lower() for word in words if word]


def _is_bias(path: str, leaf: Any) -> bool:
    """Whether a leaf's name says bias; a final ``b`` (``out_b``) counts only if at most one axis is longer than 1."""
    words = _words(path)
    thin = sum(size > 1 for size in leaf.shape) <= 1
    return bool(words) and ("bias" in words or "biases" in words or words[0] == "b" or (words[-1] == "b" and thin))


def _is_weight(path: str, leaf: Any, owner: Any, depth: int) -> bool:
    if leaf.ndim < 2 or isinstance(owner, _ALONE) or _is_bias(path, leaf):
        return False
    last = (_words(path) or [""])[-1]
    own_norm = isinstance(owner, eqx.Module) and depth == 1 and type(owner).__name__.endswith("Norm")
    return not own_norm and last not in _SHIFTS | _SCALES | _PLACES | _TABLES


def _multiplies(path: str, leaf: Any, owner: Any, depth: int) -> bool:
    """Whether a leaf is a factor: a weight, a gain or an embedding table."""
    last = (_words(path) or [""])[-1]
    if _is_bias(path, leaf) or last in _SHIFTS | _PLACES or isinstance(owner, eqx.nn.StateIndex):
        return False
    return leaf.ndim >= 2 or isinstance(owner, eqx.Module) or last in _SCALES | {"weight", "w", "g"}


def _matched(can: list[bool], known: list[str], patterns: Sequence[str]) -> list[bool]:
    """Whether each leaf can be pruned: each pattern in turn adds the leaves it matches, or removes them with ``!``."""
    can = list(can)
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        fits = [fnmatchcase(path, bare) or fnmatchcase(path, f"{bare}.*") for path in known]
        if not any(fits):
            remedy = nearest(bare, known) or f"give a pattern that matches one of {', '.join(known)}"
            raise BadInput("prune", f"no array matches {bare!r}", remedy)
        can = [bare == pattern if fit else before for fit, before in zip(fits, can, strict=True)]
    return can


def _answer(what: Callable[..., Any], path: str, leaf: Any) -> bool:
    """Whether the user's function ``what`` lets a leaf be pruned; raises BadInput where it fails."""
    try:
        return bool(what(path, leaf))
    except Exception as error:  # it can fail in any way
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "give a function f(path, array) that returns True or False, where path is a string"
        raise BadInput("prune", f"the function fails for {path} ({said})", remedy) from error


def _as_told(tree: PyTree, what: PyTree) -> list[bool]:
    """One boolean per floating-point leaf, from a tree of booleans for single leaves or whole subtrees."""
    try:
        spread = jax.tree.map(lambda flag, part: jax.tree.map(lambda leaf: flag, part), what, numbers(tree))
    except ValueError:
        spread = None
    flags = jax.tree.leaves(spread)
    if spread is None or not all(isinstance(flag, bool) for flag in flags):
        problem = "it is not a tree of booleans with the network's structure"
        raise BadInput("prune", problem, "give patterns of paths, a function of path and array, or such a tree")
    return flags


def _called_as(layer: Any, call: Callable[..., Any]) -> Any:
    """A copy of a layer whose class is a subclass with this ``__call__``."""
    kind = type(layer)
    if (kind, call) not in _KINDS:
        body = {"__call__": call, "__doc__": kind.__doc__, "__module__": __name__}
        _KINDS[kind, call] = type(f"{kind.__name__}As{call.__name__.title()}", (kind,), body)
    copy = object.__new__(_KINDS[kind, call])
    for name, value in vars(layer).items():
        object.__setattr__(copy, name, value)
    return copy


_KINDS: dict[tuple[type, Callable[..., Any]], type] = {}


def _multiply(norm: Any, x: Any, state: Any = None, **others: Any) -> Any:
    """``x`` times the gain; with the state where the layer returns one."""
    gain = norm.weight
    if gain is not None:
        gain = gain if gain.ndim == x.ndim else gain.reshape(-1, *(1,) * (x.ndim - 1))
        x = x * gain.astype(x.dtype)
    return x if state is None else (x, state)


def only(can: Prunable, tree: Parameters) -> Parameters:
    """The tree with zeros in leaves that cannot be pruned."""
    return jax.tree.map(lambda is_weight, leaf: leaf if is_weight else jnp.zeros_like(leaf), can, tree)
