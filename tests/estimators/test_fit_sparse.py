"""A user's table: planted columns are found, predictions are the network's, rows put aside are not seen."""

from functools import partial
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from gpsense import datasets
from gpsense.errors import BadInput
from gpsense.estimators import SparseFit, fit_sparse
from gpsense.pruning import inputs
from gpsense.sparse.hermite import RELU
from gpsense.sparse.network import Kept
from gpsense.sparse.samples import FIT, table
from tests.parameters import first_quick

inside = import_module("gpsense.estimators.fit_sparse")  # the module, not the function of its name
N, DIM, PLANTED = 400, 24, {3, 7, 15}
OPTIONS = {"neurons": 24, "biases": 3}


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``y = 10 + 4 (x_3 + (x_7^2 - 1) / sqrt 2 + x_15 / 2 + noise)``; columns in other units."""
    x = rng.normal(size=(N, DIM))
    y = x[:, 3] + (x[:, 7] ** 2 - 1) / np.sqrt(2) + x[:, 15] / 2 + 0.1 * rng.normal(size=N)
    return x * np.geomspace(0.01, 100, DIM) + 3, 10 + 4 * y


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return planted(np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(data: tuple[np.ndarray, np.ndarray]) -> SparseFit:
    return fit_sparse(*data, **OPTIONS)


def test_a_planted_model_is_found_and_predicted(found: SparseFit) -> None:
    assert found.coordinates.tolist() == [3, 7, 15]  # they make up 1, 1 and 1/4 of the variance: the square is harder
    assert found.pool < 12
    assert found.held_out_risk < 0.2
    assert found.held_out_risk < min(found.unpruned_risk, found.lasso_risk)
    assert 0.3 < found.lasso_risk < 0.7  # the square is 0.44 of the variance
    np.testing.assert_allclose(found.linear[[3, 15]], np.array([1, 0.5]) * 4 / found.unit, atol=0.1)


def test_the_lasso_is_cross_validated_and_fitted_to_all_rows_that_the_networks_see(
    found: SparseFit, data: tuple[np.ndarray, np.ndarray]
) -> None:
    """By coordinate descent at the penalty of least error over five folds, both on the standardised rows."""
    x, y = data
    order = np.random.default_rng(0).permutation(N)
    out, rest = np.sort(order[: N // 5]), order[N // 5 :]
    np.testing.assert_array_equal(found.held_out, out)
    z, values = (x - found.centre) / found.scale, (y - found.offset) / found.unit
    top = np.abs(z[rest].T @ (values[rest] - values[rest].mean())).max() / len(rest)
    penalties, folds = top * np.logspace(0, -3, 100), np.array_split(np.arange(len(rest)), 5)

    def errors(fold):
        others = np.delete(rest, fold)
        path = descend(z[others], values[others], penalties)
        return [np.mean((values[rest[fold]] - a - z[rest[fold]] @ b) ** 2) for a, b in path]

    best = np.argmin(np.mean([errors(fold) for fold in folds], axis=0))
    intercept, slopes = descend(z[rest], values[rest], penalties[: best + 1])[-1]
    risk = np.mean((values[out] - intercept - z[out] @ slopes) ** 2) / np.var(values[out])
    assert found.lasso_risk == pytest.approx(risk, abs=2e-4)
    assert found.lasso_kept == np.count_nonzero(slopes)


@pytest.mark.slow
def test_on_a_real_table_the_lasso_is_as_good_as_the_network() -> None:
    """The README's table in float32, as people run it, noise drawn for every seed: 0.541 by scikit-learn on the same
    rows in their order. Nothing warns.
    """
    jax.config.update("jax_enable_x64", False)
    columns, y = datasets.diabetes()
    risks = []
    for seed in range(12):
        noise = np.random.default_rng(seed).normal(size=(len(y), 200))
        risks.append(fit_sparse(np.hstack([columns, noise]), y, pool=5, seed=seed))
    assert np.mean([each.lasso_risk for each in risks]) == pytest.approx(0.541, abs=0.002)
    assert np.mean([each.held_out_risk for each in risks]) == pytest.approx(0.5535, abs=0.005)


def descend(x: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Lasso with an intercept along falling penalties, by coordinate descent from the one before."""
    centre, mean, b, path = x.mean(axis=0), y.mean(), np.zeros(x.shape[1]), []
    z, rest = x - centre, y - mean
    squares = (z**2).mean(axis=0)
    for penalty in penalties:
        for _ in range(60):
            for i in range(len(b)):
                pull = z[:, i] @ rest / len(y) + squares[i] * b[i]
                moved = np.sign(pull) * max(abs(pull) - penalty, 0.0) / squares[i]
                rest -= z[:, i] * (moved - b[i])
                b[i] = moved
        path.append((float(mean - centre @ b), b.copy()))
    return path


