"""Tickets of one's own networks: an MLP and a convolution, what is 0 in them, and everything that is refused."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

from gpsense.descent import BUDGET, COLLAPSED, DIVERGED, RUNNING
from gpsense.errors import BadInput
from gpsense.estimators import Tickets, find_tickets
from gpsense.estimators.find_tickets import TicketSearch, TicketsSetting, _with_law
from gpsense.keys import seed_keys
from gpsense.pruning.weight_scores import WEIGHT_RULES
from gpsense.systems._networks import NetworkModel, NetworkProblem
from gpsense.tickets import host
from gpsense.tickets.network import CRITERIA, Samples, Task

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5))
LABELS = (X[:, 0] > 0) * 1 + (X[:, 1] > 0) * 1
TRAIN, TEST = (X[:60], LABELS[:60]), (X[60:], LABELS[60:])


def mlp(key: Any) -> eqx.nn.MLP:
    return eqx.nn.MLP(5, 3, 8, 1, key=key)


class Convolution(eqx.Module):
    """Filters of three, the mean over places, two outputs: 12 and 8 weights that can be pruned."""

    filters: eqx.nn.Conv1d
    last: eqx.nn.Linear

    def __init__(self, key: Any):
        first, second = jax.random.split(key)
        self.filters = eqx.nn.Conv1d(1, 4, 3, key=first)
        self.last = eqx.nn.Linear(4, 2, key=second)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(jnp.mean(jax.nn.relu(self.filters(x)), axis=1))


@pytest.mark.slow
def test_tickets_of_a_convolution(tmp_path: Any) -> None:
    """Weights are 0 where pruned and nowhere else, steps are those of two rounds, the network has the error told."""
    targets = np.stack([X[:, 0] * X[:, 1], X[:, 2]], axis=1)
    train, test = ((X[rows, None], targets[rows]) for rows in (slice(60), slice(60, 90)))
    absolute = lambda outputs, targets: jnp.sum(jnp.abs(outputs - targets), axis=1)  # noqa: E731
    how: dict[str, Any] = {"loss": "squared", "error": absolute, "kept": (1.0, 0.3), "seeds": (0, 5), "steps": 20}
    how |= {"share": 0.45, "rate": 0.05, "optimizer": "momentum", "batch": 8}
    tickets = find_tickets(Convolution, train, test, rules=("iterative_magnitude",), **how)
    found = tickets.results
    assert found["error"].dims == ("rule", "seed", "kept")
    assert (found["rank"] == np.array([20, 6])).all()
    assert (found["steps_train"] == np.array([0, 40])).all()
    assert (found["steps_fine_tune"] == 20).all()
    assert (found["error"] < found["error_curve"].isel(step=0)).all()
    networks = {}
    for share in (1.0, 0.3):
        networks[share] = network = tickets.network("iterative_magnitude", share, 5)
        cell = found.sel(rule="iterative_magnitude", kept=share, seed=5)
        assert isinstance(network, Convolution)
        kept = np.asarray(network.filters.weight != 0).sum() + np.asarray(network.last.weight != 0).sum()
        assert kept == int(cell["rank"])
        assert (np.asarray(network.filters.bias) != 0).all()
        assert (np.asarray(network.last.bias) != 0).all()
        outputs = np.asarray(jax.vmap(network)(jnp.asarray(test[0])))
        np.testing.assert_allclose(np.abs(outputs - test[1]).sum(1).mean(), cell["error"], rtol=1e-12)
    other = tickets.network("iterative_magnitude", 1.0, 0)
    assert (other.last.weight != networks[1.0].last.weight).all()
    for cell, line in (
        (("iterative_magnitude", 0.5, 5), r"^kept: there is no 0.5; .*use one of 1.0, 0.3$"),
        (("iterative_magnitud", 0.3, 5), "^rule: there is no 'iterative_magnitud'; did you mean iterative_magnitude"),
        (("iterative_magnitude", 0.3, 7), "^seed: there is no 7; .*use one of"),
        (("iterative_magnitude", np.array([0.3]), 5), r"^kept: there is no array\(\[0.3\]\); use one of 1.0, 0.3$"),
    ):
        with pytest.raises(BadInput, match=line):
            tickets.network(*cell)
    told = r"^network: missing a required argument: 'seed'; call network\(rule=..., kept=..., seed=...\)"
    with pytest.raises(BadInput, match=told):
        tickets.network("iterative_magnitude", 0.3)
    with pytest.raises(BadInput, match="^seeds: network has no such argument; did you mean seed"):
        tickets.network("iterative_magnitude", 0.3, seeds=5)
    with pytest.raises(BadInput, match=r"^load: missing a required argument: 'make'; call load\(path=..., make=...\)"):
        Tickets.load(tmp_path)
    for path in (tmp_path, 3):
        with pytest.raises(BadInput, match="^path: .* is not a file; give the name of a file to write"):
            tickets.save(path)
        with pytest.raises(BadInput, match="^path: .* is not a file of tickets"):
            Tickets.load(path, Convolution)


@pytest.mark.parametrize(
    ("make", "loss", "words"),
    [
        (lambda key: eqx.nn.Linear(5, 4, use_bias=False, key=key), "squared", "yes, if inputs"),
        (lambda key: eqx.nn.Linear(5, 4, key=key), "squared", "no: 1 more array is trained, such as biases"),
        (
            mlp,
            "cross_entropy",
            "no: the loss is not the squared one; 2 arrays are pruned, not one layer of neurons; ",
        ),
    ],
)
def test_the_law_of_samples_is_told_with_whether_it_applies(make: Any, loss: str, words: str) -> None:
    model = NetworkModel(Task(make, (5,)), 60, None, "float64")
    results = xr.Dataset({"rank": (("kept",), [20.0, 5.0])})
    law = _with_law(results, model, CRITERIA[loss])["samples_law"]
    np.testing.assert_allclose(law, [24, 6])
    assert law.attrs["applies"].startswith(words)


class ImageNorm(eqx.Module):
    """A norm over an image, whose gains have two axes, and a linear layer."""

    norm: eqx.nn.LayerNorm
    linear: eqx.nn.Linear

    def __init__(self, key: Any):
        self.norm, self.linear = eqx.nn.LayerNorm((2, 3)), eqx.nn.Linear(6, 3, key=key)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear(self.norm(jnp.concatenate([x, x[:1]]).reshape(2, 3)).ravel())


class Words(eqx.Module):
    """An embedding of whole numbers, and a linear layer used twice."""

    embedding: eqx.nn.Embedding
    shared: eqx.nn.Shared

    def __init__(self, key: Any):
        one, two, three = jax.random.split(key, 3)
        self.embedding = eqx.nn.Embedding(7, 3, key=one)
        pair = eqx.nn.Linear(3, 3, key=two), eqx.nn.Linear(3, 3, key=three)
        self.shared = eqx.nn.Shared(pair, lambda both: both[1].weight, lambda both: both[0].weight)

    def __call__(self, x: jax.Array) -> jax.Array:
        first, second = self.shared()
        return second(jax.nn.relu(first(jnp.mean(jax.vmap(self.embedding)(x), axis=0))))


class TiedWords(eqx.Module):
    """A language model's table of words, whose transpose is the last layer, and a hidden layer."""

    tied: eqx.nn.Shared
    hidden: eqx.nn.Linear

    def __init__(self, key: Any):
        one, two, three = jax.random.split(key, 3)
        self.hidden = eqx.nn.Linear(3, 3, key=two)
        pair = eqx.nn.Embedding(7, 3, key=one), eqx.nn.Linear(3, 7, use_bias=False, key=three)
        self.tied = eqx.nn.Shared(pair, lambda both: both[1].weight, lambda both: both[0].weight)

    def __call__(self, x: jax.Array) -> jax.Array:
        table, last = self.tied()
        return last(jax.nn.relu(self.hidden(jnp.mean(jax.vmap(table)(x), axis=0))))


