"""The recover command: what it writes, what it refuses; the example's geometry."""

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from gpsense.recovery.forms import read_fields
from gpsense.recovery.maps import Pauli
from launch import cities
from launch.measured import read
from launch.recover import _digest, _doubts, _order, main
from launch.shell import Progress


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
    assert "whom: no such column, the file has who, what, stars" in capsys.readouterr().err


def test_offsets_are_told_with_the_files_that_make_the_matrix(tmp_path, capsys):
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((20, 1)) @ rng.standard_normal((1, 15))
    truth = truth + 3 + rng.standard_normal((20, 1)) + rng.standard_normal(15)
    rows, columns = np.nonzero(rng.random(truth.shape) < 0.8)
    lines = [f"{i},{j},{truth[i, j]}" for i, j in zip(rows, columns, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["row,col,value", *lines]) + "\n")
    out = tmp_path / "out"
    assert main([str(tmp_path / "t.csv"), "--offsets", "yes", "--out", str(out)]) == 0
    told = "matrix = left right^T + "
    assert told in capsys.readouterr().out
    assert told in (out / "report.html").read_text()
    parts = {name: np.load(out / f"{name}.npy") for name in ("left", "right", "row_offsets", "column_offsets")}
    mean = json.loads((out / "summary.json").read_text())["offset"]
    matrix = parts["left"] @ parts["right"].T + mean + parts["row_offsets"][:, None] + parts["column_offsets"]
    np.testing.assert_allclose(matrix, truth, atol=1e-6)


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
    assert main([str(tmp_path / "q.csv"), "--truth", str(tmp_path / "nowhere.npy")]) == 2
    assert "nowhere.npy: no such file; give the path of a .npy file" in capsys.readouterr().err
    for wrong in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)):
        np.save(tmp_path / "wrong.npy", wrong)
        assert main([str(tmp_path / "q.csv"), "--truth", str(tmp_path / "wrong.npy")]) == 2
        assert (
            "must hold a 4 x 4 matrix of finite numbers, at least one of them not 0; save such"
            in capsys.readouterr().err
        )


def test_a_truth_is_taken_in_the_order_of_the_labels_that_are_written_which_is_told(tmp_path, capsys):
    rng = np.random.default_rng(0)
    names = np.array(["Rome", "Bern", "Oslo", "Graz", "Linz", "Nice", "Pisa", "Cork"])
    points = rng.normal(size=(8, 2))
    one, two = np.triu_indices(8, 1)
    rows = [
        f"{names[i]},{names[j]},{np.linalg.norm(points[i] - points[j]):.17g}" for i, j in zip(one, two, strict=True)
    ]
    (tmp_path / "d.csv").write_text("\n".join(["i,j,distance", *rows]))
    centred = (points - points.mean(0))[np.argsort(names)]
    np.save(tmp_path / "gram.npy", centred @ centred.T)
    command = [str(tmp_path / "d.csv"), "--out", str(tmp_path / "out"), "--truth"]
    assert main([*command, str(tmp_path / "gram.npy")]) == 0
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == sorted(names)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["relative_error"] < 1e-6
    assert summary["truth_order"] == "rows and columns in the order Bern, Cork, Graz, Linz, Nice, Oslo, Pisa, Rome"
    assert "(rows and columns in the order Bern, Cork" in capsys.readouterr().out
    np.save(tmp_path / "lengths.npy", np.linalg.norm(centred[:, None] - centred, axis=2))
    assert main([*command, str(tmp_path / "lengths.npy")]) == 2
    said = (
        "has only zeros on its diagonal, so it is not positive semidefinite; "
        "save the Gram matrix C C^T of the centred points"
    )
    assert said in capsys.readouterr().err


