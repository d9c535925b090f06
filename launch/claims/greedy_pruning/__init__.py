"""The claims of "Greedy pruning with a group lasso" (arXiv 2303.11453): the check of each, by name."""

from launch.claims.experiment import Check
from launch.claims.greedy_pruning import choices, columns, phase, rates, saddle, samples, systems

CHECKS: dict[str, Check] = {
    "figure1": columns.figure1,
    "column_count": columns.column_count,
    "root_law": columns.root_law,
    "bias_law": columns.bias_law,
    "noise_window": columns.noise_window,
    "narrow_window": columns.narrow_window,
    "weight_decay": columns.weight_decay,
    "plain_lasso": columns.plain_lasso,
    "error_law": samples.error_law,
    "width": samples.width,
    "convergence": rates.convergence,
    "saddle": saddle.saddle,
    "approximate_points": saddle.approximate_points,
    "quadratic_network": systems.quadratic_network,
    "digits": systems.digits,
    "rectangular": systems.rectangular,
    "unregularised": choices.unregularised,
    "pruning_rules": choices.pruning_rules,
    "optimizers": choices.optimizers,
    "prescription": choices.prescription,
    "phase_diagram": phase.phase_diagram,
    "trace_norm_law": phase.trace_norm_law,
}
