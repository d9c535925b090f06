"""Batching along the last axis, so that many small cells together fill the vector units of a CPU.

``vmap`` moves its batch axis to the front of most arrays: if cells are small matrices, every product is then a batch of
small products, and an operand that cells share in a large product is transposed. :func:`in_lanes` moves the batch axis
to the end instead; a lane is one place along it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

LANES = 8  # a batch is padded to a multiple of it; one of at most half of it is left to vmap
ELEMENTWISE = set(
    "abs add add_any and convert_element_type copy cos div eq erf exp expm1 floor ge gt integer_pow is_finite le log "  # noqa: SIM905
    "log1p logistic lt max min mul ne neg not or pow rem rsqrt select_n sign sin sqrt square sub tanh".split()
)
LEADING = {"reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "squeeze"}
KERNELS: dict[str, Callable[..., jax.Array]] = {}
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}
INLINED = CALLS | {"custom_jvp_call": "call_jaxpr"}


def in_lanes(function: Callable[..., Any], *args: Any) -> Any:
    """The value ``function(*args)`` for trees of arrays; under ``vmap`` on a CPU the batch axis is the last."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    out = _lanes.bind(*closed.consts, *jax.tree.leaves(args), jaxpr=closed.jaxpr)
    return jax.tree.unflatten(jax.tree.structure(shapes), out)


def _as_it_is(*values: Any, jaxpr: Jaxpr) -> list[Any]:
    """The outputs of a jaxpr for ``values``: its constants, then its arguments."""
    count = len(jaxpr.constvars)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, values[:count]))(*values[count:])


