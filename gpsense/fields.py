"""Fields of systems, each declared once: type, default, range, unit, label, help and section of the config.

A field is declared by an annotation in the class that owns it::

    penalty: Annotated[ScalarLike, Field("train", "weight lambda of the penalty", at_least=0, label="penalty λ")] = 0.1

The class gives the field's role in a grid: fields of the system itself are static (compiled in), those of its ``Data``
are traced and change the data, those of its ``Setting`` are traced and do not. Checks, config, ``--help``, labels and
table headings follow from the declaration.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from itertools import zip_longest
from numbers import Real
from types import NoneType, UnionType
from typing import Annotated, Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gpsense._types import ScalarLike
from gpsense.errors import BadInput, nearest, shown, unknown_name

WHOLE, NUMBER, FLAG, NAME, WHOLES, NUMBERS, OTHER = "whole", "number", "flag", "name", "wholes", "numbers", "other"
LARGEST = 2**63 - 1  # largest whole number allowed
INT32 = 2**31 - 1  # largest one that is traced as an integer
_KINDS = {int: WHOLE, float: NUMBER, bool: FLAG, str: NAME, tuple[int, ...]: WHOLES, tuple[float, ...]: NUMBERS}
ROLES = ("static", "data", "setting")
_SECTIONS = {"static": "problem", "data": "problem", "setting": "train"}
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ReadBy:
    """A condition for a field to have an effect: another field, named ``field``, has a value that reads (uses) it.

    The values in ``names`` read it and, if ``known`` is given, also all values that are not in ``known``, such as a
    user's own rule.
    """

    field: str
    names: tuple[str, ...] = ()
    known: frozenset[str] | None = None

    def reads(self, value: Any) -> bool:
        """Whether the field is read if the other field has this value."""
        return value in self.names or (self.known is not None and value not in self.known)

    def refusal(self, name: str, values: Sequence[Any], choices: Collection[str] | None) -> BadInput:
        """The error for a field ``name`` that was given although none of the ``values`` of the other field reads it."""
        told = [str(getattr(value, "__name__", value)) for value in values]
        problem = f"{self.field} {', '.join(told)} {'does' if len(told) == 1 else 'do'} not read it"
        able = list(self.names) or [choice for choice in choices or () if self.reads(choice)]
        use = f"use {self.field} {', '.join([*able[:-2], ' or '.join(able[-2:])])}, or " if able else ""
        return BadInput(name, problem, f"{use}leave it out")


@dataclass(frozen=True)
class Field:
    """What a field may be and how it is shown.

    - ``section``, ``key``: its section in a config and its key there; an empty key stands for the field's name, without
      the section's name where it begins with that (fine_tune_rate in section fine_tune: rate).
    - ``label``, ``unit``: what it is called on axes and in headings (empty: its name), and the unit in the Dataset.
    - ``help``: its help, one line. ``hidden``: whether it is left out of the config and can be given only from Python.
    - ``at_least``, ``at_most``: inclusive bounds; ``above``, ``below``: exclusive bounds.
    - ``choices``: the names allowed, usually a registry; ``accepts``: a further type allowed, such as functions.
    - ``whole``: whole numbers only, traced as floats; ``integer``: the same, traced as integers.
    - ``axis``: whether a grid may list several values.
    - ``verify``: a function of the value that raises BadInput where the value fails a further test.
    - ``read_by``: conditions on other fields for this one to have an effect; all of them must hold.

    ``name``, ``kind``, ``optional``, ``default`` and ``role`` are filled in by :func:`declared`.

    >>> from gpsense.fields import declared
    >>> field = declared(gpsense.Sensing)["dim"]
    >>> field.section, field.label, field.check(20)
    ('problem', 'dimension d', 20)
    """

    section: str = ""
    help: str = ""
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: Collection[str] | None = None
    label: str = ""
    unit: str = ""
    key: str = ""
    whole: bool = False
    integer: bool = False
    axis: bool = True
    hidden: bool = False
    accepts: type | tuple[type, ...] = ()
    verify: Callable[[Any], None] | None = None
    read_by: tuple[ReadBy, ...] = ()
    name: str = ""
    kind: str = OTHER
    optional: bool = False
    default: Any = None
    role: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.section, self.role))

    @property
    def dotted(self) -> str:
        """``section.key``: the field's name in a config."""
        return f"{self.section}.{self.key}"

    @property
    def words(self) -> str:
        """The field's name on an axis or in a heading: its label or, without one, its own name."""
        return self.label or self.name

    def check(self, value: Any) -> Any:
        """The checked value, as the field's type (5.0 as 5); BadInput names the field, what is wrong and the remedy.

        None is allowed for optional fields. Every number of an array is checked; traced values are not.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, Tracer):
            return value
        checked = value if self.accepts and isinstance(value, self.accepts) else _CHECKS[self.kind](self, value)
        if self.verify is not None:
            self.verify(checked)
        return checked

    def range_words(self) -> str:
        """The range in words: ``0 or more``, ``above 0 and below 1``, ``from 1 to 9``; empty without bounds."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:.12g} to {self.at_most:.12g}"
        low = f"{self.at_least:.12g} or more" if self.at_least is not None else ""
        low = low or (f"above {self.above:.12g}" if self.above is not None else "")
        high = f"at most {self.at_most:.12g}" if self.at_most is not None else ""
        high = high or (f"below {self.below:.12g}" if self.below is not None else "")
        return " and ".join(filter(None, (low, high)))

    def refuse(self, problem: str, remedy: str = "") -> BadInput:
        """The error for an invalid value."""
        return BadInput(self.name, problem, remedy or self.remedy())

    def remedy(self) -> str:
        """The remedy that an error for an invalid value states: what to give instead."""
        if self.choices is not None:
            return f"use one of {', '.join(self.choices)}"
        what = "whole number" if self.kind in (WHOLE, WHOLES) or self.whole else "number"
        size = self.range_words()
        each = {WHOLES: f"give {what}s", NUMBERS: f"give {what}s", FLAG: "use true or false"}
        return " ".join(filter(None, (each.get(self.kind, f"use a {what}"), size))) + (
            ", or leave it out" if self.optional and self.default is None else ""
        )


