"""A run directory: whole files or none, one config, resumable, and refused in one line where it is not ours."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from gpsense.errors import BadInput
from gpsense.grid import Chunk, Layout, store
from gpsense.grid.chunkfile import DIGEST, MAGIC, decode, encode
from gpsense.grid.files import atomic

MANIFEST = {"digest": "abc", "layouts": [[4, 2], [1, 2]]}
CHUNKS = tuple(Chunk(number, 0, number, number + 1, 0, 2) for number in range(3))
PLAN: Any = SimpleNamespace(chunks=CHUNKS)


def numbers(seed: int, rows: int = 1) -> dict[str, np.ndarray]:
    """Numbers of a chunk, a NaN among them, in several types."""
    error = np.random.default_rng(seed).normal(size=(rows, 2, 3))
    error[0, 0, 0] = np.nan
    mask, steps = error[..., 0] > 0, np.arange(2 * rows, dtype=np.int32).reshape(rows, 2)
    return {"error": error, "loss": error[..., 0].astype(np.float32), "mask": mask, "steps": steps}


def same(read: dict[str, np.ndarray] | None, written: dict[str, np.ndarray]) -> bool:
    """Whether all names, types, shapes and bits agree."""
    facts = lambda arrays: {n: (v.dtype, v.shape, v.tobytes()) for n, v in (arrays or {}).items()}  # noqa: E731
    return facts(read) == facts(written)


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
        with pytest.raises(BadInput, match="belongs to another run"):
            place.create(MANIFEST | {"digest": "xyz"})


def test_netcdf_gives_back_every_bit_and_name(tmp_path: Path) -> None:
    variables = {"error": (("outer", "step"), numbers(7)["error"][0]), "status": ((), np.int16(2))}
    written = xr.Dataset(variables, attrs={"chunk": 7})
    store.write_dataset(tmp_path / "x.nc", written)
    read = xr.load_dataset(tmp_path / "x.nc", engine="h5netcdf")
    xr.testing.assert_identical(read, written)
    assert read["error"].dtype == np.float64
    assert read["status"].dtype == np.int16


FULL = """
import resource, sys
from pathlib import Path
import numpy as np, xarray as xr
from gpsense.grid.store import write_dataset
random = np.random.default_rng(0)
dataset = xr.Dataset({name: (("a", "b"), random.normal(size=(100, 300))) for name in "abcdef"})
for most in (10**7, 10**6, 3 * 10**5, 1000, 0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, -1))
    try:
        write_dataset(Path(sys.argv[1]), dataset)
    except OSError as error:
        print(error)
"""


def test_a_full_disk_does_not_end_the_process(tmp_path: Path) -> None:
    """HDF5 ends it where a write fails while it closes."""
    path = tmp_path / "results.nc"
    ended = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [f"[Errno 27] File too large: '{path}'"] * 4
    assert inside(tmp_path) == ["results.nc"]
    assert store.read_dataset(path).sizes == {"a": 100, "b": 300}


def test_no_damaged_netcdf_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by HDF5, which some damage holds up for ever and some ends in odd errors."""
    path = tmp_path / "results.nc"
    dataset = xr.Dataset({"error": ("seed", [0.1, 0.2])}, {"seed": [3, 4]}, {"name": "x"})
    store.write_dataset(path, dataset)
    assert store.read_dataset(path).identical(dataset)
    whole = path.read_bytes()
    monkeypatch.setattr(xr, "load_dataset", lambda *_, **__: pytest.fail("it was read"))
    random = np.random.default_rng(0)
    for place in random.integers(0, 8 * len(whole), 300):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^its checksum does not match its bytes$|^it ends without the checksum"):
            store.read_dataset(path)
    for stop in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:stop])
        with pytest.raises(ValueError, match="^it ends without the checksum that gpsense writes$"):
            store.read_dataset(path)


