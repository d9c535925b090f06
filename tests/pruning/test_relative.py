"""Rule relative: columns above a tenth of the largest norm, whatever the unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import Axis, Grid, Schedule, Sensing, run_grid
from gpsense.pruning import COLUMN_RULES, RuleInput

RULE = COLUMN_RULES["relative"]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_it_does_not_depend_on_the_unit(unit):
    norms = unit * np.asarray([0.05, 2.0, 0.0, 0.21, 0.19])
    given = RuleInput(0.4, 2, None, jnp.asarray([True, True, False, True, True]))
    mask, margin = jax.jit(lambda norms: (RULE.mask(norms, given), RULE.margin(norms, RULE.mask(norms, given), given)))(
        norms
    )
    np.testing.assert_array_equal(mask, [False, True, False, True, False])
    np.testing.assert_allclose(margin, 0.01 * unit, rtol=1e-9)


@pytest.mark.slow
def test_sensing_takes_it_by_name():
    """Columns above a tenth of the largest stay, where the threshold given would keep none."""
    system = Sensing(dim=5, n=60, rank=1, dtype="float64", curvature_steps=0)
    axes = Axis("rule", ("relative", "threshold")), Axis("penalty", (0.1,)), Axis("threshold", (10.0,))
    both = run_grid(Grid(system, Schedule(300, 50, 350), 2, axes))
    assert (both["rank"].sel(rule="threshold") == 0).all()
    found = both.sel(rule="relative")
    norms = found["column_norms"]
    largest = norms.max("column")
    np.testing.assert_array_equal(found["rank"], (norms > 0.1 * largest).sum("column"))
    np.testing.assert_allclose(found["margin"], abs(norms - 0.1 * largest).min("column"), rtol=1e-12)
