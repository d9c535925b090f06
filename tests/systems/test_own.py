"""A model of one's own in the pipeline: phases against NumPy, parts of several kinds, a least system in 30 lines."""

import inspect
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpsense import Axis, BadInput, Grid, Schedule, TrainPruneFineTune, run_cell, run_grid, seed_keys
from gpsense.plots.view import short_name
from gpsense.sensing.truths import low_rank_truth
from gpsense.systems.own import groups, weights
from gpsense.systems.sensing import Sensing
from tests.systems.least import LeastSquares

F64 = jnp.float64


def draw(key, noise=0.0):
    x_key, u_key = jax.random.split(key)
    x = jax.random.normal(x_key, (60, 5), F64)
    truth = low_rank_truth(u_key, 5, jnp.ones(2, F64))
    return x, jnp.sum((x @ truth) ** 2, axis=1) + noise * jax.random.normal(key, (60,), F64)


def loss(params, problem):
    x, y = problem
    return jnp.mean((jnp.sum((x @ params["U"]) ** 2, axis=1) + params["b"] - y) ** 2)


def init(key):
    return {"U": 0.3 * jax.random.normal(key, (5, 4), F64), "b": jnp.zeros((), F64)}


def system(**fields):
    given = {"parts": groups(lambda params: params["U"]), "dtype": "float64", "optimizer": "gd"} | fields
    return TrainPruneFineTune.of(draw=draw, init=init, loss=loss, **given)


def test_the_phases_are_gradient_descent_pruning_and_gradient_descent():
    own, setting = system(), {"penalty": 0.3, "smoothing": 0.01, "rate": 0.01}
    found = jax.jit(lambda: run_cell(own, Schedule(50, 20, 10), own.Data(), own.Setting(**setting), seed_keys(2)))()
    keys = seed_keys(2)
    x, y = map(np.asarray, jax.jit(draw)(keys.problem))
    u, b = np.asarray(jax.jit(init)(keys.start)["U"]), 0.0
    for step in range(70):
        if step == 50:
            u = u * (np.linalg.norm(u, axis=0) > 0.2)
        h = ((x @ u) ** 2).sum(1) + b - y
        slope = 4 * x.T @ (h[:, None] * (x @ u)) / 60
        if step < 50:
            s = (u**2).sum(0)
            slope = slope + 0.3 * u * (s + 0.02) / (s + 0.01) ** 1.5
        else:
            slope = slope * (np.abs(u).sum(0) > 0)
        u, b = u - 0.01 * slope, b - 0.01 * 2 * h.mean()
    np.testing.assert_allclose(found["state"].run.factor["U"], u, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found["error"], np.mean((((x @ u) ** 2).sum(1) + b - y) ** 2), rtol=1e-9)
    assert float(found["rank"]) == (np.abs(u).sum(0) > 0).sum()


def test_a_grid_of_it_is_its_cells_and_measures_what_systems_measure():
    own = system(optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.lion(rate)))
    axes = (Axis("noise", (0.0, 0.2)), Axis("penalty", (0.0, 0.3)), Axis("rate", (0.01, 1e300)))
    with jax.numpy_dtype_promotion("standard"):
        with pytest.warns(UserWarning, match="8 of 16 cells diverged"):
            found = run_grid(Grid(own, Schedule(40, 20, 20), 2, axes))
        cell = jax.jit(
            lambda: run_cell(own, Schedule(40, 20, 20), own.Data(0.2), own.Setting(penalty=0.3), seed_keys(1))
        )()
    place = {"noise": 0.2, "penalty": 0.3, "rate": 0.01, "seed": 1}
    for name in ("error", "error_pruned", "rank", "column_norms", "loss_curve"):
        np.testing.assert_allclose(found[name].sel(place), cell[name], rtol=1e-9, err_msg=name)
    assert found["column_norms"].dims[-1] == "column"
    assert np.isnan(found["error"].sel(rate=1e300)).all()
    assert (found["status"].sel(rate=1e300) == 3).all()


