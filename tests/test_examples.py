"""The examples in the docstrings of the public names: every name has one, and each prints what it says."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpsense

COMPILED = ("TrainPruneFineTune", "find_tickets", "run_grid")  # whole grids
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in COMPILED)) for name in gpsense.__all__]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name: str) -> None:
    names = {"jax": jax, "jnp": jnp, "np": np, "gpsense": gpsense}
    text = getattr(gpsense, name).__doc__
    example = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    assert example.examples
    told: list[str] = []
    with jax.numpy_dtype_promotion("standard"):
        ran = doctest.DocTestRunner().run(example, out=told.append)
    assert ran.failed == 0, "".join(told)
