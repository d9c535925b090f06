"""A user's file is read, or refused in one line before much memory is taken."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from gpsense.recovery.forms import read_fields
from launch import measured
from launch.config import read_yaml
from launch.measured import read, read_array
from launch.shell import Refusal

Y = np.random.default_rng(0).normal(size=12)
GOOD = {"y": Y, "rows": np.arange(12) % 4, "cols": (np.arange(12) + 1) % 4, "dim": np.array([[9]])}


def test_the_arrays_of_a_file_are_read(tmp_path):
    np.savez(tmp_path / "m.npz", **GOOD)
    fields = read(tmp_path / "m.npz")
    for name, array in GOOD.items():
        np.testing.assert_array_equal(fields[name], array)
    assert read_fields(fields).map.sides == (9, 9)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(Refusal, match="no such file"):
        read(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(Refusal, match="is not an .npz file"):
        read(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(Refusal, match="is not an .npz file"):
        read(tmp_path / "empty.npz")
    np.save(tmp_path / "single.npy", Y)
    with pytest.raises(Refusal, match="is a single array"):
        read(tmp_path / "single.npy")
    np.savez(tmp_path / "objects.npz", y=np.array([{}], dtype=object))
    with pytest.raises(Refusal, match="is not an .npz file of plain arrays"):
        read(tmp_path / "objects.npz")
    with pytest.raises(Refusal, match="is a folder; give a file"):
        read(tmp_path)
    for name, remedy in (
        ("text.txt", "rename it to [.]csv if it has a header"),
        ("sheet.xlsx", "save the sheet as .csv"),
        ("numbers.json", "give .csv, .tsv, .par"),
    ):
        (tmp_path / name).write_text("row,col,value\n")
        with pytest.raises(Refusal, match=f"{name}: .{name.partition('.')[2]} files are not supported; {remedy}"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (["1,2,abc"], "line 10 holds 'abc' in column stars; give a number there, or remove the line"),
        (["# a note", "", "1,2,"], "line 12 holds nothing in column stars; give a number there, or remove the line"),
        (["1,2"], "line 10 has 2 fields, the header has 3; fix that line"),
    ],
)
def test_a_line_of_a_table_that_is_no_number_is_named(rows, line, tmp_path):
    """Lines are counted as an editor counts them, those of notes and empty ones among them."""
    good = [f"{i},{j},{i + j}" for i in range(2) for j in range(4)]
    for name, mark in (("t.csv", ","), ("t.tsv", "\t")):
        (tmp_path / name).write_text("\n".join(["row,col,stars", *good, *rows, *good]).replace(",", mark))
        with pytest.raises(Refusal) as refusal:
            read(tmp_path / name, {"stars": "value"})
        assert str(refusal.value) == f"{tmp_path / name}: {line}"


def _npz(path: Path, member: bytes, name: str = "y.npy", how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        file.writestr(name, member)
    return path


def _npy(header: str, numbers: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + numbers


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"


@pytest.mark.parametrize(
    ("member", "name", "how", "words"),
    [
        (_npy(HEADER % 10**12), "y.npy", zipfile.ZIP_STORED, "not an .npz file"),
        (_npy(HEADER % 3, b"\0" * 23), "y.npy", zipfile.ZIP_STORED, "not an .npz file"),
        (
            _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
            "y.npy",
            zipfile.ZIP_STORED,
            "not an .npz file",
        ),
        (_npy("{'descr': '<f8', 'shape': ("), "y.npy", zipfile.ZIP_STORED, "not an .npz file"),
        (_npy("(" * 300), "y.npy", zipfile.ZIP_STORED, "not an .npz file"),
        (b"PNG", "y.npy", zipfile.ZIP_STORED, "not an .npz file"),
        (_npy(HEADER % 0), "y\x1b[31m\n.npy", zipfile.ZIP_STORED, r"x\.npz: 'y.* is no name for an array; save the ar"),
        (_npy(HEADER % 0), "y.npy", zipfile.ZIP_BZIP2, "compressed in a way"),
        (_npy(HEADER % 0), "y.npy", zipfile.ZIP_LZMA, "compressed in a way"),
        (b"\0" * 2**21, "y.npy", zipfile.ZIP_DEFLATED, "an eighth of the memory"),
    ],
)
def test_files_of_strangers_are_refused_before_memory_is_taken(
    member: bytes, name: str, how: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_most", lambda: 2**20)
    with pytest.raises(Refusal, match=words) as refusal:
        read(_npz(tmp_path / "x.npz", member, name, how))
    assert str(refusal.value).isprintable()


def test_a_single_array_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(Y.reshape(3, 4)))
    np.testing.assert_array_equal(read_array(path), Y.reshape(3, 4))
    for data in (
        _npy(HEADER % 10**12),
        _npy(HEADER % 3, bytes(23)),
        _npy("{'shape': ("),
        b"",
        b"\x93NUMPY\x09\x09",
        _npy("(" * 300),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="."):
            read_array(path)


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zeros.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zeros.csv"):
        with pytest.raises(Refusal, match=f"{name} is not a regular file; save"):
            read(tmp_path / name)
    with pytest.raises(Refusal, match="/dev/zero: cannot be read as YAML"):
        read_yaml(Path("/dev/zero"))


def test_damaged_parquet_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").touch()

    def fails(path: Path) -> pd.DataFrame:
        raise NotImplementedError("integers of 96 bits")

    monkeypatch.setattr(pd, "read_parquet", fails)
    with pytest.raises(Refusal, match="is not a parquet file"):
        read(tmp_path / "x.parquet")
    monkeypatch.setattr(pd, "read_parquet", lambda path: pd.DataFrame({"\x1b[31m": Y}))
    with pytest.raises(Refusal, match="a column has a name that is too long or cannot be printed"):
        read(tmp_path / "x.parquet")


def test_torn_files_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", y=np.arange(50.0), A=np.ones((50, 3, 3)))
    whole = (tmp_path / "x.npz").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        torn = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            torn[place] = rng.integers(256)
        kept = rng.integers(1, len(whole) + 1) if rng.random() < 0.3 else len(whole)
        (tmp_path / "torn.npz").write_bytes(bytes(torn[:kept]))
        said = ""
        try:
            read(tmp_path / "torn.npz")
        except Refusal as refusal:
            said = str(refusal)
        assert said.isprintable()


def test_a_matlab_file_is_read_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = np.array(["XI", "ZZ", "IY"], dtype=object)
    fields = {"pauli": words, "y": Y[:3], "notes": {"by": "me"}, "file": np.eye(2)}
    scipy.io.savemat(tmp_path / "m.mat", fields)
    found = read(tmp_path / "m.mat")
    assert set(found) == {"pauli", "y", "file"}
    np.testing.assert_array_equal(found["pauli"], words.astype(str))
    np.testing.assert_array_equal(found["y"], Y[:3])
    monkeypatch.setattr(measured, "PLAIN", "import os; os.kill(os.getpid(), 11)")  # as of damaged files
    with pytest.raises(Refusal, match="m.mat: is not a MATLAB file of version 7 or earlier; save it with"):
        read(tmp_path / "m.mat")


def test_a_table_without_a_header_and_decimal_commas_are_named(tmp_path):
    (tmp_path / "bare.csv").write_text("0,2,0.31\n1,2,0.3\n2,1,0.5\n")
    with pytest.raises(Refusal, match="its first line holds 0, 2, 0.31; put a header above it, such as row,col,value"):
        measured.known(tmp_path / "bare.csv", read(tmp_path / "bare.csv"))
    (tmp_path / "comma.csv").write_text("row;col;value\n0;2;0,31\n1;2;-1,5e-3\n")
    with pytest.raises(Refusal, match="line 2 holds '0,31' in column value; write decimal points, not commas"):
        read(tmp_path / "comma.csv")
