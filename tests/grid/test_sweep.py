"""A user's own functions as a grid: axes by the names of parameters, shared draws, directories, refusals."""

import datetime
import re
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
import xarray as xr

from gpsense import BadInput, Grid, Sensing, sweep
from gpsense.grid import Layout, Program, make_plan, run_grid
from gpsense.grid.files import read_json
from gpsense.grid.run import identity
from gpsense.grid.sweep import sweep_grid
from gpsense.keys import seed_keys

DIM, ROWS, STEPS = 4, 30, 40
GIB = 2.0**30


def draw(key, n, noise):
    """A regression of which the first n rows count."""
    x_key, y_key = jax.random.split(key)
    x = jax.random.normal(x_key, (ROWS, DIM))
    return x, x[:, 0] - 2.0 * x[:, 1] + noise * jax.random.normal(y_key, (ROWS,)), jnp.arange(ROWS) < n


def cell(problem, key, rate, ridge):
    """Ridge regression by an optimizer of one's own."""
    x, y, used = problem
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.lion(rate))
    loss = lambda w: jnp.sum(used * (x @ w - y) ** 2) / jnp.sum(used) + ridge * jnp.sum(w**2)  # noqa: E731

    def step(carry, _):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
        return (optax.apply_updates(weights, updates), state), None

    start = jax.random.normal(key, (DIM,))
    (weights, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=STEPS)
    return {"error": loss(weights), "weights": weights}


AXES = {"n": [10, 30], "noise": [0.0, 0.5], "rate": [0.01, 0.1, 1e200], "ridge": 0.1}
DIMS = {"weights": ("weight",)}


@pytest.fixture(scope="module")
def dataset():
    units = {"error": {"units": "variance of y", "long_name": "ridge loss"}}
    with jax.numpy_dtype_promotion("standard"), pytest.warns(UserWarning, match="8 of 24 cells diverged"):
        return sweep(cell, draw, seeds=[0, 5], dims=DIMS, attrs=units, **AXES)


def test_dimensions_are_the_axes_and_those_named(dataset):
    assert dataset["weights"].dims == ("seed", "n", "noise", "rate", "weight")
    assert float(dataset["ridge"]) == 0.1
    assert dataset["error"].attrs == {"long_name": "ridge loss", "units": "variance of y", "origin": "own"}
    np.testing.assert_array_equal(dataset["seed"], [0, 5])
    plain = sweep(lambda key: {"loss": jax.random.normal(key)}, seeds=2)
    assert plain["loss"].attrs == {"long_name": "loss", "units": "1", "origin": "own"}


def test_a_cell_in_the_grid_is_the_function_called_alone(dataset):
    for place in ({"seed": 5, "n": 10, "noise": 0.5, "rate": 0.1}, {"seed": 0, "n": 30, "noise": 0.0, "rate": 0.01}):
        keys = seed_keys(place["seed"])
        with jax.numpy_dtype_promotion("standard"):
            problem = draw(keys.problem, place["n"], place["noise"])
            alone = jax.jit(cell)(problem, keys.start, place["rate"], 0.1)
        found = dataset.sel(place)
        np.testing.assert_allclose(found["error"], alone["error"], rtol=1e-9)
        np.testing.assert_allclose(found["weights"], alone["weights"], rtol=1e-9, atol=1e-12)


def test_a_cell_that_fails_leaves_its_neighbours_alone(dataset):
    bad = dataset.sel(rate=1e200)
    assert (bad["status"] == 3).all()
    assert (dataset.sel(rate=[0.01, 0.1])["status"] == 1).all()
    with jax.numpy_dtype_promotion("standard"):
        without = sweep(cell, draw, seeds=[0, 5], dims=DIMS, **(AXES | {"rate": [0.01, 0.1]}))
    np.testing.assert_allclose(dataset["error"].sel(rate=[0.01, 0.1]), without["error"], rtol=1e-12)


def test_a_problem_is_drawn_once_for_all_axes_of_the_cell():
    calls = []

    def noted(key, n):
        calls.append(n)
        return jax.random.normal(key, (3,)) * n

    found = sweep(
        lambda problem, scale: {"sum": scale * problem.sum()}, noted, seeds=3, n=[1.0, 2.0], scale=[1.0, 10.0]
    )
    assert found["sum"].dims == ("seed", "n", "scale")
    np.testing.assert_allclose(found["sum"].sel(scale=10.0), 10 * found["sum"].sel(scale=1.0), rtol=1e-12)
    grid = sweep_grid(
        lambda problem, scale: {"sum": scale * problem.sum()}, noted, seeds=3, n=[1.0, 2.0], scale=[1.0, 10.0]
    )
    assert (len(grid.outer), len(grid.inner)) == (6, 2)


