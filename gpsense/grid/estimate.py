"""The cost of a traced function, estimated from its operations without compiling, for systems that do not state it."""

import hashlib
import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from gpsense.grid.host_code import callbacks, code_digest
from gpsense.keys import key_shapes
from gpsense.systems import AnySystem, Cost, Evaluator


def traced_cost(function: Callable[..., Any], *args: Any) -> tuple[float, int, Any]:
    """The operations of ``function(*args)``, the bytes of all its intermediate results, and the shapes it returns.

    A matrix product counts its operations, any other operation one for every number that it returns; a loop's body
    counts as often as it runs, or once if that is unknown. Bytes are an upper bound of the memory that the call needs.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    flops, size = _walk(traced.jaxpr)
    return flops, size, shapes


def _walk(jaxpr: Any) -> tuple[float, int]:
    flops, size = 0.0, 0
    for equation in jaxpr.eqns:
        numbers = sum(prod(out.aval.shape) for out in equation.outvars)
        size += sum(_bytes(out.aval) for out in equation.outvars)
        inside = [_walk(inner) for inner in _inner(equation.params)]
        if inside:
            times = equation.params.get("length", 1)
            flops += times * max(cost for cost, _ in inside)
            size += max(held for _, held in inside)
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            flops += 2.0 * numbers * prod(shape[axis] for axis in contracted)
        else:
            flops += numbers
    return flops, size


# operations that XLA fuses with those that read their results, which then take no memory
FUSED = set(
    "abs add add_any and bitcast_convert_type broadcast_in_dim ceil clamp convert_element_type copy cos div eq "  # noqa: SIM905
    "erf erf_inv exp exp2 expand_dims expm1 floor ge gt imag integer_pow iota is_finite le log log1p logistic lt max "
    "min mul ne neg nextafter not or pow real rem reshape rev round rsqrt select_n shift_left shift_right_logical sign "
    "sin slice sqrt square squeeze sub tan tanh transpose xor".split()
)


def working_bytes(system: AnySystem, data: Any, setting: Any) -> int:
    """A lower bound of the bytes that one cell needs besides problem and state in its costliest phase up to pruning.

    It counts results that must be written to memory, such as matrix products, and are needed at the same time.
    """
    keys, learner = key_shapes(), system.learner
    problem = jax.eval_shape(system.draw, data, keys.problem)
    if isinstance(learner, Evaluator):
        return held_bytes(jax.make_jaxpr(learner.evaluate)(problem, setting, keys).jaxpr)
    state = jax.eval_shape(learner.start, problem, setting, keys)
    train = lambda problem, setting, state: learner.train(problem, setting, state, learner.stride)  # noqa: E731
    traced = [jax.make_jaxpr(phase)(problem, setting, state) for phase in (train, learner.prune)]
    return max(held_bytes(each.jaxpr) for each in traced)


def held_bytes(jaxpr: Any) -> int:
    """The most bytes of results that a jaxpr holds in memory at a time, without its inputs."""
    behind: dict[Any, set[Any]] = {}  # the results in memory that each variable is computed from
    last: dict[Any, int] = {}  # the last operation that needs a result in memory
    for place, equation in enumerate(jaxpr.eqns):
        read = set().union(*(behind.get(each, set()) for each in _variables(equation.invars)))
        written = equation.primitive.name not in FUSED
        for out in equation.outvars:
            behind[out] = {out} if written else read
        last |= dict.fromkeys(read, place)
    last |= {each: len(jaxpr.eqns) for out in _variables(jaxpr.outvars) for each in behind.get(out, ())}
    now = most = 0
    ends: dict[int, int] = {}
    for place, equation in enumerate(jaxpr.eqns):
        if equation.primitive.name not in FUSED:
            size = sum(_bytes(out.aval) for out in equation.outvars)
            inside = max((held_bytes(inner) for inner in _inner(equation.params)), default=0)
            most, now = max(most, now + size + inside), now + size
            for out in equation.outvars:
                end = last.get(out, place)
                ends[end] = ends.get(end, 0) + _bytes(out.aval)
        now -= ends.pop(place, 0)
    return most


def _variables(atoms: Any) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _inner(parameters: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs among the parameters of an operation."""
    for value in parameters.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(each, "jaxpr", each)
            if hasattr(inner, "eqns"):
                yield inner


