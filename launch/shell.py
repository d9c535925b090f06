"""How a command ends: one line for what went wrong, and the exit code that says which kind it was."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gpsense.errors import BadInput

INTERRUPTED = 130


class Refusal(Exception):
    """Input that is refused; the text is one line that names the field and the remedy."""


class Parser(argparse.ArgumentParser):
    """argparse that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(f"{message}; see --help")


def program(command: str) -> str:
    """How a command is called by whoever runs this one: ``gpsense grid`` or ``python -m launch.grid``."""
    return f"gpsense {command}" if Path(sys.argv[0]).stem == "gpsense" else f"python -m launch.{command}"


def refused(error: Exception) -> int:
    """Print the one line of a refusal; the exit code."""
    option = "--" if isinstance(error, BadInput) and error.field == "out" else ""
    print(f"error: {option}{error}", file=sys.stderr)
    return 2


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
        print(f"error: {error}; what was finished is kept; fix the cause and rerun to resume", file=sys.stderr)
        return 1


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """A check that raises KeyboardInterrupt if ctrl-C came, also where a library swallowed the exception itself."""
    came = threading.Event()

    def note(number: int, frame: Any) -> None:
        came.set()
        raise KeyboardInterrupt

    def check() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave(code: int) -> None:
    """End the process; after ctrl-C at once, since a compilation may still be running in another thread."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