def zero_last_layer(key: Any) -> eqx.nn.MLP:
    return eqx.tree_at(lambda m: m.layers[-1].weight, mlp(key), jnp.zeros((3, 8)))


def huge(key: Any) -> eqx.nn.MLP:
    return jax.tree.map(lambda leaf: 1e200 * leaf if eqx.is_array(leaf) else leaf, mlp(key))


def twice(key: Any) -> eqx.nn.Sequential:
    linear = eqx.nn.Linear(5, 5, key=key)
    return eqx.nn.Sequential([linear, eqx.nn.Lambda(jax.nn.relu), linear])


def after(key: Any, function: Any) -> eqx.nn.Sequential:
    return eqx.nn.Sequential([mlp(key), eqx.nn.Lambda(function)])


SIZES = itertools.count(3)  # of a network that is another at each call
RUN: dict[str, Any] = {"steps": 10, "seeds": 2, "optimizer": "momentum", "rate": 0.1}


def test_gains_of_a_norm_over_an_image_are_left_alone() -> None:
    """A third of 18 weights stays; labels are whole numbers stored as floats, or one-hot rows."""
    train, test = (X[:60], LABELS[:60].astype(float)), (X[60:], np.eye(3)[LABELS[60:]])
    tickets = find_tickets(ImageNorm, train, test, rules="iterative_magnitude", kept=1 / 3, **RUN)
    found = tickets.results
    assert list(found["layer"].values) == ["linear.weight"]
    np.testing.assert_allclose(found["kept_by_layer"], 1 / 3)
    assert (found["status"] == BUDGET).all()
    assert not tickets.notices
    network = tickets.network("iterative_magnitude", 1 / 3, 1)
    assert (np.asarray(network.linear.weight) != 0).sum() == 6
    assert (np.asarray(network.norm.weight) != 0).all()
    wrong = np.argmax(np.asarray(jax.vmap(network)(jnp.asarray(X[60:]))), axis=1) != LABELS[60:]
    np.testing.assert_allclose(wrong.mean(), found["error"].sel(seed=1).item(), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("prune", [None, ("embedding", "!shared")])
def test_embeddings_take_whole_numbers_and_stay_and_shared_weights_are_one(prune: Any) -> None:
    """The embedding is not pruned, the shared weight is one array of 9; ``prune`` asks for the table instead."""
    words = np.random.default_rng(1).integers(0, 7, (40, 5))
    data = words, words[:, 0] % 3
    tickets = find_tickets(Words, data, data, rules="synflow", kept=1 / 3, prune=prune, **RUN)
    assert list(tickets.results["layer"].values) == ["embedding.weight" if prune else "shared.pytree.0.weight"]
    assert (tickets.results["rank"] == (7 if prune else 3)).all()
    network = tickets.network("synflow", 1 / 3, 0)
    first, second = network.shared()
    assert first.weight is second.weight
    assert (np.asarray(network.embedding.weight) != 0).sum() == (7 if prune else 21)
    assert (np.asarray(first.weight) != 0).sum() == (9 if prune else 3)


@pytest.mark.slow
def test_a_table_of_words_that_is_the_last_layer_too_stays() -> None:
    words = np.random.default_rng(1).integers(0, 7, (40, 5))
    tickets = find_tickets(TiedWords, (words, words[:, 0]), (words, words[:, 0]), rules="snip", kept=1 / 3, **RUN)
    assert list(tickets.results["layer"].values) == ["hidden.weight"]
    table, last = tickets.network("snip", 1 / 3, 0).tied()
    assert table.weight is last.weight
    assert (np.asarray(table.weight) != 0).all()


def test_a_layer_that_loses_all_its_weights_is_told() -> None:
    """GraSP's scores of a layer that starts at zero are 0; its share, the status and a warning say that it is gone."""
    with pytest.warns(UserWarning, match="layer collapse: rule grasp left no weight of layers.1.weight in 2 of 4"):
        tickets = find_tickets(zero_last_layer, TRAIN, TEST, rules="grasp", kept=(1.0, 0.3), **RUN)
    found = tickets.results.sel(rule="grasp")
    np.testing.assert_allclose(found["kept_by_layer"].sel(kept=0.3), [[19 / 40, 0], [19 / 40, 0]])
    np.testing.assert_allclose(found["kept_by_layer"].sel(kept=1.0), 1.0)
    assert (found["status"].sel(kept=0.3) == COLLAPSED).all()
    assert (found["status"].sel(kept=1.0) == BUDGET).all()
    assert np.isfinite(found["error"]).all()
    assert "collapsed" in found["status"].attrs["flag_meanings"]
    assert (tickets.results.attrs["notices"],) == tickets.notices
    head, errors, notice, _ = repr(tickets).splitlines()
    assert head == "Tickets over 2 seeds; median error at shares kept 1, 0.3:"
    assert errors.split() == [
        "grasp:",
        *(f"{found['error'].sel(kept=k).median():.3g}{e}" for k, e in ((1, ","), (0.3, ""))),
    ]
    assert notice.strip() == tickets.notices[0]


def test_cells_that_diverge_are_told() -> None:
    with pytest.warns(UserWarning, match=r"^2 of 2 cells diverged \(status 3\): lower the rate$"):
        tickets = find_tickets(mlp, TRAIN, TEST, rules="magnitude", kept=0.3, **(RUN | {"rate": 1e30}))
    assert "2 of 2 cells diverged (status 3): lower the rate" in repr(tickets)


def test_an_error_of_ones_own_may_count_mistakes_as_booleans_or_whole_numbers() -> None:
    wrong = lambda outputs, targets: jnp.argmax(outputs, axis=-1).astype(targets.dtype) != targets  # noqa: E731
    as_whole = lambda outputs, targets: wrong(outputs, targets).astype(int)  # noqa: E731
    errors = [
        find_tickets(mlp, TRAIN, TEST, rules="magnitude", kept=0.3, error=error, **RUN).results["error"].values
        for error in ("misclassified", wrong, as_whole)
    ]
    assert errors[0].min() < errors[0].max() or 0 < errors[0].min() < 1
    np.testing.assert_array_equal(errors[1], errors[0])
    np.testing.assert_array_equal(errors[2], errors[0])


def test_scores_that_cannot_order_weights_stop_a_cell_of_a_grid() -> None:
    """Where nothing looks at the scores before a grid is run, such a cell has diverged from its start."""
    task = Task(zero_last_layer, (5,))
    samples = Samples(jnp.asarray(X), jnp.asarray(LABELS, jnp.int32), jnp.ones(90))
    status = {}
    for rule in ("snip", "magnitude"):
        system = TicketSearch(task=task, samples=NetworkProblem(samples, samples), n=90, rule=rule, dtype="float64")
        start = jax.jit(
            lambda keys, system=system: system.learner.start(system.samples, TicketsSetting(kept=0.5), keys)
        )
        status[rule] = int(start(seed_keys(0)).status)
    assert status == {"snip": DIVERGED, "magnitude": RUNNING}


class Careless(eqx.Module):
    """A dropout that is given no key."""

    linear: eqx.nn.Linear

    def __init__(self, key: Any):
        self.linear = eqx.nn.Linear(5, 3, key=key)

    def __call__(self, x: jax.Array) -> jax.Array:
        return eqx.nn.Dropout()(self.linear(x))


class Stateful(eqx.Module):
    """A convolution, batch norm, dropout and three outputs."""

    filters: eqx.nn.Conv1d
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key: Any):
        first, second = jax.random.split(key)
        self.filters, self.norm = eqx.nn.Conv1d(1, 2, 2, key=first), eqx.nn.BatchNorm(2, "rows", mode="batch")
        self.dropout, self.last = eqx.nn.Dropout(0.1), eqx.nn.Linear(8, 3, key=second)

    def __call__(self, x: jax.Array, state: Any, key: Any = None) -> tuple[jax.Array, Any]:
        x, state = self.norm(self.filters(x.reshape(1, 5)), state)
        return self.last(self.dropout(jax.nn.relu(x).ravel(), key=key)), state