def _batched(values: Sequence[Any], axes: Sequence[int | None], *, jaxpr: Jaxpr) -> tuple[list[Any], list[int]]:
    size = next(value.shape[axis] for value, axis in zip(values, axes, strict=True) if axis is not None)
    if size <= LANES // 2 or jax.default_backend() != "cpu":
        out = jax.vmap(partial(_as_it_is, jaxpr=jaxpr), tuple(axes))(*values)
        return out, [0] * len(out)
    filled = -(-size // LANES) * LANES

    def last(value: Any, axis: int | None) -> Any:
        if axis is None:
            return value
        value = jnp.moveaxis(value, axis, -1)
        spare = jnp.broadcast_to(value[..., -1:], (*value.shape[:-1], filled - size))
        return jnp.concatenate([value, spare], -1) if filled > size else value

    flags = [axis is not None for axis in axes]
    out = _full(_evaluate(jaxpr, list(map(last, values, axes)), flags, filled), filled)
    return [jnp.moveaxis(each[..., :size], -1, 0) for each in out], [0] * len(out)


def _differentiated(primals: Sequence[Any], tangents: Sequence[Any], *, jaxpr: Jaxpr) -> tuple[Any, Any]:
    """The outputs and their tangents; the function is differentiated without lanes."""
    moving = [place for place, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

    def of(*some: Any) -> list[Any]:
        values = list(primals)
        for place, value in zip(moving, some, strict=True):
            values[place] = value
        return _as_it_is(*values, jaxpr=jaxpr)

    out, along = jax.jvp(of, [primals[place] for place in moving], [tangents[place] for place in moving])
    zero = lambda value: ad.Zero(jax.typeof(value).to_tangent_aval())  # noqa: E731
    return out, [
        zero(value) if each.dtype == jax.dtypes.float0 else each for value, each in zip(out, along, strict=True)
    ]


_lanes = Primitive("in_lanes")
_lanes.multiple_results = True
_lanes.def_impl(_as_it_is)
_lanes.def_abstract_eval(lambda *avals, jaxpr: [atom.aval for atom in jaxpr.outvars])
mlir.register_lowering(_lanes, mlir.lower_fun(_as_it_is, multiple_results=True))
batching.primitive_batchers[_lanes] = _batched
ad.primitive_jvps[_lanes] = _differentiated


def primitive(
    name: str, function: Callable[..., jax.Array], in_lanes: Callable[..., jax.Array] | None = None
) -> Primitive:
    """A primitive that computes ``function`` of arrays, or ``in_lanes`` of the same arrays if all have lanes.

    The caller defines its derivatives.
    """
    made = Primitive(f"gpsense_{name}")

    made.def_impl(jax.jit(function))
    made.def_abstract_eval(lambda *avals: jax.make_jaxpr(function)(*avals).out_avals[0])
    mlir.register_lowering(made, mlir.lower_fun(function, multiple_results=False))
    batching.primitive_batchers[made] = lambda values, axes: (jax.vmap(function, axes)(*values), 0)
    if in_lanes is not None:
        KERNELS[made.name] = in_lanes
    return made


def _full(pairs: list[tuple[Any, bool]], size: int) -> list[Any]:
    """The values; each that is the same in every lane is repeated along a last axis of length ``size``."""
    return [value if on else _spread(value, False, value.shape, size) for value, on in pairs]


def _evaluate(jaxpr: Any, inputs: list[Any], flags: list[bool], size: int) -> list[tuple[Any, bool]]:
    """The outputs of a jaxpr (inputs: constants, then arguments), and whether each has lanes."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], zip(inputs, flags, strict=True), strict=True))

    def read(atom: Any) -> tuple[Any, bool]:
        aval: Any = atom.aval
        return (jnp.asarray(atom.val, aval.dtype), False) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        values, on = zip(*map(read, eqn.invars), strict=True) if eqn.invars else ((), ())
        out = _apply(eqn, list(values), list(on), size)
        known.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, values: list[Any], on: list[bool], size: int) -> list[tuple[Any, bool]]:
    """The outputs of one operation, and whether each has lanes."""
    name, params, alone = eqn.primitive.name, eqn.params, operation(eqn)
    if not any(on):
        return [(each, False) for each in alone(*values)]
    if name == _lanes.name:
        return _evaluate(params["jaxpr"], values, on, size)
    if name in INLINED:
        return _inner(params[INLINED[name]], values, on, size)
    if name == "scan":
        return [(each, True) for each in _scan(eqn, values, on, size)]
    if name == "while":
        return [(each, True) for each in _while(params, values, on, size)]
    if name == "cond" and not on[0]:
        branches = [partial(_branch, branch, on[1:], size) for branch in params["branches"]]
        return [(each, True) for each in jax.lax.switch(values[0], branches, *values[1:])]
    if name in KERNELS and all(on):
        return [(KERNELS[name](*values), True)]
    if name in LEADING:
        return [(each, True) for each in alone(*values)]
    if name in ELEMENTWISE:
        shape = max((atom.aval.shape for atom in eqn.invars), key=len)
        return [(each, True) for each in alone(*(_spread(*pair, shape, size) for pair in zip(values, on, strict=True)))]
    if name == "broadcast_in_dim":
        return [(_spread(values[0], True, params["shape"], size, params["broadcast_dimensions"]), True)]
    out = jax.vmap(alone, [-1 if each else None for each in on], -1)(*values)
    return [(each, True) for each in out]


def _spread(value: Any, on: bool, shape: tuple[int, ...], size: int, places: tuple[int, ...] | None = None) -> Any:
    """A value broadcast to (*shape, size), its own axes at ``places`` (None: the first); ``on``: if it has lanes."""
    own = tuple(range(value.ndim - on)) if places is None else places
    return jax.lax.broadcast_in_dim(value, (*shape, size), own + (len(shape),) * on)


def _inner(jaxpr: Any, values: list[Any], on: list[bool], size: int) -> list[tuple[Any, bool]]:
    """The outputs of a closed jaxpr, and whether each has lanes."""
    return _evaluate(jaxpr.jaxpr, [*jaxpr.consts, *values], [False] * len(jaxpr.consts) + on, size)


def _branch(jaxpr: Any, on: list[bool], size: int, *values: Any) -> list[Any]:
    return _full(_inner(jaxpr, list(values), on, size), size)


def operation(eqn: Any) -> Callable[..., list[Any]]:
    """One operation as a function of its operands."""
    given = eqn.primitive.get_bind_params(eqn.params)
    functions, params = given if isinstance(given, tuple) else ((), given)

    def function(*values: Any) -> list[Any]:
        out = eqn.primitive.bind(*functions, *values, **params)
        return list(out) if eqn.primitive.multiple_results else [out]

    return function


def scan_counts(eqn: Any) -> tuple[int, int]:
    """How many of a scan's operands are the same in every step, and how many are carried; the others are sequences.

    Found from shapes, which are alike in all versions of JAX: a sequence has one axis more than its element in a step.
    """
    body = getattr(eqn.params["jaxpr"], "jaxpr", eqn.params["jaxpr"])
    whole = lambda atoms, own: sum(one.aval.ndim == two.aval.ndim for one, two in zip(atoms, own, strict=True))  # noqa: E731
    carried = whole(eqn.outvars, body.outvars)
    return whole(eqn.invars, body.invars) - carried, carried


def _scan(eqn: Any, values: list[Any], on: list[bool], size: int) -> list[Any]:
    """The outputs of a scan; everything carried has lanes."""
    params, (fixed, carried) = eqn.params, scan_counts(eqn)
    consts, start, sequence = values[:fixed], values[fixed : fixed + carried], values[fixed + carried :]
    flags = on[:fixed] + [True] * carried + on[fixed + carried :]

    def step(carry: list[Any], each: list[Any]) -> tuple[list[Any], list[Any]]:
        out = _full(_inner(params["jaxpr"], [*consts, *carry, *each], flags, size), size)
        return out[:carried], out[carried:]

    start = _full(list(zip(start, on[fixed:], strict=False)), size)
    keywords = {name: params[name] for name in ("length", "reverse", "unroll")}
    end, seen = jax.lax.scan(step, start, sequence, **keywords)
    return [*end, *seen]


def _while(params: Any, values: list[Any], on: list[bool], size: int) -> list[Any]:
    """The outputs of a loop that ends when all lanes have ended; a lane that has ended keeps its values."""
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]

    def going(carry: list[Any]) -> Any:
        inputs, flags = [*values[:first], *carry], on[:first] + [True] * len(carry)
        return _full(_inner(params["cond_jaxpr"], inputs, flags, size), size)[0]

    def step(carry: list[Any]) -> list[Any]:
        inputs, flags, move = [*values[first:second], *carry], on[first:second] + [True] * len(carry), going(carry)
        moved = _full(_inner(params["body_jaxpr"], inputs, flags, size), size)
        keep = lambda new, old: jax.lax.select(_spread(move, True, new.shape[:-1], size), new, old)  # noqa: E731
        return list(map(keep, moved, carry))

    start = _full(list(zip(values[second:], on[second:], strict=True)), size)
    return jax.lax.while_loop(lambda carry: jnp.any(going(carry)), step, start)