def test_names_and_flags_are_compiled_in_and_whole_numbers_traced_as_integers():
    def own(key, steps, kind="sum", double=False):
        total = jax.lax.fori_loop(0, steps, lambda i, x: x + 1.0, 0.0)
        assert jnp.issubdtype(jnp.result_type(steps), jnp.integer)
        return {"total": (total if kind == "sum" else -total) * (2.0 if double else 1.0)}

    found = sweep(own, seeds=1, steps=[2, 5], kind=["sum", "minus"], double=[False, True])
    assert found["total"].dims == ("kind", "double", "seed", "steps")
    np.testing.assert_array_equal(found["total"].sel(kind="minus", double=True, seed=0), [-4, -10])
    grid = sweep_grid(own, seeds=1, steps=[2, 5], kind=["sum", "minus"], double=[False, True])
    assert len(make_plan(grid, GIB).programs) == 4


def test_a_parameter_named_static_may_give_a_shape():
    found = sweep(lambda key, width: {"x": jax.random.normal(key, (width,))}, seeds=2, width=[2, 3], static=["width"])
    assert found["x"].shape == (2, 2, 3)
    assert np.isnan(found["x"].sel(width=2)[:, 2]).all()


def test_a_directory_resumes_and_belongs_to_one_sweep(tmp_path):
    own = lambda key, rate: {"x": rate * jax.random.normal(key)}  # noqa: E731
    out = tmp_path / "run"
    first = sweep(own, seeds=3, rate=[1.0, 2.0], out=out, progress=False)
    chunks = {path: path.stat().st_mtime_ns for path in (out / "chunks").iterdir()}
    assert read_json(out / "manifest.json")["chunks"] == len(chunks)
    again = sweep(own, seeds=3, rate=[1.0, 2.0], out=out, progress=False)
    assert chunks == {path: path.stat().st_mtime_ns for path in (out / "chunks").iterdir()}
    xr.testing.assert_identical(first["x"], again["x"])
    next(iter(chunks)).unlink()
    third = sweep(own, seeds=3, rate=[1.0, 2.0], out=out, progress=False)
    np.testing.assert_array_equal(first["x"], third["x"])
    stored = xr.open_dataset(out / "results.nc", engine="h5netcdf")
    np.testing.assert_array_equal(stored["x"], first["x"])
    stored.close()
    other = lambda key, rate: {"x": rate + jax.random.normal(key)}  # noqa: E731
    told = "rate: 1,2 there, 1,3 now", "the settings are the same; data or code differ"
    for function, rates, words in ((own, [1.0, 3.0], told[0]), (other, [1.0, 2.0], told[1])):
        with pytest.raises(BadInput, match=rf"^out: .* belongs to another run \({words}\)"):
            sweep(function, seeds=3, rate=rates, out=out)


def test_chunks_give_the_numbers_of_one_program(dataset):
    with jax.numpy_dtype_promotion("standard"):
        grid = sweep_grid(cell, draw, seeds=[0, 5], dims=DIMS, **AXES)
        plan = make_plan(grid, GIB, (Layout(2, 2),))
        assert len(plan.chunks) > 4
        program = Program(grid, plan.programs[0])
        errors = program.run(plan.chunks[0])["error"]
    np.testing.assert_allclose(errors[0], dataset["error"].values[0, 0, 0, :2], rtol=1e-12)


def test_memory_is_kept_within_the_budget():
    own = lambda key, scale: {"x": scale * jax.random.normal(key, (1000,))}  # noqa: E731
    grid = sweep_grid(own, seeds=50, scale=list(np.linspace(1, 2, 20)))
    assert len(make_plan(grid, 100 * 2**20).chunks) == 1
    small = make_plan(grid, 10 * 2**20)
    assert small.stored_bytes > 4e6
    with pytest.raises(BadInput, match=r"^memory: 1000 cells make results of .* MiB, 1 MiB allowed"):
        make_plan(grid, 2**20)


