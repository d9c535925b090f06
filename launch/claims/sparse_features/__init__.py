"""The claims of "Pruning is optimal for learning sparse features" (arXiv 2406.08658): the check of each, by name."""

from launch.claims.experiment import Check
from launch.claims.sparse_features import choices, risks, samples, tables

CHECKS: dict[str, Check] = {
    "samples": samples.samples,
    "dense_step": samples.dense_step,
    "parity_split": choices.parity_split,
    "shifted_basis": choices.shifted_basis,
    "sensitivity": choices.sensitivity,
    "baselines": choices.baselines,
    "excess_risk": risks.excess_risk,
    "multi_index": risks.multi_index,
    "general_scheme": risks.general_scheme,
    "diabetes": tables.diabetes,
}
CAVEAT = (
    "the paper's optimality is among correlational statistical query (CSQ) methods and concerns the exponent alone. "
    "Methods outside that class need fewer samples here: spectral methods up to a few hundred dimensions, and spectral "
    "methods after diagonal thresholding at every dimension tried. Slopes are claimed, not constants."
)
