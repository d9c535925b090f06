"""Optimizers by name or as given: optax at a traced rate, in a grid too; what cannot take a step is refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpsense.descent import Method, Rates, advance_descent, start_descent
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, Program, collect, make_plan
from gpsense.keys import seed_keys
from gpsense.optimizers import ELEMENTWISE, OPTIMIZERS, build, memories
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems.sensing import Sensing

RATES, SCHEDULE, GIB = (0.003, 0.01), Schedule(60, 20, 20), 2.0**30
SIZES = {"dim": 5, "width": 4, "n": 30, "form": "gram", "curvature_steps": 0}


def clipped_lion(rate):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.lion(rate))


@pytest.fixture(autouse=True)
def _optax_promotes():
    """Adam and others mix an int count with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("adamw", "lion", "novograd")]


@pytest.mark.parametrize("optimizer", [clipped_lion, *OTHERS])
def test_any_optimizer_runs_in_a_grid_with_traced_rates(optimizer):
    """Two rates are one program, traced once; each cell is what optax's own loop gives."""
    system = Sensing(**SIZES, optimizer=optimizer, dtype="float64")
    grid = Grid(system, SCHEDULE, (0, 3), (Axis("rate", RATES), Axis("threshold", (0.0,), False)))
    plan = make_plan(grid, GIB)
    (program,) = [Program(grid, each) for each in plan.programs]
    dataset = collect(plan, [(chunk, program.run(chunk)) for chunk in plan.chunks])
    assert program.traces["train"] == program.traces["fine_tune"] == 1
    assert len(plan.chunks) == 1
    np.testing.assert_array_equal(dataset["rate"], RATES)
    assert dataset["optimizer"].item() == getattr(optimizer, "__name__", optimizer)
    assert (dataset["status"] == 2).all()
    assert (dataset["loss_curve"].isel(step=-1) < dataset["loss_curve"].isel(step=0)).all()

    learner, keys, make = system.learner, seed_keys(3), optimizer if callable(optimizer) else getattr(optax, optimizer)
    setting = Sensing.Setting(rate=RATES[1], threshold=0.0)
    optax_one = make(RATES[1])

    @jax.jit
    def alone():
        problem = system.draw(Sensing.Data(), keys.problem)
        target = system.targets(problem, setting)[0]

        def step(carry, _):
            factor, state = carry
            updates, state = optax_one.update(target(factor)[1], state, factor)
            return (optax.apply_updates(factor, updates), state), None

        start = learner.start(problem, setting, keys).factor
        (factor, _), _ = jax.lax.scan(step, (start, optax_one.init(start)), None, length=60)
        return jnp.sort(jnp.linalg.norm(factor, axis=0))[::-1]

    found = dataset["column_norms"].sel(seed=3, rate=RATES[1])
    np.testing.assert_allclose(found, alone(), rtol=1e-6, atol=1e-9)


def test_momentum_is_heavy_ball_and_nesterov_looks_ahead():
    """Against NumPy: ``v <- m v + g``, ``u <- u - rate v`` or ``u - rate (m v + g)``."""
    slope = lambda u: 2 * u - np.asarray([1.0, -0.5])  # noqa: E731
    fn = lambda u: (jnp.sum(u**2 - u * jnp.asarray([1.0, -0.5])), slope(u))  # noqa: E731
    rates = Rates(*(np.asarray(x) for x in (0.05, 0.8, 0.0, 0.0)))
    for name in ("gd", "momentum", "nesterov"):
        u, velocity = np.asarray([3.0, 1.0]), np.zeros(2)
        for _ in range(7):
            gradient = slope(u)
            velocity = (0.0 if name == "gd" else 0.8) * velocity + gradient
            u = u - 0.05 * (0.8 * velocity + gradient if name == "nesterov" else velocity)
        start, method = np.asarray([3.0, 1.0]), Method(name)
        run = jax.jit(lambda u, m=method: advance_descent(m, fn, start_descent(m, u, rates), rates, 7).factor)
        np.testing.assert_allclose(run(start), u, rtol=1e-12, err_msg=name)


