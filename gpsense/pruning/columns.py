"""Column pruning: scores, the rule that turns them into a mask, rotation before pruning, compaction after it.

Rules are the entries of :data:`COLUMN_RULES`, rotations those of :data:`ROTATIONS`; their keys are the option names.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.core as jax_core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gpsense._linalg import eigh
from gpsense._types import Factor, Integer, Mask, Norms, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import NUMBER, Field, check_key, check_shape, shown
from gpsense.penalties import SMOOTHING

THRESHOLD = Field(name="threshold", kind=NUMBER, at_least=0)  # checked only where its value is known: not under jit
COUNT = Field(name="count", kind=NUMBER, at_least=0)


def column_norms(factor: Factor) -> Norms:
    """The norms ``||U e_i||_2`` of the columns of a factor U, shape (width,).

    >>> gpsense.column_norms(jnp.array([[3.0, 0.0], [4.0, 1.0]])).tolist()
    [5.0, 1.0]
    """
    check_shape("factor", factor, "dim", "width")
    return jnp.sqrt(jnp.sum(factor**2, axis=0))


def default_threshold(smoothing: ScalarLike) -> Scalar:
    """The threshold ``2 sqrt(smoothing)``: the norm at which the penalty is most concave (arXiv 2303.11453)."""
    return 2.0 * jnp.sqrt(jnp.asarray(SMOOTHING.check(smoothing)))


def threshold_mask(norms: Norms, threshold: ScalarLike) -> Mask:
    """The mask (width,) of the columns to keep: True where the norm is strictly above the threshold.

    >>> gpsense.threshold_mask(jnp.array([0.5, 0.1, 0.3]), 0.2).tolist()
    [True, False, True]
    """
    check_shape("norms", norms, "width")
    check_shape("threshold", threshold)
    return norms > THRESHOLD.check(threshold)


def largest_mask(norms: Norms, count: ScalarLike | Integer) -> Mask:
    """The mask of the ``count`` largest norms, count the known rank, say; among equal norms the first are kept."""
    check_shape("norms", norms, "width")
    check_shape("count", count)
    count = COUNT.check(count)
    order = jnp.argsort(-norms, stable=True)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(norms.shape[0], dtype=order.dtype))
    return place < count


def gap_mask(norms: Norms) -> Mask:
    """The mask of the norms above the largest gap in the sorted list of norms and a final 0; at least one is kept."""
    falling = -jnp.sort(-norms)
    steps = falling - jnp.append(falling[1:], jnp.zeros(1, norms.dtype))
    return largest_mask(norms, jnp.argmax(steps) + 1)


def random_mask(key: RandomKey, norms: Norms, count: ScalarLike | Integer) -> Mask:
    """The mask of ``count`` columns of positive norm drawn at random: a baseline that ignores how large norms are."""
    check_key(key)
    draw = jax.random.uniform(key, norms.shape, norms.dtype)
    return largest_mask(jnp.where(norms > 0, draw, -jnp.ones_like(draw)), count)


def rotate(factor: Factor) -> Factor:
    """The factor ``U V`` with V the right singular vectors of U, largest first: orthogonal columns, same ``U U^T``.

    This does at once what a group lasso does to the columns in training, so that unregularised factors can be pruned.
    """
    _, vectors = eigh(factor.T @ factor)
    return factor @ vectors[:, ::-1]


def margin(norms: Norms, threshold: ScalarLike) -> Scalar:
    """Distance from the threshold to the nearest column norm: how far the mask is from changing."""
    return jnp.min(jnp.abs(norms - threshold))


def gap(norms: Norms, mask: Mask) -> Scalar:
    """Smallest kept norm minus largest deleted norm; negative where the mask does not keep the largest norms."""
    return jnp.min(jnp.where(mask, norms, jnp.inf)) - jnp.max(jnp.where(mask, -jnp.inf, norms))


def coherence(factor: Factor, mask: Mask) -> Scalar:
    """Largest ``cos^2`` of the angle between two kept columns; 0 where fewer than two are kept."""
    norms = column_norms(factor)
    units = jnp.where(mask & (norms > 0), factor / jnp.where(norms > 0, norms, 1.0)[None, :], 0.0)
    squares = (units.T @ units) ** 2
    return jnp.max(squares * (1 - jnp.eye(squares.shape[0], dtype=squares.dtype)))


def _check_masked(factor: Any, mask: Any) -> None:
    """Raises BadInput unless ``factor`` is a matrix and ``mask`` has one boolean per column; a swap is detected."""
    if getattr(mask, "dtype", None) != np.dtype(bool):
        problem = f"it holds {getattr(mask, 'dtype', type(mask).__name__)}, not booleans"
        raise BadInput("mask", problem, "give the factor first, then booleans, True for the columns to keep")
    check_shape("factor", factor, "dim", "width")
    check_shape("mask", mask, factor.shape[1])


def apply_mask(factor: Factor, mask: Mask) -> Factor:
    """The factor with the pruned columns set to zero, shape kept; a pruned NaN column becomes zero too.

    >>> gpsense.apply_mask(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([True, False])).tolist()
    [[1.0, 0.0], [3.0, 0.0]]
    """
    _check_masked(factor, mask)
    return jnp.where(mask, factor, 0.0)


def compact(factor: Factor, mask: Mask, width: int) -> Float[Array, "dim kept"]:
    """The kept columns, in their order, padded with zero columns to (dim, width).

    A zero column has zero gradient in every loss here, so the padding stays zero in training. Raises BadInput if more
    columns are kept than ``width``; under ``jit``, where the mask is not known, surplus columns are lost instead.

    >>> factor, mask = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([False, False, True])
    >>> gpsense.compact(factor, mask, width=2).tolist()
    [[3.0, 0.0]]
    """
    _check_masked(factor, mask)
    if not isinstance(mask, jax_core.Tracer) and (kept := int(mask.sum())) > width:
        raise BadInput("width", f"{kept} columns are kept, more than width {width}", f"give {kept} or more")
    kept_first = jnp.argsort(~mask, stable=True)[:width]
    return apply_mask(factor, mask)[:, kept_first]


class RuleInput(NamedTuple):
    """What a column rule may read besides the norms: the ``threshold``, the true ``rank``, a ``key`` (None unless the
    rule asks for one), and which columns are ``active``, the others being padding.
    """

    threshold: ScalarLike
    rank: ScalarLike | Integer
    key: RandomKey | None
    active: Mask


def _gap_margin(norms: Norms, mask: Mask, given: RuleInput) -> Scalar:
    """Smallest kept norm minus largest deleted norm, without padding."""
    return gap(jnp.where(given.active, norms, -jnp.inf), mask)


def _threshold_margin(norms: Norms, mask: Mask, given: RuleInput) -> Scalar:
    """Distance from the threshold to the nearest norm, without padding."""
    return margin(jnp.where(given.active, norms, jnp.inf), given.threshold)


def _relative_margin(norms: Norms, mask: Mask, given: RuleInput) -> Scalar:
    """Distance from a tenth of the largest norm to the nearest norm, without padding."""
    return margin(jnp.where(given.active, norms, jnp.inf), RELATIVE * jnp.max(jnp.where(given.active, norms, 0.0)))


def _random(norms: Norms, given: RuleInput) -> Mask:
    assert given.key is not None
    return random_mask(given.key, norms, given.rank)


RELATIVE = 0.1  # rule relative keeps norms above this share of the largest; baselines count their rank likewise


@dataclass(frozen=True)
class ColumnRule:
    """A pruning rule: ``mask(norms, given)`` is True for the columns kept; norms (width,) are 0 for padding.

    ``margin(norms, mask, given)`` says how far the mask is from changing, in units of the norms; ``random``: whether
    the rule reads a key.
    """

    mask: Callable[[Norms, RuleInput], Mask]
    margin: Callable[[Norms, Mask, RuleInput], Scalar] = _gap_margin
    random: bool = False


def as_rule(rule: str | Callable[..., Mask] | ColumnRule) -> ColumnRule:
    """The ColumnRule of a name in :data:`COLUMN_RULES` or of a function ``rule(norms, given)`` or ``rule(norms)``."""
    entry = COLUMN_RULES[rule] if isinstance(rule, str) else rule
    if isinstance(entry, ColumnRule):
        return entry
    if not callable(entry):
        raise BadInput("rule", f"{shown(entry)} is not a rule", "give a function of the norms, or a ColumnRule")
    alone = len(inspect.signature(entry).parameters) == 1
    return ColumnRule(lambda norms, given: entry(norms) if alone else entry(norms, given))


def verify_rule(rule: str | Callable[..., Mask] | ColumnRule) -> None:
    """Raises BadInput for a rule that does not return one boolean per column, as seen by tracing it on three norms."""
    if rule in FIXED_RULES:
        return
    norms = jax.ShapeDtypeStruct((3,), jnp.float32)
    number = jax.ShapeDtypeStruct((), jnp.float32)
    key, active = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((3,), bool)
    mask = as_rule(rule).mask
    try:
        with jax.numpy_dtype_promotion("standard"):
            traced = lambda norms, *given: mask(norms, RuleInput(*given))  # noqa: E731
            found = jax.eval_shape(traced, norms, number, number, key, active)
    except BadInput:
        raise
    except Exception as error:  # a rule that is not ours can fail in any way
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            "rule", f"it fails ({words})", "give a function rule(norms, given) that returns a mask"
        ) from error
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    if shape != (3,) or dtype != jnp.dtype(bool):
        problem = f"it returned shape {shape} of {dtype} for 3 columns"
        raise BadInput("rule", problem, "return one boolean per column, True for the columns to keep")


COLUMN_RULES: dict[str, ColumnRule] = {
    "threshold": ColumnRule(lambda norms, given: threshold_mask(norms, given.threshold), _threshold_margin),
    "top_r": ColumnRule(lambda norms, given: largest_mask(norms, given.rank)),
    "largest_gap": ColumnRule(lambda norms, given: gap_mask(norms)),
    "random": ColumnRule(_random, random=True),
    "relative": ColumnRule(lambda norms, given: threshold_mask(norms, RELATIVE * jnp.max(norms)), _relative_margin),
}
FIXED_RULES = frozenset(COLUMN_RULES)  # rules of the package, which need no verification
ROTATIONS: dict[str, Callable[[Factor], Factor]] = {"none": lambda factor: factor, "svd": rotate}