def _bytes(shape: Any) -> int:
    dtype = getattr(shape, "dtype", np.dtype(np.float32))
    return prod(shape.shape) * (8 if jnp.issubdtype(dtype, jax.dtypes.extended) else dtype.itemsize)


def fingerprint(system: AnySystem, data: Any, setting: Any) -> str:
    """A digest of the operations that a cell traces to and of the constants in them, whatever code they come from.

    It covers the draw and the cell of a sweep, or all phases of a system (of training, ``stride`` steps): everything
    that these functions call and close over, and the code of Python callbacks (:mod:`gpsense.grid.host_code`). It may
    change with the version of JAX.
    """
    keys, learner = key_shapes(), system.learner
    digest = hashlib.sha256()

    def note(function: Callable[..., Any], *args: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        digest.update(re.sub(r"0x[0-9a-f]+|at [^ ]+:[0-9]+", "", str(traced)).encode())
        for called in callbacks(traced.jaxpr):
            digest.update(code_digest(called))
        for constant in traced.consts:
            if not jnp.issubdtype(constant.dtype, jax.dtypes.extended):
                array = np.asarray(constant)
                digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return shapes

    problem = note(system.draw, data, keys.problem)
    if isinstance(learner, Evaluator):
        note(learner.evaluate, problem, setting, keys)
        return digest.hexdigest()[:16]
    state = note(learner.start, problem, setting, keys)
    note(learner.record, problem, setting, state)
    note(
        lambda problem, setting, state: learner.train(problem, setting, state, learner.stride), problem, setting, state
    )
    pruned = note(learner.prune, problem, setting, state)
    width = pruned.mask.shape[0]
    narrow = lambda problem, setting, state, pruned: learner.start_fine_tuning(  # noqa: E731
        problem, setting, state, pruned, width
    )
    note(learner.measure, problem, setting, note(narrow, problem, setting, state, pruned), pruned)
    return digest.hexdigest()[:16]


def tree_bytes(tree: Any) -> int:
    """The bytes of all arrays of a tree, or of arrays with the shapes in it."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def estimate_cost(system: AnySystem, data: Any, setting: Any) -> Cost:
    """The cost of a resolved system, estimated by tracing one cell with this Data and Setting."""
    keys, learner = key_shapes(), system.learner
    drawing, drawn, problem = traced_cost(system.draw, data, keys.problem)
    if isinstance(learner, Evaluator):
        once, held, results = traced_cost(learner.evaluate, problem, setting, keys)
        size = tree_bytes(results)
        return Cost(
            flops=0.0,
            problem_bytes=tree_bytes(problem),
            sample_bytes=drawn,
            cell_bytes=held + size,
            kept_bytes=size,
            once=drawing + once,
            result_bytes=size,
            products=False,
            axes=tuple((name, len(each.shape)) for name, each in results.items()),
        )
    begun, _, state = traced_cost(learner.start, problem, setting, keys)
    step = lambda problem, setting, state: learner.train(problem, setting, state, learner.stride)  # noqa: E731
    training, held, _ = traced_cost(step, problem, setting, state)
    pruning, weighed, _ = traced_cost(learner.prune, problem, setting, state)
    return Cost(
        flops=training / learner.stride,
        problem_bytes=tree_bytes(problem),
        sample_bytes=drawn,
        cell_bytes=max(held, weighed),
        kept_bytes=2 * tree_bytes(state),
        once=drawing + begun + pruning,
        products=False,
    )