def test_the_order_of_rows_and_columns_is_told_where_they_have_names():
    row, col = np.divmod(np.arange(12), 3)
    users, films = np.array(["u1", "u2", "u10", "a"], object), np.array(["f9", "f10", "f11"], object)
    named = {"row": users[row], "col": films[col], "value": np.ones(12), "kind": np.array("table")}
    assert _order(read_fields(named)) == "rows in the order a, u1, u10, u2; columns in the order f10, f11, f9"
    wide = named | {"row": row, "col": col, "shape": np.array([4, 3]), "row_labels": users, "column_labels": films}
    assert _order(read_fields(wide)) == "rows in the order u1, u2, u10, a; columns in the order f9, f10, f11"
    assert _order(read_fields(named | {"row": row + 1, "col": col})) == "rows in the order 1, 2, 3, 4"
    assert _order(read_fields(named | {"row": row, "col": col})) == ""


@pytest.mark.parametrize(
    ("header", "what", "options"),
    [
        ("from,to,distance", "the two points", "--i from --j to"),
        ("a b,to,value", "the row and the column", "--row 'a b' --col to"),
    ],
)
def test_places_under_other_names_are_named_by_options(header, what, options, tmp_path, capsys):
    table = tmp_path / "cities.csv"
    table.write_text(f"{header}\na,b,1\nb,c,2\n")
    assert main([str(table)]) == 2
    columns = header.replace(",", ", ")
    said = f"{table}: its columns are {columns}; name the columns that hold {what} of each measurement: {options}"
    assert capsys.readouterr().err == f"error: {said}\n"


def test_a_table_of_unknown_columns_is_asked_which_is_which(tmp_path, capsys):
    table = tmp_path / "ratings.csv"
    table.write_text("user,film,stars\nann,up,4\n")
    assert main([str(table)]) == 2
    said = "its columns are user, film, stars; name them: for ratings --row user --col film --value stars, "
    said += "for distances --i user --j film --distance stars; "
    said += "for a wide table, with row labels in the first column, add --kind table"
    assert capsys.readouterr().err == f"error: {table}: {said}\n"
    assert main([str(table), "--kind", "pauli"]) == 2
    said = "--kind pauli needs the columns pauli,value, the file has user, film, stars; name them by --pauli NAME"
    assert capsys.readouterr().err == f"error: {table}: {said} --value NAME\n"
    assert main([str(table), "--kind", "table"]) == 2
    said = "if each row is one measurement, name the columns by --row, --col, --value\n"
    assert capsys.readouterr().err.endswith(said)
    table.write_text("row,col,stars\nann,up,4\n")
    assert main([str(table)]) == 2
    assert "add the values (n,), named value, or give its name in FILE by --value NAME" in capsys.readouterr().err
    table.write_text("i,j,distnce\nann,up,4\n")
    assert main([str(table)]) == 2
    assert capsys.readouterr().err.endswith("distance for distnce? Give its name in FILE by --distance NAME\n")
    table.write_text("# two qubits\npauli,value\nXX,1\nzx,0\n")
    assert main([str(table)]) == 2
    said = "line 4 holds 'zx', which is not a Pauli word; write capital letters, ZX"
    assert capsys.readouterr().err == f"error: {table}: {said}\n"


