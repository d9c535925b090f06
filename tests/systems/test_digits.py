"""Two digits told apart by a network that is pruned: inputs, split, error, and the accuracy before and after."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import datasets
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import SYSTEMS, System
from gpsense.systems.digits import PAIR, SMALLEST, Digits, inputs, misclassified

Data, Setting = Digits.Data, Digits.Setting
SCHEDULE = Schedule(1500, 300, 300)

_drawn = jax.jit(Digits.draw, static_argnums=0)


def test_data_are_read_when_asked_for_and_not_before():
    check = "import gpsense, sys; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
    pixels, labels = datasets.digits()
    assert pixels.shape == (1797, 64)
    assert labels.shape == (1797,)
    assert (pixels.min(), pixels.max(), labels.min(), labels.max()) == (0, 1, 0, 9)
    pairs = [(labels == a).sum() + (labels == b).sum() for a in range(10) for b in range(a)]
    assert (min(pairs), max(pairs)) == (SMALLEST, PAIR)


def test_the_contract_is_met_and_what_cannot_be_is_refused():
    assert SYSTEMS["digits"] is Digits
    assert issubclass(Digits, System)
    for fields in ({"dim": 1}, {"dim": 52}, {"n": 21}, {"n": 302}):
        with pytest.raises(BadInput, match="use") as refusal:
            Digits(**fields)
        assert [refusal.value.field] == list(fields)
    with pytest.raises(BadInput, match="bias: system digits has no such field"):
        Grid(Digits(), SCHEDULE, constants={"bias": "none"})
    assert Digits(form="gram").cost().problem_bytes > 4 * 231**2


def test_inputs_are_standardised_components_and_a_constant():
    """Over the used rows mean 0 and covariance 1; each a projection on an eigenvector of the pixels' covariance."""
    rng = np.random.default_rng(0)
    pixels, used = rng.normal(size=(30, 6)) * np.arange(1, 7), rng.random(30) < 0.7
    made = np.asarray(inputs(jnp.asarray(pixels), jnp.asarray(used), 4, 2.0))
    np.testing.assert_array_equal(made[:, 3], 2.0)
    mean = sum(pixels[used]) / used.sum()
    covariance = sum(np.outer(p - mean, p - mean) for p in pixels[used]) / used.sum()
    variances, directions = np.linalg.eigh(covariance)
    for j in range(3):
        direction = directions[:, -1 - j] * np.sign((directions[:, -1 - j] ** 3).sum())
        expected = [(p - mean) @ direction / np.sqrt(variances[-1 - j]) for p in pixels]
        np.testing.assert_allclose(made[:, j], expected, rtol=1e-9, atol=1e-9)


def test_the_split_is_of_the_pair_and_more_extend_fewer(key):
    system = Digits(n=200, form="direct", dtype="float64")
    many, few = (_drawn(system, Data(positive=1.0, negative=7.0, n=float(n)), key) for n in (200, 100))
    _, digits = datasets.digits()
    expected = [(digits == 1).sum(), (digits == 7).sum(), PAIR - ((digits == 1) | (digits == 7)).sum()]
    assert [int((many.labels == y).sum()) for y in (1, -1, 0)] == expected
    for problem, n in ((many, 200), (few, 100)):
        trained, held = np.asarray(problem.objective.measurements.scales) > 0, np.asarray(problem.held_out.scales) > 0
        assert trained.sum() == n
        np.testing.assert_array_equal(trained ^ held, problem.labels != 0)
        assert not (trained & held).any()
        np.testing.assert_allclose(problem.offset, np.mean(np.asarray(problem.labels)[trained]), rtol=1e-12)
    assert np.all(np.asarray(many.objective.measurements.scales > 0)[np.asarray(few.objective.measurements.scales > 0)])


def test_error_is_the_share_of_held_out_images_on_the_wrong_side(key):
    """``h(x) = sum_j <u_j, x>^2 + b`` image by image, b at its best on the training images."""
    system = Digits(dim=8, n=100, form="direct", dtype="float64")
    problem = _drawn(system, Data(), key)
    factor, labels = np.random.default_rng(2).normal(size=(8, 5)), np.asarray(problem.labels)
    outputs = [sum((u @ x) ** 2 for u in factor.T) for x in np.asarray(problem.held_out.inner.vectors)]
    trained = [i for i in range(PAIR) if problem.objective.measurements.scales[i] > 0]
    bias = sum(labels[i] - outputs[i] for i in trained) / 100
    held = [i for i in range(PAIR) if labels[i] != 0 and i not in trained]
    wrong = sum((outputs[i] + bias > 0) != (labels[i] > 0) for i in held)
    assert 0 < wrong < len(held)
    np.testing.assert_allclose(misclassified(problem, jnp.asarray(factor)), wrong / len(held), rtol=1e-12)
    np.testing.assert_allclose(
        problem.objective(jnp.asarray(factor)), sum((outputs[i] + bias - labels[i]) ** 2 for i in trained) / 100
    )


@pytest.fixture(scope="module")
def grid():
    fixed = {"rate": 0.02, "smoothing": 0.01, "positive": 3}
    axes = tuple(Axis(name, (value,), False) for name, value in fixed.items())
    axes += (Axis("negative", (8, 7)), Axis("penalty", (0.0, 0.1)))
    return Grid(Digits(width=40), SCHEDULE, Axis("seed", (0, 1, 2)), axes, {"dtype": "float64", "curvature_steps": 4})


@pytest.fixture(scope="module")
def dataset(grid):
    return run_grid(grid)


@pytest.mark.slow
def test_few_neurons_tell_the_digits_apart_as_well_as_all_forty(dataset):
    """With the penalty at most 6 of 40 remain, accuracy within 2 %; without it the same threshold keeps 10 or more."""
    cells = dataset.sel(negative=8)
    pruned, whole = cells.sel(penalty=0.1), cells.sel(penalty=0.0)
    assert (pruned["rank"] <= 6).all()
    assert (whole["rank"] >= 10).all()
    for name in ("error_trained", "error_pruned", "error"):
        assert pruned[name].mean() <= 0.04, name
    assert abs(pruned["error"] - pruned["error_trained"]).mean() <= 0.02
    assert dataset["error"].attrs["long_name"] == "held-out images misclassified"


@pytest.mark.slow
def test_the_same_digit_twice_is_refused_in_a_grid_and_alone_a_cell_that_diverged():
    with pytest.raises(BadInput, match="^negative: the same digit as positive"):
        Grid(Digits(), SCHEDULE, 3, (Axis("negative", (8, 3)), Axis("positive", (3,), False)))
    system = Digits(width=40, dtype="float64", curvature_steps=4)
    setting, data = Setting(rate=0.02, smoothing=0.01), Data(positive=3.0, negative=3.0)
    for seed in range(3):
        same = jax.jit(lambda keys: run_cell(system, SCHEDULE, data, setting, keys))(seed_keys(seed))
        assert int(same["status"]) == 3
        assert np.isnan(same["error"])


@pytest.mark.slow
def test_a_cell_alone_equals_the_cell_in_the_grid(grid, dataset):
    system = make_plan(grid, 2**30).programs[0].system
    setting = Setting(penalty=0.1, rate=0.02, smoothing=0.01)
    data = Data(positive=3.0, negative=8.0)
    alone = jax.jit(lambda: run_cell(system, SCHEDULE, data, setting, seed_keys(2)))()
    cell = dataset.sel(seed=2, negative=8, penalty=0.1)
    for name in cell.data_vars:
        np.testing.assert_allclose(cell[name], alone[name], rtol=1e-6, atol=1e-9, err_msg=name)
