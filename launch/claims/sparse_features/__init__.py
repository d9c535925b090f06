"""The claims of "Pruning is optimal for learning sparse features" (arXiv 2406.08658): what measures each, by name."""

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
    "the paper's optimality is among correlational statistical query (CSQ) methods and of the exponent alone. "
    "Methods outside that class need fewer samples here: spectral ones up to a few hundred dimensions, diagonal "
    "thresholding before them at every one that was tried. Slopes are claimed, not constants."
)
