"""Networks with quadratic activation: the losses' expectation, which samples count, and the number of neurons kept."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import SYSTEMS, System
from gpsense.systems.quadratic_network import QuadraticNetwork
from tests import reference

Data, Setting = QuadraticNetwork.Data, QuadraticNetwork.Setting
SCHEDULE = Schedule(1800, 300, 300)

_drawn = jax.jit(QuadraticNetwork.draw, static_argnums=0)


def test_the_contract_is_met_and_what_cannot_be_is_refused():
    assert SYSTEMS["quadratic_network"] is QuadraticNetwork
    assert issubclass(QuadraticNetwork, System)
    for field, value, word in (("bias", "some", "free"), ("rank", 21, "dim")):
        with pytest.raises(BadInput, match=word) as refusal:
            QuadraticNetwork(**{field: value})
        assert refusal.value.field == field
    with pytest.raises(BadInput, match="measurements: system quadratic_network has no such field"):
        Grid(QuadraticNetwork(), SCHEDULE, constants={"measurements": "gaussian"})
    direct, gram = (QuadraticNetwork(n=100, form=form) for form in ("direct", "gram"))
    assert 0 < direct.cost().problem_bytes < gram.cost().problem_bytes


@pytest.mark.parametrize("bias", ["free", "none"])
def test_expected_loss(bias, key):
    """``2 ||D||^2 + sigma^2`` with a free bias, ``(tr D)^2`` more without one; 200,000 samples, to 3 %."""
    system = QuadraticNetwork(dim=3, width=2, n=200_000, bias=bias, form="direct", dtype="float64")
    problem = _drawn(system, Data(noise=0.5), key)
    factor = jnp.asarray([[1.0, 0.2], [0.5, -1.0], [0.0, 0.6]])
    gap = np.asarray(factor @ factor.T - problem.truth @ problem.truth.T)
    expected = 2 * (gap**2).sum() + 0.25 + (bias == "none") * np.trace(gap) ** 2
    np.testing.assert_allclose(problem.objective(factor), expected, rtol=0.03)


def test_truncation_and_n_leave_samples_out_of_the_loss(key):
    """Against loops over the samples as drawn: of 40 those within 1.2 deviations; of 60 all."""
    system = QuadraticNetwork(dim=4, width=3, n=60, form="direct", dtype="float64")
    whole = _drawn(system, Data(noise=0.5), key).objective
    vectors, values = np.asarray(whole.measurements.inner.vectors), np.asarray(whole.values)  # y less a constant
    mean = sum(values[:40]) / 40
    deviation = np.sqrt(sum((y - mean) ** 2 for y in values[:40]) / 40)
    counted = [i for i in range(40) if abs(values[i] - mean) <= 1.2 * deviation]
    assert 20 < len(counted) < 40
    factor = np.random.default_rng(1).normal(size=(4, 3))
    misfit = np.array([vectors[i] @ reference.gram(factor) @ vectors[i] - values[i] for i in counted])
    expected = sum((gap - misfit.mean()) ** 2 for gap in misfit) / len(counted)
    some, every = (Data(noise=0.5, n=n, truncation=t) for n, t in ((40.0, 1.2), (60.0, 60.0)))
    gram = replace(system, form="gram")
    part, same = (_drawn(gram, data, key).objective for data in (some, every))
    np.testing.assert_allclose(part(jnp.asarray(factor)), expected, rtol=1e-10)
    np.testing.assert_allclose(same(jnp.asarray(factor)), whole(jnp.asarray(factor)), rtol=1e-10)


@pytest.fixture(scope="module")
def grid():
    fixed = {"dim": 15, "noise": 0.5, "rate": 0.01, "smoothing": 0.04}
    axes = tuple(Axis(name, (value,), False) for name, value in fixed.items())
    axes += (Axis("n", (1000, 1500)), Axis("penalty", (0.2, 0.4)))
    return Grid(QuadraticNetwork(), SCHEDULE, Axis("seed", (0, 1, 2, 3)), axes, {"dtype": "float64"})


@pytest.fixture(scope="module")
def dataset(grid):
    return run_grid(grid)


@pytest.mark.slow
def test_two_neurons_remain(grid, dataset):
    """d = k = 15, r = 2, sigma = 0.5: always 2; their error that of exact rank, the curvature 2: sigma / sqrt(2 n)."""
    assert grid.traced == {"n"}
    assert (dataset["rank"] == 2).all()
    errors = np.sqrt((dataset["error"].sel(n=1500) ** 2).mean()) * np.sqrt(2.0)
    np.testing.assert_allclose(errors, 0.5 * np.sqrt((2 * 15 - 1) / (2 * 1500)), rtol=0.15)


@pytest.mark.slow
def test_a_cell_alone_equals_the_cell_in_the_grid(grid, dataset):
    system = make_plan(grid, 2**30).programs[0].system
    data, setting = Data(n=1000, noise=0.5), Setting(penalty=0.4, rate=0.01, smoothing=0.04)
    alone = jax.jit(lambda: run_cell(system, SCHEDULE, data, setting, seed_keys(3)))()
    cell = dataset.sel(seed=3, n=1000, penalty=0.4)
    for name in cell.data_vars:
        np.testing.assert_allclose(cell[name], alone[name], rtol=1e-8, atol=1e-11, err_msg=name)
