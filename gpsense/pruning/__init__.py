"""Pruning: score -> rule -> mask -> compaction.

Of columns (structured, this module's names), of input features (:mod:`.inputs`) and of single weights (unstructured,
:mod:`.weights` and :mod:`.weight_scores`).
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
