"""One call that runs any baseline on given measurements."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gpsense._types import Values
from gpsense.descent import BUDGET, RUNNING, STATUS_NAMES
from gpsense.errors import BadInput
from gpsense.fields import unknown_name
from gpsense.sensing.losses import Objective, cheapest_objective, split_objective
from gpsense.sensing.measurements import Measurements
from gpsense.sensing.methods._contract import BASELINES, Baseline, Run, Tuning, advance, start

DEFAULT = Tuning()


class Result(NamedTuple):
    """A method's factor (dim, width), losses (records,) after ``recorded`` (records,) steps, steps taken and status."""

    factor: np.ndarray
    losses: np.ndarray
    recorded: np.ndarray
    steps: int
    status: str


def run_baseline(
    name: str,
    measurements: Measurements,
    values: Values,
    *,
    width: int,
    steps: int,
    tuning: Tuning = DEFAULT,
    seed: int = 0,
    record_every: int = 10,
) -> Result:
    """Run a method of :data:`BASELINES`: measurements in, factor and loss trace out.

    ``width`` is the rank for methods that know it, an upper bound for the others. The loss of the factor is recorded
    at the start, every ``record_every`` steps and at the end. Raises BadInput for an unknown name, or a width or
    count out of range; a method that diverges returns its last finite factor with status "diverged".
    """
    values = jnp.asarray(values)
    if name not in BASELINES:
        raise unknown_name("name", name, BASELINES)
    if not 1 <= width <= measurements.dim:
        raise BadInput("width", f"{width} is not between 1 and dim {measurements.dim}", f"use 1 to {measurements.dim}")
    if steps < 0 or record_every < 1:
        raise BadInput("steps", f"{steps} steps recorded every {record_every}", "use steps >= 0, record_every >= 1")
    method = BASELINES[name]
    given = split_objective if method.holds_out else partial(cheapest_objective, width=width)
    objective = given(measurements, values)
    tuning = jax.tree.map(lambda number: jnp.asarray(number, values.dtype), tuning)
    run, loss = _start(method, objective, measurements.dim, width, tuning, jax.random.key(seed))
    losses, recorded = [float(loss)], [0]
    for done in range(0, steps, record_every):
        if int(run.status) != RUNNING:
            break
        run, loss = _advance(method, objective, tuning, run, min(record_every, steps - done))
        losses.append(float(loss))
        recorded.append(int(run.steps))
    status = BUDGET if int(run.status) == RUNNING else int(run.status)
    factor = np.asarray(method.factor(run.state))
    return Result(factor, np.array(losses), np.array(recorded), int(run.steps), STATUS_NAMES[status])


@eqx.filter_jit
def _start(
    method: Baseline, objective: Objective, dim: int, width: int, tuning: Tuning, key: jax.Array
) -> tuple[Run, jax.Array]:
    run = start(method, objective, dim, width, tuning, key)
    return run, objective(method.factor(run.state))


@eqx.filter_jit
def _advance(method: Baseline, objective: Objective, tuning: Tuning, run: Run, n_steps: int) -> tuple[Run, jax.Array]:
    run = advance(method, objective, tuning, run, n_steps)
    return run, objective(method.factor(run.state))
