"""A cell by itself: in float64 it computes what NumPy does, from the random bits of its own precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import Axis, Grid, Schedule, Sensing
from gpsense.grid import Layout, make_plan
from gpsense.grid.alone import Alone, in_float64
from gpsense.grid.run import run_chunks
from gpsense.grid.sweep import sweep_grid


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def wide(function: Any, *args: Any) -> Any:
    """What the function gives in float64."""
    out = jax.tree.map(np.asarray, in_float64(function, *args)(*args))
    assert all(leaf.dtype in (np.float64, np.complex128, np.int32, np.int64) for leaf in jax.tree.leaves(out))
    return out


def halving(x: Any) -> Any:
    return jax.lax.while_loop(lambda s: s[0] > 0.1, lambda s: (s[0] / 3, s[1] + 1), (x, jnp.int32(0)))


def recurrence(x: Any) -> Any:
    step = lambda carry, each: (carry * jnp.float32(0.9) + each, jnp.sin(carry))  # noqa: E731
    return jax.lax.scan(step, jnp.float32(0.1), x)


def numpy_recurrence(x: np.ndarray) -> tuple[float, np.ndarray]:
    carry, seen = float(np.float32(0.1)), []
    for each in x.astype(float):
        seen.append(np.sin(carry))
        carry = carry * float(np.float32(0.9)) + each
    return carry, np.array(seen)


@jax.custom_jvp
def square(x: Any) -> Any:
    return x * x


square.defjvp(lambda primals, tangents: (square(*primals), 3 * primals[0] * tangents[0]))  # not the true slope

X, A = numbers(50), numbers(6, 6, seed=1)
CASES: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "sum": (lambda x: x.sum() / 7, (X,), X.astype(float).sum() / 7),
    "product": (lambda a: a @ a.T, (A,), A.astype(float) @ A.T.astype(float)),
    "scan": (recurrence, (X,), numpy_recurrence(X)),
    "while": (halving, (np.float32(2),), (2 / 27, np.int32(3))),
    "cond": (lambda x: jax.lax.cond(x[0] > 9, jnp.cos, jnp.exp, x), (X,), np.exp(X.astype(float))),
    "own slope": (jax.grad(square), (np.float32(0.1),), 3 * float(np.float32(0.1))),
    "solve": (jnp.linalg.solve, (A, X[:6]), np.linalg.solve(A.astype(float), X[:6].astype(float))),
    "eigenvalues": (
        lambda a: jnp.linalg.eigvalsh(a @ a.T),
        (A,),
        np.linalg.eigvalsh(A.astype(float) @ A.T.astype(float)),
    ),
    "whole": (lambda x: jnp.argsort(x)[:3], (X,), np.argsort(X)[:3]),
    "complex": (lambda x: jnp.fft.fft(x), (X,), np.fft.fft(X.astype(float))),
    "narrowed": (lambda x: x.astype(jnp.bfloat16).astype(jnp.float32) + 1, (X,), X.astype(float) + 1),
}


@pytest.mark.parametrize("name", CASES)
def test_operations_are_those_of_numpy_in_float64(name: str) -> None:
    function, args, expected = CASES[name]
    for got, want in zip(jax.tree.leaves(wide(function, *args)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)
    if name in ("sum", "product", "scan"):  # where float32 could not pass
        own = jax.tree.leaves(jax.jit(function)(*args))
        apart = [
            np.abs(np.asarray(each) - want).max() for each, want in zip(own, jax.tree.leaves(expected), strict=True)
        ]
        assert max(apart) > 1e-9


def test_draws_are_those_of_the_run() -> None:
    draw = lambda key: (jax.random.uniform(key, (100,), jnp.float32), jax.random.normal(key, (100,), jnp.float32))  # noqa: E731
    from_seed = lambda seed: draw(jax.random.key(seed))  # noqa: E731
    own, exact = jax.tree.map(np.asarray, jax.jit(from_seed)(np.uint32(5))), wide(from_seed, np.uint32(5))
    np.testing.assert_array_equal(own[0], exact[0])
    np.testing.assert_allclose(own[1], exact[1], rtol=1e-5)
    assert (own[1] != exact[1]).any()


def test_settings_of_jax_are_as_before() -> None:
    jax.config.update("jax_enable_x64", False)
    assert wide(lambda x: x + 1, np.float32(0.1)) == float(np.float32(0.1)) + 1
    assert jnp.zeros(1).dtype == jnp.float32


@pytest.fixture(scope="module")
def sensing() -> Any:
    """A run in float32 whose number of measurements and width are padded, and its measures by (outer, inner)."""
    axes = (Axis("n", (20, 60)), Axis("width", (3, 4)), Axis("penalty", (0.05, 0.2)))
    system = Sensing(dim=4, rank=1, dtype="float32", form="gram")
    grid = Grid(system, Schedule(60, 20, 20), 2, axes)
    plan = make_plan(grid, 2**30, (Layout(4, 4),))
    kept: list[Any] = []
    run_chunks(plan, plan.chunks, lambda chunk, arrays, line: kept.append(arrays))
    assert grid.traced == {"n", "width"}
    return plan, kept[0]


def test_a_cell_alone_is_the_cell_in_the_grid(sensing: Any) -> None:
    plan, stored = sensing
    alone = Alone(plan)
    own, exact = (alone.measures(0, 3, 2, each) for each in (False, True))
    assert set(own) == set(exact) == set(stored)
    for name in ("error", "error_trained", "loss_curve", "column_norms", "rank", "steps_train"):
        cell = stored[name][3, 2][tuple(map(slice, own[name].shape))]
        np.testing.assert_allclose(own[name], cell, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(exact[name], cell, rtol=1e-4, atol=1e-5, err_msg=name)
    assert exact["error"].dtype == np.float64
    assert own["error"].dtype == np.float32


def test_a_function_alone_is_the_function() -> None:
    def draw(key: Any, scale: Any) -> Any:
        return scale * jax.random.normal(key, (5,), jnp.float32)

    def cell(problem: Any, shift: Any) -> Any:
        return {"total": jnp.sum(problem) + shift}

    plan = make_plan(sweep_grid(cell, draw, seeds=2, scale=[1.0, 2.0], shift=[0.5], dtype="float32"), 2**30)
    kept: list[Any] = []
    run_chunks(plan, plan.chunks, lambda chunk, arrays, line: kept.append(arrays))
    measured = Alone(plan).measures(0, 3, 0, wide=True)
    assert measured["total"] == pytest.approx(kept[0]["total"][3, 0], rel=1e-5)
    assert measured["status"] == kept[0]["status"][3, 0]
