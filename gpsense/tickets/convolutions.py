"""Convolutions as matrix products, which are faster on a CPU where each cell has its own weights.

Under ``vmap`` over weights a convolution becomes a grouped one. ``launch.bench --group tickets`` times it beside the
matrix product, in a loop of steps as in a grid.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from gpsense._lanes import CALLS, operation

LARGEST = 2**26  # numbers in the largest patch matrix


def by_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of trees of arrays; on a CPU its convolutions are computed as matrix products.

    The results differ by rounding. Convolutions inside loops, branches and custom derivatives are left as they are, and
    so are those whose patch matrix would have more than 2^26 numbers.
    """

    def called(*args: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*args)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        out = _evaluated(closed, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), out)

    return called


def _evaluated(closed: ClosedJaxpr, values: Sequence[Any]) -> list[Any]:
    """The outputs of a traced function for these values, with convolutions as matrix products."""
    jaxpr: Jaxpr = closed.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *values], strict=True))

    def read(atom: Any) -> Any:
        aval: Any = atom.aval
        return jnp.asarray(atom.val, aval.dtype) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        name, inputs = eqn.primitive.name, [read(atom) for atom in eqn.invars]
        if name in CALLS and _convolves(eqn.params[CALLS[name]]):
            out = _evaluated(eqn.params[CALLS[name]], inputs)
        elif name == "conv_general_dilated" and _spread_out(eqn) <= LARGEST:
            out = [_product(*inputs, **eqn.params)]
        else:
            out = operation(eqn)(*inputs)
        known.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _convolves(closed: ClosedJaxpr) -> bool:
    """Whether a traced function contains a convolution."""
    inner = (eqn.params[CALLS[eqn.primitive.name]] for eqn in closed.jaxpr.eqns if eqn.primitive.name in CALLS)
    return any(eqn.primitive.name == "conv_general_dilated" for eqn in closed.jaxpr.eqns) or any(map(_convolves, inner))


def _spread_out(eqn: Any) -> float:
    """The size of the patch matrix that multiplies the weights; infinite where groups split the batch."""
    if eqn.params["batch_group_count"] != 1:
        return float("inf")
    (_, kernel), dims = (atom.aval.shape for atom in eqn.invars), eqn.params["dimension_numbers"]
    outputs = eqn.outvars[0].aval
    taken = kernel[dims.rhs_spec[1]] * eqn.params["feature_group_count"]
    for axis in dims.rhs_spec[2:]:
        taken *= kernel[axis]
    return outputs.size // outputs.shape[dims.out_spec[1]] * taken


def _product(
    inputs: Array,
    kernel: Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    precision: Any,
    preferred_element_type: Any,
    **_: Any,
) -> Array:
    """A convolution as the patch matrix (positions, taken) of the inputs times the weights (taken, features)."""
    batch, features, *places = dimension_numbers.lhs_spec
    x = inputs.transpose(batch, *places, features)
    gaps = [(low, high, dilation - 1) for (low, high), dilation in zip(padding, lhs_dilation, strict=True)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *gaps, (0, 0, 0)])
    out, into, *sides = dimension_numbers.rhs_spec
    weights = kernel.transpose(*sides, into, out)
    sizes = weights.shape[: len(sides)]
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(sizes, rhs_dilation, strict=True)]
    steps = list(window_strides)
    counts = [(side - most) // step + 1 for side, most, step in zip(x.shape[1:-1], reach, steps, strict=True)]
    patches = []
    for offsets in product(*map(range, sizes)):
        starts = [offset * dilation for offset, dilation in zip(offsets, rhs_dilation, strict=True)]
        ends = [start + (count - 1) * step + 1 for start, count, step in zip(starts, counts, steps, strict=True)]
        patches.append(jax.lax.slice(x, (0, *starts, 0), (x.shape[0], *ends, x.shape[-1]), (1, *steps, 1)))
    groups, positions = feature_group_count, (x.shape[0], *counts)
    taken = jnp.stack(patches, -2).reshape(*positions, len(patches), groups, -1)
    taken = jnp.moveaxis(taken, -2, 0).reshape(groups, -1, len(patches) * weights.shape[-2])
    weights = jnp.moveaxis(weights.reshape(len(patches) * weights.shape[-2], groups, -1), 1, 0)
    found = jnp.matmul(taken, weights, precision=precision, preferred_element_type=preferred_element_type)
    found = jnp.moveaxis(found, 0, 1).reshape(*positions, -1)
    order = dimension_numbers.out_spec
    return jnp.moveaxis(found, [0, -1, *range(1, found.ndim - 1)], order)
