"""Measurements in, factor and trace out."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.sensing.losses import sensing_loss
from gpsense.sensing.measurements import gaussian_measurements, rank_one_measurements
from gpsense.sensing.methods import BASELINES, Tuning, run_baseline
from gpsense.sensing.truths import low_rank_truth

TRACED = []


@dataclass(frozen=True)
class Counting:
    """Scaled gradient descent that notes each time its step is traced."""

    name: ClassVar[str] = "counting"
    knows_rank: ClassVar[bool] = True
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = ""
    tuning: ClassVar[str] = ""

    def begin(self, objective, dim, width, tuning, key):
        return BASELINES["scaled_gd"].begin(objective, dim, width, tuning, key)

    def step(self, objective, tuning, state):
        TRACED.append(self.name)
        return BASELINES["scaled_gd"].step(objective, tuning, state)

    def factor(self, state):
        return BASELINES["scaled_gd"].factor(state)


@pytest.fixture
def problem():
    return _draw(gaussian_measurements, 60, 6, (1.0, 0.5))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _draw(ensemble, n, dim, spectrum):
    measurements = ensemble(jax.random.key(0), n, dim, jnp.float32)
    truth = low_rank_truth(jax.random.key(1), dim, jnp.array(spectrum, jnp.float32))
    return measurements, measurements.forward(truth), truth


def test_factor_and_trace_in_single_precision_without_compiling_twice(problem, monkeypatch):
    monkeypatch.setitem(BASELINES, "counting", Counting())
    measurements, values, truth = problem
    result = run_baseline("counting", measurements, values, width=2, steps=60, record_every=20)
    assert result.factor.shape == (6, 2)
    assert result.factor.dtype == np.float32
    np.testing.assert_array_equal(result.recorded, [0, 20, 40, 60])
    assert (result.steps, result.status) == (60, "budget")
    np.testing.assert_allclose(result.factor @ result.factor.T, np.asarray(truth) @ np.asarray(truth).T, atol=1e-3)
    loss = jax.jit(sensing_loss)(result.factor, measurements, values)
    np.testing.assert_allclose(result.losses[-1], loss, atol=1e-5)
    assert result.losses[0] > 1e-3
    before = len(TRACED)
    slower = run_baseline("counting", measurements, values, width=2, steps=20, record_every=20, tuning=Tuning(rate=0.5))
    assert len(TRACED) == before
    assert slower.losses[-1] > result.losses[1]
    stopped = run_baseline(
        "counting", measurements, values, width=2, steps=200, record_every=20, tuning=Tuning(tolerance=1e-2)
    )
    assert stopped.status == "converged"
    assert stopped.steps < 60
    wild = run_baseline("counting", measurements, values, width=2, steps=200, record_every=20, tuning=Tuning(rate=1e30))
    assert wild.status == "diverged"
    assert np.all(np.isfinite(wild.factor))


@pytest.mark.parametrize(
    ("change", "field"),
    [({"name": "magic"}, "name"), ({"width": 7}, "width"), ({"width": 0}, "width"), ({"record_every": 0}, "steps")],
)
def test_what_cannot_be_is_refused_by_name(problem, change, field):
    measurements, values, _ = problem
    asked = {"name": "niht", "width": 2, "steps": 1} | change
    with pytest.raises(BadInput) as refusal:
        run_baseline(asked.pop("name"), measurements, values, **asked)
    assert refusal.value.field == field


def test_single_precision_of_vectors():
    """No product with a constant matrix is left to the compiler: fused, some CPUs return garbage for it."""
    measurements, values, _ = _draw(rank_one_measurements, 600, 30, (1.0, 0.6, 0.3))
    for name in ("irls", "trace_norm"):
        result = run_baseline(name, measurements, values, width=6, steps=5, record_every=5)
        assert result.steps == 5, name
        assert result.losses[-1] < 0.5 * result.losses[0], name
