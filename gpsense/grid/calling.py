"""Turns what the user's function of a sweep returned into measures by name; raises errors of one line."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.errors import BadInput
from gpsense.fields import held, nearest, shown
from gpsense.systems import Measures


def measures_of(
    returned: Any, tails: Mapping[str, Sequence[str]], described: Collection[str], taken: set[str]
) -> Measures:
    """What a cell returned, as arrays by name; BadInput for anything but a dictionary of numbers and arrays.

    ``tails``: names of trailing axes, by measure; ``described``: the measures that attributes were given for;
    ``taken``: names of axes and parameters, which a measure cannot have.
    """
    remedy = 'return a dictionary of numbers and arrays by name, such as {"error": error}'
    if not isinstance(returned, Mapping) or not returned:
        missing = " (is its return missing?)" if returned is None else ""
        raise BadInput("cell", f"it returned {kind_of(returned)}{missing}", remedy)
    if strange := [name for name in returned if not isinstance(name, str)]:
        raise BadInput("cell", f"it returned a dictionary with the key {shown(strange[0])}", remedy)
    measures = {}
    for name, value in returned.items():
        if name == "status":
            raise BadInput("cell", "it returned a measure named 'status', which the engine sets", "use another name")
        if name in taken:
            problem = f"it returned a measure named {shown(name)}, as an axis or parameter is"
            raise BadInput("cell", problem, "rename one of them")
        if "/" in name:
            raise BadInput("cell", f"it returned a measure named {shown(name)}", "use a name without a slash")
        if not name or not name.isprintable():
            raise BadInput("cell", f"it returned a measure named {shown(name)}", "use a name of printable characters")
        measures[name] = _array(name, value)
        if name in tails and len(tails[name]) != measures[name].ndim:
            problem = f"{name} has shape {measures[name].shape}, but dims names {', '.join(tails[name]) or 'no axis'}"
            raise BadInput("dims", problem, "give one name for each axis of the array")
    for name, value in measures.items():
        axes = [] if name in tails else [f"{name}_{index}" for index in range(value.ndim)]
        if clash := next((axis for axis in axes if axis in measures), None):
            raise BadInput("cell", f"it returned {clash}, also the name of an axis of {name}", "rename one of them")
    for argument, names in (("dims", tails), ("attrs", described)):
        if unknown := [name for name in names if name not in measures]:
            near = nearest(str(unknown[0]), measures)
            raise BadInput(argument, f"the cell returns no {unknown[0]}", near or f"use any of {', '.join(measures)}")
    return measures


def _array(name: str, value: Any) -> jax.Array:
    remedy = "return a number or an array for each name"
    try:
        array = None if value is None else jnp.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise BadInput("cell", f"its {name} is {kind_of(value)}", remedy)
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise BadInput("cell", f"its {name} is a random key", remedy)
    return array


def kind_of(value: Any) -> str:
    """A description, without the contents of arrays, of a value that cannot be a measure."""
    if isinstance(value, Mapping):
        return "a dictionary" if value else "an empty dictionary"
    if isinstance(value, tuple | list):
        shapes = {getattr(each, "shape", ()) for each in value}
        return f"a {type(value).__name__} of {len(value)}" + (" arrays of different shapes" if len(shapes) > 1 else "")
    if isinstance(value, np.ndarray) and held(value):
        return f"an array that holds {held(value)}"
    if hasattr(value, "shape"):
        return f"one array of shape {value.shape}" if value.shape else "one number without a name"
    if isinstance(value, int | float):
        return f"{shown(value)} without a name"
    return shown(value) if value is None or isinstance(value, str | bytes) else f"a {type(value).__name__}"
