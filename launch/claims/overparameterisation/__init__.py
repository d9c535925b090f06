"""Claims about descent of models with more parameters than they need, beyond the three papers: the check of each."""

from launch.claims.experiment import Check
from launch.claims.overparameterisation import held_out, paths, pruned

CHECKS: dict[str, Check] = {
    "two_forms": paths.two_forms,
    "incremental": paths.incremental,
    "held_out": held_out.held_out,
    "random_pruning": pruned.random_pruning,
}
CAVEAT = (
    "only the abstracts of these papers were available; sizes, settings and numbers are this project's. The claims "
    "show what the abstracts state, not the theorems' constants."
)
