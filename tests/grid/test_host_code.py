"""A program is told apart by the Python functions that it calls back on the host."""

import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import BadInput, sweep
from gpsense.grid.host_code import callbacks, code_digest

MINE = """
import numpy as np
import {helper}
from {helper} import scaled
SCALE = 1.0
class Solver:
    factor = 1.0
    def __init__(self): self.weight = 1.0
    def run(self, x): return np.float32(self.factor * self.weight) * x
def body(x): return np.float32(1.0) * x
def constant(x): return np.float32(SCALE) * x
def attribute(x): return np.float32({helper}.SCALE) * x
def imported(x): return scaled(x)
def lazy(x):
    import {helper}_late
    return {helper}_late.late(x)
def inner(x): return (lambda y: np.float32(SCALE) * y)(x)
def made(scale):
    return lambda x: np.float32(scale) * x
closed, solver = made(1.0), Solver()
method = solver.run
"""
HELPER = "import numpy as np\nSCALE = 1.0\ndef scaled(x): return np.float32(SCALE) * x\n"
LATE = "import numpy as np\ndef late(x): return np.float32(1.0) * x\n"
NAMES = ["body", "constant", "attribute", "imported", "lazy", "inner", "closed", "method"]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the user's modules with some text replaced, and import them anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)

    def write(old: str = "", new: str = "") -> ModuleType:
        for name in set(sys.modules) - known:
            if name.startswith("users_"):
                del sys.modules[name]
        texts = {"users_code": MINE.format(helper="users_helper"), "users_helper": HELPER, "users_helper_late": LATE}
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text.replace(old, new) if old else text)
        importlib.invalidate_caches()
        return importlib.import_module("users_code")

    yield write
    for name in set(sys.modules) - known:
        if name.startswith("users_"):
            del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_number_changes_the_digest_wherever_it_stands(modules: Any, name: str) -> None:
    before = code_digest(getattr(modules(), name))
    assert code_digest(getattr(modules(), name)) == before
    assert code_digest(getattr(modules("1.0", "2.0"), name)) != before


def test_arguments_of_a_partial_and_arrays_are_told_apart() -> None:
    add = lambda x, by: x + by  # noqa: E731
    digests = [code_digest(partial(add, by=by)) for by in (1, 2, 1.0, np.ones(2), np.ones(3), [1, 2, 1], [1, 2, 2])]
    assert len(set(digests)) == len(digests)
    assert code_digest(partial(add, by=[1, 2, 1])) == digests[5]


def test_code_that_refers_to_itself_has_a_digest_whatever_objects_are_shared() -> None:
    ring: list[Any] = []
    ring.append(ring)

    def again(x: int) -> Any:
        return again(x - 1) if x else ring

    assert code_digest(again) == code_digest(again)
    one = (0.5, "a")
    same = [code_digest(partial(print, each)) for each in ((one, one), ((0.5, "a"), (0.5, "".join(["a"]))))]
    assert same[0] == same[1]


def test_callbacks_are_found_in_loops_and_branches() -> None:
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    host = lambda x: x  # noqa: E731
    call = lambda x: jax.pure_callback(host, shape, x)  # noqa: E731

    def function(x: Any) -> Any:
        x = jax.lax.fori_loop(0, 3, lambda _, y: call(y), x)
        jax.debug.print("{}", x)
        return jax.lax.cond(x > 0, call, lambda y: y, jax.jit(call)(x))

    assert list(callbacks(jax.make_jaxpr(function)(jnp.float32(1)).jaxpr)) == [host] * 3


def test_results_of_another_callback_are_not_taken_up(tmp_path: Path) -> None:
    def cell(scale: float) -> Any:
        host = lambda x: np.float32(scale) * x  # noqa: E731
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return lambda key, a: {"v": jax.pure_callback(host, shape, a.astype(jnp.float32), vmap_method="sequential")}

    for _ in range(2):
        found = sweep(cell(1.0), seeds=1, a=[1.0, 2.0], out=tmp_path / "out")
        np.testing.assert_array_equal(found["v"].values.ravel(), [1.0, 2.0])
    with pytest.raises(BadInput, match="belongs to another run"):
        sweep(cell(2.0), seeds=1, a=[1.0, 2.0], out=tmp_path / "out")