@pytest.mark.slow
def test_it_agrees_with_the_sensing_system_on_its_problem():
    sensing = Sensing(dim=5, width=5, n=60, measurements="rank_one", form="direct", dtype="float64", curvature_steps=0)
    data, setting = sensing.Data(noise=0.1), {"penalty": 0.2, "smoothing": 0.04, "rate": 0.005}
    problem = jax.jit(lambda: sensing.draw(data, seed_keys(3).problem))()
    own = TrainPruneFineTune.of(
        draw=lambda key: problem.objective.measurements.vectors,
        init=lambda key: sensing.init(sensing.Setting(**setting), key),
        loss=lambda u, x: jnp.mean((jnp.sum((x @ u) ** 2, axis=1) - problem.objective.values) ** 2),
        error=lambda u, x: sensing.error(problem, u),
        parts=groups(lambda u: u),
        optimizer="gd",
        dtype="float64",
    )
    run = lambda s, d: jax.jit(lambda: run_cell(s, Schedule(60, 30, 30), d, s.Setting(**setting), seed_keys(3)))()  # noqa: E731
    ours, theirs = run(own, own.Data()), run(sensing, data)
    for name in ("error", "error_pruned", "error_trained", "rank", "loss", "column_norms", "margin", "coherence"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-8, atol=1e-12, err_msg=name)


def network(key):
    return eqx.nn.MLP(3, 1, 6, 1, dtype=F64, key=key)


def fit(model, problem):
    return jnp.mean((jax.vmap(model)(problem)[:, 0] - problem[:, 0]) ** 2)


@pytest.mark.parametrize("penalty_kind", ["smoothed_group_lasso", "group_lasso"])
def test_single_weights_of_an_equinox_network_stay_zero_where_they_were_pruned(penalty_kind):
    own = TrainPruneFineTune.of(
        draw=lambda key: jax.random.normal(key, (20, 3), F64),
        init=network,
        loss=fit,
        parts=weights(),
        rule="top_r",
        penalty_kind=penalty_kind,
        dtype="float64",
    )
    setting = own.Setting(kept=0.25, penalty=1e-3)
    with jax.numpy_dtype_promotion("standard"):
        found = jax.jit(lambda: run_cell(own, Schedule(20, 20, 20), own.Data(), setting, seed_keys(0)))()
    assert float(found["rank"]) == 6
    arrays = found["state"].run.factor.layers
    assert sum(np.count_nonzero(layer.weight) for layer in arrays) == 6
    assert all(np.any(layer.bias) for layer in arrays)
    assert "column_norms" not in found


def test_a_pattern_says_which_single_weights_are_pruned():
    model = jax.jit(lambda: eqx.filter(network(jax.random.key(0)), eqx.is_inexact_array))()
    parts = weights("!layers.0")
    np.testing.assert_array_equal(parts.matrix(model)[0], np.ravel(model.layers[1].weight))
    back = parts.put(model, 2 * parts.matrix(model))
    np.testing.assert_array_equal(back.layers[1].weight, 2 * model.layers[1].weight)
    np.testing.assert_array_equal(back.layers[0].weight, model.layers[0].weight)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (groups(lambda w: w), r"groups\(\) has axis=1 for a leaf of shape \(3,\); give an axis that each leaf has"),
        (groups(lambda w: w, (0, 1)), r"groups\(\) has axis=\(0, 1\) for a leaf"),
        (
            groups(lambda w: (w, w), (0, 0, 0)),
            r"groups\(\) has axis=\(0, 0, 0\) for leaves of shapes \(3,\), \(3,\); give an axis that each leaf has "
            r"\(0 for a vector\), or a sequence with one axis for each leaf$",
        ),
        (groups(lambda w: None), r"groups\(where=\.\.\.\): the function does not return arrays"),
    ],
)
def test_groups_that_are_not_there_are_refused(parts, problem):
    with pytest.raises(BadInput, match=f"^parts: {problem}"):
        parts.matrix(np.ones(3))


def test_neurons_are_weights_in_and_out_together():
    parts = groups(lambda model: (model.layers[0].weight, model.layers[1].weight), axis=(0, 1), unit="neurons")
    model = jax.jit(lambda: eqx.filter(network(jax.random.key(0)), eqx.is_inexact_array))()
    matrix = jax.jit(parts.matrix)(model)
    np.testing.assert_array_equal(matrix, np.concatenate([model.layers[0].weight.T, model.layers[1].weight]))
    back = jax.jit(lambda matrix: parts.put(model, 2 * matrix))(matrix)
    np.testing.assert_array_equal(back.layers[0].weight, 2 * model.layers[0].weight)
    np.testing.assert_array_equal(back.layers[1].weight, 2 * model.layers[1].weight)
    np.testing.assert_array_equal(back.layers[0].bias, model.layers[0].bias)
    deep = jnp.arange(24.0).reshape(2, 3, 4)
    for axis in range(3):
        filters = groups(lambda leaf: leaf, axis)
        matrix, back = jax.jit(lambda leaf, f=filters: (f.matrix(leaf), f.put(leaf, f.matrix(leaf))))(deep)
        assert matrix.shape == (24 // deep.shape[axis], deep.shape[axis])
        np.testing.assert_array_equal(back, deep)


def test_a_rule_may_be_a_function():
    own = system(rule=lambda norms, given: norms >= jnp.max(norms))
    found = jax.jit(lambda: run_cell(own, Schedule(10, 5, 5), own.Data(), own.Setting(), seed_keys(0)))()
    assert float(found["rank"]) == 1
    assert float(found["margin"]) > 0


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: system(rule="threshhold"), "rule: there is no 'threshhold'; did you mean threshold?"),
        (lambda: system(count=0), "count: 0 is not allowed; use a whole number from 1 to 2147483647"),
        (lambda: system().Setting(rate=-1.0), "rate: -1.0 is not allowed; use a number above 0"),
        (lambda: TrainPruneFineTune.of(draw=lambda: 0, init=init, loss=loss, parts=weights()), "draw: it takes no"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, line):
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value).startswith(line)