def test_what_is_no_file_is_not_read(tmp_path: Path, place: store.Store) -> None:
    """A pipe would never end."""
    path = place.path(CHUNKS[0])
    path.unlink()
    os.mkfifo(path)
    is_set_aside(place, f"{path.name} is not a regular file")
    (tmp_path / store.MANIFEST).unlink()
    for name in ("results.nc", store.MANIFEST):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="is not a regular file"):
        store.read_dataset(tmp_path / "results.nc")
    with pytest.raises(BadInput, match=r"manifest.json cannot be read \(manifest.json is not a regular file\)"):
        store.read(tmp_path)


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
    ("text", "reason"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ('{"digest": "abc", "layo', "Unterminated string starting at: line 1 column 19 (char 18)"),
        *((text, "it is not an object") for text in ("[]", "null", "3")),
        ("\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        *((text, "it has no digest") for text in ("{}", '{"layouts": [[1, 1]]}', '{"digest": 3}', '{"digest": "\\n"}')),
        *((f'{{"digest": "abc", "config": {c}}}', "its config is not an object") for c in ("[1]", '"x"', "3")),
        ('{"digest": "abc"}', "it has no layouts"),
        ('{"digest": "abc", "config": null}', "it has no layouts"),
        ('{"digest": "abc", "layouts": 3}', "it has no layouts"),
        ('{"digest": "abc", "layouts": [[1]]}', "[1] is not a layout"),
        ('{"digest": "abc", "layouts": [null]}', "None is not a layout"),
        ('{"digest": "abc", "layouts": [{"a": 1, "b": 1}]}', "{'a': 1, 'b': 1} is not a layout"),
        ('{"digest": "abc", "layouts": [["a", 1]]}', "a chunk cannot have 'a' x 1 cells"),
        ('{"digest": "abc", "layouts": [[1, 1, 1]]}', "[1] is not a compiling effort"),
        ('{"digest": "abc", "layouts": [[1, 1, [], {}]]}', "[[], {}] is not a compiling effort"),
        (f'{{"digest": "abc", "layouts": [[1{"0" * 4000}, 1]]}}', f"a chunk cannot have 1{'0' * 56}... x 1 cells"),
    ],
)
def test_damaged_manifest_is_refused_with_its_name_and_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(text.encode("latin-1"))
    remedy = "restore it from a copy, or run the grid in another directory"
    for work in (lambda: store.check(tmp_path, "abc"), lambda: store.read(tmp_path)):
        with pytest.raises(BadInput) as refused:
            work()
        assert str(refused.value) == f"out: {path} cannot be read ({reason}); {remedy}"


def test_directory_of_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match="choose another directory"):
        store.check(tmp_path, "abc")
    assert inside(tmp_path) == ["thesis.tex"]


def test_directory_of_another_run_is_refused_with_both_digests(tmp_path: Path) -> None:
    store.Store(tmp_path).create(MANIFEST)
    with pytest.raises(BadInput, match=r"another run \(digest abc there, digest xyz now\); choose another directory"):
        store.check(tmp_path, "xyz")


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"seeds": [0, 1, 2, 3], "rate": 0.1}, "seeds: 3 there, 4 now"),
        ({"system": "b.py:f", "lr": 1}, "system: not given there, b.py:f now"),
        ({"seeds": [0, 1, 5], "rate": [0.1, 0.2]}, "seeds: 3 there, 0,1,5 now; rate: 0.1 there, 0.1,0.2 now"),
        ({"seeds": [0, 1, 2]}, "rate: 0.1 there, not given now"),
        ({"seeds": [0, 1, 2], "rate": 0.1, "run": {"form": 4, "memory_gib": 3}}, "run.form: not given there, 4 now"),
        ({"seeds": [0, 1, 2], "rate": 0.100000000001}, "rate: 0.1 there, 0.100000000001 now"),
        (
            {"seeds": [0], "rate": 0.1, "truth": ["float32", [3, 2], "ab"], "a": 1, "b": 2},
            "seeds: 3 there, 1 now; truth: not given there, float32 3x2 with digest ab now; a: not given there, 1 "
            "now; and 1 more",
        ),
        ({"seeds": [0, 1, 2], "rate": 0.1, "name": "other"}, "the settings are the same; data or code differ"),
    ],
)
def test_a_refusal_tells_the_settings_that_differ_with_both_values(
    tmp_path: Path, now: dict[str, Any], told: str
) -> None:
    store.Store(tmp_path).create(MANIFEST | {"settings": {"seeds": [0, 1, 2], "rate": 0.1}})
    with pytest.raises(BadInput) as refusal:
        store.check(tmp_path, "xyz", settings=now)
    assert str(refusal.value) == f"out: {tmp_path} belongs to another run ({told}); choose another directory"


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


