"""Leases decide which of several processes in one run directory runs a chunk: the first to make its lease file.

A lease is renewed while its process lives, by the clock of the file system. Without renewal it expires, and another
process takes it. Leases only save work: a chunk that is run twice is written twice, each time as a whole.
"""

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Self

from gpsense.grid.files import alive, naming, parse_json, read_json, regular

EXPIRY = 60.0  # seconds without a renewal; longer than a shared file system may delay one


class Leases:
    """The leases of this process in the folder of a run's chunks, renewed within ``with`` and given back at its end.

    A lease of another process counts for ``expiry`` seconds after its last renewal, and not at all if that process ran
    on this host and has ended. OSError where the folder cannot be written to.
    """

    def __init__(self, folder: Path, expiry: float = EXPIRY):
        self.folder, self.expiry = folder, expiry
        self._token = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._held: set[Path] = set()
        self._lock, self._ended = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._renew, daemon=True, name="leases").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.give_back()

    def path(self, chunk: int) -> Path:
        """The lease file of a chunk."""
        return self.folder / f"{chunk:06d}.lease"

    def take(self, chunk: int) -> bool:
        """Try to take the lease of a chunk; returns whether this process is to run the chunk from now on."""
        path = self.path(chunk)
        if self._make(path):
            return True
        if not self._expired(path):
            return False
        path.unlink(missing_ok=True)
        return self._make(path)

    def give_back(self, chunk: int | None = None) -> None:
        """End the lease of a chunk, or of all (None); one that another process has taken since is left alone."""
        with self._lock:
            ours = list(self._held) if chunk is None else [self.path(chunk)]
            self._held.difference_update(ours)
        for path in ours:
            with suppress(OSError, ValueError, KeyError, TypeError):
                if json.loads(path.read_text(encoding="utf-8"))["token"] == self._token:
                    path.unlink()

    def _make(self, path: Path) -> bool:
        """Make a lease file; returns False if it exists. Of several processes, only one can make it."""
        try:
            made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            about = {"token": self._token, "host": socket.gethostname(), "process": os.getpid()}
            with naming(path):
                os.write(made, json.dumps(about).encode())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(made)
        with self._lock:
            self._held.add(path)
        return True

    def _expired(self, path: Path) -> bool:
        """Whether a lease no longer counts; its file is opened, since only that asks a file server for its true age."""
        try:
            with open(regular(path), "rb") as file:
                renewed, text = os.fstat(file.fileno()).st_mtime, file.read(1000)
        except FileNotFoundError:  # given back just now
            return True
        try:
            about = parse_json(text)
            if about["host"] == socket.gethostname() and not alive(int(about["process"])):
                return True
        except (ValueError, KeyError, TypeError, OverflowError):  # not fully written yet, or not a lease of gpsense
            pass
        return self._now() - renewed > self.expiry

    def _now(self) -> float:
        """The time by the clock of the file system, which is the same for all hosts."""
        probe = self.folder / f".clock.{self._token}.{socket.gethostname()}.{os.getpid()}.part"
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(self.expiry / 6):
            with self._lock:
                held = list(self._held)
            for path in held:
                with suppress(OSError):
                    os.utime(path)


def remove_ended(folder: Path) -> None:
    """Remove the leases of processes of this host that have ended, and those of chunks that are stored."""
    for path in folder.glob("*.lease"):
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            about = read_json(path)
            ended = about["host"] == socket.gethostname() and not alive(int(about["process"]))
            if ended or path.with_suffix(".chunk").exists():
                path.unlink()
