"""A user's file is used or refused in one line that names the array and the remedy."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpsense.sensing.measurements import Dense, Distances, Entries, RankOne
from launch import measured
from launch.measured import check, read, to_map
from launch.shell import Refusal

RNG = np.random.default_rng(0)
N, D = 12, 4
Y = RNG.normal(size=N)
X = RNG.normal(size=(N, D))
A = X[:, :, None] * X[:, None, :]
FIRST, SECOND = np.arange(N) % D, (np.arange(N) + 1) % D
GOOD = {
    "dense": {"y": Y, "A": A},
    "rank_one": {"y": Y, "x": X},
    "entries": {"y": Y, "rows": FIRST, "cols": SECOND},
    "distances": {"y": Y, "i": FIRST, "j": SECOND, "kind": np.array("distances")},
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_form_is_read_and_becomes_its_map(kind, tmp_path):
    np.savez(tmp_path / "m.npz", **GOOD[kind])
    found = check(read(tmp_path / "m.npz"))
    assert (found.kind, found.dim, found.notices) == (kind, D, [])
    measurements, values = to_map(found)
    maps = {"dense": Dense, "rank_one": RankOne, "entries": Entries, "distances": Distances}
    assert isinstance(measurements, maps[kind])
    assert (measurements.n, measurements.dim) == (N, D)
    np.testing.assert_array_equal(values, Y)


def test_integers_are_taken_as_numbers():
    measured = check({"y": np.arange(1, N + 1), "x": np.ones((N, D), np.int8)})
    assert measured.values.dtype == np.float64


def test_asymmetric_matrices_are_symmetrised_with_a_notice():
    lopsided = A + np.triu(np.ones((D, D)), 1)
    measured = check({"y": Y, "A": lopsided})
    assert len(measured.notices) == 1
    assert "A: not symmetric (up to 1); only (A + A^T) / 2 acts" in measured.notices[0]
    symmetric = check({"y": Y, "A": (lopsided + lopsided.transpose(0, 2, 1)) / 2})
    np.testing.assert_allclose(to_map(measured)[0].rows, to_map(symmetric)[0].rows, rtol=1e-12)


def test_arrays_that_are_not_read_are_named():
    assert check({**GOOD["rank_one"], "extra": Y}).notices == ["extra: not read, rank_one measurements need y, x"]


def test_a_given_dim_may_exceed_the_indices():
    assert check({**GOOD["entries"], "dim": np.array(9)}).dim == 9


BAD = {
    "no y": ({"A": A}, r"^y: missing, the file holds A; add"),
    "nothing": ({}, r"^y: missing, the file holds nothing"),
    "no matrices": ({"y": Y}, r"^A: no measurement matrices; give one of A, x"),
    "two forms": ({"y": Y, "A": A, "x": X}, r"^A: dense and rank_one at once"),
    "half of a pair": ({"y": Y, "rows": FIRST}, r"^cols: missing for entries"),
    "i, j without kind": ({"y": Y, "i": FIRST, "j": SECOND}, r"^kind: i and j alone .*add kind='distances'"),
    "unknown kind": ({"y": Y, "A": A, "kind": np.array("gaussian")}, r"^kind: 'gaussian' is unknown; use one of"),
    "y matrix": ({"y": A[:, 0], "A": A}, r"^y: shape \(12, 4\); give a vector"),
    "few": ({"y": Y[:3], "x": X[:3]}, r"^y: shape \(3,\); give a vector of at least 5"),
    "zero": ({"y": 0 * Y, "x": X}, r"^y: is all zero"),
    "A flat": ({"y": Y, "A": A[0]}, r"^A: shape \(4, 4\) for 12 values; give \(n, d, d\)"),
    "A not square": ({"y": Y, "A": A[:, :, :3]}, r"^A: shape \(12, 4, 3\)"),
    "x short": ({"y": Y, "x": X[:5]}, r"^x: shape \(5, 4\) for 12 values"),
    "NaN in y": ({"y": np.where(Y > 0, np.nan, Y), "x": X}, r"^y: holds NaN or infinity; remove"),
    "inf in A": ({"y": Y, "A": np.where(A > 1, np.inf, A)}, r"^A: holds NaN or infinity"),
    "complex y": ({"y": Y + 1j, "x": X}, r"^y: holds complex numbers"),
    "complex x": ({"y": Y, "x": X * 1j}, r"^x: holds complex numbers"),
    "text y": ({"y": np.array(["a"] * N), "x": X}, r"^y: holds <U1, not numbers"),
    "bool y": ({"y": Y > 0, "x": X}, r"^y: holds bool, not numbers"),
    "huge integers": ({"y": np.full(N, 2**60), "x": X}, r"^y: integers up to 1.15e\+18 are too large for float64"),
    "least integer": ({"y": np.full(N, -(2**63)), "x": X}, r"^y: integers up to 9.22e\+18 are too large"),
    "huge floats": ({"y": Y * 1e300, "x": X}, r"^y: holds numbers beyond .*, too large for float64"),
    "float indices": ({"y": Y, "rows": FIRST * 1.0, "cols": SECOND}, r"^rows: holds float64; give integers"),
    "negative index": ({"y": Y, "rows": FIRST - 1, "cols": SECOND}, r"^rows: holds negative indices; count from 0"),
    "beyond dim": ({**GOOD["entries"], "dim": np.array(2)}, r"^rows: index 3 is beyond dim 2"),
    "dim vector": ({**GOOD["entries"], "dim": np.array([2, 3])}, r"^dim: \[2 3\] is no whole number"),
    "huge index": ({"y": Y, "rows": FIRST + 10**6, "cols": SECOND}, r"^rows: index 1000003 makes matrices of side"),
    "a pair with itself": ({**GOOD["distances"], "j": FIRST}, r"^i: 12 pairs with i = j; remove them"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_fields_are_refused_in_one_line(name):
    fields, line = BAD[name]
    with pytest.raises(Refusal, match=line) as refusal:
        check(fields)
    assert "\n" not in str(refusal.value)


def test_float32_has_its_own_limits():
    with pytest.raises(Refusal, match="too large for float32"):
        check({"y": np.full(N, 2**25), "x": X}, "float32")
    with pytest.raises(Refusal, match="too large for float32"):
        check({"y": Y * 1e30, "x": X}, "float32")
    check({"y": Y * 1e30, "x": X}, "float64")


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(Refusal, match="no such file"):
        read(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(Refusal, match="is no .npz file"):
        read(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(Refusal, match="is no .npz file"):
        read(tmp_path / "empty.npz")
    np.save(tmp_path / "single.npy", Y)
    with pytest.raises(Refusal, match="is a single array"):
        read(tmp_path / "single.npy")
    np.savez(tmp_path / "objects.npz", y=np.array([{}], dtype=object))
    with pytest.raises(Refusal, match="is no .npz file of plain arrays"):
        read(tmp_path / "objects.npz")
    with pytest.raises(Refusal, match="is no .npz file"):
        read(tmp_path)


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
        (_npy(HEADER % 10**12), "y.npy", zipfile.ZIP_STORED, "no .npz file"),
        (_npy(HEADER % 3, b"\0" * 23), "y.npy", zipfile.ZIP_STORED, "no .npz file"),
        (_npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "y.npy", zipfile.ZIP_STORED, "no .npz file"),
        (_npy("{'descr': '<f8', 'shape': ("), "y.npy", zipfile.ZIP_STORED, "no .npz file"),
        (b"PNG", "y.npy", zipfile.ZIP_STORED, "no .npz file"),
        (_npy(HEADER % 0), "y\x1b[31m\n.npy", zipfile.ZIP_STORED, "is no name of an array"),
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


@pytest.mark.parametrize("dim", [5.7, np.inf, np.nan, "5", True])
def test_sides_that_are_no_whole_number_are_refused(dim: Any) -> None:
    with pytest.raises(Refusal, match="^dim: .* is no whole number"):
        check({**GOOD["entries"], "dim": np.asarray(dim)})


@pytest.mark.parametrize("dim", [9, 9.0, [[9]]])
def test_a_side_alone_in_an_array_is_a_side(dim: Any) -> None:
    assert check({**GOOD["entries"], "dim": np.asarray(dim)}).dim == 9


def test_a_map_of_zeros_is_refused_by_its_name() -> None:
    with pytest.raises(Refusal, match="^A: is all zero"):
        check({"y": np.arange(1.0, 9.0), "A": np.zeros((8, 3, 3))})
