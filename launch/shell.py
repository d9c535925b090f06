"""How a command ends: one line for what went wrong, and the exit code that says which kind it was."""

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

EVERY = 10.0  # seconds between lines of a log that say what is being tried


class Refusal(Exception):
    """Input that is refused; the text is one line that names the field and the remedy."""


class Parser(argparse.ArgumentParser):
    """argparse that refuses in one line, with the nearest name for an option or a choice that there is not."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **options)
        self.register("type", int, partial(_number, int, "whole number"))
        self.register("type", float, partial(_number, float, "number"))

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The arguments; Refusal for what is not understood."""
        given, rest = self.parse_known_args(args, namespace)
        for word in sorted(rest, key=lambda word: not word.startswith("-")):  # its values are left over, too
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
    """Text as a number of this kind."""
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a {words}; use a {words}") from None


def program(command: str) -> str:
    """How a command is called by whoever runs this one: ``gpsense grid`` or ``python -m launch.grid``."""
    return f"{start} {command}" if (start := entry()) else f"python -m launch.{command}"


def refused(error: Exception) -> int:
    """Print the one line of a refusal; the exit code."""
    option = "--" if isinstance(error, BadInput) and error.field == "out" else ""
    print(printable(f"error: {option}{error}"), file=sys.stderr)
    return 2


def notice(words: str) -> None:
    """Print a line that a reader has to know of."""
    print(printable(f"notice: {words}"), file=sys.stderr)


def printable(text: str) -> str:
    """A text that quotes files of strangers, as a terminal may have it: one line, control characters as ``\\x1b``."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def guarded(work: Callable[[], int], kept: str = KEPT) -> int:
    """Run a command: 2 for a refusal, 130 for ctrl-C, 1 for a closed pipe or a full disk, each in one line.

    ``kept`` says what becomes of what was done.
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
    """Words on what is being tried, called with them: one line of a terminal, or a line of a log every ten seconds."""

    def __init__(self, every: float = EVERY) -> None:
        self._words = ""
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = min(every, 1.0) if self._terminal else every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True, name="progress")

    def __call__(self, words: str) -> None:
        """Tell these words when it is time."""
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
    """End the process of a command: what is to be done at its end is done, unless interrupted, and output written.

    Python itself would then wait for other threads, which may be compiling, and take its modules apart without hearing
    signals: ctrl-C would end it there without a word.
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
