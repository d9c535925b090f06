"""Pruning: score -> rule -> mask -> compaction.

Of columns (structured, this module's names), of input features (:mod:`.inputs`) and of the weights of any network:
:mod:`.leaves` says which arrays are pruned, :mod:`.weight_scores` scores them, :mod:`.weights` makes masks (single
weights, N:M, whole rows and filters), :mod:`.training` is for loops of one's own.
"""

from gpsense.pruning.columns import (
    COLUMN_RULES,
    ROTATIONS,
    ColumnRule,
    RuleInput,
    apply_mask,
    as_rule,
    coherence,
    column_norms,
    compact,
    default_threshold,
    gap,
    gap_mask,
    largest_mask,
    margin,
    random_mask,
    rotate,
    threshold_mask,
    verify_rule,
)

__all__ = [
    "COLUMN_RULES",
    "ROTATIONS",
    "ColumnRule",
    "RuleInput",
    "apply_mask",
    "as_rule",
    "coherence",
    "column_norms",
    "compact",
    "default_threshold",
    "gap",
    "gap_mask",
    "largest_mask",
    "margin",
    "random_mask",
    "rotate",
    "threshold_mask",
    "verify_rule",
]
