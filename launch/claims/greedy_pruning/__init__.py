"""The claims of "Greedy pruning with a group lasso" (arXiv 2303.11453): what measures each, by name."""

from launch.claims.experiment import Check
from launch.claims.greedy_pruning import columns, phase, rates, samples

CHECKS: dict[str, Check] = {
    "figure1": columns.figure1,
    "column_count": columns.column_count,
    "root_law": columns.root_law,
    "bias_law": columns.bias_law,
    "noise_window": columns.noise_window,
    "weight_decay": columns.weight_decay,
    "plain_lasso": columns.plain_lasso,
    "error_law": samples.error_law,
    "width": samples.width,
    "convergence": rates.convergence,
    "phase_diagram": phase.phase_diagram,
}
