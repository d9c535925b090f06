"""Closed forms that measurements are compared with; every function says whose formula it is.

"Derived" means worked out for this project and checked numerically by its tests, not quoted from a paper; "recalled"
means believed to be a paper's, not confirmed word for word. Convention throughout: ``L(U) = (1/n) ||A(U U^T) - y||^2``
without a factor 1/2, ``E<A, X>^2 = ||X||_F^2``, penalty ``lambda sum_i s_i / sqrt(s_i + beta)`` with
``s_i = ||U e_i||^2``, truth ``M`` with eigenvalues ``mu_1 >= ... >= mu_r > 0``. In formulas d is ``dim``, k ``width``,
r ``rank``, sigma ``noise``, lambda ``penalty``, beta ``smoothing``, psi :func:`penalty_slope`, tau :func:`shrinkage`,
``mu_low`` :func:`fold_eigenvalue`. A spectrum is a vector of eigenvalues in any order. Two modules have conventions of
their own: ``sparse``, about a two-layer network, and ``tickets``, about masked teacher and student networks, whose loss
has a factor 1/2. Everything works under ``jit`` and ``vmap``, in float32 and float64, except ``trace_norm_samples`` and
``paper_rate_exponent``, which take and return Python numbers.

>>> float(gpsense.theory.shrinkage(penalty=0.2, smoothing=0.01))
1.0
"""

from gpsense.theory.columns import (
    cosine_bound,
    lasso_gap_bound,
    least_penalty,
    most_concave_norm,
    penalty_curvatures,
    penalty_slope,
    penalty_slope_derivative,
)
from gpsense.theory.convex import trace_norm_samples
from gpsense.theory.errors import bias, exact_rank_error, noise_floor, relative_bias, unpruned_error
from gpsense.theory.prescriptions import Prescription, RecalledScalings, prescribe, recalled_scalings
from gpsense.theory.rates import (
    curvature_bound,
    fine_tune_contraction,
    stable_rate,
    surplus_eigenvalue,
    surplus_error,
)
from gpsense.theory.roots import (
    bistable,
    column_bounds,
    column_root,
    exceeds_threshold,
    fold_eigenvalue,
    fold_square,
    saddle_curvature,
    shrinkage,
    smoothing_bound,
)
from gpsense.theory.sparse import (
    csq_exponent,
    population_gradient,
    pruned_exponent,
    risk_rate,
    row_norm,
    unpruned_energy,
    unpruned_exponent,
    unpruned_samples,
)
from gpsense.theory.starts import column_fraction, dropped_error, kept_columns_error, sample_columns
from gpsense.theory.tickets import (
    effective_size,
    hessian_range,
    inaccurate_floor,
    least_curvature,
    linearised_noise,
    momentum_rate,
    noise_error,
    paper_noise_floor,
    paper_rate_exponent,
    population_risk,
    samples_needed,
    teacher_hessian,
    tuned_descent,
    tuned_momentum,
)
from gpsense.theory.variants import (
    network_rank_error,
    network_root,
    network_shrinkage,
    quadratic_moment,
    rectangular_noise_floor,
    rectangular_rank_error,
    rectangular_root,
    rectangular_shrinkage,
)

__all__ = [
    "Prescription",
    "RecalledScalings",
    "bias",
    "bistable",
    "column_bounds",
    "column_fraction",
    "column_root",
    "cosine_bound",
    "csq_exponent",
    "curvature_bound",
    "dropped_error",
    "effective_size",
    "exact_rank_error",
    "exceeds_threshold",
    "fine_tune_contraction",
    "fold_eigenvalue",
    "fold_square",
    "hessian_range",
    "inaccurate_floor",
    "kept_columns_error",
    "lasso_gap_bound",
    "least_curvature",
    "least_penalty",
    "linearised_noise",
    "momentum_rate",
    "most_concave_norm",
    "network_rank_error",
    "network_root",
    "network_shrinkage",
    "noise_error",
    "noise_floor",
    "paper_noise_floor",
    "paper_rate_exponent",
    "penalty_curvatures",
    "penalty_slope",
    "penalty_slope_derivative",
    "population_gradient",
    "population_risk",
    "prescribe",
    "pruned_exponent",
    "quadratic_moment",
    "recalled_scalings",
    "rectangular_noise_floor",
    "rectangular_rank_error",
    "rectangular_root",
    "rectangular_shrinkage",
    "relative_bias",
    "risk_rate",
    "row_norm",
    "saddle_curvature",
    "sample_columns",
    "samples_needed",
    "shrinkage",
    "smoothing_bound",
    "stable_rate",
    "surplus_eigenvalue",
    "surplus_error",
    "teacher_hessian",
    "trace_norm_samples",
    "tuned_descent",
    "tuned_momentum",
    "unpruned_energy",
    "unpruned_error",
    "unpruned_exponent",
    "unpruned_samples",
]