def as_plain(value: Any) -> Any:
    """A NumPy or JAX scalar as a Python number; anything else, random keys included, unchanged."""
    array = isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0
    return value.item() if array and not jnp.issubdtype(value.dtype, jax.dtypes.extended) else value


def arguments_named(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """The function, made to raise BadInput for unknown, missing or too many arguments."""
    signature = inspect.signature(function)
    known = signature.parameters
    named = [name for name in known if name not in ("self", "cls")]
    needed = [f"{name}=..." for name in named if known[name].default is inspect.Parameter.empty]

    @wraps(function)
    def called(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        for name in kwargs:
            if name not in known:
                remedy = nearest(name, [each for each in named if each not in kwargs])
                remedy = remedy or f"use one of {', '.join(named)}"
                raise BadInput(name, f"{function.__name__} has no such argument", remedy)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            remedy = f"call {function.__name__}({', '.join(needed)}) and give options by name"
            raise BadInput(function.__name__, str(error), remedy) from None
        return function(*args, **kwargs)

    return called


def _check_number(field: Field, value: Any) -> Any:
    if isinstance(value, np.ndarray | jax.Array) and value.ndim and field.kind == NUMBER:
        _in_range(field, np.asarray(value))
        return value
    given = as_plain(value)
    whole = field.kind == WHOLE or field.whole
    if isinstance(given, bool) or not isinstance(given, Real):
        raise field.refuse(f"{shown(given)} is not a {'whole number' if whole else 'number'}")
    largest = INT32 if field.integer else LARGEST
    if isinstance(given, int):
        _within(field, given, largest)
    if not math.isfinite(given):
        raise field.refuse(f"{shown(given)} is not a finite number")
    number = float(given)
    if whole and not number.is_integer():
        raise field.refuse(f"{shown(given)} is not a whole number")
    if whole:
        _within(field, number, largest)
    _in_range(field, np.asarray(given))
    if field.kind == WHOLE:
        return given if isinstance(given, int) else int(number)
    return number if isinstance(value, float) else value


def _within(field: Field, value: float, largest: int) -> None:
    if value > largest:
        raise field.refuse(f"{shown(value)} is too large (at most {largest})")
    if value < -largest:
        raise field.refuse(f"{shown(value)} is too small (at least -{largest})")


def _in_range(field: Field, values: np.ndarray) -> None:
    values = np.atleast_1d(values)
    outside = ~np.isfinite(values)
    for bound, beyond in (
        (field.at_least, np.less),
        (field.at_most, np.greater),
        (field.above, np.less_equal),
        (field.below, np.greater_equal),
    ):
        if bound is not None:
            outside |= beyond(values, bound)
    if outside.any():
        raise field.refuse(f"{shown(values[outside].ravel()[0])} is not allowed")


def _check_flag(field: Field, value: Any) -> Any:
    if not isinstance(value, bool | np.bool_):
        raise field.refuse(f"{shown(value)} is neither true nor false")
    return bool(value)


def _check_name(field: Field, value: Any) -> Any:
    if not isinstance(value, str):
        what = "neither a name nor a function" if field.accepts else "not a name"
        raise field.refuse(f"{shown(value)} is {what}", "" if field.choices is not None else "give a string")
    if field.choices is not None and value not in field.choices:
        raise unknown_name(field.name, value, field.choices)
    return str(value)


def _check_numbers(field: Field, value: Any) -> Any:
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 1:
        value = np.asarray(value).tolist()
    if isinstance(value, str) or not isinstance(value, list | tuple) or not value:
        raise field.refuse(f"{shown(value)} is not a list of numbers")
    one = replace(field, kind=WHOLE if field.kind == WHOLES else NUMBER)
    return tuple(_check_number(one, each) for each in value)


_CHECKS = {
    WHOLE: _check_number,
    NUMBER: _check_number,
    FLAG: _check_flag,
    NAME: _check_name,
    WHOLES: _check_numbers,
    NUMBERS: _check_numbers,
    OTHER: lambda field, value: value,
}


@lru_cache(maxsize=256)
def declared(owner: type, role: str = "static") -> Mapping[str, Field]:
    """The fields of a dataclass or ``eqx.Module`` by name, in order; those without a ``Field`` get a default one."""
    hints = get_type_hints(owner, include_extras=True)
    found = {}
    for each in dataclasses.fields(owner):
        annotation, field = hints[each.name], Field()
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
            field = next((mark for mark in marks if isinstance(mark, Field)), field)
        kind, optional = _kind(annotation)
        section = field.section or _SECTIONS[role]
        found[each.name] = replace(
            field,
            name=each.name,
            section=section,
            key=field.key or each.name.removeprefix(f"{section}_"),
            kind=kind,
            optional=optional,
            default=None if each.default is dataclasses.MISSING else each.default,
            role=role,
        )
    return found


def _kind(annotation: Any) -> tuple[str, bool]:
    """The kind of a type annotation, and whether it allows None."""
    optional = False
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        optional = len(parts) < len(get_args(annotation))
        if set(get_args(ScalarLike)) <= set(parts):
            return NUMBER, optional
        names = [part for part in parts if part in _KINDS]
        annotation = names[0] if len(names) == 1 else parts[0]
    return _KINDS.get(annotation, OTHER), optional


def check_fields(instance: Any, role: str = "static") -> None:
    """Check every field of a frozen dataclass; static ones are then stored as their own type (5.0 as 5 if whole)."""
    for name, field in declared(type(instance), role).items():
        value = getattr(instance, name)
        checked = field.check(value)
        if checked is not value and role == "static":
            object.__setattr__(instance, name, checked)


class Traced(eqx.Module):
    """Base of ``Data`` and ``Setting``: numbers that are traced; values given at construction are checked."""

    def __check_init__(self) -> None:
        check_fields(self, "setting")


def verify_read(name: str, known: Mapping[str, Field], values: Mapping[str, Sequence[Any]]) -> None:
    """Raises BadInput if the given field ``name`` has no effect, since none of another field's ``values`` reads it."""
    for by in known[name].read_by:
        if by.field in values and not any(map(by.reads, values[by.field])):
            raise by.refusal(name, values[by.field], known[by.field].choices)


def check_flag(name: str, value: Any, optional: bool = False) -> None:
    """Raises BadInput for an argument that is neither True nor False (nor None, if ``optional``)."""
    Field(name=name, kind=FLAG, optional=optional).check(value)


def check_sizes(**sizes: Any) -> None:
    """Raises BadInput for a size of arrays, by the argument's name, that is not a whole number of at least 1."""
    for name, size in sizes.items():
        Field(name=name, kind=WHOLE, at_least=1).check(size)


def check_key(key: Any) -> None:
    """Raises BadInput for an argument ``key`` that is not one random key, traced or not."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    made = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not made and (dtype != jnp.uint32 or not shape):  # a key may be its raw numbers
        told = shown(key) if dtype is None else f"an array of {dtype}, shape {shape},"
        problem = f"{told} is not a random key"
        raise BadInput("key", problem, "give a key such as jax.random.key(0)")
    if len(shape or ()) != (0 if made else 1):
        problem = f"it is an array of keys, shape {shape}"
        raise BadInput("key", problem, "give one of them, or map over them by jax.vmap")


def check_shape(name: str, array: Any, *sides: int | str) -> None:
    """Raises BadInput unless an array, traced or not, has the shape ``sides``; a name as a side fits any length."""
    if isinstance(array, list | tuple):
        raise BadInput(name, f"it is a {type(array).__name__}", f"give an array, jax.numpy.array({name})")
    found = np.shape(array)
    if found != tuple(n if isinstance(side, str) else side for side, n in zip_longest(sides, found)):
        wanted = f"({', '.join(map(str, sides))}{',' * (len(sides) == 1)})"
        raise BadInput(name, f"it has shape {found}, not {wanted}", f"give an array of shape {wanted}")


def held(array: np.ndarray) -> str:
    """What an array holds instead of real numbers, in words; empty where it holds real numbers."""
    if array.dtype.kind in "fiub":
        return ""
    if array.dtype.kind == "O":
        others = [each for each in array.flat if not isinstance(each, Real)]
        first = next((each for each in others if isinstance(each, str | bytes)), others[0] if others else None)
        return "text" if isinstance(first, str | bytes) else "None" if first is None else f"a {type(first).__name__}"
    words = {"c": "complex numbers", "M": "dates", "m": "durations", "V": "records"}
    return words.get(array.dtype.kind, "text")


def real_array(name: str, given: Any, holds: str = "it holds") -> np.ndarray:
    """The given real numbers as an array, None and NA as NaN.

    Raises BadInput for other values; its problem begins with ``holds``.
    """
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        problem = f"not convertible to an array ({str(error).split('. ')[0]})"
        raise BadInput(name, problem, "give numbers, in rows of equal length") from None
    if array.dtype.kind == "O" and array.ndim and all(map(_may_lack, array.flat)):
        array = np.array([np.nan if _lacks(each) else float(each) for each in array.flat]).reshape(array.shape)
    if words := held(array):
        remedy = "encode it as numbers" if words == "text" else "give an array of numbers"
        raise BadInput(name, f"{holds} {words}, not real numbers", remedy)
    return array


def _lacks(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType"


def _may_lack(value: Any) -> bool:
    return _lacks(value) or isinstance(value, Real)


def first_line(thing: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").split("\n", 1)[0]
