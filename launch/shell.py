"""How a command ends: one line for what went wrong, and the exit code that says which kind it was."""

import os
import sys
from collections.abc import Callable

from launch.config import Refusal

INTERRUPTED = 130


def guarded(work: Callable[[], int]) -> int:
    """Run a command: 2 for a refusal, 130 for ctrl-C, 1 for a closed pipe or a full disk, each in one line."""
    try:
        return work()
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error}; what was finished is kept, free the way and run again to go on", file=sys.stderr)
        return 1


def leave(code: int) -> None:
    """End the process; after ctrl-C at once, since a compilation may still be running in another thread."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