def test_identity_knows_functions_axes_and_seeds():
    own = lambda key, rate: {"x": rate * jax.random.normal(key)}  # noqa: E731
    base = identity(sweep_grid(own, seeds=2, rate=[1.0, 2.0]))
    assert base == identity(sweep_grid(own, seeds=[0, 1], rate=(1.0, 2.0)))
    assert base != identity(sweep_grid(own, seeds=3, rate=[1.0, 2.0]))
    assert base != identity(sweep_grid(own, seeds=2, rate=[1.0]))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: sweep(cell, draw, seeds=2, **(AXES | {"rat": 1.0})),
            "rat: neither draw nor cell has a parameter of this name; did you mean rate?",
        ),
        (lambda: sweep(lambda key, a: {"x": a}, b=1.0), "b: cell has no parameter of this name; use any of a"),
        (lambda: sweep(lambda key: {"x": 1.0}, b=1.0), "b: cell has no parameter of this name; leave it out"),
        (lambda: sweep(cell, draw, seeds=2, n=[3]), "noise: it has no value; give one or several: noise=[...]"),
        (lambda: sweep(3, seeds=2), "cell: 3 is not a function; give a function"),
        (lambda: sweep(lambda *all: {}, seeds=2), "cell: its parameter all cannot be given by name"),
        (
            lambda: sweep(lambda key: 1.0, seeds=2),
            "cell: it returned 1.0 without a name; return a dictionary of numbers",
        ),
        (lambda: sweep(lambda key: {"status": 1.0}, seeds=2), "cell: it returned a measure named 'status'"),
        (
            lambda: sweep(lambda key: {"": 1.0}, seeds=2),
            "cell: it returned a measure named ''; use a name of printable",
        ),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=[1.0, 1.0]), "a: the axis repeats a value"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=[]), "a: the axis is empty"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=[float("nan")]), "a: nan is not a finite number"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=0, a=1.0), "seeds: 0 is not allowed"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, dims={"y": ("z",)}), "dims: the cell returns no y"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, dims={"x": ("z",)}), "dims: x has shape ()"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, dims={"x": ("a",)}), "dims: a is an axis"),
        (
            lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, static=["b"]),
            "static: cell has no parameter b; use any of a",
        ),
        (lambda: sweep(lambda key: {"x": 1.0}, static=["b"]), "static: cell has no parameter b; leave it out"),
        (
            lambda: sweep(cell, draw, seeds=2, static=["rat"], **AXES),
            "static: neither draw nor cell has a parameter rat; did you mean rate?",
        ),
        (
            lambda: sweep(lambda key, a: {"risk": a}, seeds=2, a=1.0, attrs={"rsk": {"units": "1"}}),
            "attrs: the cell returns no rsk; did you mean risk?",
        ),
        (
            lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, attrs={"x": {"unit": "m"}}),
            "attrs: there is no 'unit'; did you mean units? use one of long_name, units",
        ),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, attrs={"x": "m"}), "attrs: 'm' for x is not a dict"),
        (lambda: sweep(lambda problem: {"x": problem}, lambda: 1.0, seeds=2), "draw: it takes no parameter"),
        (lambda: sweep(lambda a: {"x": a}, seeds=2, a=1.0), "cell: it takes no key, so that all 2 seeds"),
        (lambda: sweep(lambda rng, a: {"x": a}, seeds=2, a=1.0), "rng: it has no value; call it key"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, key=[1]), "key: random keys are made from the seeds"),
        (lambda: sweep(lambda key: {"x": 1.0}, draw, seeds=2, n=3, noise=1.0), "cell: its first parameter is called"),
        (lambda: sweep(lambda problem: {"x": 1.0}, lambda n: n, seeds=2, n=3), "draw: its first parameter, n, rec"),
        (lambda: sweep(lambda key: {"x": 1.0}, 3, seeds=2), "draw: 3 is not a function"),
        (lambda: sweep(lambda self, key: {"x": 1.0}, seeds=2), "cell: it is a method of a class; give the method of"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, static=[3]), "static: 3 is not a name"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, dims={"x": 3}), "dims: 3 for x is not a list of names"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, dims={"x": [3]}), "dims: [3] for x is not a list"),
        (
            lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, attrs={"x": {"units": 3}}),
            "attrs: 3, given for the measure x, is not text",
        ),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=["1"], a=1.0), "seeds: '1' is not a whole number; use a whole"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=jax.random.key(0), a=1.0), "seeds: Array((), dtype=key<fry>)"),
        (lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=[jax.random.key(0)]), "a: Array((), dtype=key<fry>)"),
        (
            lambda: sweep(lambda key, a: {"x": a}, seeds=2, a=1.0, progress="yes"),
            "progress: 'yes' is neither true nor false; use true or false, or leave it out",
        ),
        (lambda: sweep(_scaled, seeds=[1, 1], rate=1.0), "seeds: the axis repeats a value; list each value once"),
        (lambda: sweep(_scaled, seeds=[], rate=1.0), "seeds: the axis is empty; give at least one value"),
        (
            lambda: sweep(_scaled, seeds=10**6, rate=list(range(1000))),
            "seeds: 1e+09 combinations of the axes, 1e+08 allowed; give this axis fewer than 1000000 values",
        ),
        (lambda: sweep(_scaled, seeds=1, rate=1.0, memory=1), "memory: one cell needs "),
        (
            lambda: sweep(lambda key, step: {"x": step}, seeds=2, step=1.0),
            "cell: its parameter step is reserved by sweep; rename it (reserved: seed, seeds, static, dims, ",
        ),
        (lambda: sweep(max, seeds=2), "cell: the parameter names of <built-in function max> cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, line):
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def _scaled(key, rate, kind="sum"):
    """A number times a draw, of one kind or the other."""
    return {"x": rate * jax.random.normal(key, (3,)).sum() if kind == "sum" else rate / 2}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0.1", "'0.1' is text"),
        (b"0.1", "b'0.1' is text"),
        (None, "None is not an int or a float"),
        (datetime.date(2026, 1, 2), "datetime.date(2026, 1, 2) is not an int or a float"),
        (np.datetime64("2026-01-02"), "datetime.date(2026, 1, 2) is not an int or a float"),
        (Decimal("0.1"), "Decimal('0.1') is not an int or a float"),
        ((1.0, 2.0), "(1.0, 2.0) is not an int or a float"),
        (np.sin, "<ufunc 'sin'> is not an int or a float"),
    ],
)
def test_what_is_no_number_is_told_where_the_function_fails_with_it(value, words, alone):
    """By name, value and remedy, beside names and flags that the function can use; listed with numbers, too."""
    given = value if alone and not isinstance(value, tuple) else [0.1, value]
    with pytest.raises(BadInput) as refusal:
        sweep(_scaled, seeds=2, rate=given, kind=["sum", "half"])
    line = str(refusal.value)
    assert line.startswith(f"rate: {words}, and _scaled (line ")
    assert line.endswith("; give a number, or fix the function")
    assert "\n" not in line
    assert "Tracer" not in line


