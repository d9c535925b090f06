"""The benchmark runs the same work on both sides and writes what its readers rely on."""

import json

import pytest

from launch import bench, device


@pytest.fixture
def tiny(monkeypatch):
    """One rival and sizes at which a benchmark takes seconds; the process keeps the tests' precision."""
    from launch.bench import rivals

    monkeypatch.setattr(device, "configure", lambda precision: None)
    sizes = {"SEEDS": 2, "PENALTIES": 3, "DIM": 5, "MEASUREMENTS": 20, "TRAIN": 20, "FINE_TUNE": 10, "FLAT_STEPS": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(rivals, "RIVALS", {rivals.FLAT: rivals.RIVALS[rivals.FLAT]})


def test_the_table_has_its_columns(tiny, tmp_path, capsys):
    import jax

    with jax.numpy_dtype_promotion("standard"):
        assert bench.main(["--out", str(tmp_path), "--group", "grid"]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert all(set(row) == {"group", "name", "seconds", "rate", "ratio", "target", "note"} for row in rows)
    flat = next(row for row in rows if "flat vmap" in row["name"])
    engine = next(row for row in rows if "engine" in row["name"])
    assert flat["ratio"] == pytest.approx(flat["seconds"] / engine["seconds"])
    assert flat["target"] == 10
    assert "ratio" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_refused(capsys):
    assert bench.main(["--out", "/proc/none"]) == 2
    assert capsys.readouterr().err.startswith("error: --out: /proc/none cannot be written to")
