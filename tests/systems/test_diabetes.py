"""A diabetes table among columns of noise: split, standards, what is kept, and the error on the rows not trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso

from gpsense import datasets
from gpsense.errors import BadInput
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.pruning import inputs
from gpsense.sparse import samples
from gpsense.sparse.hermite import RELU
from gpsense.systems._coordinates import PrunedCoordinates
from gpsense.systems.diabetes import Diabetes

SYSTEM = Diabetes(noise_columns=20, neurons=16, bias_values=(0.5, -1.0), dtype="float64", residual="ols")


def given(stream) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a stream that count: columns (n, dim) and outputs with their offset."""
    seen = np.asarray(stream.given) > 0
    return np.asarray(stream.x)[: stream.dim, seen].T, np.asarray(stream.y)[seen]


def test_the_data_are_named_and_whole():
    columns, score = datasets.diabetes()
    assert columns.shape == (442, len(datasets.DIABETES_COLUMNS))
    assert (score.min(), score.max()) == (25, 346)
    np.testing.assert_allclose((columns**2).sum(axis=0), 1.0)


def test_rows_are_split_and_standardised_on_those_to_train_on():
    problem = SYSTEM.draw(Diabetes.Data(), jax.random.key(3))
    (x, y), (x_test, y_test) = given(problem.train), given(problem.test)
    assert (len(y), len(y_test), x.shape[1]) == (342, 100, 30)
    np.testing.assert_allclose(x[:, :10].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x[:, :10].std(axis=0), 1)
    np.testing.assert_allclose([y.mean(), y.var(), problem.variance], [0, 1, 1], atol=1e-12)
    assert float(problem.test.offset) == float(problem.train.offset)
    columns, score = datasets.diabetes()
    both = np.concatenate([x, x_test])[:, 2], np.concatenate([y, y_test])
    order = np.lexsort((both[1], both[0])), np.lexsort((score, columns[:, 2]))
    for mine, theirs in zip(both, (columns[:, 2], score), strict=True):
        assert np.corrcoef(mine[order[0]], theirs[order[1]])[0, 1] == pytest.approx(1, abs=1e-9)
    assert abs(np.concatenate([x, x_test])[:, 10:].std() - 1) < 0.05


def test_more_rows_and_more_noise_extend_fewer():
    draw = lambda n, noise: given(  # noqa: E731
        Diabetes(noise_columns=noise, pool=2, dtype="float64").draw(Diabetes.Data(n=n), jax.random.key(3)).train
    )[0]
    few, many = draw(100, 3), draw(200, 5)
    rows = {tuple(row) for row in many[:, 10:13]}
    assert {tuple(row) for row in few[:, 10:]} <= rows
    assert len(rows) == 200


@pytest.mark.slow
def test_a_cell_is_what_the_functions_say():
    """Scores on the training rows, and the network returned on the test rows by NumPy."""
    setting, keys = Diabetes.Setting(contraction=0.4), seed_keys(5)
    cell = jax.jit(lambda: run_cell(SYSTEM, Schedule(0, 0, 1), Diabetes.Data(), setting, keys))()
    problem = SYSTEM.draw(Diabetes.Data(), keys.problem)
    biases = jnp.asarray(SYSTEM.bias_values)
    mask = np.asarray(inputs.chosen(inputs.gradient_scores(problem.train, biases, 0.4, 5, RELU), 5))
    np.testing.assert_array_equal(cell["selected"], mask)
    counts = [float(cell[name]) for name in ("rank", "real", "noise_kept")]
    assert counts == [mask.sum(), mask[:10].sum(), mask[10:].sum()]
    assert not {"energy", "captured", "missed", "ahead"} & set(cell)
    assert set(cell) - {"state", "status", "status_train", "steps_train", "steps_fine_tune"} == set(SYSTEM.measures)
    x, y = given(problem.test)
    kept, net = jax.tree.map(np.asarray, (cell["state"].kept, cell["state"].run.factor))
    columns = np.where(kept.real, x[:, kept.coordinates], 0)
    predicted = np.maximum(columns @ net.weights + net.biases, 0) @ net.output + columns @ net.linear + net.intercept
    y = y - float(problem.train.offset)
    np.testing.assert_allclose(cell["error"], np.mean((predicted - y) ** 2) / y.var(), rtol=1e-9)
    np.testing.assert_allclose(cell["error_pruned"], cell["error"])
    assert 0.3 < cell["error"] < 0.9


def test_what_cannot_be_is_refused():
    for fields in ({"n": 29}, {"n": 403}, {"noise_columns": -1}, {"noise_columns": 0, "pool": 11}, {"rule": "best"}):
        with pytest.raises(BadInput, match="use"):
            Diabetes(**fields)
    names = {"dim", "link", "sparsity", "spread", "softness", "directions", "test"}
    assert not names & set(Diabetes.__dataclass_fields__)
    problem = SYSTEM.draw(Diabetes.Data(), jax.random.key(0))
    mask, score = SYSTEM.oracle(problem)
    found = SYSTEM.measure_kept(problem, PrunedCoordinates(mask, score, jnp.int32(0)))
    assert {name: float(value) for name, value in found.items()} == {"real": 10.0, "noise_kept": 0.0}
    wide, narrow = (Diabetes(noise_columns=noise).cost() for noise in (400, 200))
    assert wide.problem_bytes > 1.5 * narrow.problem_bytes > 1.5 * 8 * 442 * 210
    assert wide.once > narrow.once


@pytest.mark.parametrize("method", ["lasso", "truncated_power"])
def test_baselines_find_one_direction_in_all_samples_and_without_those_held_out(method):
    system, setting = Diabetes(method=method, noise_columns=20, dtype="float64"), Diabetes.Setting()

    def pruned(problem):
        return system.learner.prune(problem, setting, system.learner.start(problem, setting, seed_keys(0)))

    assert system.oracle_sizes == (1, 10)
    problem = jax.jit(system.draw)(Diabetes.Data(), jax.random.key(0))
    assert jax.eval_shape(pruned, problem).directions.shape == (2, 30, 1)
    if method == "lasso":
        _lasso_is_refitted(problem, np.asarray(jax.jit(pruned)(problem).directions)[..., 0])


def _lasso_is_refitted(problem, found):
    """The penalty that the held-out fifth chooses, for a fit to all rows and for one to the others, by scikit-learn."""

    def part(number):
        block = problem.train.seen_as(number).block(jnp.int32(0), None)
        used = np.asarray(block.used) > 0
        x, y = np.asarray(block.x)[: problem.train.dim, used].T, np.asarray(block.y)[used]
        return x, y - y.mean()

    whole, fit, (x_held, y_held) = (part(number) for number in (samples.ALL, samples.FIT, samples.HELD))
    penalties = np.abs(fit[0].T @ fit[1]).max() / len(fit[1]) * np.logspace(0, -3, 40)
    fitted = lambda penalty, rows: Lasso(alpha=penalty, fit_intercept=False, tol=1e-8).fit(*rows)  # noqa: E731
    path = [fitted(penalty, fit) for penalty in penalties]
    best = penalties[np.argmin([np.mean((y_held - model.predict(x_held)) ** 2) for model in path])]
    np.testing.assert_allclose(found, [fitted(best, rows).coef_ for rows in (whole, fit)], atol=1e-4)
