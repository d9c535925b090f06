"""The recover command: what it writes, what it refuses; the example's geometry."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from gpsense.recovery.maps import Pauli
from launch import cities
from launch.measured import read
from launch.recover import _doubts, main


@pytest.fixture(scope="module")
def recovered(tmp_path_factory):
    """A rank-2 matrix from rank-one measurements, recovered by the command."""
    folder = tmp_path_factory.mktemp("recover")
    rng = np.random.default_rng(1)
    truth, x = rng.normal(size=(10, 2)), rng.normal(size=(250, 10))
    y = ((x @ truth) ** 2).sum(1) + 0.1 * rng.normal(size=250)
    np.savez(folder / "mine.npz", x=x, y=y)
    code = main([str(folder / "mine.npz"), "--out", str(folder / "out")])
    return code, folder / "out", truth


def test_it_writes_factor_summary_and_figures(recovered, capsys):
    code, out, truth = recovered
    assert code == 0
    factor = np.load(out / "factor.npy")
    summary = json.loads((out / "summary.json").read_text())
    assert factor.shape == (10, 2) == (10, summary["rank"])
    gram = truth @ truth.T
    assert np.linalg.norm(factor @ factor.T - gram) < 0.03 * np.linalg.norm(gram)
    assert 0.05 < summary["noise"] < 0.2
    assert summary["chosen_by"] == "edge"
    assert summary["unknowns"] == 19
    assert [len(each) for each in (summary["sizes"], summary["size_errors"])] == [2, 2]
    assert len(summary["path"]) >= 2
    assert {"versions", "precision", "settings"} <= set(summary)
    assert (out / "report.html").is_file()
    assert {path.name for path in (out / "figures").iterdir()} == {"ranks.png", "fit.png"}


def test_it_may_be_run_again_into_its_own_folder_but_not_into_a_foreign_one(recovered, tmp_path, capsys):
    _, out, _ = recovered
    (tmp_path / "foreign.txt").write_text("not ours")
    mine = str(out.parent / "mine.npz")
    assert main([mine, "--out", str(tmp_path)]) == 2
    assert "is not empty and not a recovery" in capsys.readouterr().err
    assert main([mine, "--out", str(out)]) == 0


def _ratings(path, sep=","):
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=(20, 2)), rng.normal(size=(15, 2))
    rows, columns = np.nonzero(rng.random((20, 15)) < 0.7)
    lines = [f"user{i:02}{sep}film{j:02}{sep}{u[i] @ v[j]}" for i, j in zip(rows, columns, strict=True)]
    path.write_text("\n".join(["who" + sep + "what" + sep + "stars", *lines]) + "\n")
    return u @ v.T


def test_a_table_with_a_header_of_its_own(tmp_path, capsys):
    matrix = _ratings(tmp_path / "stars.csv")
    names = ["--row", "who", "--col", "what", "--value", "stars", "--offsets", "no"]
    assert main([str(tmp_path / "stars.csv"), *names, "--out", str(tmp_path / "out")]) == 0
    left, right = (np.load(tmp_path / "out" / f"{side}.npy") for side in ("left", "right"))
    np.testing.assert_allclose(left @ right.T, matrix, atol=1e-6)
    assert np.load(tmp_path / "out" / "row_labels.npy")[3] == "user03"
    told = capsys.readouterr().out
    assert "rank 2 (explains the values to rounding" in told
    assert main([str(tmp_path / "stars.csv"), "--row", "whom", "--out", str(tmp_path / "no")]) == 2
    assert "whom: no such column, there is who, what, stars" in capsys.readouterr().err


@pytest.mark.parametrize("sep", [";", "\t"])
def test_semicolons_and_tabs_separate_too(tmp_path, sep):
    _ratings(tmp_path / "stars.csv", sep)
    fields = read(tmp_path / "stars.csv")
    assert list(fields) == ["who", "what", "stars"]
    assert fields["stars"].dtype == float


def test_a_state_and_its_fidelity(tmp_path, capsys):
    rng = np.random.default_rng(0)
    state = rng.normal(size=(4, 1)) + 1j * rng.normal(size=(4, 1))
    state /= np.linalg.norm(state)
    words = [one + two for one in "IXYZ" for two in "IXYZ"]
    y = Pauli.of(words).predict((state,)) + 0.01 * rng.normal(size=16)
    (tmp_path / "q.csv").write_text("pauli,value\n" + "\n".join(f"{w},{v}" for w, v in zip(words, y, strict=True)))
    np.save(tmp_path / "truth.npy", state @ state.conj().T)
    files = [str(tmp_path / "q.csv"), "--trace", "1", "--truth", str(tmp_path / "truth.npy")]
    assert main([*files, "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    factor = np.load(tmp_path / "out" / "factor.npy")
    expected = (state.conj().T @ factor @ factor.conj().T @ state).real.item()
    assert summary["fidelity"] == pytest.approx(expected, abs=1e-9)
    assert summary["fidelity"] > 0.99
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Recovery of q" in page
    assert page.count("data:image/png") == 2
    capsys.readouterr()
    assert main([str(tmp_path / "q.csv"), "--truth", str(tmp_path / "q.csv")]) == 2
    assert "is not a .npy file; save the matrix with numpy.save" in capsys.readouterr().err
    for wrong in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)):
        np.save(tmp_path / "wrong.npy", wrong)
        assert main([str(tmp_path / "q.csv"), "--truth", str(tmp_path / "wrong.npy")]) == 2
        assert "is not a 4 x 4 matrix of finite numbers, not all 0; save one" in capsys.readouterr().err


def test_a_table_of_unknown_columns_is_asked_which_is_which(tmp_path, capsys):
    table = tmp_path / "ratings.csv"
    table.write_text("user,film,stars\nann,up,4\n")
    assert main([str(table)]) == 2
    said = "its columns are user, film, stars; say which is which, such as --row user --col film --value stars"
    assert capsys.readouterr().err == f"error: {table}: {said}\n"


def test_matlab_files_and_headers_that_say_what_was_measured(tmp_path, capsys):
    import scipy.io

    rng = np.random.default_rng(2)
    truth, x = rng.normal(size=(6, 1)), rng.normal(size=(60, 6))
    scipy.io.savemat(tmp_path / "m.mat", {"x": x, "y": (x @ truth) ** 2})
    assert main([str(tmp_path / "m.mat"), "--out", str(tmp_path / "mat")]) == 0
    points = rng.normal(size=(12, 2))
    i, j = np.triu_indices(12, 1)
    squares = ((points[i] - points[j]) ** 2).sum(1)
    rows = "\n".join(f"{a},{b},{c}" for a, b, c in zip(i, j, squares, strict=True))
    (tmp_path / "pairs.csv").write_text("i,j,distance2\n" + rows)
    assert main([str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "pairs")]) == 0
    assert json.loads((tmp_path / "pairs" / "summary.json").read_text())["rank"] == 2
    (tmp_path / "bad.csv").write_text("i,j,distance2\n1,2,3\n4,5\n")
    assert main([str(tmp_path / "bad.csv")]) == 2
    assert "line 3 has 2 fields, the header has 3; fix that line" in capsys.readouterr().err
    (tmp_path / "bad.mat").write_bytes(b"no such thing")
    assert main([str(tmp_path / "bad.mat")]) == 2
    assert "is not a MATLAB file" in capsys.readouterr().err


BAD = [
    ([], "give one file, or --example cities"),
    (["a.npz", "--example", "cities"], "give one file, or --example cities"),
    (["missing.npz"], "missing.npz: no such file"),
    (["--example", "towns"], "invalid choice: 'towns'"),
    (["--example", "cities", "--noise", "-1"], "--noise: -1.0 is not at least 0"),
    (["--example", "cities", "--share", "0"], "--share: 0.0 is not above 0"),
    (["--example", "cities", "--rank", "none"], "argument --rank: invalid int value: 'none'"),
    (["--example", "cities", "--max-rank", "99"], "--max-rank: 99 is not from 1 to 71"),
    (["--example", "cities", "--robust", "maybe"], "argument --robust: invalid choice: 'maybe'"),
    (["--example", "cities", "--unknown", "1"], "unrecognized arguments: --unknown"),
    (["--example", "cities", "--out", "/proc/none/x"], "--out: /proc/none/x cannot be written to"),
]


@pytest.mark.parametrize(("argv", "line"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(argv, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert line in error
    assert not list(tmp_path.iterdir())


def test_wrong_signs_are_refused_and_nothing_is_written(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(40, 5))
    np.savez(tmp_path / "m.npz", x=x, y=-((x**2).sum(1)))
    assert main([str(tmp_path / "m.npz"), "--out", str(tmp_path / "out")]) == 2
    assert "no positive eigenvalue; check the signs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_table_has_real_places_and_the_projection_keeps_areas():
    names, places = cities.load()
    assert len(names) == len(set(names)) >= 60
    np.testing.assert_allclose(places.mean(0), 0, atol=1e-9)
    paris, london = (places[names.index(name)] for name in ("Paris", "London"))
    np.testing.assert_allclose(np.linalg.norm(paris - london), 344, rtol=0.02)
    step = 1e-4
    point, up, right, *_ = cities.project(np.array([0.9, 0.9 + step, 0.9, 0.7]), np.array([0.1, 0.1, 0.1 + step, 0.6]))
    north, east = up - point, right - point
    area = abs(north[0] * east[1] - north[1] * east[0])
    np.testing.assert_allclose(area, cities.EARTH_KM**2 * np.cos(0.9) * step**2, rtol=1e-3)


def test_the_example_measures_what_it_says():
    drawn = cities.example(share=0.3, noise=0.0, seed=3)
    assert drawn.fields["y"].size == round(0.3 * 72 * 71 / 2)
    first, second = drawn.fields["i"], drawn.fields["j"]
    squares = ((drawn.places[first] - drawn.places[second]) ** 2).sum(1)
    np.testing.assert_allclose(drawn.fields["y"], squares, rtol=1e-12)
    noisy = cities.example(share=0.3, noise=0.02, seed=3)
    np.testing.assert_allclose(np.std(noisy.fields["y"] / squares - 1), 0.02, rtol=0.1)


def test_scores_ignore_translation_and_rotation():
    drawn = cities.example(seed=1)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    scores = drawn.score(drawn.places @ turn + 100.0)
    assert scores["error"] < 1e-12
    assert scores["largest_offset_km"] < 1e-6
    assert drawn.score(np.zeros((72, 0)))["error"] == pytest.approx(1.0)


def test_doubtful_results_come_with_a_notice():
    def doubts(**changed):
        facts = {"undetermined": (), "outliers": np.zeros(0, int), "rank": 2, "chosen_by": "edge"}
        facts |= {"measurements": 250, "unknowns": 19, "rank_share": 1.0, "labels": (None, None)} | changed
        return _doubts(SimpleNamespace(**facts), SimpleNamespace())

    assert doubts() == []
    assert "rank 2 has 19 unknowns from 20 measurements" in doubts(measurements=20)[0]
    open_ = ("row 3 is in no measurement", "9 independent measurements for 19 unknowns")
    first, second = doubts(undetermined=open_)
    assert first.endswith("leave this open: row 3 is in no measurement (numbers from 0)")
    assert second.endswith("for 19 unknowns")
    named = doubts(undetermined=open_, labels=(np.array(["a", "b"]), None))[0]
    assert named.endswith("(numbers from 0, in the order of row_labels.npy)")
    assert "2 wild values were left out (measurements 4, 7, counted from 0)" in doubts(outliers=np.array([4, 7]))[0]
    assert "1 wild value was left out (measurement 4, counted from 0)" in doubts(outliers=np.array([4]))[0]
    assert "the rank is uncertain: 50% of the resamples" in doubts(rank_share=0.5)[0]
    assert "rank 0" in doubts(rank=0)[0]


def test_other_settings_do_not_overwrite_a_result(recovered, capsys):
    _, out, _ = recovered
    assert main([str(out.parent / "mine.npz"), "--out", str(out), "--seed", "5"]) == 2
    assert "holds the recovery of other data or settings" in capsys.readouterr().err
