"""The error for input that cannot be used, which says what to change; and functions that word messages."""

import difflib
from collections.abc import Collection
from typing import Any


class BadInput(ValueError):
    """Input that cannot be used: the field, what is wrong with it, and the remedy, in one line.

    >>> try:
    ...     gpsense.Sensing(dim=0)
    ... except gpsense.BadInput as error:
    ...     print(error.field, "|", error.remedy)
    dim | use a whole number 1 or more
    """

    def __init__(self, field: str, problem: str, remedy: str):
        self.field, self.problem, self.remedy = field, problem, remedy
        super().__init__(f"{field}: {problem}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:  # keeps the three fields when sent to another process
        return type(self), (self.field, self.problem, self.remedy)


def shown(value: Any) -> str:
    """A value quoted in an error, cut to a readable length."""
    import numpy as np  # imported here, as --help does without it

    text = repr(value.item() if isinstance(value, np.generic) else value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def counted(count: int, noun: str) -> str:
    """A count with its noun, such as ``1 seed`` or ``3 seeds``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nearest(name: str, known: Collection[str]) -> str:
    """``did you mean X?`` with the nearest known name, empty where none is near."""
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), lower, 1, 0.6)
    return f"did you mean {lower[close[0]]}?" if close else ""


def unknown_name(field: str, name: Any, known: Collection[str]) -> BadInput:
    """The error for an unknown name: it suggests the nearest known one, then lists them all."""
    near = nearest(name, known) if isinstance(name, str) else ""
    return BadInput(field, f"there is no {shown(name)}", f"{near} " * bool(near) + f"use one of {', '.join(known)}")


def lacking(cell: str, draw: bool) -> str:
    """The words before "parameter NAME" of an error: neither the cell nor its ``draw``, if it has one, takes it."""
    return f"neither draw nor {cell} has a" if draw else f"{cell} has no"
