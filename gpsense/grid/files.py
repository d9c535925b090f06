"""Reads files, and writes them under a temporary name first, so that no reader or restart ever sees half a file."""

import io
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpsense.errors import BadInput

DEEPEST = 50  # levels of nesting that are allowed in a JSON file
FOLDERS, LOG = ("chunks", "chunks/damaged", "figures", "paper"), "metrics.jsonl"  # of a run, written to


@contextmanager
def atomic(path: Path, keep: bool = False) -> Iterator[Path]:
    """A temporary path to write to, renamed to ``path`` at the end of the block, or removed if the block fails.

    With ``keep``, a file that exists at ``path`` stays as it is.
    """
    aside = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        with naming(path):
            yield aside
            with open(aside, "rb") as written:
                os.fsync(written.fileno())
            (_settle if keep else os.replace)(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds this file's name to errors of the block that name no file, such as the error for a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def regular(path: Path) -> Path:
    """The path, after a check that it is no folder, pipe or device: reading one would fail or never end.

    For a folder, pipe or device it raises an error that is both an OSError and a ValueError.
    """
    if path.exists() and not path.is_file():
        raise io.UnsupportedOperation(f"{path.name} is not a regular file")
    return path


def read_json(path: Path) -> Any:
    """The content of a JSON file; OSError where it cannot be read, ValueError as in :func:`parse_json`."""
    return parse_json(regular(path).read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """The content of JSON from any source; ValueError where it is invalid, nested too deep or not valid Unicode."""
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()  # fails for lone surrogates
        if _levels(data) <= DEEPEST:
            return data
    except RecursionError:
        pass
    raise ValueError(f"lists nested more than {DEEPEST} deep")


def _levels(data: Any) -> int:
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return 1 + max(map(_levels, inside), default=0)


def own(directory: Path) -> None:
    """Raises BadInput where a run directory's folder is a link or no folder, or where its log is a link or no file."""
    for name in (*FOLDERS, LOG):
        path = directory / name
        there = path.is_file() if name == LOG else path.is_dir()
        if path.is_symlink() or (path.exists() and not there):
            what = "file" if name == LOG else "folder"
            raise BadInput("out", f"{path} is a link or not a {what}", f"put a {what} in its place, or remove it")


def remove_left_over(directory: Path) -> None:
    """Remove the half-written files that ended processes of this host left in a directory and its FOLDERS."""
    folders = [directory, *(directory / name for name in FOLDERS if not (directory / name).is_symlink())]
    for path in (path for folder in folders for path in folder.glob(".*.part")):
        owner = re.fullmatch(rf"\..*\.{re.escape(socket.gethostname())}\.(\d+)\.part", path.name)
        if owner and not alive(int(owner[1])):
            with suppress(FileNotFoundError):
                path.unlink()


def alive(process: int) -> bool:
    """Whether a process with this id runs on this host, whoever owns it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _settle(aside: Path, path: Path) -> None:
    """Rename ``aside`` to ``path`` unless that exists; if several processes try at once, one succeeds."""
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(aside, path)


def write_json(path: Path, data: Any, keep: bool = False) -> None:
    """Write JSON atomically; with ``keep`` only where there is no such file."""
    with atomic(path, keep) as aside:
        aside.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def writable(directory: Path) -> None:
    """Raises BadInput for a directory that cannot be made or written to; leaves nothing behind."""
    try:
        if directory.exists() and not directory.is_dir():
            raise BadInput("out", f"{directory} is a file", "choose a directory")
        parent = directory
        while not parent.exists():
            parent = parent.parent
        os.rmdir(tempfile.mkdtemp(dir=parent, prefix=".probe-"))
    except OSError as error:
        raise unwritable(directory, error) from None


def unwritable(directory: Path, error: OSError) -> BadInput:
    """The error for a directory that cannot be written to."""
    return BadInput("out", f"{directory} cannot be written to ({error.strerror})", "choose a writable directory")


def logged(directory: Path) -> dict[int, dict[str, Any]]:
    """The last line of metrics.jsonl about each chunk, by the chunk's number; half-written lines are skipped."""
    path, found = directory / LOG, {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError, KeyError, TypeError):
            entry = parse_json(line)
            found[entry["chunk"]] = entry
    return found


def made_in_python(manifest: dict[str, Any]) -> bool:
    """Whether a run was made by run_grid, sweep or find_tickets, so that its manifest holds no config."""
    return manifest.get("config") is None
