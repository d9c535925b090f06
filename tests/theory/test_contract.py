"""What every closed form promises: jit, vmap, float32 as float64, no promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory

SCALARS = {
    "bistable": (0.1, 0.04),
    "column_fraction": (0.5, 50.0, 3.0),
    "column_root": (1.0, 0.1, 0.04),
    "cosine_bound": (1.0, 0.5, 0.1, 0.1, 0.2),
    "csq_exponent": (2.0, 0.4),
    "curvature_bound": (1.0, 0.5, 0.1, 0.04),
    "exact_rank_error": (1.0, 20.0, 2.0, 400.0),
    "exceeds_threshold": (1.0, 0.1, 0.04),
    "fine_tune_contraction": (0.01, 1.0, 0.5),
    "fold_eigenvalue": (0.1, 0.04),
    "fold_square": (0.1, 0.04),
    "kept_columns_error": (3.0, 50.0, 2.0),
    "lasso_gap_bound": (0.04,),
    "least_curvature": (5.0, 20.0, 1000.0),
    "momentum_rate": (0.01, 1.0, 0.5, 0.2),
    "most_concave_norm": (0.04,),
    "network_rank_error": (1.0, 20.0, 2.0, 400.0),
    "network_root": (1.0, 0.1, 0.04),
    "network_shrinkage": (0.1, 0.04),
    "noise_error": (0.1, 0.6, 5.0, 20.0, 400.0),
    "noise_floor": (1.0, 20.0, 400.0),
    "penalty_curvatures": (0.5, 0.04),
    "penalty_slope": (0.5, 0.04),
    "penalty_slope_derivative": (0.5, 0.04),
    "prescribe": (0.5, 0.1),
    "pruned_exponent": (2.0, 0.4),
    "recalled_scalings": (0.5, 4.0, 20.0),
    "rectangular_noise_floor": (1.0, 20.0, 15.0, 400.0),
    "rectangular_rank_error": (1.0, 20.0, 15.0, 2.0, 400.0),
    "rectangular_root": (1.0, 0.1, 0.04),
    "rectangular_shrinkage": (0.1, 0.04),
    "risk_rate": (10.0, 50.0, 400.0),
    "saddle_curvature": (1.0, 8.0, 0.1, 0.04),
    "samples_needed": (5.0, 20.0),
    "shrinkage": (0.1, 0.04),
    "smoothing_bound": (1.0,),
    "stable_rate": (1.0, 0.5, 0.1, 0.04),
    "surplus_eigenvalue": (0.1, 0.02, 100.0),
    "surplus_error": (0.02, 100.0, 12.0, 20.0, 3.0),
    "tuned_descent": (0.01, 1.0),
    "tuned_momentum": (0.01, 1.0),
    "unpruned_error": (1.0, 20.0, 2.0, 400.0),
    "unpruned_exponent": (2.0,),
}
SPECTRA = {
    "bias": (0.1, 0.04),
    "column_bounds": (0.1, 0.04),
    "least_penalty": (0.04,),
    "paper_noise_floor": (100.0, 400.0, 0.1),
    "relative_bias": (0.1, 0.04),
}
MATRICES = {"quadratic_moment", "dropped_error", "sample_columns", "Prescription", "RecalledScalings", "row_norm"}
SIZES = {"trace_norm_samples"}  # test_convex.py
LINKS = {"population_gradient", "unpruned_energy", "unpruned_samples"}  # test_sparse.py
TICKETS = {  # test_tickets.py
    "effective_size",
    "hessian_range",
    "inaccurate_floor",
    "linearised_noise",
    "paper_rate_exponent",
    "population_risk",
    "teacher_hessian",
}


def test_every_closed_form_is_listed():
    assert {*SCALARS, *SPECTRA, *MATRICES, *LINKS, *TICKETS, *SIZES} == set(theory.__all__)


@pytest.fixture(scope="module")
def values():
    """All laws in one program, of numbers in float64; and of two of each in float32, batched."""
    spectrum = np.asarray([1.0, 0.6, 0.02])
    numbers = SCALARS | {name: (spectrum, *others) for name, others in SPECTRA.items()}
    numbers = {name: [np.asarray(number) for number in each] for name, each in numbers.items()}
    pairs = jax.tree.map(lambda number: np.stack([number] * 2).astype(np.float32), numbers)
    laws = {name: getattr(theory, name) for name in numbers}
    alone = jax.jit(lambda numbers: {name: law(*numbers[name]) for name, law in laws.items()})(numbers)
    batched = jax.jit(lambda pairs: {name: jax.vmap(law)(*pairs[name]) for name, law in laws.items()})(pairs)
    return alone, batched


@pytest.mark.parametrize("name", [*SCALARS, *SPECTRA])
def test_batched_in_float32_as_alone_in_float64(values, name):
    alone, batched = (each[name] for each in values)
    for one, two in zip(jax.tree.leaves(alone), jax.tree.leaves(batched), strict=True):
        np.testing.assert_allclose(two, np.stack([one] * 2), rtol=2e-5)
        if jnp.issubdtype(one.dtype, jnp.floating):
            assert (one.dtype, two.dtype) == (jnp.float64, jnp.float32)


def test_matrices_keep_their_type(key):
    factor = np.asarray(jax.jit(theory.sample_columns, static_argnums=2)(key, np.asarray([1.0, 0.5], np.float32), 5))
    gram = factor @ factor.T
    dropped, moment = jax.jit(lambda u, x: (theory.dropped_error(u, 2), theory.quadratic_moment(x)))(factor, gram)
    assert {factor.dtype, dropped.dtype, moment.dtype} == {gram.dtype}
    np.testing.assert_allclose(gram, np.diag([1.0, 0.5]), atol=1e-6)
    assert gram.dtype == jnp.float32
