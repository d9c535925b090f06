"""Runs Python in a new process, where another precision, an empty cache or fresh memory is needed."""

import os
import subprocess
import sys
from pathlib import Path

import launch

ROOT = Path(launch.__file__).parents[1]


def child(code: list[str], **environment: str) -> str:
    """Run Python with the arguments ``code`` (``-m ...`` or ``-c ...``); returns its output, or raises RuntimeError."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    changed = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)} | environment
    done = subprocess.run([sys.executable, *code], env=changed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(code)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