def test_a_wide_table_is_read_and_said_to_be(tmp_path, capsys):
    """As written by pandas, by R (no name above the labels), and with semicolons; gaps are values that are missing."""
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(12, 1)) @ rng.normal(size=(1, 40))
    rows = [[f"user {i}", *("" if rng.random() < 0.3 else f"{each:.17g}" for each in matrix[i])] for i in range(12)]
    header = [f"film, {j}" for j in range(40)]
    for name, first, mark in (("pandas", [""], ","), ("r", [], ","), ("named", ["who"], ";")):
        lines = [mark.join(f'"{each}"' for each in first + header), *(mark.join(row) for row in rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
        assert main([str(tmp_path / f"{name}.csv"), "--offsets", "no", "--out", str(tmp_path / name)]) == 0
        told = capsys.readouterr().out
        assert told.startswith("read as a table of 12 rows and 40 columns with labels; ")
        assert json.loads((tmp_path / name / "summary.json").read_text())["read_as"] == told.split("\n")[0]
        assert np.load(tmp_path / name / "row_labels.npy").tolist() == [row[0] for row in rows]
        assert np.load(tmp_path / name / "column_labels.npy").tolist() == header
        left, right = (np.load(tmp_path / name / f"{side}.npy") for side in ("left", "right"))
        np.testing.assert_allclose(left @ right.T, matrix, atol=1e-7)


def test_a_wide_table_of_numbers_alone_is_asked_for_its_kind(tmp_path, capsys):
    """Numbers in the first column may be labels or values: --kind table says so; long lists of columns are cut."""
    numbers = np.outer(np.arange(1, 7), np.arange(1, 41)).astype(float)
    lines = ["year," + ",".join(f"film {j}" for j in range(40))]
    lines += [f"{1990 + i}," + ",".join(map(str, row)) for i, row in enumerate(numbers)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert main([str(tmp_path / "t.csv")]) == 2
    error = capsys.readouterr().err
    assert "film 6, and 33 more; name them: for ratings --row NAME --col NAME --value NAME, for distances" in error
    assert error.endswith("; for a wide table, with row labels in the first column, add --kind table\n")
    (tmp_path / "r.csv").write_text("\n".join(["row" + lines[0][4:], *lines[1:]]))
    assert main([str(tmp_path / "r.csv")]) == 2
    said = "for a wide table, with row labels in the first column, add --kind table; for one measurement per"
    assert said in capsys.readouterr().err
    assert main([str(tmp_path / "t.csv"), "--kind", "table", "--offsets", "no", "--out", str(tmp_path / "out")]) == 0
    assert np.load(tmp_path / "out" / "row_labels.npy").tolist() == list(range(1990, 1996))
    (tmp_path / "d.csv").write_text(",a,b,c\na,0,1,2\nb,1,0,3\nc,2,3,0\n")
    assert main([str(tmp_path / "d.csv")]) == 2
    assert (
        "d.csv: --kind: a symmetric table with zeros on its diagonal could be distances or a matrix"
        in capsys.readouterr().err
    )
    (tmp_path / "w.csv").write_text("who,a,b\nx,1,2\ny,3,?\n")
    assert main([str(tmp_path / "w.csv"), "--kind", "table"]) == 2
    assert "w.csv: b: holds '?', not a number; leave the cell empty, or give a number" in capsys.readouterr().err


def test_named_points_and_plain_distances(tmp_path, capsys):
    points = np.random.default_rng(0).normal(size=(10, 2))
    i, j = np.triu_indices(10, 1)
    rows = [f"p{a},p{b},{np.linalg.norm(points[a] - points[b]):.17g}" for a, b in zip(i, j, strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["from,to,km", *rows]))
    mine = [str(tmp_path / "pairs.csv"), "--i", "from", "--j", "to"]
    assert main([*mine, "--value", "km"]) == 2
    assert "error: --kind: i and j alone do not say what was measured; name the values by --distance" in (
        capsys.readouterr().err
    )
    assert main([*mine, "--distance", "km", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "squared when they were read" in told
    assert "in the order of labels.npy" in told
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [f"p{i}" for i in range(10)]
    factor = np.load(tmp_path / "out" / "factor.npy")
    lengths = np.linalg.norm(factor[i] - factor[j], axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(points[i] - points[j], axis=1), atol=1e-6)


def test_distances_and_squared_ones_of_the_same_points_are_two_recoveries():
    first, second = np.triu_indices(6, 1)
    pairs = {"i": first, "j": second}
    plain, squared = (read_fields(pairs | {name: np.ones(first.size)}) for name in ("distance", "distance2"))
    assert _digest(plain, {}) != _digest(squared, {})


def test_a_missing_file_is_told_with_names_like_it(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ratings.csv", "ratings.parquet", "notes.txt", "q.csv"):
        (tmp_path / name).write_text("")
    assert main(["rating.csv"]) == 2
    assert capsys.readouterr().err == (
        "error: rating.csv: no such file; in this folder there is ratings.csv, ratings.parquet\n"
    )
    assert main(["none/m.npz"]) == 2
    assert capsys.readouterr().err == "error: none/m.npz: no such file; there is no folder none\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_tried_is_told_while_it_takes_long(terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with Progress(every=0.01) as progress:
        progress("rank 3")
        time.sleep(0.3)
    told = capsys.readouterr().err
    assert "0 s: rank 3" in told
    assert told.endswith("\r\x1b[K" if terminal else "0 s: rank 3\n")


def test_an_interrupted_recovery_says_that_nothing_was_written(monkeypatch, capsys):
    def broken(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.recover.run", broken)
    assert main(["--example", "cities"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was written\n"


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
    (["--example", "towns"], "--example: there is no 'towns'; use one of cities"),
    (["--example", "cities", "--noise", "-1"], "--noise: -1.0 is out of range; give a number at least 0"),
    (["--example", "cities", "--share", "0"], "--share: 0.0 is out of range; give a number above 0"),
    (["--example", "cities", "--rank", "none"], "--rank: 'none' is not a whole number; use a whole number"),
    (["--example", "cities", "--max-rank", "99"], "--max-rank: 99 is not from 1 to 71"),
    (["--example", "cities", "--robust", "maybe"], "--robust: there is no 'maybe'; use one of auto, yes, no"),
    (["--example", "cities", "--unknown", "1"], "--unknown: there is no such option; see --help"),
    (["--example", "cities", "--ofsets", "yes"], "--ofsets: there is no such option; did you mean --offsets?"),
    (["--example", "cities", "--trace", "one"], "--trace: 'one' is not a number; use a number"),
    (["--example", "cities", "--rank"], "--rank: give one value; see --help"),
    (["a.npz", "--kind", "distance"], "--kind: there is no 'distance'; did you mean distances? use one of table (ent"),
    (["a.npz", "b.npz"], "b.npz: not understood; see --help"),
    (["a.npz", "--noise", "0.1", "--share", "0.5"], "--noise: it has no effect with FILE; leave it out, or give --ex"),
    (["a.npz", "--share", "0.3"], "--share: it has no effect with FILE"),
    (["--example", "cities", "--kind", "table"], "--kind: it has no effect with --example; leave it out"),
    (["--example", "cities", "--row", "user"], "--row: it has no effect with --example; leave it out"),
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
        return _doubts(SimpleNamespace(**facts))

    assert doubts() == []
    assert "rank 2 has 19 unknowns for only 20 measurements" in doubts(measurements=20)[0]
    open_ = ("row 3 is in no measurement", "9 independent measurements for 19 unknowns")
    first, second = doubts(undetermined=open_)
    assert first.endswith("leave this open: row 3 is in no measurement (numbers from 0)")
    assert second.endswith("for 19 unknowns")
    open_ = ("row b is in no measurement", "column 3 is in no measurement")
    named = doubts(undetermined=open_, labels=(np.array(["a", "b"]), None))
    assert [words.rpartition("open: ")[2] for words in named] == [open_[0], f"{open_[1]} (numbers from 0)"]
    told = doubts(outliers=np.array([4, 7]), wild=("4 (Bern, Oslo)", "7 (Bern, Rome)"))[0]
    assert "2 outliers were left out (measurements 4 (Bern, Oslo), 7 (Bern, Rome), counted from 0)" in told
    told = doubts(outliers=np.array([4]), wild=("4",))[0]
    assert "1 outlier was left out (measurement 4, counted from 0)" in told
    assert "the rank is uncertain: only 50% of the resamples" in doubts(rank_share=0.5)[0]


def test_other_settings_do_not_overwrite_a_result(recovered, capsys):
    _, out, _ = recovered
    assert main([str(out.parent / "mine.npz"), "--out", str(out), "--seed", "5"]) == 2
    assert "holds the recovery of other data or settings" in capsys.readouterr().err