def test_text_for_a_number_is_told_in_a_draw_and_where_the_number_would_be_traced():
    """Text times a traced whole number asks Python for the number's value, which is not what is wrong."""
    with pytest.raises(BadInput, match=r"^noise: '0.5' is text, and the function \(line \d+\) failed with it; give"):
        sweep(lambda problem: {"x": problem}, lambda key, noise: noise * jax.random.normal(key), seeds=1, noise="0.5")
    with pytest.raises(BadInput, match=r"^rate: '3' is text, and"):
        sweep(lambda key, rate, n: {"x": rate * n}, seeds=1, rate="3", n=[1, 2])
    with pytest.raises(BadInput, match=r"^rate: '0.1' is not a number, as its default 0.5 is; give a number$"):
        sweep(lambda key, rate=0.5: {"x": jnp.float32(rate)}, seeds=1, rate=["0.1"])


@pytest.mark.parametrize("text", ["0..1", "0-1", "0:1", "0 to 1"])
def test_text_that_means_several_numbers_is_told_how_to_write_them(text):
    remedy = "; for five numbers write lin:0:1:5 in the shell, numpy.linspace(0, 1, 5) in Python"
    for own in (lambda key, rate: {"x": 2.0 * rate}, lambda key, rate=0.5: {"x": rate}):
        with pytest.raises(BadInput, match=f"^rate: '{text}' is .*{re.escape(remedy)}"):
            sweep(own, seeds=1, rate=text)


