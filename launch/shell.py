"""How a command ends: with an exit code and, unless all went well, one line that says what went wrong."""

import argparse
import atexit
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, Self

from gpsense.errors import BadInput, nearest, shown, unknown_name
from launch.interrupt import INTERRUPTED, KEPT, entry, installed

EVERY = 10.0  # seconds between lines of progress in a log


class Refusal(Exception):
    """Input that is refused; the text is one line that names the field and the remedy."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that refuses in one line, with the nearest name for an unknown option or choice."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **options)
        self.register("type", int, partial(_number, int, "whole number"))
        self.register("type", float, partial(_number, float, "number"))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The arguments; raises Refusal for one that is not understood."""
        given, rest = self.parse_known_args(args, namespace)
        for word in sorted(rest, key=lambda word: not word.startswith("-")):  # values are left over, too
            option = word.split("=", 1)[0]
            if not option.startswith("-"):
                raise Refusal(f"{option}: not understood; see --help")
            near = nearest(option.lstrip("-"), [each[2:] for each in self._option_string_actions if each[2:]])
            raise Refusal(f"{option}: there is no such option; {near.replace('mean ', 'mean --') or 'see --help'}")
        return given

    def error(self, message: str) -> NoReturn:
        told = message.removeprefix("argument ").replace("expected one argument", "give one value")
        raise Refusal(told if ";" in told else f"{told}; see --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise Refusal(str(unknown_name(action.option_strings[-1], value, list(action.choices))))


def _number(kind: type[int] | type[float], words: str, text: str) -> int | float:
    """The text as a number of this ``kind``; raises ArgumentTypeError with ``words`` for other text."""
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a {words}; use a {words}") from None


def program(command: str) -> str:
    """How to call another command, in the way this one was called: ``gpsense grid`` or ``python -m launch.grid``."""
    return f"{start} {command}" if (start := entry()) else f"python -m launch.{command}"


def refused(error: Exception) -> int:
    """Print the one line of a refusal and return the exit code 2."""
    option = "--" if isinstance(error, BadInput) and error.field == "out" else ""
    print(printable(f"error: {option}{error}"), file=sys.stderr)
    return 2


def notice(words: str) -> None:
    """Print a line that the user should read to standard error."""
    print(printable(f"notice: {words}"), file=sys.stderr)


def printable(text: str) -> str:
    """A text that may quote untrusted files, made safe for a terminal: one line, control characters as ``\\x1b``."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def guarded(work: Callable[[], int], kept: str = KEPT) -> int:
    """Run a command and return its exit code: 2 for a refusal, 130 for ctrl-C, 1 for an OSError, each told in one line.

    ``kept`` is what that line says of finished work. A closed pipe gives 1 without a line.
    """
    try:
        return work()
    except (Refusal, BadInput) as refusal:
        return refused(refusal)
    except KeyboardInterrupt:
        print(f"interrupted{kept}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        again = "what was finished is kept; fix the cause and rerun to resume"
        again = again if kept == KEPT else f"{kept.removeprefix('; ')}; fix the cause and rerun"
        print(printable(f"error: {error}; {again}"), file=sys.stderr)
        return 1


class Progress:
    """A progress display, called with words: one changing line on a terminal, or a line in a log every ten seconds."""

    def __init__(self, every: float = EVERY) -> None:
        self._words = ""
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = min(every, 1.0) if self._terminal else every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True, name="progress")

    def __call__(self, words: str) -> None:
        """Set the words that are shown next."""
        self._words = words

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _show(self) -> None:
        start, end = ("\r\x1b[K", "") if self._terminal else ("", "\n")
        told = False
        while not self._ended.wait(self._every):
            if self._words:
                line = f"{time.monotonic() - self._begun:.0f} s: {self._words}"
                room = shutil.get_terminal_size().columns - 1 if self._terminal else None
                print(f"{start}{line[:room]}", end=end, file=sys.stderr, flush=True)
                told = True
        if self._terminal and told:
            print(start, end="", file=sys.stderr, flush=True)


def leave(code: int) -> NoReturn:
    """End a command's process: exit handlers run, unless it was interrupted, and its output is flushed.

    Python's own shutdown would wait for threads that may be compiling, its signal handlers already off: ctrl-C would
    then kill it with no message.
    """
    if code != INTERRUPTED and not installed():  # called within another program
        sys.exit(code)
    if code != INTERRUPTED:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # a closed pipe, a full disk
            code = code or 1
    os._exit(code)