def test_predictions_are_those_of_the_network_returned(found: SparseFit, data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    net, predicted = found.network, found.predict(x)
    for row in range(5):
        z = [(x[row, i] - found.centre[i]) / found.scale[i] for i in found.coordinates]
        value = float(net.intercept)
        for neuron in range(2 * OPTIONS["neurons"]):
            inner = sum(w * t for w, t in zip(net.weights[:, neuron], z, strict=True)) + net.biases[neuron]
            value += net.output[neuron] * max(inner, 0.0)
        value += sum(b * t for b, t in zip(net.linear, z, strict=True))
        np.testing.assert_allclose(predicted[row], found.offset + found.unit * value, rtol=1e-10)
    out = found.held_out
    assert out.size == N // 5
    risk = np.mean((predicted[out] - y[out]) ** 2) / np.var(y[out])
    assert found.held_out_risk == pytest.approx(risk, rel=1e-10)


def test_directions_are_the_leading_ones_of_the_first_layer(found: SparseFit) -> None:
    rank = found.directions.shape[1]
    np.testing.assert_allclose(found.directions.T @ found.directions, np.eye(rank), atol=1e-10)
    dropped = np.setdiff1d(np.arange(DIM), found.coordinates)
    assert not found.directions[dropped].any()
    values = np.linalg.eigvalsh(found.network.weights @ found.network.weights.T)[::-1]
    np.testing.assert_allclose(found.strengths, values[:rank] / values.sum(), rtol=1e-8)
    assert found.strengths.sum() >= 0.9 > found.strengths[:-1].sum()
    assert np.abs(found.directions[:, 0]).argmax() == 7  # what is left without the linear part


def test_rows_put_aside_are_not_seen_and_units_do_not_matter(
    found: SparseFit, data: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = (values.copy() for values in data)
    x[found.held_out], y[found.held_out] = -x[found.held_out][::-1], y[found.held_out] ** 2
    other = fit_sparse(x, y, **OPTIONS)
    np.testing.assert_array_equal(other.held_out, found.held_out)
    np.testing.assert_array_equal(other.coordinates, found.coordinates)
    for mine, theirs in zip(jax.tree.leaves(other.network), jax.tree.leaves(found.network), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert other.held_out_risk != found.held_out_risk
    scaled = fit_sparse(data[0] * 8 - 5, data[1] / 3 + 1, **OPTIONS)
    np.testing.assert_array_equal(scaled.coordinates, found.coordinates)
    np.testing.assert_allclose(scaled.predict(data[0] * 8 - 5), found.predict(data[0]) / 3 + 1, rtol=1e-6)


def test_columns_kept_are_algorithm_1s_and_move_with_the_columns() -> None:
    """For every pool at once, one bias after another, what :func:`inputs.chosen` keeps."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(200, 9)), rng.normal(size=200)
    y, biases, turn = y + x[:, 2] ** 2, jnp.asarray([0.3, -1.0]), rng.permutation(9)
    plan = inside.replace(inside._plan(160, 9, None, None, **DEFAULTS), pools=(1, 3))
    half = jnp.asarray(0.5)

    @jax.jit
    def chosen(x):
        return inside._chosen(plan, table(x, jnp.asarray(y), jax.random.key(0)), biases, half)

    @jax.jit
    def separately(x):
        stream = table(x, jnp.asarray(y), jax.random.key(0)).seen_as(jnp.int32(FIT))
        found = [inputs.gradient_scores(stream, biases, half, pool, RELU) for pool in plan.pools]
        return found, [inputs.chosen(one, pool) for one, pool in zip(found, plan.pools, strict=True)]

    ratios, masks = chosen(x)
    found, expected = separately(x)
    for place, one in enumerate(found):
        np.testing.assert_array_equal(masks[place], expected[place])
        parts = [*np.sqrt(one.squares), np.asarray(one.linear)]
        np.testing.assert_allclose(ratios[place], np.max([p / np.median(p) for p in parts], axis=0), rtol=1e-9)
    moved = chosen(x[:, turn])
    np.testing.assert_allclose(moved[0], np.asarray(ratios)[:, turn], rtol=1e-9)
    np.testing.assert_array_equal(moved[1], np.asarray(masks)[:, turn])


DEFAULTS = {"parity": "both", "contraction": 0.5, "biases": 2, "neurons": 4, "residual": "ols"}
DEFAULTS |= {"fine_tune_steps": 0, "compare": True}


TARGETS = {
    "linear": (400, 10, [2, 5], lambda x: x[:, 2] + x[:, 5]),
    "square": (400, 15, [3], lambda x: x[:, 3] ** 2),
    "product": (800, 15, [3, 9], lambda x: x[:, 3] * x[:, 9]),
    "both": (1500, 12, [1, 2], lambda x: x[:, 1] ** 3 - 3 * x[:, 1] + x[:, 2] ** 2),
}


@pytest.mark.parametrize("name", first_quick(TARGETS))
def test_columns_that_add_nothing_leave(name: str) -> None:
    """Every part of the scores keeps as many columns, of which most matter to another part or to none."""
    n, dim, right, target = TARGETS[name]
    x = np.random.default_rng(1).normal(size=(n, dim))
    y = target(x) + 0.1 * np.random.default_rng(2).normal(size=n)
    found = fit_sparse(x, y, neurons=64, compare=False)
    assert sorted(found.coordinates.tolist()) == right
    wider = fit_sparse(x, y, neurons=64, compare=False, pool=3)  # given, it is Algorithm 1's
    assert set(right) < set(wider.coordinates.tolist())
    assert set(wider.coordinates[: len(right)].tolist()) == set(right)


def test_the_fewest_columns_stay_within_a_standard_error() -> None:
    """By hand: three columns, errors of which are made up; column 1 adds most, 0 next, 2 nothing that stands out."""
    rng = np.random.default_rng(0)
    noise, common = 0.1 * rng.normal(size=(8, 50)) ** 2, rng.normal(size=50) ** 2
    rises = {1: 2.0, 0: 0.5, 2: -0.01}
    made = []

    def tried(mask: np.ndarray) -> Any:
        made.append(tuple(np.flatnonzero(mask)))
        lost = sum(rise for column, rise in rises.items() if not mask[column])
        return inside._Choice(mask, 0, common + lost + noise[sum(1 << i for i in np.flatnonzero(mask))])

    choice, order = inside._pruned(tried, np.ones(3, bool), every=False)
    assert order.tolist() == [1, 0]
    np.testing.assert_array_equal(choice.mask, [True, True, False])
    kept, order = inside._pruned(tried, np.ones(3, bool), every=True)
    assert order.tolist() == [1, 0, 2]
    assert kept.mask.all()
    lost = inside._Choice(np.ones(3, bool), 0, np.full(50, np.nan))  # of numbers too large for the type
    assert inside._pruned(lambda mask: lost, np.ones(3, bool), every=False)[0] is lost
    rises[0] = 0.001  # below a standard error of the difference
    assert inside._pruned(tried, np.ones(3, bool), every=False)[1].tolist() == [1]


def test_few_rows_leave_small_pools_and_float32_stays_float32() -> None:
    assert inside._plan(20, 50, None, None, **DEFAULTS).pools == (1, 2, 3)
    assert inside._plan(20, 4, None, None, **DEFAULTS).pools == (1, 2, 3)
    plan = inside._plan(300, 3000, None, None, **(DEFAULTS | {"fine_tune_steps": 10}))
    assert plan.pools == inside.POOLS
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((300, 3000), (300,), (2,), ())]
    key, mask = jax.random.key(0), jax.ShapeDtypeStruct((3000,), bool)
    one = partial(jax.tree.map, lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes an int count with floats
        stream = jax.eval_shape(table, *shapes[:2], key)
        trial = partial(inside._tried, plan.recipe, plan.width(3000))
        made = [
            jax.eval_shape(partial(inside._chosen, plan), stream, *shapes[2:]),
            tried := jax.eval_shape(trial, stream, key, mask, np.int32(FIT)),
            jax.eval_shape(lambda *given: inside._fine_tuned(*given, 10), stream, mask, one(tried.networks)),
        ]
    floats = [leaf.dtype for leaf in jax.tree.leaves(made) if leaf.dtype.kind == "f"]
    assert set(floats) == {np.dtype(np.float32)}


@pytest.mark.slow
def test_fine_tuning_lowers_the_error_on_the_rows_trained_on(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (values[:100] for values in data)
    stream = table(jnp.asarray((x - 3) / np.geomspace(0.01, 100, DIM)), jnp.asarray(y), jax.random.key(0))
    kept, mask = Kept(jnp.asarray([3, 7]), jnp.ones(2, bool)), np.isin(np.arange(DIM), [3, 7])
    rng = np.random.default_rng(2)
    layer = [jnp.asarray(rng.normal(size=shape)) for shape in ((2, 6), (6,), (6,), (2,), ())]
    start = inside.Network(*layer)
    error = lambda net: float(inside.learner.loss(stream, kept, RELU, net)[0])  # noqa: E731
    with jax.numpy_dtype_promotion("standard"):
        tuned = inside._fine_tuned(stream, mask, start, 40)
    assert error(tuned) < error(start)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"x": np.zeros(40)}, "x"),
        ({"x": np.ones((40, 1))}, "x"),
        ({"x": np.eye(40, 5)[:20], "y": np.arange(20.0)}, "x"),
        ({"x": np.full((40, 3), np.nan)}, "x"),
        ({"x": np.ma.masked_greater(np.arange(120.0).reshape(40, 3), 110)}, "x"),
        ({"y": np.ma.masked_less(np.arange(40.0), 3)}, "y"),
        ({"x": np.array([["a", "b"]] * 40)}, "x"),
        ({"x": np.ones((40, 3))}, "x"),
        ({"y": np.arange(39.0)}, "y"),
        ({"y": np.full(40, np.inf)}, "y"),
        ({"y": np.ones(40)}, "y"),
        ({"held_out": 0.9}, "held_out"),
        ({"held_out": 0.0}, "held_out"),
        ({"pool": 6}, "pool"),
        ({"pool": 0}, "pool"),
        ({"x": np.random.default_rng(0).normal(size=(40, 60)), "pool": 20}, "pool"),
        ({"parity": "left"}, "parity"),
        ({"residual": "all"}, "residual"),
        ({"biases": 0}, "biases"),
        ({"contraction": 0.0}, "contraction"),
        ({"rank": 6}, "rank"),
        ({"rank": 10**30}, "rank"),
        ({"neurons": 10**10}, "neurons"),
        ({"fine_tune_steps": 10**12}, "fine_tune_steps"),
        ({"y": np.arange(40.0) * 1e300}, "y"),
        ({"memory": "4 GB"}, "memory"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: dict, field: str) -> None:
    rng = np.random.default_rng(0)
    arguments = {"x": rng.normal(size=(40, 5)), "y": rng.normal(size=40)} | change
    with pytest.raises(BadInput, match="; ") as refused:
        fit_sparse(arguments.pop("x"), arguments.pop("y"), **arguments)
    assert refused.value.field == field


def test_a_pool_too_large_for_least_squares_is_told_the_rows_that_count() -> None:
    x = np.random.default_rng(0).normal(size=(40, 60))
    words = (
        "^pool: a pool of 20 may keep 60 columns, with which least squares fits exactly the 26 rows that are neither"
    )
    with pytest.raises(BadInput, match=words):
        fit_sparse(x, x[:, 0], pool=20)


X = np.random.default_rng(0).normal(size=(40, 5))
Y = X[:, 0] ** 2
TABLE = pd.DataFrame(X, columns=list("abcde")).assign(risk=Y)


@pytest.mark.parametrize(
    ("x", "y", "line"),
    [
        (TABLE, "risk", "y: 'risk' is a name, not the values; give y=x['risk'] and x.drop(columns='risk') for x"),
        (TABLE, ["risk"], "y: 'risk' is a name, not the values; give y=x['risk'] and x.drop(columns='risk') for x"),
        (TABLE, "rsk", "y: 'rsk' is text, but not a column of x; give the values of y, one per row"),
        (X, "risk", "y: 'risk' is a name, not the values; give the values of y, one per row"),
        (
            Y,
            X,
            "x: it has shape (40,) and y (40, 5), as if the two were swapped; give the table first, fit_sparse(x, y)",
        ),
        (
            TABLE["risk"],
            TABLE[list("abcde")],
            "x: it has shape (40,) and y (40, 5), as if the two were swapped; give the table first, fit_sparse(x, y)",
        ),
        (X, Y[:, None], "y: shape (40, 1) for 40 rows; give one value per row, such as y[:, 0]"),
        (X, pd.DataFrame(Y), "y: shape (40, 1) for 40 rows; give one value per row, such as y.iloc[:, 0]"),
        (X.T, Y, "y: shape (40,) for 5 rows; give x.T, with one row per value of y"),
        (X, ["good"] * 40, "y: it holds text, not real numbers; encode it as numbers"),
        (X, pd.Categorical(["good", None] * 20), "y: it holds text, not real numbers; encode it as numbers"),
        (X, np.array([None, "good"] * 20), "y: it holds text, not real numbers; encode it as numbers"),
        (X, np.full(40, np.datetime64("2026-01-02")), "y: it holds dates, not real numbers; give an array of numbers"),
        (None, Y, "x: it holds None, not real numbers; give an array of numbers"),
        ({"a": Y, "b": Y}, Y, "x: it holds a dict, not real numbers; give an array of numbers"),
        ([[1.0], [2.0, 3.0]] * 20, Y, "x: not convertible to an array (setting an array element with a sequence);"),
        (
            X,
            [1.0, None] * 20,
            "y: 20 missing or infinite values (first in row 1, last in row 39); fill them in or remove those rows",
        ),
    ],
)
def test_what_is_no_table_or_values_is_told_in_words(x: Any, y: Any, line: str) -> None:
    with pytest.raises(BadInput) as refused:
        fit_sparse(x, y)
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (
            range(39, -1, -1),
            "(row 0, counted from 0, is 0 in x and 39 in y); give y.loc[x.index] to pair rows by label, or",
        ),
        ([0, 2, 1, *range(3, 40)], "(row 1, counted from 0, is 1 in x and 2 in y); give y.loc[x.index] to"),
        (range(40), ""),
        (range(100, 140), ""),  # x is numbered from 0, which names nothing
    ],
)
def test_values_whose_rows_are_in_another_order_are_refused(labels: Any, line: str) -> None:
    y = pd.Series(Y, index=labels)
    with pytest.raises(BadInput) as refused:
        fit_sparse(TABLE[list("abcde")], y, pool=0)
    problem = f"y: its row labels are not in the order of x {line}"
    assert str(refused.value).startswith(problem if line else "pool: 0")


def test_values_whose_rows_are_named_otherwise_are_refused() -> None:
    x, y = (pd.DataFrame(X, index=[f"{name}{i}" for i in range(40)]) for name in "ab")
    with pytest.raises(BadInput, match=r"is 'a0' in x and 'b0' in y\); give y.to_numpy\(\) to pair rows by position"):
        fit_sparse(x, y[0])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"compare": "yes"}, "compare: 'yes' is neither true nor false; use true or false"),
        ({"compare": None}, "compare: None is neither true nor false; use true or false"),
        ({"seed": True}, "seed: True is not a whole number; use a whole number 0 or more"),
        ({"seed": -1}, "seed: -1 is not allowed; use a whole number 0 or more"),
        ({"seed": 2**70}, "seed: 1180591620717411303424 is too large (at most 9223372036854775807); use a whole"),
    ],
)
def test_flags_and_seeds_are_checked(options: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput) as refused:
        fit_sparse(X, Y, **options)
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"neurons": 10**9}, r"neurons: the fit needs .* GiB, 4 GiB allowed; raise memory or give fewer neurons"),
        ({"neurons": 10**5}, r"neurons: the fit needs .* GiB, 4 GiB allowed; raise memory or give fewer neurons"),
        ({"biases": 10**9}, r"biases: the fit needs .* GiB, 4 GiB allowed; raise memory or give fewer biases"),
        ({"memory": 100}, r"x: the fit needs .* MiB, 100 B allowed, for 5 columns; raise memory or leave columns out"),
    ],
)
def test_what_does_not_fit_the_memory_is_refused_before_it_compiles(
    options: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax.stages.Traced, "lower", lambda *_, **__: pytest.fail("compiled"))
    with pytest.raises(BadInput, match=f"^{line}$"):
        fit_sparse(X, Y, compare=False, **options)


def test_numbers_kept_as_objects_are_numbers() -> None:
    how: dict[str, Any] = {"pool": 1, "biases": 1, "neurons": 8, "compare": False}
    plain, found = fit_sparse(X, Y, **how), fit_sparse(X.astype(object), Y.astype(object), **how)
    np.testing.assert_array_equal(plain.predict(X), found.predict(X))


def test_rows_of_other_columns_are_refused(found: SparseFit) -> None:
    with pytest.raises(BadInput, match="24 columns"):
        found.predict(np.ones((3, 5)))
    with pytest.raises(BadInput, match="^x: 24 of 72 values are masked; remove"):
        found.predict(np.ma.masked_equal(np.repeat([[0], [1], [2]], DIM, axis=1), 1))


def test_missing_numbers_are_refused_by_predict_where_it_reads_them(found: SparseFit) -> None:
    x = np.ones((3, DIM))
    x[:, 4] = np.nan
    assert np.isfinite(found.predict(x)).all()
    x[1, 7] = np.nan
    with pytest.raises(BadInput, match=r"^x: 1 missing or infinite values in column 7 \(from 0\) \(row 1\); fill"):
        found.predict(x)
    fit = fit_sparse(TABLE, Y, pool=1, biases=1, neurons=8, compare=False)
    name = fit.kept_names[0]
    words = f"^x: 40 missing or infinite values in column '{name}' .first in row 0, last in row 39.; fill"
    with pytest.raises(BadInput, match=words):
        fit.predict(TABLE.assign(**{name: np.nan}))


def test_columns_of_a_table_keep_their_names_and_are_found_by_them():
    rng = np.random.default_rng(3)
    x = pd.DataFrame(rng.normal(size=(200, 5)), columns=list("abcde")).assign(flag=rng.uniform(size=200) < 0.5)
    y = x["c"] ** 2
    fit = fit_sparse(x, y, pool=1, biases=1, neurons=8, compare=False)
    plain = fit_sparse(x.to_numpy(float), y.to_numpy(), pool=1, biases=1, neurons=8, compare=False)
    assert fit.names == ("a", "b", "c", "d", "e", "flag")
    assert fit.kept_names is not None
    assert "c" in fit.kept_names
    numbered = fit_sparse(x.set_axis(range(6), axis=1), y, pool=1, biases=1, neurons=8, compare=False)
    for found, given in ((fit, x), (numbered, x.set_axis(range(6), axis=1))):
        np.testing.assert_array_equal(found.predict(given[found.kept_names]), found.predict(given))
    assert (plain.names, plain.kept_names) == (None, None)
    expected = plain.predict(x.to_numpy(float)[:7])
    np.testing.assert_array_equal(fit.predict(x[:7]), expected)
    np.testing.assert_array_equal(fit.predict(x[:7].assign(other=1.0)[["other", *"edcba", "flag"]]), expected)
    dropped = [name for name in fit.names if name not in fit.kept_names]
    assert dropped
    np.testing.assert_array_equal(fit.predict(x[:7].drop(columns=dropped)), expected)
    np.testing.assert_array_equal(fit.predict(x[:7].assign(**{dropped[0]: "not looked at"})), expected)
    with pytest.raises(BadInput, match="^x: there is no column 'c'; give a table with all columns in fit.kept_names$"):
        fit.predict(x.drop(columns="c"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.assign(city="Rome"), "column 'city' does not hold numbers; encode it"),
        (
            lambda x: x.assign(text="1.5"),
            r"column 'text' holds numbers as text; convert them, x\['text'\].astype\(float\)",
        ),
        (lambda x: x.assign(when=pd.Timestamp(0)), "column 'when' does not hold numbers; encode it"),
        (lambda x: x.mask((x.index >= 5)[:, None] & (x.columns == "b")), "35 missing or infinite values in column 'b'"),
        (
            lambda x: x.mask((x.index == 4)[:, None] & (x.columns != "")),
            r"3 missing or infinite values in 3 columns, the first 'a' \(row 4\)",
        ),
        (lambda x: x.assign(n=pd.array([1, None] * 20, "Int64")), "20 missing or infinite values in column 'n'"),
        (lambda x: x.assign(b=1.0, c=2.0), "columns 'b', 'c' do not vary on the rows trained on; leave them out$"),
        (lambda x: x.assign(b=1.0), "column 'b' does not vary on the rows trained on; leave it out$"),
        (
            lambda x: x.assign(b=x["b"] * 1e300),
            "numbers in column 'b' are so large, or differ by so little, that their squared",
        ),
        (lambda x: x.set_axis(["a", "b", "a"], axis=1), "two columns have the same name; rename one"),
    ],
)
def test_what_a_table_holds_besides_numbers_is_named(change, words):
    x = change(pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc")))
    with pytest.raises(BadInput, match=f"^x: {words}"):
        fit_sparse(x, np.arange(40.0))


def test_what_is_printed_of_a_fit_is_a_few_lines(found: SparseFit) -> None:
    named = found._replace(names=tuple(f"c{i}" for i in range(DIM)))
    for fit, first in ((found, "3, "), (named, "c3, ")):
        head, risks, *_ = repr(fit).splitlines()
        assert head.startswith(f"SparseFit: keeps {len(fit.coordinates)} of {DIM} columns, most useful first: {first}")
        assert f"this fit {fit.held_out_risk:.3g}, all columns {fit.unpruned_risk:.3g}" in risks
    assert "may be missing" not in repr(found._replace(resolution=None))
    alone = repr(found._replace(unpruned_risk=None, lasso_risk=None, lasso_kept=None))
    assert alone.splitlines()[1].endswith(f": this fit {found.held_out_risk:.3g}")


@pytest.mark.parametrize(("multiple", "least", "most"), [(0.003, 0.0, 0.4), (1.5, 0.9, 1.0)])
def test_columns_that_add_less_than_the_resolution_may_be_missing(multiple: float, least: float, most: float) -> None:
    """By the standard error of a rise: 1250 rows, of which 200 decide, five linear columns that each add as much."""
    noise, decide, shares = 0.5, 200, []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(1250, 12))
        rise = multiple * 28 * noise**2 / decide
        y = x[:, 0] + np.sqrt(rise) * x[:, 1:6].sum(axis=1) + noise * rng.normal(size=1250)
        fit = fit_sparse(x, y, compare=False, seed=seed, neurons=32)
        assert fit.resolution is not None
        assert fit.resolution * y.var() == pytest.approx(28 * noise**2 / decide, rel=0.3)
        assert f"less than about {fit.resolution:.2g} may be missing" in repr(fit)
        shares.append(np.isin(np.arange(1, 6), fit.coordinates).mean())
    assert least <= np.mean(shares) <= most


def test_weak_columns_that_the_scores_missed_are_found_by_the_residual() -> None:
    """Validation rows alone drop column 36 here, whose weight of 0.3 has t = 12 in least squares."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2000, 40))
    y = x[:, 3] + x[:, 12] + x[:, 30] ** 2 + 0.3 * x[:, 36] + rng.normal(size=2000)
    assert {3, 12, 30, 36} <= set(fit_sparse(x, y, compare=False).coordinates)


def test_a_fit_that_is_no_better_than_a_constant_says_so(found: SparseFit) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6))
    nothing = fit_sparse(x, rng.normal(size=300), neurons=16, compare=False)
    assert not nothing.beats_constant
    assert fit_sparse(x, x[:, 0], neurons=16, pool=2, compare=False).resolution is None
    assert repr(nothing).splitlines()[1].endswith("; this fit is no better than a constant")
    assert found.beats_constant
    assert "constant" not in repr(found)
