"""Processes in one directory divide the chunks: one lease each, taken over where its process has ended."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from gpsense import Axis, Grid, Schedule, Sensing
from gpsense.grid import Layout, make_plan, run, store
from gpsense.grid.leases import Leases, remove_ended
from gpsense.grid.plan import Chunk, shard_of
from gpsense.grid.tracing import Traces


def of_another_host(folder: Path, chunk: int, seconds_ago: float) -> Path:
    """A lease that a process elsewhere renewed so long ago."""
    path = folder / f"{chunk:06d}.lease"
    path.write_text(json.dumps({"token": "theirs", "host": "elsewhere", "process": 1}))
    then = time.time() - seconds_ago
    os.utime(path, (then, then))
    return path


def test_of_many_one_takes_a_chunk(tmp_path: Path) -> None:
    everyone = [Leases(tmp_path) for _ in range(16)]
    with ThreadPoolExecutor(16) as pool:
        for chunk in range(20):
            taken = list(pool.map(lambda leases, chunk=chunk: leases.take(chunk), everyone))
            assert sum(taken) == 1
    for leases in everyone:
        leases.give_back()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_a_full_disk_has_no_room_for_is_named_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(number: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    leases = Leases(tmp_path)
    with monkeypatch.context() as context:
        context.setattr(os, "write", write)
        with pytest.raises(OSError, match=r"No space left on device: '.*/000007\.lease'$"):
            leases.take(7)
    assert not list(tmp_path.iterdir())
    assert leases.take(7)


def test_what_was_given_back_can_be_taken(tmp_path: Path) -> None:
    one, other = Leases(tmp_path), Leases(tmp_path)
    assert one.take(3)
    assert not other.take(3)
    other.give_back(3)  # not its own
    assert not other.take(3)
    one.give_back(3)
    assert other.take(3)


@pytest.mark.parametrize(("seconds_ago", "taken"), [(0.0, False), (50.0, False), (70.0, True)])
def test_a_lease_of_another_host_counts_until_it_expires(tmp_path: Path, seconds_ago: float, taken: bool) -> None:
    of_another_host(tmp_path, 0, seconds_ago)
    assert Leases(tmp_path).take(0) == taken


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\xff", "[" * 100_000])
def test_a_torn_lease_counts_until_it_expires(tmp_path: Path, text: str) -> None:
    path = of_another_host(tmp_path, 0, 0)
    path.write_bytes(text.encode("latin-1"))
    assert not Leases(tmp_path).take(0)
    os.utime(path, (0, 0))
    assert Leases(tmp_path).take(0)


def test_a_pipe_in_place_of_a_lease_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "000000.lease")
    (tmp_path / "000001.lease").write_text("[" * 100_000)
    remove_ended(tmp_path)
    with pytest.raises(OSError, match="is not a regular file"):
        Leases(tmp_path).take(0)


def test_a_lease_of_an_ended_process_of_this_host_does_not_count(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    about = {"token": "theirs", "host": socket.gethostname(), "process": ended.pid}
    for chunk in (0, 1):
        (tmp_path / f"{chunk:06d}.lease").write_text(json.dumps(about))
    assert Leases(tmp_path).take(0)
    kept = [of_another_host(tmp_path, chunk, 0) for chunk in (2, 3)]
    kept[1].with_suffix(".chunk").touch()
    remove_ended(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.lease")) == ["000000.lease", "000002.lease"]


def test_a_lease_is_renewed_while_its_process_lives(tmp_path: Path) -> None:
    with Leases(tmp_path, expiry=0.6) as one:
        assert one.take(0)
        other = Leases(tmp_path, expiry=0.6)
        for _ in range(5):
            time.sleep(0.3)
            assert not other.take(0)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def plan() -> Any:
    """A grid of four chunks."""
    grid = Grid(
        Sensing(dim=3, n=8, rank=1, width=2, dtype="float64"), Schedule(4, 2, 2), 4, (Axis("noise", (0.0, 1.0)),)
    )
    layout = Layout(2, 1)
    return make_plan(grid, 2**30, (layout,))


def filled(directory: Path, plan: Any) -> store.Store:
    """A run directory without chunks."""
    place = store.Store(directory, "abc")
    place.create({"digest": "abc", "layouts": store.described(plan)})
    return place


def test_chunks_of_others_are_waited_for_and_taken_over(
    tmp_path: Path, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, place, known = filled(tmp_path / "alone", plan), filled(tmp_path / "run", plan), Traces()
    run.run_missing(plan, alone, False, known)
    folder = place.directory / "chunks"
    of_another_host(folder, 1, 0)  # which will never be stored
    of_another_host(folder, 2, 0)
    monkeypatch.setattr(store, "Leases", lambda folder: Leases(folder, expiry=1.5))
    slept: list[float] = []

    def sleep(seconds: float, really: Any = time.sleep) -> None:
        if not slept:  # one process stores its chunk and gives its lease back, the other renews its for the last time
            os.utime(folder / "000001.lease")
            folder.joinpath("000002.lease").unlink()
            folder.joinpath("000002.chunk").write_bytes((alone.directory / "chunks" / "000002.chunk").read_bytes())
        slept.append(seconds)
        really(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    run.run_missing(plan, place, False, known)
    lines = [json.loads(line)["chunk"] for line in (place.directory / "metrics.jsonl").read_text().splitlines()]
    assert lines == [0, 3, 1]
    assert len(slept) >= 4
    assert sorted(path.name for path in folder.iterdir()) == [f"{chunk:06d}.chunk" for chunk in (0, 1, 2, 3)]
    for chunk in plan.chunks:
        one, other = place.read(chunk), alone.read(chunk)
        assert one is not None
        assert other is not None
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in {**one, **other})


def test_an_error_gives_back_the_lease(tmp_path: Path, plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = filled(tmp_path, plan)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, "write", full)
    with pytest.raises(OSError, match="No space left"):
        run.run_missing(plan, place, False)
    assert list((tmp_path / "chunks").iterdir()) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 50])
def test_shards_are_all_chunks_each_once_in_order(count: int) -> None:
    cheap, dear = SimpleNamespace(flops=1.0, once=0.0), SimpleNamespace(flops=1e6, once=0.0)
    programs = [SimpleNamespace(cost=cheap), SimpleNamespace(cost=dear)]
    chunks = tuple(Chunk(number, int(number >= 10), number, number + 1, 0, 2) for number in range(20))
    plan: Any = SimpleNamespace(programs=programs, chunks=chunks, steps=100)
    parts = [sorted(chunk.number for chunk in shard_of(plan, index, count)) for index in range(count)]
    assert [chunk for part in parts for chunk in part] == list(range(20))
    if count == 2:  # the ten of the second program take nearly all the time
        assert parts[0] == list(range(15))


def test_a_process_of_several_begins_with_its_own_part(
    tmp_path: Path, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, place = filled(tmp_path / "alone", plan), filled(tmp_path / "run", plan)
    run.run_missing(plan, alone, False)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    run.run_missing(plan, place, False)
    lines = (place.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["chunk"] for line in lines] == [2, 3, 0, 1]
    for one, other in zip(place.chunks(plan), alone.chunks(plan), strict=True):
        assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), one[1], other[1]))


def test_shards_fill_a_directory_with_the_bits_of_one_run(tmp_path: Path, plan: Any) -> None:
    alone, place = filled(tmp_path / "alone", plan), filled(tmp_path / "run", plan)
    run.run_missing(plan, alone, False)
    for index in (1, 0, 2):
        run.run_missing(plan, place, False, shard=(index, 3))
        there = {chunk.number for chunk in plan.chunks} - {chunk.number for chunk in place.missing(plan)}
        assert there == {1: {1, 2}, 0: {0, 1, 2}, 2: {0, 1, 2, 3}}[index]
    for one, other in zip(place.chunks(plan), alone.chunks(plan), strict=True):
        assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), one[1], other[1]))
