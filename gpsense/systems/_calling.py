"""Calls of a user's function while it is traced, with a one-line error for a value that it cannot be called with.

Python may need the value of a traced number, or the function may need a number where it was given text or None.
"""

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gpsense.errors import BadInput
from gpsense.fields import shown

# words of JAX's errors where Python needs the value of a traced number, beside those with an error class of their own
WORDS = (
    "concrete values of integer type",
    "must be static integers",
    "must have static start/stop/step",
)
NUMBER = r" *([-+]?(?:\d+\.?\d*?|\.\d+)(?:e[-+]?\d+)?) *"


def call(
    field: str,
    function: Callable[..., Any],
    first: Sequence[Any],
    numbers: Mapping[str, Any],
    remedy: Callable[[Sequence[str]], str] | None = None,
) -> Any:
    """Returns ``function(*first, **numbers)``; raises BadInput where Python needs the value of a traced number.

    That error names which of ``numbers`` (never ``key``) must be fixed so that the function can be traced;
    ``remedy(names)`` says how to fix them. Raises BadInput also where the function fails with a value that is not a
    number, but runs with a number in its place. Any other error is raised with a note, which names the function's line
    and the values that are not traced.
    """
    try:
        return function(*first, **numbers)
    except BadInput:
        raise
    except Exception as error:
        if refusal := _no_number(function, first, numbers, error):
            raise refusal from error
        if not needs_value(error):
            fixed = [f"{name} = {shown(value)}" for name, value in numbers.items() if not isinstance(value, Tracer)]
            error.add_note(f"in {_where(function, error)}" + (", where " if fixed else "") + ", ".join(fixed))
            raise
        raise _refusal(field, function, first, numbers, error, remedy or make_static) from error


def needs_value(error: Exception) -> bool:
    """Whether an error says that Python or NumPy needs the value of a traced number or array."""
    kinds = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)
    kinds += (jax.errors.TracerIntegerConversionError, jax.errors.NonConcreteBooleanIndexError)
    text = str(error)
    return isinstance(error, kinds) or ("Tracer" in text and any(words in text for words in WORDS))


def _no_number(
    function: Callable[..., Any], first: Sequence[Any], numbers: Mapping[str, Any], error: Exception
) -> BadInput | None:
    """The error for a value that is not a number, if the function runs with a number in its place; else None."""
    names = [name for name, value in numbers.items() if not isinstance(value, int | float | complex | jax.Array)]
    if needs_value(error):  # most such values are not its cause
        names = [name for name in names if _reads_as_number(numbers[name])]

    def runs(replaced: Sequence[str]) -> bool:
        for number in (2, 0.5):
            with suppress(Exception):
                function(*first, **{**numbers, **dict.fromkeys(replaced, number)})
                return True
        return False

    if not names or not runs(names):
        return None
    name = next((name for name in names if runs([name])), names[0])
    what = "text" if isinstance(numbers[name], str | bytes) else "not an int or a float"
    problem = f"{shown(numbers[name])} is {what}, and {_where(function, error)} failed with it"
    return BadInput(name, problem, number_for(numbers[name]) or "give a number, or fix the function")


def number_for(value: Any) -> str:
    """How to give several numbers, for text that seems to mean them, such as ``1,2`` or ``0..1``; else empty."""
    text = value.strip().strip("[]()") if isinstance(value, str) else ""
    if re.fullmatch(rf"{NUMBER}(?:[,;\s]{NUMBER})+,?", text):
        return f"for several numbers give a list: [{', '.join(re.sub('[,;]', ' ', text).split())}]"
    found = re.fullmatch(rf"{NUMBER}(?:\.\.+|:|-| to ){NUMBER}", text)
    if not found:
        return ""
    first, last = found.groups()
    return f"for five numbers write lin:{first}:{last}:5 in the shell, numpy.linspace({first}, {last}, 5) in Python"


def _reads_as_number(value: Any) -> bool:
    with suppress(TypeError, ValueError):
        return isinstance(value, str) and float(value) == float(value)
    return False


def _refusal(
    field: str,
    function: Callable[..., Any],
    first: Sequence[Any],
    numbers: Mapping[str, Any],
    error: Exception,
    remedy: Callable[[Sequence[str]], str],
) -> BadInput:
    traced = {name: value for name, value in numbers.items() if name != "key" and isinstance(value, Tracer)}

    def fits(fixed: Sequence[str]) -> bool:
        """Whether no traced value is needed once ``fixed`` are fixed; other errors come from the values tried."""
        try:
            function(*first, **{**numbers, **{name: _example(traced[name]) for name in fixed}})
        except Exception as found:
            return not needs_value(found)
        return True

    where = _where(function, error)
    names = list(traced)
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return BadInput(field, f"{where} applies NumPy to a traced number", "use jax.numpy there")
    if not names or not fits(names):
        problem = f"{where} needs the value of a traced array, for a shape, a loop or an if"
        return BadInput(field, problem, "use jnp.where, jax.lax.cond or jax.lax.fori_loop, and shapes that are fixed")
    for name in list(traced):
        if fits([each for each in names if each != name]):
            names.remove(name)
    branch = isinstance(error, jax.errors.TracerBoolConversionError)
    what = "an if or a while" if branch else "a shape, a loop or a conversion"
    words = remedy(names) + (", or use jnp.where" if branch else "")
    return BadInput(" and ".join(names), f"{where} needs the value for {what}, but it is traced", words)


def make_static(names: Sequence[str], already: Sequence[str] = ()) -> str:
    """A remedy in words: how to make these parameters static, besides those that are static ``already``."""
    quoted = lambda each: ", ".join(f'"{name}"' for name in each)  # noqa: E731
    if already:
        return f"add {quoted(names)}: static=[{quoted([*already, *names])}] compiles a program for each value"
    return f"give static=[{quoted(names)}], which compiles a program for each value"


def _example(tracer: Any) -> Any:
    """A Python number of the tracer's kind, as if its parameter were static: 2 for integers, else 0.5."""
    return 2 if jnp.issubdtype(tracer.dtype, jnp.integer) else 0.5


def _where(function: Callable[..., Any], error: Exception) -> str:
    """The function's name, and the line of its file at which it failed."""
    name = getattr(function, "__name__", type(function).__name__)
    name = "the function" if name == "<lambda>" else name
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{name} (line {lines[-1]})" if lines else name
