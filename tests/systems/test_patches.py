"""A signal among noise: the network and its losses against NumPy, nested masks, and a cell of a grid alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.grid import Axis, Grid, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import SYSTEMS
from gpsense.systems.patches import Patches, PatchesData, PatchesSetting

SIZES = {"dim": 12, "neurons": 3, "n": 5, "test": 40, "dtype": "float64", "optimizer": "gd"}
SYSTEM = Patches(**SIZES)
SETTING = {"rate": 0.5, "threshold": 0.0, "start_scale": 0.4}


def _drawn(share, signal=0.7):
    keys = seed_keys(3)
    problem = jax.jit(SYSTEM.draw)(PatchesData(signal=signal, share=share), keys.problem)
    return problem, SYSTEM.init(PatchesSetting(start_scale=0.4), keys.start)


def _outputs(filters, mask, share, signal, labels, noise):
    """Term by term, in float64."""
    found = np.zeros(len(labels))
    for j, sign in enumerate((-1.0, 1.0)):
        for r in range(filters.shape[1]):
            kept = np.where(mask[j, r], filters[j, r], 0.0) / np.sqrt(share)
            for i, (label, xi) in enumerate(zip(labels, noise, strict=True)):
                found[i] += sign * (max(kept[0] * label * signal, 0.0) ** 3 + max(kept @ xi, 0.0) ** 3)
    return found


def test_it_is_registered():
    assert SYSTEMS["patches"] is Patches


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_outputs_loss_and_error_are_numpys(share):
    problem, params = _drawn(share)
    args = (np.asarray(params), np.asarray(problem.mask), share, 0.7)
    train = _outputs(*args, np.asarray(problem.labels), np.asarray(problem.noise))
    test = _outputs(*args, np.asarray(problem.test_labels), np.asarray(problem.test_noise))
    loss = np.mean(np.log1p(np.exp(-np.asarray(problem.labels) * train)))
    wrong = np.mean(np.asarray(problem.test_labels) * test < 0)
    np.testing.assert_allclose(jax.jit(SYSTEM.loss)(params, problem), loss, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(SYSTEM.error)(params, problem), wrong, atol=1e-12)


def test_samples_do_not_depend_on_the_share_and_masks_are_nested():
    (dense, _), (some, params) = _drawn(1.0), _drawn(0.4)
    np.testing.assert_array_equal(dense.noise, some.noise)
    assert bool(dense.mask.all())
    assert 0.2 < float(some.mask.mean()) < 0.6
    assert bool((some.mask | ~_drawn(0.2)[0].mask).all())
    assert float(abs(some.noise[:, 0]).max()) == 0.0
    gradient = jax.jit(jax.grad(SYSTEM.loss))(params, some)
    np.testing.assert_array_equal(np.asarray(gradient)[~np.asarray(some.mask)], 0.0)


def test_without_a_single_weight_it_guesses():
    problem, params = _drawn(1.0)
    nothing = problem._replace(mask=jnp.zeros_like(problem.mask))
    np.testing.assert_allclose(SYSTEM.loss(params, nothing), np.log(2), rtol=1e-12)
    assert float(SYSTEM.error(params, nothing)) == 0.5


def test_a_cell_alone_equals_the_cell_in_the_grid():
    schedule = Schedule(40, 0, 20)
    axes = (Axis("share", (1.0, 0.4)), Axis("rate", (0.2, 0.5)))
    grid = Grid(SYSTEM, schedule, (0, 3), axes, {"threshold": 0.0, "start_scale": 0.4})
    found = run_grid(grid)
    alone = jax.jit(lambda keys: run_cell(SYSTEM, schedule, PatchesData(share=0.4), PatchesSetting(**SETTING), keys))(
        seed_keys(3)
    )
    cell = found.sel(seed=3, share=0.4, rate=0.5)
    for name in ("error", "loss", "loss_curve", "gradient_norm"):
        np.testing.assert_allclose(cell[name], alone[name], rtol=1e-8, atol=1e-12, err_msg=name)
    assert bool((found["loss"] < found["loss_curve"].isel(step=0)).all())