@pytest.fixture
def place(tmp_path: Path) -> store.Store:
    """A run with its first chunk; what it sets aside is listed in ``told``."""
    told: list[str] = []
    found = store.Store(tmp_path, "abc", told.append)
    found.told = told  # pyright: ignore[reportAttributeAccessIssue]
    found.create(MANIFEST)
    found.write(CHUNKS[0], numbers(0))
    return found


def is_set_aside(place: Any, word: str) -> None:
    """The first chunk is not read, told of in one line with this word, and kept beside the others."""
    damaged = place.directory / "chunks" / "damaged"
    before = len(place.told)
    assert place.missing(PLAN) == list(CHUNKS)
    (line,) = place.told[before:]
    assert "000000.chunk was set aside in" in line
    assert word in line
    assert "\n" not in line
    assert list(place.chunks(PLAN)) == []
    assert (damaged / "000000.chunk").exists()


def test_only_whole_chunks_count_and_give_back_every_bit(place: store.Store) -> None:
    (place.directory / "chunks" / ".000002.chunk.there.99.part").write_bytes(b"half")
    assert place.missing(PLAN) == list(CHUNKS[1:])
    ((chunk, read),) = place.chunks(PLAN)
    assert chunk == CHUNKS[0]
    assert same(read, numbers(0))


@pytest.mark.parametrize("keep", [0, 3, 20, 100, -1])
def test_a_torn_chunk_is_set_aside(place: store.Store, keep: int) -> None:
    path = place.path(CHUNKS[0])
    path.write_bytes(path.read_bytes()[:keep])
    is_set_aside(place, "format" if -1 < keep < 16 else "checksum")


