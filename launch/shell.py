"""How a command ends: one line for what went wrong, and the exit code that says which kind it was."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from gpsense.errors import BadInput
from launch.interrupt import INTERRUPTED, entry


class Refusal(Exception):
    """Input that is refused; the text is one line that names the field and the remedy."""


class Parser(argparse.ArgumentParser):
    """argparse that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(f"{message}; see --help")


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


def guarded(work: Callable[[], int]) -> int:
    """Run a command: 2 for a refusal, 130 for ctrl-C, 1 for a closed pipe or a full disk, each in one line."""
    try:
        return work()
    except (Refusal, BadInput) as refusal:
        return refused(refusal)
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; rerun to resume", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        words = printable(f"error: {error}; what was finished is kept; fix the cause and rerun to resume")
        print(words, file=sys.stderr)
        return 1


def leave(code: int) -> None:
    """End the process; after ctrl-C at once, since a compilation may still be running in another thread."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
