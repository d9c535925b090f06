"""A run directory: whole files or none, one config, resumable, and refused in one line where it is not ours."""

import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gpsense.errors import BadInput
from gpsense.grid import Chunk, Layout, store
from gpsense.grid.files import atomic

MANIFEST = {"digest": "abc", "layouts": [[4, 2], [1, 2]]}
CHUNKS = tuple(Chunk(number, 0, number, number + 1, 0, 2) for number in range(3))
PLAN: Any = SimpleNamespace(chunks=CHUNKS)


def dataset(seed: int) -> xr.Dataset:
    """Numbers of a chunk, a NaN among them."""
    error = np.random.default_rng(seed).normal(size=(1, 2, 3))
    error[0, 0, 0] = np.nan
    variables = {"error": (("outer", "inner", "step"), error), "status": ((), np.int16(2))}
    return xr.Dataset(variables, attrs={"chunk": seed})


def fail_half_way(path: Path) -> None:
    """Write half a file and stop; what is under its name does not change meanwhile."""
    before = path.read_text() if path.exists() else None
    with atomic(path) as aside:
        aside.write_text("half")
        assert (path.read_text() if path.exists() else None) == before
        raise RuntimeError("half way")


def inside(folder: Path) -> list[str]:
    """What a directory holds, hidden files too."""
    return sorted(os.listdir(folder))


def test_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for before in (None, "old"):
        if before:
            path.write_text(before)
        with pytest.raises(RuntimeError, match="half way"):
            fail_half_way(path)
        assert inside(tmp_path) == (["file"] if before else [])
    assert path.read_text() == "old"


@pytest.mark.parametrize("links", [True, False])
def test_first_manifest_stands(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError))
    place = store.Store(tmp_path / "deep" / "run")
    assert place.create(MANIFEST) == MANIFEST
    assert inside(place.directory) == ["chunks", "manifest.json"]
    if links:
        assert place.create(MANIFEST | {"layouts": [[1, 1]]}) == MANIFEST
        with pytest.raises(BadInput, match="belongs to another config"):
            place.create(MANIFEST | {"digest": "xyz"})


def test_netcdf_gives_back_every_bit_and_name(tmp_path: Path) -> None:
    written = dataset(7)
    store.write_dataset(tmp_path / "x.nc", written)
    read = store.read_dataset(tmp_path / "x.nc")
    xr.testing.assert_identical(read, written)
    assert read["error"].dtype == np.float64
    assert read["status"].dtype == np.int16


def test_fresh_directories_have_no_manifest_and_stay_as_they_are(tmp_path: Path) -> None:
    assert store.check(tmp_path / "not" / "there", "abc") is None
    assert store.check(tmp_path, "abc") is None
    (tmp_path / ".hidden").touch()
    assert store.check(tmp_path, "abc") is None
    assert inside(tmp_path) == [".hidden"]


def test_own_directory_gives_its_manifest_and_its_cut(tmp_path: Path) -> None:
    store.Store(tmp_path).create(MANIFEST)
    manifest = store.check(tmp_path, "abc")
    assert manifest == MANIFEST
    assert store.layouts(manifest) == (Layout(4, 2), Layout(1, 2))
    assert store.layouts(None) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "3", "{}", "\xff", '{"digest": "abc"}', '{"layouts": [[1, 1]]}'),
        *(f'{{"digest": "abc", "layouts": {layouts}}}' for layouts in ("3", "[[1]]", '[["a", 1]]', "[[1, 1, 1]]")),
    ],
)
def test_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"^out: .* is not empty and not a gpsense run; choose another directory$"):
        store.check(tmp_path, "abc")


def test_directory_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match="choose another directory"):
        store.check(tmp_path, "abc")
    assert inside(tmp_path) == ["thesis.tex"]


def test_directory_of_another_config_is_refused_with_both_digests(tmp_path: Path) -> None:
    store.Store(tmp_path).create(MANIFEST)
    with pytest.raises(BadInput, match=r"another config \(digest abc, this one xyz\); choose another directory"):
        store.check(tmp_path, "xyz")


@pytest.mark.parametrize("name", ["file", "file/x", "file/x/y", "a" * 300])
def test_place_that_cannot_be_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"^out: .*; choose a (writable )?directory$"):
        store.check(tmp_path / name, "abc")


def test_read_only_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", deny)
    with pytest.raises(BadInput, match="choose a writable directory"):
        store.check(tmp_path, "abc")


def test_only_whole_chunks_count(tmp_path: Path) -> None:
    place = store.Store(tmp_path)
    place.create(MANIFEST)
    place.write(CHUNKS[1], dataset(1))
    (tmp_path / "chunks" / ".000002.nc.99.part").write_bytes(b"half")
    assert place.missing(PLAN) == [CHUNKS[0], CHUNKS[2]]
    ((chunk, read),) = place.chunks(PLAN)
    assert chunk == CHUNKS[1]
    xr.testing.assert_identical(read, dataset(1))


@pytest.mark.parametrize("keep", [0, 20, 1000])
def test_damaged_chunk_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    place = store.Store(tmp_path)
    place.create(MANIFEST)
    place.write(CHUNKS[0], dataset(0))
    path = place.path(CHUNKS[0])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"000000\.nc is damaged; delete it and rerun"):
        list(place.chunks(PLAN))


def test_log_is_one_json_object_a_line(tmp_path: Path) -> None:
    place = store.Store(tmp_path)
    place.create(MANIFEST)
    for number in range(3):
        place.log({"chunk": number})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["chunk"] for line in lines] == [0, 1, 2]


def test_a_torn_or_missing_log_is_no_obstacle(tmp_path: Path) -> None:
    place = store.Store(tmp_path)
    assert place.seconds() == 0
    place.log({"chunk": 0, "seconds": 1.5})
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"chunk": 1, "sec')
    place.log({"chunk": 2, "seconds": 2.0})
    assert place.seconds() == 3.5
