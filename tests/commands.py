"""Commands run in this process: their exit code and what they printed."""

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple

# python -c: the command of grids in a process of its own, without pictures, whose library takes seconds to import
UNDRAWN = """
import sys
from types import ModuleType
sys.modules["launch.figures"] = figures = ModuleType("launch.figures")
figures.draw = lambda *arguments: []
from launch import grid
sys.exit(grid.main())
"""


class Ended(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def ended(command: Callable[[list[str]], int], *argv: object) -> Ended:
    """A command with these words."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command([str(word) for word in argv])
    return Ended(code, out.getvalue(), err.getvalue())