def test_momentum_of_a_whole_cell_is_heavy_ball():
    """Training on the loss with its penalty, step by step in NumPy."""
    system = Sensing(**SIZES, optimizer="momentum", dtype="float64")
    setting, keys = Sensing.Setting(rate=0.01, momentum=0.7), seed_keys(1)
    problem = jax.jit(lambda: system.draw(Sensing.Data(noise=0.1), keys.problem))()
    slope = jax.jit(lambda u: system.targets(problem, setting)[0](u)[1])
    u = np.asarray(jax.jit(lambda: system.learner.start(problem, setting, keys).factor)())
    velocity = np.zeros_like(u)
    for _ in range(30):
        velocity = 0.7 * velocity + np.asarray(slope(jnp.asarray(u)))
        u = u - 0.01 * velocity
    cell = jax.jit(lambda: run_cell(system, Schedule(30, 0, 30), Sensing.Data(noise=0.1), setting, keys))()
    np.testing.assert_allclose(cell["column_norms"], np.sort(np.linalg.norm(u, axis=0))[::-1], rtol=1e-10)


@pytest.mark.parametrize(
    ("optimizer", "line"),
    [
        ("sgdd", "there is no 'sgdd'; did you mean sgd? use one of gd, momentum, nesterov, adam, "),
        ("Adamw", "there is no 'Adamw'; did you mean adamw? use one of "),
        ("lbfgs", "lbfgs: it cannot take a step ("),
        (optax.lbfgs, "lbfgs: it cannot take a step ("),
        (optax.sgd(0.1), "GradientTransformationExtraArgs has its rate already; give a function of the rate, such as "),
        (3, "3 is neither a name nor a function; use one of gd, "),
        (lambda rate: 3, "<lambda>: it cannot take a step ('int' object has no attribute 'init'); "),
        (lambda: optax.sgd(0.1), "<lambda>: it cannot take a step ("),
    ],
)
def test_what_is_no_optimizer_is_refused_with_the_reason(optimizer, line):
    with pytest.raises(BadInput, match=f"^optimizer: {re.escape(line)}") as refusal:
        Sensing(optimizer=optimizer)
    assert "\n" not in str(refusal.value)
    with pytest.raises(BadInput, match=f"^optimizer: {re.escape(line)}"):
        Grid(Sensing(), axes=(Axis("optimizer", ("gd", optimizer)),))


def test_what_an_optimizer_may_not_do_to_the_parameters_is_refused():
    narrower = lambda rate: optax.stateless(lambda u, _: jax.tree.map(lambda g: g[..., :1], u))  # noqa: E731

    def growing(rate):
        update = lambda updates, state, params=None: (updates, jnp.concatenate([state, state]))  # noqa: E731
        return optax.GradientTransformation(lambda params: jnp.zeros(1), update)

    for optimizer, line in (
        (narrower, "cannot take a step|other shapes"),
        (growing, "its state changes shape or type"),
    ):
        with pytest.raises(BadInput, match=line):
            Sensing(optimizer=optimizer)


def test_names_are_those_of_optax_and_state_is_counted():
    assert list(OPTIMIZERS)[:4] == ["gd", "momentum", "nesterov", "adam"]
    assert len(set(OPTIMIZERS)) == len(OPTIMIZERS)
    assert {"lion", "adamw", "rmsprop", "sgd"} <= set(OPTIMIZERS)
    assert "warmup_cosine_decay_schedule" not in OPTIMIZERS
    assert [memories(name) for name in ("gd", "momentum", "nesterov", "adam", "lion", clipped_lion)] == [
        0,
        1,
        1,
        2,
        1,
        1,
    ]
    with pytest.raises(KeyError):
        OPTIMIZERS["chain"]
    plain, heavy = (Sensing(optimizer=name).cost().cell_bytes for name in ("gd", "adam"))
    assert heavy > plain
    with pytest.raises(BadInput, match="^optimizer: there is no 'none'"):
        build("none", 0.1, 0.9)


@pytest.mark.parametrize("name", sorted(ELEMENTWISE))
def test_elementwise_optimizers_take_a_tree_as_one_vector(name):
    """Three steps on the arrays of a tree and on all their numbers in a row are the same, to rounding."""
    shapes, rng = {"b": (3,), "w": (3, 4), "z": (2, 2, 2)}, np.random.default_rng(0)
    trees = [{leaf: rng.normal(size=shape) for leaf, shape in shapes.items()} for _ in range(4)]
    vectors = [np.concatenate([leaf.ravel() for leaf in tree.values()]) for tree in trees]

    @jax.jit
    def moved(start, gradients):
        optimizer, point = build(name, 0.1, 0.9), start
        memory = optimizer.init(point)
        for gradient in gradients:
            updates, memory = optimizer.update(gradient, memory, point)
            point = optax.apply_updates(point, updates)
        return point

    tree, vector = moved(trees[0], trees[1:]), moved(vectors[0], vectors[1:])
    np.testing.assert_allclose(np.concatenate([leaf.ravel() for leaf in tree.values()]), vector, rtol=1e-12)
    assert (vector != vectors[0]).any()