class Counted(eqx.Module):
    """A layer of spectral norm, whose state is two vectors, and a state of one's own: how many passes there were."""

    first: eqx.nn.SpectralNorm
    last: eqx.nn.Linear
    passes: eqx.nn.StateIndex

    def __init__(self, key: Any):
        one, two, three = jax.random.split(key, 3)
        self.first = eqx.nn.SpectralNorm(eqx.nn.Linear(5, 6, key=one), "weight", key=two)
        self.last, self.passes = eqx.nn.Linear(6, 3, key=three), eqx.nn.StateIndex(jnp.asarray(0))

    def __call__(self, x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        x, state = self.first(x, state)
        return self.last(jax.nn.relu(x)), state.set(self.passes, state.get(self.passes) + 1)


def counted(key: Any) -> Any:
    return eqx.nn.make_with_state(Counted)(key)


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_states_go_from_step_to_step_as_in_a_plain_loop(optimizer: str) -> None:
    """Four steps on all samples; the state is no parameter, and nothing of it is pruned."""
    x, labels = jnp.asarray(TRAIN[0]), jnp.asarray(TRAIN[1], jnp.int32)
    samples = Samples(x, labels, jnp.ones(60))
    task = Task(counted, (5,))
    how: dict[str, Any] = {"rule": "magnitude", "optimizer": optimizer, "round_steps": 4, "dtype": "float64"}
    system = TicketSearch(task=task, samples=NetworkProblem(samples, samples), n=60, **how)
    learner, setting = system.learner, TicketsSetting(kept=0.5, share=0.5, rate=0.1)
    assert system.model.layers == ["first.layer.weight", "last.weight"]

    @jax.jit
    def trained(keys: Any) -> Any:
        state = learner.start(system.samples, setting, keys)
        found = learner.train(system.samples, setting, state, 4)
        return learner.numbers.tree(state.run.factor), learner.numbers.tree(found.run.factor)

    @jax.jit
    def looped(start: Any) -> Any:
        made, state = counted(jax.random.key(0))
        still = eqx.partition(made, eqx.is_array)[1]
        state = jax.tree.unflatten(jax.tree.structure(state), [*start.state[:-1], start.state[-1].astype(int)])
        arrays, adam = start.arrays, {"gd": optax.sgd, "adam": optax.adam}[optimizer](0.1)
        memory = adam.init(arrays)

        def loss(arrays: Any, state: Any) -> Any:
            module = eqx.combine(arrays, still)
            outputs, state = jax.vmap(module, in_axes=(0, None), out_axes=(0, None))(x, state)
            return jnp.mean(CRITERIA["cross_entropy"].function(outputs, labels)), state

        for _ in range(4):
            gradient, state = jax.grad(loss, has_aux=True)(arrays, state)
            moves, memory = adam.update(gradient, memory)
            arrays = optax.apply_updates(arrays, moves)
        return arrays, jax.tree.leaves(state)

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        start, found = trained(seed_keys(3))
        expected = looped(start)
    for one, other in zip(jax.tree.leaves((found.arrays, found.state)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert int(found.state[-1]) == 4
    assert np.abs(np.asarray(found.state[0] - start.state[0])).max() > 1e-3


@pytest.mark.slow
def test_tickets_with_a_state_are_the_networks_whose_error_is_told() -> None:
    how: dict[str, Any] = {"rules": ("magnitude",), "kept": (1.0, 0.5), "share": 0.5, "batch": 15, **RUN}
    tickets = find_tickets(counted, TRAIN, TEST, **how)
    network, state = tickets.network("magnitude", 0.5, 0)
    over_rows = jax.vmap(eqx.nn.inference_mode(network), in_axes=(0, None), out_axes=(0, None))
    outputs = over_rows(jnp.asarray(TEST[0]), state)[0]
    wrong = np.mean(np.argmax(outputs, axis=1) != TEST[1])
    np.testing.assert_allclose(wrong, tickets.results["error"].sel(rule="magnitude", kept=0.5).values[0], atol=1e-12)


def test_rows_on_the_host_make_the_same_losses_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 60 rows blocks of 8 are read, in a batch of cells, too."""
    monkeypatch.setattr(host, "BLOCK_BYTES", 8 * 5 * 8)
    x, labels = TRAIN[0], jnp.asarray(TRAIN[1], jnp.int32)
    rows = host.HostRows(x, "float64")
    assert rows.block == 8
    assert len(list(rows.blocks())) == 8
    model = NetworkModel(Task(mlp, (5,)), 60, 7, "float64")

    @jax.jit
    def both(keys: Any) -> Any:
        def one(key: Any) -> Any:
            params, found = model.start(None, None, None, key), []  # pyright: ignore
            for inputs in (rows, jnp.asarray(x)):
                samples = Samples(inputs, labels, jnp.ones(60))
                problem = NetworkProblem(samples, samples)
                found.append(
                    [model.value_and_gradient(problem, params), model.sampled_gradient(problem, params, key, 0)]
                )
            return found

        return jax.vmap(one)(keys)

    found, expected = both(jax.random.split(jax.random.key(2), 3))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert repr(rows) == repr(host.HostRows(x.copy(), "float64"))
    assert repr(rows) != repr(host.HostRows(x + 1e-9, "float64"))


def test_what_needs_all_rows_at_once_is_refused_of_rows_on_the_host(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", TRAIN[0])
    there = np.load(tmp_path / "x.npy", mmap_mode="r"), TRAIN[1]
    with pytest.raises(BadInput, match="^batch: the training inputs stay on the host"):
        find_tickets(mlp, there, TEST)
    with pytest.raises(BadInput, match="^make: the network's state is computed from all training inputs"):
        find_tickets(counted, there, TEST, batch=10)


@pytest.mark.slow
def test_tickets_of_a_memory_map_are_those_of_the_array(tmp_path: Any) -> None:
    """The same call resumes; other contents of the file are another run."""
    np.save(tmp_path / "x.npy", TRAIN[0])
    how = {"rules": ("snip",), "kept": (1.0, 0.5), "share": 0.5, "batch": 15, **RUN}
    expected = find_tickets(mlp, TRAIN, TEST, **how).results
    there = np.load(tmp_path / "x.npy", mmap_mode="r"), TRAIN[1]
    how |= {"out": tmp_path / "run"}
    for _ in range(2):
        found = find_tickets(mlp, there, TEST, **how).results
        for name in expected.data_vars:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    np.save(tmp_path / "x.npy", TRAIN[0] + 1)
    there = np.load(tmp_path / "x.npy", mmap_mode="r"), TRAIN[1]
    with pytest.raises(BadInput, match="another"):
        find_tickets(mlp, there, TEST, **how)


@pytest.mark.slow
def test_batch_norm_and_dropout_early_stopping_files_and_resuming(tmp_path: Any) -> None:
    """The network loaded from a file has the error told; the same call reads its chunks; the early stop is the least
    recorded loss on the validation samples."""
    make = lambda key: eqx.nn.make_with_state(Stateful)(key)  # noqa: E731
    how = {"rules": ("synflow",), "kept": (1.0, 0.5), "share": 0.5, "batch": 15, "prune": "!last"}
    how |= {"validation": (X[40:60], LABELS[40:60]), "record_every": 5, "out": tmp_path / "run", **RUN}
    tickets = find_tickets(make, (X[:40], LABELS[:40]), TEST, **how)
    found = tickets.results
    assert list(found["layer"].values) == ["filters.weight"]
    alone = found.isel(step=slice(-2, None))
    np.testing.assert_array_equal(found["stop_step"], 5 + 5 * np.argmin(alone["validation_curve"].values, axis=-1))
    least = np.argmin(alone["validation_curve"].values, axis=-1)
    expected = np.take_along_axis(alone["error_curve"].values, least[..., None], -1)[..., 0]
    np.testing.assert_array_equal(found["stop_error"], expected)
    chunks = sorted((tmp_path / "run" / "chunks").iterdir())
    times = [chunk.stat().st_mtime_ns for chunk in chunks]
    again = find_tickets(make, (X[:40], LABELS[:40]), TEST, **how)
    assert [chunk.stat().st_mtime_ns for chunk in sorted((tmp_path / "run" / "chunks").iterdir())] == times
    xr.testing.assert_identical(again.results, found)
    with pytest.raises(BadInput, match="another"):
        find_tickets(make, (X[:40], LABELS[:40]), (X[59:], LABELS[59:]), **how)
    with pytest.raises(BadInput, match="^path: there is no folder .*none; make it first"):
        tickets.save(tmp_path / "none" / "tickets.nc")
    tickets.save(tmp_path / "tickets.nc")
    for path in (tmp_path / "tickets.nc", tmp_path / "run" / "results.nc"):
        network, state = Tickets.load(path, make).network("synflow", 0.5, 1)
        assert (np.asarray(network.filters.weight) != 0).sum() == 2
        run = jax.vmap(eqx.nn.inference_mode(network), in_axes=(0, None), axis_name="rows")
        outputs, _ = run(jnp.asarray(X[60:]), state)
        error = np.mean(np.argmax(np.asarray(outputs), axis=1) != LABELS[60:])
        np.testing.assert_allclose(error, found["error"].sel(rule="synflow", kept=0.5, seed=1).item(), rtol=1e-12)
    with pytest.raises(BadInput, match="its network has 75 weights, the tickets in .* have 37") as refused:
        Tickets.load(tmp_path / "tickets.nc", lambda key: mlp(key))
    assert refused.value.field == "make"
    with pytest.raises(BadInput, match="is not a file of tickets"):
        Tickets.load(tmp_path / "nothing.nc", make)


class TwoHeads(eqx.Module):
    """Two outputs of different shapes."""

    body: eqx.nn.Linear
    heads: list

    def __init__(self, key: Any):
        keys = jax.random.split(key, 3)
        self.body = eqx.nn.Linear(5, 8, key=keys[0])
        self.heads = [eqx.nn.Linear(8, 1, key=keys[1]), eqx.nn.Linear(8, 3, key=keys[2])]

    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        x = jax.nn.relu(self.body(x))
        return {"number": self.heads[0](x)[0], "label": self.heads[1](x)}


@pytest.mark.slow
def test_several_outputs_with_a_loss_of_ones_own() -> None:
    """A regression and classes at once, targets side by side; SynFlow adds up the outputs of both."""

    def loss(outputs: Any, targets: Any) -> Any:
        label = targets[:, 1].astype(int)
        entropy = -jnp.take_along_axis(jax.nn.log_softmax(outputs["label"]), label[:, None], axis=1)[:, 0]
        return (outputs["number"] - targets[:, 0]) ** 2 + entropy

    targets = np.stack([X[:, 2] ** 2, LABELS], axis=1)
    data = (X[:60], targets[:60]), (X[60:], targets[60:])
    tickets = find_tickets(TwoHeads, *data, loss=loss, rules="synflow", kept=(1.0, 0.5), **RUN)
    assert (tickets.results["rank"] == np.array([72, 36])).all()
    assert (tickets.results["error"] < tickets.results["error_pruned"]).all()
    with pytest.raises(BadInput, match=r"outputs of shape \(60, 3\) and \(60,\)"):
        find_tickets(TwoHeads, TRAIN, TEST, **RUN)


class Counter(eqx.Module):
    weight: jax.Array
    calls: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.weight @ x


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"train": (X[:0], LABELS[:0])}, "train", "with the same n > 0"),
        ({"test": (X, LABELS[:5])}, "test", "with the same n > 0"),
        ({"test": (X[:, :4], LABELS)}, "train and test", r"of train has the shape \(5,\), one of test \(4,\); give"),
        ({"train": (X[:, 0], LABELS)}, "train", r"inputs have the shape \(90,\), with no axis for the features of one"),
        ({"train": X}, "train", "a ndarray is not a pair; give inputs and targets"),
        ({"train": (np.array([["a"]]), LABELS[:1])}, "train", "inputs hold text, not real numbers; encode it"),
        ({"train": (np.full_like(X, np.inf), LABELS)}, "train", "450 of 450 inputs are not finite"),
        ({"train": (np.full(X.shape, np.longdouble("1e400")), LABELS)}, "train", "450 inputs are (too large|not)"),
        ({"train": (X, LABELS + 2**40)}, "train", "90 of 90 targets are too large for int32"),
        ({"train": ([[1.0, 2.0], [3.0]], [0, 1])}, "train", "not convertible to an array"),
        (
            {"train": (X, ["cat"] * 90)},
            "train",
            r"targets hold text, not real numbers; number .*numpy.unique",
        ),
        ({"test": (X, np.array(["cat", None] * 45))}, "test", "targets hold text, not real"),
        ({"train": (X.astype("datetime64[s]"), LABELS)}, "train", "inputs hold dates, not real numbers"),
        ({"train": (None, LABELS)}, "train", "inputs hold None, not real numbers"),
        ({"train": (X, [1, None] * 45)}, "train", "45 of 90 targets are not finite"),
        ({"train": (X, LABELS, X)}, "train", "a tuple of 3 is not a pair"),
        (
            {"train": (X[:60], X[60:]), "test": (LABELS[:60], LABELS[60:])},
            "train and test",
            r"the first pair holds inputs and the second targets; give \(x_train, y_train\), \(x_test, y_test\)",
        ),
        ({"progress": "yes"}, "progress", "'yes' is neither true nor false; use true or false, or leave it out"),
        ({"seeds": jax.random.key(0)}, "seeds", "is not a whole number"),
        ({"share": 1e-9}, "steps", "rounds of 20 steps are more than 1000000000; give fewer steps, a larger share"),
        (
            {"optimizer": optax.adam(0.1)},
            "optimizer",
            "has its rate already; give a function of the rate, such",
        ),
        ({"loss": lambda outputs, targets: "a"}, "loss", "gives 'a' for 60 rows; return one number per row"),
        ({"loss": lambda outputs, targets: None}, "loss", "gives None for 60 rows; return one number per row"),
        ({"loss": lambda outputs, targets: 1.0}, "loss", r"gives shape \(\) for 60 rows"),
        ({"error": lambda outputs, targets: [[1.0], [2.0, 3.0]]}, "error", "gives a list of 2 for 60 rows"),
        (
            {"loss": lambda outputs, targets: jax.lax.complex(outputs[:, 0], outputs[:, 1])},
            "loss",
            "gives complex numbers",
        ),
        (
            {"loss": lambda outputs, targets: outputs[:, 0] > 0},
            "loss",
            "gives booleans, which have no gradient; return",
        ),
        (
            {"loss": lambda outputs, targets: np.asarray(outputs)[:, 0]},
            "loss",
            "use jax.numpy, .*NumPy",
        ),
        (
            {"error": lambda outputs, targets: jax.lax.complex(outputs[:, 0], outputs[:, 1])},
            "error",
            "gives complex numbers; return floating-point numbers",
        ),
        ({"make": lambda key: after(key, lambda out: out > 0)}, "make", "its network returns booleans; return"),
        ({"make": lambda key: eqx.nn.Lambda(np.sin)}, "make", "no arrays"),
        ({"make": lambda key: after(key, lambda out: np.asarray(out))}, "make", "cannot be traced .*; use jax.numpy"),
        ({"make": lambda key: after(key, lambda out: out if out[0] > 0 else -out)}, "make", "cannot be traced"),
        (
            {"make": lambda key: after(key, jnp.argmax)},
            "make",
            "its network returns whole numbers; return",
        ),
        ({"make": lambda key: after(key, lambda out: None)}, "make", "its network returns None; return outputs such"),
        (
            {"make": lambda key: eqx.nn.MLP(5, 3, next(SIZES), 1, key=key)},
            "make",
            "the structure of its network differs from call to call; draw its weights from key",
        ),
        ({"train": (X, LABELS + 1)}, "train", "labels from 1 to 3 for 3 outputs"),
        ({"test": (X, LABELS - 1)}, "test", "labels from -1 to 1"),
        ({"train": (X, LABELS + 0.5)}, "train", "not class numbers, one per row; give whole numbers"),
        ({"test": (X, np.ones((90, 3)))}, "test", "not class numbers, one per row; give .* one-hot rows"),
        ({"train": (np.ma.masked_greater(X, 2), LABELS)}, "train", "of 450 inputs are masked, the first in row"),
        ({"test": (X, np.ma.masked_equal(LABELS, 2))}, "test", "17 of 90 targets are masked, the first in row 1"),
        ({"make": twice}, "make", "the same Linear stands at layers.0 and at layers.2"),
        (
            {"prune": "!layers"},
            "prune",
            "'!layers' leaves no array to prune; let it select at least one of layers.0.weight",
        ),
        ({"make": lambda key: eqx.nn.LayerNorm(5)}, "prune", "has no weights to prune; name one of its arrays, wei"),
        ({"prune": "last.weight"}, "prune", "no array matches"),
        ({"prune": lambda path: True}, "prune", "the function fails for layers.0.weight"),
        ({"memory": "4 GB"}, "memory", "not a number of bytes"),
        ({"memory": 0}, "memory", "not a number of bytes"),
        ({"out": 3}, "out", "3 is not a path"),
        ({"kept": None}, "kept", "None is not a number"),
        ({"kept": None, "rules": "none"}, "kept", "None is not a number"),
        ({"make": zero_last_layer, "rules": "snip"}, "rules", r"seed 0 every weight scores 0 \(layers.1.weight"),
        ({"make": zero_last_layer, "rules": "synflow"}, "rules", "with synflow and seed 0 every weight scores 0"),
        ({"make": huge, "rules": "synflow"}, "rules", "scores by synflow are not finite in layers.0.weight, layers.1."),
        ({"make": Careless}, "make", "needs a random key"),
        ({"make": lambda key: eqx.nn.make_with_state(Stateful)(key)[0]}, "make", "needs a state"),
        ({"validation": (X[:, :4], LABELS)}, "train and validation", r"one of validation \(4,\); give both the shape"),
        ({"record_every": 7}, "record_every", "every 7 steps .* rounds of 20 steps; use a multiple or a divisor of 20"),
        ({"steps": 0}, "steps", "whole number"),
        ({"steps": True}, "steps", "whole number"),
        ({"score_rounds": 0}, "score_rounds", "whole number"),
        ({"score_rounds": 10**12, "rules": "synflow"}, "score_rounds", "whole number"),
        ({"make": lambda key: eqx.nn.MLP(5, 3, 10**6, 2, key=key), "rules": "snip"}, "memory", "one cell needs .*GiB"),
        ({"batch": 0}, "batch", "whole number"),
        ({"batch": 61}, "batch", "61 of 60"),
        ({"kept": (0.5, 0.0)}, "kept", "a number above 0 and at most 1, or leave it out$"),
        ({"share": 1.0}, "share", "above 0 and below 1"),
        ({"loss": "hinge"}, "loss", "cross_entropy, squared"),
        ({"loss": "misclassified"}, "loss", "there is no 'misclassified'"),
        ({"error": "hinge"}, "error", "misclassified, squared"),
        ({"loss": lambda outputs, targets: outputs}, "loss", r"gives shape \(60, 3\)"),
        ({"error": lambda outputs, targets: jnp.mean(outputs)}, "error", r"gives shape \(\)"),
        ({"loss": "squared"}, "loss", r"train's targets have the shape .* give as many numbers per row"),
        ({"rules": ("threshold",)}, "rules", "'threshold'"),
        ({"rules": ("snip", "snip")}, "rules", "repeats"),
        ({"seeds": 0}, "seeds", "a whole number from 1 to"),
        ({"seeds": (1, 1)}, "seeds", "the axis repeats a value"),
        ({"seeds": (0, -1)}, "seeds", "-1 is not allowed"),
        ({"rules": ()}, "rules", "empty"),
        ({"kept": ()}, "kept", "empty"),
        ({"rate": -1.0}, "rate", "above 0"),
        ({"rewind": "end"}, "rewind", "'end'"),
        ({"rewind_step": 20}, "rewind_step", "not in the first round of 20 steps; use less than 20"),
        ({"optimizer": "lbfgs"}, "optimizer", "lbfgs"),
        ({"make": lambda key: eqx.nn.MLP(4, 3, 8, 1, key=key)}, "make", "cannot be run on one input of shape"),
        ({"make": lambda key: eqx.nn.Conv2d(1, 3, 2, key=key)}, "make", r"\(Input to `Conv` needs to have rank 3, but"),
        ({"make": mlp(jax.random.key(0))}, "make", r"it is a network \(MLP\), not a function that makes one; write"),
        ({"make": np}, "make", "is not a function; write make = lambda key"),
        (
            {"make": lambda: None},
            "make",
            r"it cannot be called with a key alone \(too many positional arguments\); write",
        ),
        (
            {"make": eqx.nn.MLP},
            "make",
            r"it cannot be called with a key alone \(missing a required argument: 'out_size'",
        ),
        (
            {"make": lambda key: (mlp(key), 3)},
            "make",
            "it returns a tuple, which cannot be called; return an Equinox module",
        ),
        ({"make": lambda key: 1 / 0}, "make", r"make\(key\) fails \(division by zero\); give a function of one"),
        ({"make": lambda key: eqx.nn.Lambda(jax.nn.relu)}, "make", "no arrays"),
        ({"make": lambda key: Counter(jnp.ones((3, 5)), jnp.int32(0))}, "make", "whole numbers"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(changes: dict[str, Any], field: str, problem: str) -> None:
    given: dict[str, Any] = {"make": mlp, "train": TRAIN, "test": TEST, "steps": 20, "seeds": 1} | changes
    with pytest.raises(BadInput, match=problem) as refused:
        find_tickets(**given)
    assert refused.value.field == field


def test_progress_needs_no_directory_and_shares_of_layers_are_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (True, False, None):  # None: the standard error is no terminal here
        tickets = find_tickets(mlp, TRAIN, TEST, rules="magnitude", kept=0.5, progress=progress, **RUN)
        assert ("2 cells: 100%" in capsys.readouterr().err) == bool(progress)
    assert "kept_by_layer" in repr(tickets)
    assert ("without pruning" in repr(tickets)) == (1.0 not in tickets.results["kept"])
    shares = tickets.results["kept_by_layer"].mean("seed")
    assert dict(shares.sizes) == {"rule": 1, "kept": 1, "layer": 2}
    assert "kept_by_layer" in str(find_tickets.__doc__)


def test_every_rule_that_is_offered_is_told() -> None:
    assert all(rule in str(find_tickets.__doc__) for rule in WEIGHT_RULES)
