"""A user's function of a sweep, called while it is traced: its measures by name, and in one line what does not fit."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gpsense.errors import BadInput
from gpsense.fields import nearest, shown
from gpsense.systems import Measures

# what JAX says where Python needs the value of a traced number and no error class of its own tells
WORDS = (
    "concrete values of integer type",
    "must be static integers",
)


def call(field: str, function: Callable[..., Any], first: Sequence[Any], numbers: Mapping[str, Any]) -> Any:
    """``function(*first, **numbers)``; BadInput where Python would need the value of a number that is traced.

    It names those of ``numbers``, apart from the key, without which the function can be traced when they are fixed.
    """
    try:
        return function(*first, **numbers)
    except BadInput:
        raise
    except Exception as error:
        if not _needs_value(error):
            raise
        raise _refusal(field, function, first, numbers, error) from error


def _needs_value(error: Exception) -> bool:
    kinds = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)
    kinds += (jax.errors.TracerIntegerConversionError, jax.errors.NonConcreteBooleanIndexError)
    text = str(error)
    return isinstance(error, kinds) or ("Tracer" in text and any(words in text for words in WORDS))


def _refusal(
    field: str, function: Callable[..., Any], first: Sequence[Any], numbers: Mapping[str, Any], error: Exception
) -> BadInput:
    traced = {name: value for name, value in numbers.items() if name != "key" and isinstance(value, Tracer)}

    def fits(fixed: Sequence[str]) -> bool:
        """Whether no value is missing any more once these have one; other errors come from the values tried."""
        try:
            function(*first, **{**numbers, **{name: _example(traced[name]) for name in fixed}})
        except Exception as found:
            return not _needs_value(found)
        return True

    where = _where(function, error)
    names = list(traced)
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return BadInput(field, f"{where} has NumPy compute with a traced number", "use jax.numpy there")
    if not names or not fits(names):
        problem = f"{where} needs the value of a traced array, for a shape, a loop or an if"
        return BadInput(field, problem, "use jnp.where, jax.lax.cond or jax.lax.fori_loop, and shapes that are fixed")
    for name in list(traced):
        if fits([each for each in names if each != name]):
            names.remove(name)
    branch = isinstance(error, jax.errors.TracerBoolConversionError)
    what = "an if or a while" if branch else "a shape, a loop or a conversion"
    listed = ", ".join(f'"{name}"' for name in names)
    remedy = f"give static=[{listed}], which compiles a program for each value"
    remedy += ", or use jnp.where" if branch else ""
    return BadInput(" and ".join(names), f"{where} needs the value for {what}, but it is traced", remedy)


def _example(tracer: Any) -> Any:
    """A number of the same kind, as a static parameter would be one."""
    return 2 if jnp.issubdtype(tracer.dtype, jnp.integer) else 0.5


def _where(function: Callable[..., Any], error: Exception) -> str:
    """The function, and the line of its file at which it failed."""
    name = getattr(function, "__name__", type(function).__name__)
    name = "the function" if name == "<lambda>" else name
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{name} (line {lines[-1]})" if lines else name


def measures_of(returned: Any, tails: Mapping[str, Sequence[str]], taken: set[str]) -> Measures:
    """What a cell returned as arrays by name; BadInput for anything else.

    ``tails`` names trailing axes; ``taken`` are names that a measure cannot have, since they are those of parameters.
    """
    remedy = 'return a dictionary of numbers and arrays by name, such as {"error": error}'
    if not isinstance(returned, Mapping) or not returned:
        missing = " (is its return missing?)" if returned is None else ""
        raise BadInput("cell", f"it returned {_kind(returned)}{missing}", remedy)
    if strange := [name for name in returned if not isinstance(name, str)]:
        raise BadInput("cell", f"it returned a dictionary with {shown(strange[0])} for a name", remedy)
    measures = {}
    for name, value in returned.items():
        if name == "status":
            raise BadInput("cell", "it returned 'status', which the engine sets", "use another name")
        if name in taken:
            problem = f"it returned {shown(name)}, which is also the name of an axis or parameter"
            raise BadInput("cell", problem, "rename one of them")
        if "/" in name:
            raise BadInput("cell", f"it returned {shown(name)}", "leave the slash out of names of measures")
        if not name or not name.isprintable():
            raise BadInput("cell", f"it returned {shown(name)}", "name a measure with letters that can be printed")
        measures[name] = _array(name, value)
        if name in tails and len(tails[name]) != measures[name].ndim:
            problem = f"{name} has shape {measures[name].shape}, and dims names {', '.join(tails[name]) or 'no axis'}"
            raise BadInput("dims", problem, "name each trailing axis")
    for name, value in measures.items():
        axes = [] if name in tails else [f"{name}_{index}" for index in range(value.ndim)]
        if clash := next((axis for axis in axes if axis in measures), None):
            raise BadInput("cell", f"it returned {clash}, the name of an axis of {name}", "rename one of them")
    if unknown := [name for name in tails if name not in measures]:
        near = nearest(unknown[0], measures)
        raise BadInput("dims", f"the cell returns no {unknown[0]}", near or f"use any of {', '.join(measures)}")
    return measures


def _array(name: str, value: Any) -> jax.Array:
    remedy = "return a number or an array for each name"
    try:
        array = None if value is None else jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise BadInput("cell", f"its {name} is {_kind(value)}", remedy)
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise BadInput("cell", f"its {name} is a random key", remedy)
    return array


def _kind(value: Any) -> str:
    """What something is that cannot be a measure, in words without the arrays in it."""
    if isinstance(value, Mapping):
        return "a dictionary" if value else "an empty dictionary"
    if isinstance(value, tuple | list):
        shapes = {getattr(each, "shape", ()) for each in value}
        return f"a {type(value).__name__} of {len(value)}" + (" arrays of different shapes" if len(shapes) > 1 else "")
    if hasattr(value, "shape"):
        return f"one array of shape {value.shape}" if value.shape else "one number without a name"
    if isinstance(value, int | float):
        return f"{shown(value)} without a name"
    return f"a {type(value).__name__}" if callable(value) else shown(value)
