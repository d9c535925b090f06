"""Chooses, in NumPy, which cells a program runs next and in which batch sizes; stopped cells are left out."""

from collections.abc import Iterator, Sequence
from math import gcd
from typing import Any, NamedTuple

import numpy as np

COMPACT_FLOPS = 2e10  # operations a smaller batch must save before a program is compiled for it
REGISTER = 16  # float32 numbers per vector register: a batch along the last axis costs as much as the next multiple


class Batch(NamedTuple):
    """Cells to run together.

    ``rows`` (devices, blocks, batch) are the indices of their problems; each device uses its first ``blocks``
    (devices,) blocks. ``chosen`` (outer, cells) are the indices of the settings to run on each problem.
    """

    rows: np.ndarray
    blocks: np.ndarray
    chosen: np.ndarray


class Sharing(NamedTuple):
    """How settings share training: each (inner,) has a ``leader``, which may be itself, for its first ``steps``.

    A follower, a setting with another leader, is not trained: after its steps its state is made from its leader's.
    """

    leader: np.ndarray
    steps: np.ndarray

    @property
    def follows(self) -> np.ndarray:
        """Whether each setting (inner,) is a follower."""
        return self.leader != np.arange(self.leader.size)

    def lengths(self, segments: Sequence[int]) -> list[tuple[int, bool]]:
        """The numbers of steps to run in turn, and whether a record is made after each, at the ends of ``segments``.

        If some cells end before the last step, all segments are cut into pieces of one length, so that each ends
        between two pieces.
        """
        ends = self.steps[self.follows]
        within = ends[ends < sum(segments)].tolist()
        if not within:
            return [(length, True) for length in segments]
        unit = gcd(*within, *segments)
        return [(unit, part == length // unit) for length in segments for part in range(1, length // unit + 1)]

    def due(self, done: int, last: bool) -> np.ndarray:
        """Whether each setting (inner,) is a follower that ends after ``done`` steps or, with ``last``, later."""
        return self.follows & (self.steps >= done if last else self.steps == done)

    def filled(self, points: dict[str, np.ndarray], done: int) -> dict[str, np.ndarray]:
        """The records (outer, inner) after ``done`` steps; a follower that has not ended gets its leader's record."""
        source = np.where(self.follows & (self.steps > done), self.leader, np.arange(self.leader.size))
        return {name: point[:, source] for name, point in points.items()}


class Compaction(NamedTuple):
    """How a chunk's ``outer`` problems are spread over ``devices``, each running ``side_by_side`` of them at a time.

    ``flops``: operations of one step of one cell.
    """

    devices: int
    outer: int
    side_by_side: int
    flops: float

    def batches(self, running: np.ndarray, sizes: set[int], steps: int, lanes: bool = False) -> Iterator[Batch]:
        """The batches to run next, one for each batch size that is needed.

        ``running`` (outer, inner): whether a cell has not stopped. ``sizes``: the batch sizes in use; a smaller one is
        added if it saves enough over the ``steps`` that are left. ``lanes``: whether cells lie along the last axis.
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
        """The wanted rows (devices, blocks, batch), padded out of range, and how many blocks each device uses."""
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
    """Batch sizes below ``size`` that programs may be compiled for: each is 3/4 of the one before, rounded down.

    With ``lanes``, they are rounded down to multiples of REGISTER; REGISTER / 2 and 1 follow. Others are no faster.
    """
    sizes = []
    while size > 1:
        size = size * 3 // 4
        if lanes:
            size = size // REGISTER * REGISTER or (REGISTER // 2 if size > REGISTER // 2 else 1)
        sizes.append(size)
    return sizes


def bucket(kept: int, width: int) -> int:
    """The width to compile fine-tuning for: the parts ``kept`` rounded up to a power of two, at most ``width``."""
    return min(width, 1 << max(kept - 1, 0).bit_length())


def padded(rows: Sequence[Any], length: int) -> list[Any]:
    """The rows, padded to ``length`` by repeating the last one, so that all chunks of a program have the same shape."""
    return [*rows, *[rows[-1]] * (length - len(rows))]


def repeated(value: Any, length: int, dtype: Any) -> np.ndarray:
    """A constant broadcast to ``length`` rows."""
    array = np.asarray(value, dtype)
    return np.broadcast_to(array, (length, *array.shape))
