"""What a traced function costs, read off its operations without compiling: for systems that do not tell."""

import hashlib
import re
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.keys import seed_keys
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
    keys, learner = seed_keys(0), system.learner
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
    keys, learner = seed_keys(0), system.learner
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
