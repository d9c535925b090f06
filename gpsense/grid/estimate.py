"""What a traced function costs, read off its operations without compiling: for systems that do not tell."""

import hashlib
import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from gpsense.keys import key_shapes
from gpsense.systems import AnySystem, Cost, Evaluator


def traced_cost(function: Callable[..., Any], *args: Any) -> tuple[float, int, Any]:
    """Operations of a call, bytes of everything it computes on the way, and the shapes it returns.

    Operations: those of products, and one for every number that another operation gives; the body of a loop counts as
    often as it runs, once where that is not known. Bytes are an upper bound of the memory a call needs.
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


# operations that are computed where they are read, so that their results take no memory
FUSED = set(
    "abs add add_any and bitcast_convert_type broadcast_in_dim ceil clamp convert_element_type copy cos div eq "  # noqa: SIM905
    "erf erf_inv exp exp2 expand_dims expm1 floor ge gt imag integer_pow iota is_finite le log log1p logistic lt max "
    "min mul ne neg nextafter not or pow real rem reshape rev round rsqrt select_n shift_left shift_right_logical sign "
    "sin slice sqrt square squeeze sub tan tanh transpose xor".split()
)


def working_bytes(system: AnySystem, data: Any, setting: Any) -> int:
    """Bytes that one cell needs at least in its greediest phase up to pruning, beside problem and state.

    Of the arrays that have to be written down, products and the like, those that are needed at the same time.
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
    """The most bytes of written results that a jaxpr holds at a time, its inputs and what it returns left out."""
    behind: dict[Any, set[Any]] = {}  # the written results that a fused one is computed from
    last: dict[Any, int] = {}  # the operation after which a written result is not needed
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
    """A digest of the operations of a cell and of the numbers in them, whatever code they come from.

    Draw and cell of a sweep; draw, start, a step, pruning and measures of a system. It tells functions apart by all
    that they call and close over, and another version of JAX may change it.
    """
    keys, learner = key_shapes(), system.learner
    digest = hashlib.sha256()

    def note(function: Callable[..., Any], *args: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        digest.update(re.sub(r"0x[0-9a-f]+|at [^ ]+:[0-9]+", "", str(traced)).encode())
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
    """Bytes of all arrays of a tree, or of their shapes."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def estimate_cost(system: AnySystem, data: Any, setting: Any) -> Cost:
    """The cost of a resolved system, traced at one cell; ``data`` and ``setting`` are of its classes."""
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