@pytest.mark.parametrize(
    ("text", "listed"),
    [("64,128", "64, 128"), ("[64, 128]", "64, 128"), ("0.1 1e-2; 3", "0.1, 1e-2, 3"), ("1, -2,", "1, -2")],
)
def test_text_that_lists_numbers_is_told_the_list(text, listed):
    for own in (lambda key, rate: {"x": 2.0 * rate}, lambda key, rate=0.5: {"x": rate}):
        with pytest.raises(
            BadInput, match=rf"^rate: '{re.escape(text)}' is .*; for several numbers give a list: "
        ) as no:
            sweep(own, seeds=1, rate=text)
        assert no.value.remedy.endswith(f"[{listed}]")


GENERATOR = np.random.default_rng(0)


def _drawn(key, a):
    return {"x": a * jax.random.normal(key)}


@pytest.mark.parametrize(
    ("cell", "draw", "words"),
    [
        (lambda key, a: {"x": a * GENERATOR.normal()}, None, "it takes key and does not use it"),
        (lambda key, a: _drawn(key, a) and {"x": a}, None, "it takes key and does not use it"),
        (jax.jit(lambda key, a: {"x": a}), None, "it takes key and does not use it"),
        (lambda problem, a: {"x": a * problem}, lambda key: GENERATOR.normal(), "the key is not used"),
        (lambda problem, key, a: {"x": a}, lambda key: jax.random.normal(key), "the key is not used"),
    ],
)
def test_several_seeds_of_a_function_that_does_not_use_the_key_are_refused(cell, draw, words):
    with pytest.raises(BadInput, match=f"^cell: {words}, so that all 4 seeds would give the same numbers; draw with"):
        sweep_grid(cell, draw, seeds=4, a=[1.0, 2.0])
    sweep_grid(cell, draw, seeds=1, a=[1.0, 2.0])


@pytest.mark.parametrize(
    ("cell", "draw"),
    [
        (jax.jit(_drawn), None),
        (lambda problem, a: {"x": a * problem}, lambda key: jax.random.normal(key)),
        (lambda problem, key, a: _drawn(key, a), lambda key: 1.0),
        (lambda key, a: {"x": jax.lax.cond(a > 0, lambda: jax.random.normal(key), lambda: 0.0)}, None),
    ],
)
def test_a_key_that_reaches_a_number_in_any_way_is_used(cell, draw):
    sweep_grid(cell, draw, seeds=4, a=[1.0, 2.0])
    kinds = lambda key, kind: {"x": jax.random.normal(key) if kind == "random" else 0.0}  # noqa: E731
    sweep_grid(kinds, seeds=4, kind=["zero", "random"])


def test_text_that_a_function_can_use_is_not_blamed_for_other_errors():
    def own(key, kind, rate):
        return {"x": rate * {"sum": 1.0}[kind]}

    with pytest.raises(KeyError, match="mean"):
        sweep(own, seeds=1, kind="mean", rate=1.0)
    assert float(sweep(lambda key, rate: {"x": jnp.float32(rate)}, seeds=1, rate="0.5")["x"].squeeze()) == 0.5


def test_a_series_is_a_list_of_values():
    found = sweep(lambda key, rate: {"x": rate}, seeds=1, rate=pd.Series([0.5, 2.0]))
    np.testing.assert_array_equal(found["x"].sel(seed=0), [0.5, 2.0])


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda a: (a, a), "it returned a tuple of 2"),
        (lambda a: [a], "it returned a list of 1"),
        (lambda a: a, "it returned one number without a name"),
        (lambda a: jnp.zeros(3) + a, "it returned one array of shape (3,)"),
        (lambda a: None, "it returned None (is its return missing?)"),
        (lambda a: "x", "it returned 'x'"),
        (lambda a: {}, "it returned an empty dictionary"),
        (lambda a: {1: a}, "it returned a dictionary with the key 1"),
        (lambda a: {"x": {"y": a}}, "its x is a dictionary"),
        (lambda a: {"x": np.array(["a"])}, "its x is an array that holds text"),
        (lambda a: iter([a]), "it returned a list_iterator"),
        (lambda a: {"x": [a, jnp.zeros(3)]}, "its x is a list of 2 arrays of different shapes"),
        (lambda a: {"x": None}, "its x is None"),
        (lambda a: {"a": a}, "it returned a measure named 'a', as an axis or parameter is"),
        (lambda a: {"seed": a}, "it returned a measure named 'seed', as an axis or parameter is"),
        (lambda a: {"x": jnp.zeros(2), "x_0": a}, "it returned x_0, also the name of an axis of x"),
    ],
)
def test_what_a_cell_cannot_return_is_told_in_words(returned, words):
    """The remedy says what to return; no tracer is shown."""
    with pytest.raises(BadInput) as refusal:
        sweep(lambda key, a: returned(a), seeds=2, a=[1.0, 2.0])
    assert str(refusal.value).startswith(f"cell: {words}; re")
    assert "Tracer" not in str(refusal.value)


