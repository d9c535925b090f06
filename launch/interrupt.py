"""Makes ctrl-C and SIGTERM end a command at once, with one line and exit code 130, whatever it is doing.

A thread waits for the signal and ends the process, since the main thread may be inside a library that blocks or
swallows KeyboardInterrupt. Stored results stay intact: a file gets its name only when it is complete.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

INTERRUPTED = 130
KEPT = ": what was finished is kept; rerun to resume"
_told: list[Callable[[], str]] = [lambda: f"interrupted{KEPT}"]


def is_command() -> bool:
    """Whether this process was started as a command: ``python -m launch...`` or ``gpsense``."""
    module = any(option == "-m" and name.split(".")[0] == "launch" for option, name in pairwise(sys.orig_argv))
    return (module and sys.argv[:1] == ["-m"]) or bool(entry())


def entry() -> str:
    """How this process was started: ``gpsense``, ``python -m gpsense``, or empty for anything else."""
    folder, file = os.path.split(sys.argv[0] if sys.argv else "")
    if (os.path.basename(folder), file) == ("gpsense", "__main__.py"):
        return "python -m gpsense"
    return "gpsense" if os.path.splitext(file)[0] == "gpsense" else ""


def install() -> None:
    """Make SIGINT and SIGTERM end the process from now on; a signal that is ignored stays ignored."""
    signals = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for each in signals:
        signal.signal(each, lambda number, frame: None)
    threading.Thread(target=_watch, args=(read, signals), daemon=True, name="interrupt").start()


def installed() -> bool:
    """Whether :func:`install` was called in this process."""
    return any(thread.name == "interrupt" for thread in threading.enumerate())


def _watch(read: int, signals: list[signal.Signals]) -> None:
    while os.read(read, 1)[0] not in signals:
        pass
    try:
        words = _told[-1]()
    except Exception:  # the process may be in any state
        words = _told[0]()
    with suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{words}\n".encode())  # not on the line of a progress bar
    os._exit(INTERRUPTED)


@contextmanager
def telling(words: Callable[[], str]) -> Iterator[None]:
    """Within the block, an interrupt prints the text that ``words`` returns."""
    _told.append(words)
    try:
        yield
    finally:
        _told.remove(words)
