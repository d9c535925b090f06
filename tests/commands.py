"""Commands run in this process: their exit code and what they printed."""

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple


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