def _branch(key, a, b):
    return {"x": a if b > 1 else -a}


def _loop(key, n, steps=300, kind="sum"):
    return {"x": jnp.zeros(n).sum() + sum(range(steps))}


@pytest.mark.parametrize(
    ("call", "field", "remedy"),
    [
        (
            lambda: sweep(lambda key, n: {"x": jnp.zeros((n,)).sum()}, seeds=2, n=[3, 4]),
            "n",
            'give static=["n"], which',
        ),
        (
            lambda: sweep(lambda key, n, m, a: {"x": a * jnp.zeros((n, m)).sum()}, seeds=2, n=[3, 4], m=2, a=[1.0]),
            "n and m",
            'give static=["n", "m"], which',
        ),
        (lambda: sweep(lambda problem: {"x": problem.sum()}, lambda key, n: jnp.ones(n), seeds=2, n=[3]), "n", "give"),
        (lambda: sweep(lambda key, n: {"x": jnp.arange(9.0)[:n].sum()}, seeds=2, n=[3, 4]), "n", 'give static=["n"]'),
        (lambda: sweep(lambda key, n: {"x": sum(range(n))}, seeds=2, n=[3, 4]), "n", 'give static=["n"]'),
        (lambda: sweep(_branch, seeds=2, a=[1.0], b=[0.5, 2.0]), "b", 'give static=["b"]'),
        (
            lambda: sweep(_loop, seeds=2, n=[3, 4], static=("n",), kind="sum"),
            "steps",
            'add "steps": static=["n", "steps"] compiles a program for each value',
        ),
        (
            lambda: sweep(lambda key: {"x": 1.0 if jax.random.normal(key) > 0 else 2.0}, seeds=2),
            "cell",
            "use jnp.where",
        ),
        (lambda: sweep(lambda key, a: {"x": np.sin(a)}, seeds=2, a=[1.0]), "cell", "use jax.numpy"),
    ],
)
def test_a_value_that_python_needs_is_told_with_the_parameter_to_make_static(call, field, remedy):
    """A shape, a slice, a loop, an if: the parameters that have to be static, none that need not."""
    with pytest.raises(BadInput) as refusal:
        call()
    assert refusal.value.field == field
    assert refusal.value.remedy.startswith(remedy)
    assert "\n" not in str(refusal.value)
    assert "(line " in refusal.value.problem


def test_errors_of_the_function_itself_go_on_up_and_axes_that_differ_are_told():
    """With a note of the function's line and what is compiled in."""
    with pytest.raises(ZeroDivisionError) as error:
        sweep(lambda key, n: {"x": 1 / (n - 3)}, seeds=1, n=[2, 3], static="n")
    assert re.fullmatch(r"in the function \(line \d+\), where n = 3", error.value.__notes__[0])
    with pytest.raises(ZeroDivisionError):
        sweep(lambda key: {"x": 1 / 0}, seeds=2)
    with pytest.raises(
        BadInput, match="^cell: its x has 1 axes where n = 1 and 2 where n = 2; return it with equally many"
    ):
        sweep(lambda key, n: {"x": jnp.zeros((2,) * n)}, seeds=1, n=[1, 2], static=["n"])


def test_a_grid_of_a_sweep_runs_like_any_other(dataset):
    with jax.numpy_dtype_promotion("standard"), pytest.warns(UserWarning, match="8 of 24 cells diverged"):
        again = run_grid(sweep_grid(cell, draw, seeds=[0, 5], dims=DIMS, **AXES))
    np.testing.assert_array_equal(again["error"], dataset["error"])


def test_identity_sees_what_functions_call_and_close_over():
    """A helper, a closure's number, a rule and an optimizer that change make another run."""

    def made(number):
        helper = lambda x: x * number  # noqa: E731
        return sweep_grid(lambda key, x: {"y": helper(x)}, seeds=1, x=[1.0, 2.0])

    assert identity(made(2.0)) == identity(made(2.0)) != identity(made(7.0))

    def ruled(level):
        return Grid(Sensing(dim=3, n=10, rule=lambda norms: norms > level, curvature_steps=0))

    assert identity(ruled(0.2)) == identity(ruled(0.2)) != identity(ruled(0.3))