def test_no_flipped_bit_is_read(place: store.Store) -> None:
    path = place.path(CHUNKS[0])
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[at // 8] ^= 1 << (at % 8)
        with pytest.raises(ValueError, match="checksum|format"):
            decode(bytes(damaged))


def sealed(header: Any, numbers: bytes) -> bytes:
    """A chunk with a checksum that fits, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = len(text).to_bytes(8, "little") + text + zlib.compress(numbers)
    return MAGIC + hashlib.blake2b(body, digest_size=DIGEST).digest() + body


@pytest.mark.parametrize(
    "chunk",
    [
        *(
            sealed({"facts": {}, "arrays": [["error", "<f8", shape]]}, bytes(8))
            for shape in ([2], [10**30], [-1], [[]])
        ),
        *(sealed({"facts": {}, "arrays": [["error", kind, [1]]]}, bytes(8)) for kind in ("|O", "V8", "x", 3)),
        *(sealed({"facts": {}, "arrays": [[name, "<f8", [1]]]}, bytes(8)) for name in (3, None, "\x1b[31m")),
        *(sealed(header, b"") for header in ({}, [], 3, {"arrays": 3}, {"arrays": []}, b"[" * 100_000, b"\xff")),
        sealed({"facts": {}, "arrays": [["error", "<f8", [1]]]}, bytes(10**7)),
    ],
)
def test_a_header_that_does_not_fit_its_numbers_is_refused(place: store.Store, chunk: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        decode(chunk)
    place.path(CHUNKS[0]).write_bytes(chunk)
    is_set_aside(place, "must be run again")


@pytest.mark.parametrize("how", ["copied", "linked", "another run", "another cut", "short"])
def test_a_chunk_of_elsewhere_is_set_aside(place: store.Store, how: str) -> None:
    path, other = place.path(CHUNKS[0]), place.path(CHUNKS[1])
    place.write(CHUNKS[1], numbers(1))
    if how == "copied":
        os.replace(other, path)
    elif how == "linked":
        path.unlink()
        other.rename(other.with_suffix(".away"))
        path.symlink_to(other.with_suffix(".away"))
    else:
        other.unlink()
        digest = "xyz" if how == "another run" else "abc"
        cut = CHUNKS[0] if how != "another cut" else Chunk(0, 0, 0, 2, 0, 2)
        store.Store(place.directory, digest).write(cut, numbers(1, rows=2 if how != "another run" else 1))
    words = {"copied": "it is chunk 1, or", "linked": "it is a link", "another cut": "a run cut into other chunks"}
    is_set_aside(place, (words | {"another run": "another run", "short": "1 x 2 cells"})[how])


@pytest.mark.parametrize("how", ["removed", "damaged", "linked"])
def test_a_run_is_not_collected_without_a_chunk_of_it(place: store.Store, how: str) -> None:
    """One that is lost after all were run would leave cells out."""
    for chunk in CHUNKS:
        place.write(chunk, numbers(chunk.number))
    assert [chunk for chunk, _ in place.whole(PLAN)] == list(CHUNKS)
    path = place.path(CHUNKS[1])
    data = path.read_bytes()
    path.unlink()
    if how == "damaged":
        path.write_bytes(data[:-1])
    elif how == "linked":  # to bytes that are right, and may be others when they are read again
        path.with_suffix(".away").write_bytes(data)
        path.symlink_to(path.with_suffix(".away"))
    with pytest.raises(
        BadInput, match=r"000001\.chunk was damaged or removed after it was written; run the same grid again"
    ):
        list(place.whole(PLAN))


def test_what_ended_processes_left_is_removed_and_no_more(place: store.Store) -> None:
    host = socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f".000001.chunk.{host}.{pid}.part" for pid in (ended.pid, os.getpid())] + [
        ".000001.chunk.elsewhere.1.part"
    ]
    folders = [place.directory / name for name in ("", "chunks", "chunks/damaged", "figures", "paper")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_bytes(b"half")
    place.create(MANIFEST)
    for folder in folders:
        assert [name for name in names if (folder / name).exists()] == names[1:]


@pytest.mark.parametrize(
    "kind", ["float16", "float64", "complex64", "complex128", "uint8", "int64", "bool", "bfloat16"]
)
def test_numbers_of_every_type_come_back(kind: str) -> None:
    values = np.asarray(jnp.arange(6).reshape(2, 3).astype(kind))
    read = decode(encode({"a": 1}, {"v": values}))[1]["v"]
    assert read.dtype == (np.float32 if kind == "bfloat16" else values.dtype)
    np.testing.assert_array_equal(read.astype(complex), values.astype(complex))


def test_what_is_no_number_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="name is of type .*, not numbers"):
        encode({}, {"name": np.array([b"x"])})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full here")
def test_a_log_that_a_full_disk_has_no_room_for_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/metrics\.jsonl'$"):
        store.Store(tmp_path).log({"chunk": 0})


def test_log_is_one_json_object_a_line(tmp_path: Path) -> None:
    place = store.Store(tmp_path)
    place.create(MANIFEST)
    for number in range(3):
        place.log({"chunk": number})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["chunk"] for line in lines] == [0, 1, 2]


def test_a_log_of_other_bytes_is_no_obstacle(tmp_path: Path) -> None:
    place = store.Store(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(bytes(range(256)))
    odd = [f'{{"chunk": 1, "seconds": {said}}}' for said in ('"long"', "NaN", "1e999", "-1", "[]", "null")]
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write("\n".join(["", *odd, "[" * 100_000]))
    place.log({"chunk": 0, "seconds": 2.5})
    assert place.seconds() == 2.5


def test_a_torn_or_missing_log_is_no_obstacle(tmp_path: Path) -> None:
    place = store.Store(tmp_path)
    assert place.seconds() == 0
    place.log({"chunk": 0, "seconds": 1.5})
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"chunk": 1, "sec')
    place.log({"chunk": 2, "seconds": 2.0})
    assert place.seconds() == 3.5
