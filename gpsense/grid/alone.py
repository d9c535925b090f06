"""Runs one cell by itself, outside the engine: without batch, sharding or compaction, and in float64 if asked for.

For float64, the cell is traced in its own precision, and each of its operations is then carried out in 64 bits: the
random bits, and so the draws up to rounding, stay those of the run. (A system with ``dtype`` float64 draws other
numbers.)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from gpsense._lanes import scan_counts
from gpsense.fields import declared
from gpsense.grid.compiling import options
from gpsense.grid.plan import Plan
from gpsense.keys import seed_keys
from gpsense.pipeline import run_cell

WIDE = {"float16": "float64", "bfloat16": "float64", "float32": "float64", "complex64": "complex128"}
INLINED = ("jaxpr", "call_jaxpr", "fun_jaxpr", "call")  # parameters that hold the jaxpr of operations that only call it
DTYPES = ("new_dtype", "dtype", "preferred_element_type", "accum_dtype")


class Alone:
    """Runs the cells of a plan one at a time; all cells of one system share a compiled program."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def measures(self, program: int, outer: int, inner: int, wide: bool) -> dict[str, np.ndarray]:
        """All measures of one cell of a program: row ``outer`` (seed and data), column ``inner`` (setting).

        ``wide``: whether to compute in float64. Sizes are the cell's own, not padded.
        """
        grid, planned = self._plan.grid, self._plan.programs[program]
        seed, values = grid.outer[outer]
        values = {**values, **grid.inner[inner]}
        system = replace(planned.system, **{name: values[name] for name in grid.traced})

        def numbers(role: type) -> Any:
            given = {name: field.default for name, field in declared(role).items()} | grid.constants_of(role)
            given |= {name: values[name] for name in given if name in values and name not in grid.static}
            return role(**{n: np.asarray(v, grid.traced_dtype(n)) for n, v in given.items() if v is not None})

        def measures(data: Any, setting: Any, seed: Any) -> dict[str, Any]:
            results = run_cell(system, grid.schedule, data, setting, seed_keys(seed))
            return {name: value for name, value in results.items() if name != "state"}

        args = numbers(system.Data), numbers(system.Setting), np.uint32(seed)
        key = (system, wide)
        if key not in self._compiled:
            self._compiled[key] = (in_float64 if wide else _as_it_is)(measures, *args)
        return {name: np.asarray(value) for name, value in self._compiled[key](*args).items()}


def _as_it_is(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """``function`` compiled for arguments like these, in its own precision."""
    return _cheaply(jax.jit(function), args)


def in_float64(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """``function`` traced for arguments like these, then compiled with its operations in float64 (complex128)."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    leaves = lambda args: [_wide(np.asarray(leaf)) for leaf in jax.tree.leaves(args)]  # noqa: E731
    with _x64():
        compiled = _cheaply(jax.jit(partial(_closed, closed)), leaves(args))

    def run(*args: Any) -> Any:
        with _x64():
            return jax.tree.unflatten(jax.tree.structure(shapes), compiled(*leaves(args)))

    return run


def _cheaply(function: Any, args: Any) -> Any:
    """A jitted function compiled for ``args`` with the least effort, since it is run only a few times."""
    return function.lower(*args).compile(compiler_options=options("least") or None)


def _x64() -> Any:
    """A context in which JAX computes with 64 bits."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(True)


def _dtype(dtype: Any) -> Any:
    """The 64-bit type that replaces ``dtype``, or ``dtype`` itself if none does."""
    return np.dtype(WIDE.get(str(dtype), dtype)) if not jnp.issubdtype(dtype, jax.dtypes.extended) else dtype


def _wide(value: Any) -> Any:
    """A value in the 64-bit type that replaces its own."""
    value = value if hasattr(value, "dtype") else np.asarray(value)
    return value if str(value.dtype) not in WIDE else value.astype(WIDE[str(value.dtype)])


def _closed(closed: ClosedJaxpr, *values: Any) -> list[Any]:
    """The outputs of a closed jaxpr for these inputs, in 64 bits."""
    return _evaluate(closed.jaxpr, [*map(_wide, closed.consts), *values])


def _evaluate(jaxpr: Any, inputs: list[Any]) -> list[Any]:
    """The outputs of a jaxpr in 64 bits; ``inputs``: its constants, then its arguments."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def read(atom: Any) -> Any:
        aval: Any = atom.aval
        return jnp.asarray(atom.val, _dtype(aval.dtype)) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        out = _apply(eqn, list(map(read, eqn.invars)))
        known.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, values: list[Any]) -> list[Any]:
    """The outputs of one operation for these input values, in 64 bits."""
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        return _scan(eqn, values)
    if name == "while":
        first = params["cond_nconsts"]
        second = first + params["body_nconsts"]
        going = lambda carry: _closed(params["cond_jaxpr"], *values[:first], *carry)[0]  # noqa: E731
        step = lambda carry: _closed(params["body_jaxpr"], *values[first:second], *carry)  # noqa: E731
        return list(jax.lax.while_loop(going, step, values[second:]))
    if name == "cond":
        branches = [lambda *given, branch=branch: _closed(branch, *given) for branch in params["branches"]]
        return list(jax.lax.switch(values[0], branches, *values[1:]))
    if name == "custom_linear_solve":
        lengths, count = params["const_lengths"], 0
        places = {}
        for part, length in zip(lengths._fields, lengths, strict=True):
            places[part] = values[count : count + length]
            count += length
        return _closed(params["jaxprs"].solve, *places["solve"], *values[count:])
    for inner in (params[key] for key in INLINED if hasattr(params.get(key), "eqns")):
        return _closed(inner, *values) if hasattr(inner, "consts") else _evaluate(inner, values)
    if name == "bitcast_convert_type" or "callback" in name:  # bits are those of the narrower type
        narrow = [
            value.astype(atom.aval.dtype) if _changed(atom) else value
            for value, atom in zip(values, eqn.invars, strict=True)
        ]
        return [_wide(each) for each in _bound(eqn, narrow, params)]
    if name == "reduce_precision":
        return values[:1]
    changed = {key: _dtype(params[key]) for key in DTYPES if params.get(key) is not None}
    return _bound(eqn, values, {**params, **changed})


def _changed(atom: Any) -> bool:
    return str(atom.aval.dtype) in WIDE


def _bound(eqn: Any, values: list[Any], params: Mapping[str, Any]) -> list[Any]:
    given = eqn.primitive.get_bind_params(params)
    functions, params = given if isinstance(given, tuple) else ((), given)
    out = eqn.primitive.bind(*functions, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def _scan(eqn: Any, values: list[Any]) -> list[Any]:
    params, (fixed, carried) = eqn.params, scan_counts(eqn)
    consts, start, sequence = values[:fixed], values[fixed : fixed + carried], values[fixed + carried :]

    def step(carry: list[Any], each: list[Any]) -> tuple[list[Any], list[Any]]:
        out = _closed(params["jaxpr"], *consts, *carry, *each)
        return out[:carried], out[carried:]

    keywords = {name: params[name] for name in ("length", "reverse")}
    end, seen = jax.lax.scan(step, start, sequence, **keywords)
    return [*end, *seen]
