"""Pruning: score -> rule -> mask -> compaction.

This module's names prune columns (structured); :mod:`.inputs` prunes input features. For the weights of any network,
:mod:`.leaves` says which arrays can be pruned, :mod:`.weight_scores` scores them, :mod:`.weights` makes masks (single
weights, N:M, whole rows and filters), and :mod:`.training` serves your own training loop.
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