@pytest.mark.parametrize("name", ["seed", "out", "dtype", "memory_gib", "status", "cls"])
def test_names_of_the_engine_are_refused(name):
    source = f"lambda key, {name}: {{'y': {name}}}"
    with pytest.raises(BadInput, match=f"^cell: its parameter {name} is reserved by sweep; (use key, .*)?rename it"):
        sweep_grid(eval(source), seeds=2)


def test_complex_numbers_and_bfloat16_are_stored_as_they_are_returned(tmp_path):
    def cell(key, a):
        return {"z": jax.lax.complex(a, a), "b": a.astype(jnp.bfloat16), "n": jnp.int32(3)}

    stored, kept = (sweep(cell, seeds=1, a=[1.0, 2.0], out=out) for out in (tmp_path, None))
    for name in ("z", "b", "n"):
        assert stored[name].dtype == kept[name].dtype
        np.testing.assert_array_equal(stored[name], kept[name])


def test_measures_are_floating_point_in_the_types_that_are_told():
    def cell(key, a):
        counts = {"key": jax.random.key_data(key), "small": jnp.int16(3), "large": jnp.int64(2**53)}
        return {**counts, "flag": a > 1.5, "half": a.astype(jnp.float16)}

    found = sweep(cell, seeds=2, a=[1.0, 2.0])
    kinds = {"key": "float64", "large": "float64", "small": "float32", "flag": "float32", "half": "float32"}
    assert {name: str(found[name].dtype) for name in kinds} == kinds
    np.testing.assert_array_equal(found["key"][:, 0], [jax.random.key_data(seed_keys(seed).start) for seed in (0, 1)])
    np.testing.assert_array_equal(found["flag"], [[0, 1], [0, 1]])
    assert (found["large"] == 2**53).all()


def test_there_is_one_seed_unless_more_are_asked_for():
    assert sweep(lambda a: {"y": a}, a=[1])["seed"].values.tolist() == [0]
    with pytest.raises(BadInput, match=r"^cell: 3 is not a function"):
        sweep(3, a=[1])  # pyright: ignore[reportArgumentType]


def test_numbers_that_are_not_finite_are_told():
    words = (
        r"2 of 4 cells diverged \(status 3\), the first at seed 0, a 0.0: numbers that the function returned are NaN"
    )
    with pytest.warns(UserWarning, match=words):
        sweep(lambda key, a: {"y": jnp.log(a - 1.0) + jax.random.normal(key)}, seeds=2, a=[0.0, 2.0])


def test_a_whole_number_beyond_those_that_are_traced_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^lam: 1000000000000 is too large \(at most 2147483647\)"):
        sweep(lambda key, lam: lam * jax.random.normal(key), seeds=2, lam=[10**12])


def test_a_static_parameter_may_be_called_steps_and_no_name_that_sweep_needs():
    from launch.schema import default_steps, parameters

    def cell(key, steps=3, cost=1.0):
        return {"end": jnp.zeros(steps).sum() + cost}

    system = sweep_grid(cell, seeds=1, steps=[2, 3], static=["steps"]).system
    assert default_steps(type(system)) is None
    assert parameters(type(system)) == ["steps", "cost"]
    with pytest.raises(BadInput, match=r"^static: cost is a name that sweep needs itself; rename that parameter"):
        sweep_grid(cell, seeds=1, cost=[2, 3], static=["cost"])
    for name in ("name", "Data", "Setting", "measures"):
        with pytest.raises(BadInput, match=f"^static: {name} is a name that sweep needs itself"):
            sweep_grid(eval(f"lambda key, {name}: {{'x': 1.0}}"), seeds=1, **{name: "a"})


def test_numbers_of_a_cell_that_diverged_stay_as_they_were_returned():
    def cell(key, x):
        return {"inverse": 1 / x, "square": x**2}

    with pytest.warns(UserWarning, match="1 of 2 cells diverged"):
        found = sweep(cell, x=[0.0, 2.0])
    np.testing.assert_array_equal(found["inverse"].squeeze(), [np.inf, 0.5])
    np.testing.assert_array_equal(found["square"].squeeze(), [0.0, 4.0])
    np.testing.assert_array_equal(found["status"].squeeze(), [3, found["status"].squeeze()[1]])
    assert float(found.where(found.status != 3)["inverse"].max()) == 0.5
