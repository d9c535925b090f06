"""Which cells to run next, and how wide: the NumPy half of a program. Stopped cells are left out of the batch."""

from collections.abc import Iterator, Sequence
from math import gcd
from typing import Any, NamedTuple

import numpy as np

COMPACT_FLOPS = 2e10  # operations a smaller batch must save before a program is compiled for it
REGISTER = 16  # float32 numbers of a vector register: batches along the last axis take as long as its next multiple


class Batch(NamedTuple):
    """Cells to run together: ``rows`` (devices, blocks, batch) of problems, the first ``blocks`` (devices,) blocks of
    them in use, and ``chosen`` (outer, cells) settings of each.
    """

    rows: np.ndarray
    blocks: np.ndarray
    chosen: np.ndarray


class Sharing(NamedTuple):
    """Which settings train: of every one its ``leader`` (inner,), and the ``steps`` (inner,) of its own training."""

    leader: np.ndarray
    steps: np.ndarray

    @property
    def follows(self) -> np.ndarray:
        """Settings (inner,) that do not train, since their leader's training begins as theirs."""
        return self.leader != np.arange(self.leader.size)

    def lengths(self, segments: Sequence[int]) -> list[tuple[int, bool]]:
        """Segments cut where followers end, all to one length, and whether a record belongs to each."""
        ends = self.steps[self.follows]
        within = ends[ends < sum(segments)].tolist()
        if not within:
            return [(length, True) for length in segments]
        unit = gcd(*within, *segments)
        return [(unit, part == length // unit) for length in segments for part in range(1, length // unit + 1)]

    def due(self, done: int, last: bool) -> np.ndarray:
        """Followers (inner,) that end after so many steps, or with training."""
        return self.follows & (self.steps >= done if last else self.steps == done)

    def filled(self, points: dict[str, np.ndarray], done: int) -> dict[str, np.ndarray]:
        """Records (outer, inner) with their leader's of those that have not ended."""
        source = np.where(self.follows & (self.steps > done), self.leader, np.arange(self.leader.size))
        return {name: point[:, source] for name, point in points.items()}


class Compaction(NamedTuple):
    """How the problems of a chunk lie on the devices, and what a step of a cell costs."""

    devices: int
    outer: int
    side_by_side: int
    flops: float

    def batches(self, running: np.ndarray, sizes: set[int], steps: int, lanes: bool = False) -> Iterator[Batch]:
        """What to run next: for each size of batch its rows, their number on each device and their running cells.

        ``running`` (outer, inner) are the cells that have not stopped. ``sizes`` are those in use; a smaller one joins
        them where it saves enough over the ``steps`` that are left. ``lanes``: cells are held along the last axis.
        """
        counts = running.sum(1)
        allowed = np.asarray(sorted(sizes))
        current = allowed[np.searchsorted(allowed, counts)]
        for size in smaller(running.shape[1], lanes):
            saved = np.where((counts > 0) & (counts <= size), np.maximum(current - size, 0), 0).sum()
            if size not in sizes and saved * steps * self.flops >= COMPACT_FLOPS:
                sizes.add(size)
                current = np.where(counts <= size, np.minimum(current, size), current)
        running_first = np.argsort(~running, axis=1, kind="stable").astype(np.int32)
        for size in sorted(sizes):
            rows, count = self.rows((counts > 0) & (current == size))
            if count.any():
                yield Batch(rows, count, running_first[:, :size])

    def rows(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each device's wanted rows in blocks (devices, blocks, batch), and their number; surplus is out of range."""
        batch = min(self.side_by_side, self.outer)
        each = self.outer // self.devices
        rows = np.full((self.devices, -(-each // batch) * batch), each, np.int32)
        count = np.zeros(self.devices, np.int32)
        for device, mine in enumerate(wanted.reshape(self.devices, each)):
            places = np.flatnonzero(mine)
            rows[device, : places.size] = places
            count[device] = -(-places.size // batch)
        return rows.reshape(self.devices, -1, batch), count


def smaller(size: int, lanes: bool = False) -> list[int]:
    """Batch sizes below ``size`` that programs may be compiled for: each three quarters of the last, rounded down.

    In ``lanes`` to multiples of a register, then half of one and one: what lies between takes as long as the next.
    """
    sizes = []
    while size > 1:
        size = size * 3 // 4
        if lanes:
            size = size // REGISTER * REGISTER or (REGISTER // 2 if size > REGISTER // 2 else 1)
        sizes.append(size)
    return sizes


def bucket(kept: int, width: int) -> int:
    """The width fine-tuning is compiled for: the next power of two from the most parts kept, at most ``width``."""
    return min(width, 1 << max(kept - 1, 0).bit_length())


def padded(rows: Sequence[Any], length: int) -> list[Any]:
    """The rows, the last one repeated up to the length, so that every chunk of a program has one shape."""
    return [*rows, *[rows[-1]] * (length - len(rows))]


def repeated(value: Any, length: int, dtype: Any) -> np.ndarray:
    """A constant given to every row."""
    array = np.asarray(value, dtype)
    return np.broadcast_to(array, (length, *array.shape))