def test_a_least_system_is_thirty_lines_and_runs(tmp_path):
    lines = [line for line in inspect.getsource(sys.modules[LeastSquares.__module__]).splitlines() if line.strip()]
    assert len(lines) <= 30
    least = LeastSquares(dim=6, dtype="float64")
    axes = (Axis("noise", (0.0, 0.3)), Axis("threshold", (0.1, 0.5)))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes an int count with floats
        found = run_grid(Grid(least, Schedule(200, 100, 50), 2, axes, {"rate": 0.05}), out=tmp_path / "run")
    assert found["rank"].dims == ("seed", "noise", "threshold")
    assert float(found["error"].sel(noise=0.0, threshold=0.1).max()) < 1e-3
    assert (found["rank"].sel(noise=0.0) == 2).all()
    assert {"dim", "n", "noise", "threshold", "rate", "rule"} <= set(found.coords)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: system(lss=3), "lss: system own has no such static field"),
        (lambda: Sensing(dimm=3), "dimm: system sensing has no such static field; did you mean dim?"),
        (lambda: Sensing(noise=0.1), "noise: system sensing has no such static field; give it to a Grid"),
        (lambda: Sensing(rule=lambda norms: norms), "rule: it returned shape (3,) of float32 for 3 columns"),
        (lambda: Sensing(rule=lambda norms: True), "rule: it returned shape"),
        (lambda: Sensing(rule=lambda a, b, c: a), "rule: it fails ("),
        (lambda: system(parts=3), "parts: 3 is not Parts; give groups(where, axis) or weights()"),
        (lambda: groups("w"), "where: 'w' is not a function"),
        (lambda: weights().matrix(jnp.zeros(4)), "parts: weights() finds no leaf of two axes or more"),
    ],
)
def test_refusals_name_the_argument(call, line):
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value).startswith(line)


def test_a_size_that_draw_takes_is_told_with_what_to_give_instead():
    system = TrainPruneFineTune.of(
        draw=lambda key, n=5: (jnp.ones((n, 2)), jnp.ones(n)),
        init=lambda key: jnp.ones((1, 2)),
        loss=lambda weights, problem: jnp.mean((problem[0] @ weights[0] - problem[1]) ** 2),
        parts=groups(lambda weights: weights),
    )
    with pytest.raises(BadInput) as refusal:
        run_grid(Grid(system, Schedule(2, 1)))
    assert refusal.value.field == "n"
    assert refusal.value.remedy == "fix it inside draw: lambda key: draw(key, n=...)"


def test_the_error_is_called_what_it_is():
    class WithError(LeastSquares):
        name = "with_error"

        def error(self, params, problem):
            return jnp.zeros(())

    class Further(WithError):
        name = "further"

    words = {kind.name: kind.measures["error"].words for kind in (LeastSquares, WithError, Further)}
    assert words == {
        "least_squares": "loss of least_squares",
        "with_error": "error of with_error",
        "further": "error of further",
    }
    made = system(error=lambda params, problem: jnp.zeros(()), name="mine")
    assert (made.measures["error"].words, system().measures["error"].words) == ("error of mine", "loss of own")
    grid = Grid(system(), Schedule(2, 1, 1))
    assert run_grid(grid)["error"].attrs["long_name"] == "loss of own"


def test_parts_are_called_what_the_system_says():
    with jax.numpy_dtype_promotion("standard"):
        results = run_grid(Grid(LeastSquares(dim=4, n=10), Schedule(2, 1)))
    assert results["rank"].attrs["long_name"] == "inputs kept by pruning"
    assert results["column_norms"].attrs["long_name"] == "norms of the inputs after training, largest first"
    assert short_name(results["rank"]) == "inputs_kept"
    assert short_name(run_grid(Grid(system(), Schedule(2, 1)))["rank"]) == "parts_kept"
