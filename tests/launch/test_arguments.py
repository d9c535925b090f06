"""The command line: overrides in any order, help without JAX, and one line for whatever is wrong."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.arguments import parse
from launch.config import DEFAULT, build, field_names, read_yaml
from launch.values import Values

NO_JAX = """
import sys
from launch.grid import main
try:
    main(["--help"])
except SystemExit as stop:
    print("exit", stop.code, "jax" in sys.modules, file=sys.stderr)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config of one's own, in a folder with a space."""
    path = tmp_path / "my grids" / "small grid.yaml"
    path.parent.mkdir()
    path.write_text("problem: {dim: 6, n: 30, noise: 0.1234567}\nrun: {seeds: [5]}\n")
    return path


@pytest.mark.parametrize(
    ("argv", "field", "remedy"),
    [
        (["--problem.nosie", "0.1"], "problem.nosie", "did you mean problem.noise?"),
        (["--noise", "0.1"], "noise", "did you mean problem.noise?"),
        (["--problm.noise", "0.1"], "problm.noise", "did you mean problem.noise?"),
        (["--problem", "3"], "problem", "--problem.dim"),
        (["0.1"], "config 0.1", "give the path of a YAML config"),
        (["--dry-run", "0.1"], "0.1", "see --help"),
        (["-x"], "-x", "see --help"),
        (["--train.steps"], "--train.steps", "Expected 1"),
        (["--train.steps", "1", "2"], "2", "see --help"),
        (["--train.steps", "1.5"], "train.steps", "valid integer"),
        (["--train.steps", "-1"], "train.steps", "greater than or equal to 0"),
        (["--run.record_every", "0"], "run.record_every", "greater than or equal to 1"),
        (["--problem.dim", "6.5"], "problem.dim", "valid integer"),
        (["--problem.dim", "true"], "problem.dim", "valid integer"),
        (["--problem.noise", "abc"], "problem.noise", "valid number"),
        (["--problem.noise", "-1"], "problem.noise", "greater than or equal to 0"),
        (["--problem.noise=-1"], "problem.noise", "greater than or equal to 0"),
        (["--problem.noise", "0.1", "nan"], "problem.noise", "finite"),
        (["--problem.noise", "inf"], "problem.noise", "finite"),
        (["--problem.noise"], "problem.noise", "give at least one value"),
        (["--problem.noise", ""], "problem.noise", "give at least one value"),
        (["--problem.noise", "[]"], "problem.noise", "give at least one value"),
        (["--problem.noise", "[0.1, 0.2"], "problem.noise", "valid number"),
        (["--problem.noise", "0.1", "0.10"], "problem.noise", "list each value once"),
        (["--problem.noise", "log:0:1:3"], "problem.noise", "write log:low:high:count with 0 < low < high"),
        (["--problem.noise", "range:3:3"], "problem.noise", "give at least one value"),
        (["--train.smoothing", "0"], "train.smoothing", "greater than 0"),
        (["--train.smoothing", "-0.1"], "train.smoothing", "greater than 0"),
        (["--train.momentum", "1"], "train.momentum", "less than 1"),
        (["--train.penalty_kind", "lasso"], "train.penalty_kind", "'weight_decay' or 'none'"),
        (["--train.optimizer", "gd,sgd"], "train.optimizer", "'gd', 'momentum'"),
        (["--system", "trees"], "system", "'sensing'"),
        (["--name", "a/b"], "name", "pattern"),
        (["--run.seeds", "0"], "run.seeds", "greater than or equal to 1"),
        (["--run.seeds"], "run.seeds", "give at least one value"),
        (["--run.seeds", "99999999999999999999"], "run.seeds", "less than or equal to 100000"),
        (["--run.seeds", "3,5,3"], "run.seeds", "list each value once"),
        (["--run.precision", "float16"], "run.precision", "'float32' or 'float64'"),
        (["--problem.condition", "0.5"], "problem.condition", "greater than or equal to 1"),
        (["--problem.spectrum", "1,-1"], "problem.spectrum", "greater than 0"),
        (["--problem.spectrum", "1,0.5,0.2"], "problem.spectrum", "give rank many"),
        (["--problem.spectrum", "1,0.5", "--problem.condition", "3"], "problem.condition", "leave condition at 1"),
        (["nowhere.yaml"], "nowhere.yaml", "give the path of a YAML config"),
        (["--out", "x", "nowhere.yaml"], "nowhere.yaml", "give the path of a YAML config"),
    ],
)
def test_bad_arguments_are_refused_with_field_and_remedy(
    argv: list[str], field: str, remedy: str, refuse: Callable[..., str]
) -> None:
    line = refuse(*argv)
    assert field in line
    assert remedy in line


@pytest.mark.parametrize(
    ("text", "field", "remedy"),
    [
        ("problem: {nosie: 0.1}", "problem.nosie", "did you mean problem.noise?"),
        ("problm: {noise: 0.1}", "problm", "did you mean problem?"),
        ("noise: 0.1", "noise", "did you mean problem.noise?"),
        ("1: 2", "1", "strings"),
        ("problem: 3", "problem", "write problem: {field: value}"),
        ("problem:", "problem", "write problem: {field: value}"),
        ("problem: [1]", "problem", "write problem: {field: value}"),
        ("problem: {noise: {a: 1}}", "problem.noise", "numbers or names"),
        ("problem: {noise: [[0.1], [0.2]]}", "problem.noise", "numbers or names"),
        ("problem: {noise: true}", "problem.noise", "numbers or names"),
        ("problem: {noise: .nan}", "problem.noise", "finite"),
        ("problem: {noise: []}", "problem.noise", "give at least one value"),
        ("problem: {noise: [0.1, 0.1]}", "problem.noise", "list each value once"),
        ("problem: {noise: [0.1, abc]}", "problem.noise", "valid number"),
        ("problem: {noise: 2020-01-01}", "problem.noise", "valid number"),
        ("problem: {spectrum: 1}", "problem.spectrum", "give rank many"),
        ("problem: {truth: 3}", "problem.truth", "valid string"),
        ("train: {steps: true}", "train.steps", "give a number"),
        ("train: {steps: 1.5}", "train.steps", "valid integer"),
        ("train: {steps: many}", "train.steps", "valid integer"),
        ("run: {memory_gib: true}", "run.memory_gib", "give a number"),
        ("run: {seeds: true}", "run.seeds", "numbers or names"),
        ("run: {seeds: 0}", "run.seeds", "greater than or equal to 1"),
        ("name: 3", "name", "valid string"),
        ("train: {steps: 5}\ntrain: {rate: 0.1}", "line 2", "key train is given twice"),
        ("problem: {noise: [1,\nb: }", "line 2", "mend the syntax"),
        ("problem:\n\tdim: 3", "line 2", "mend the syntax"),
        ("problem: !!python/object:os.system {}", "line 1", "mend the syntax"),
        ("problem: " + "[" * 3000, "bad.yaml", "mend the syntax"),
        ("problem: {noise: " + "9" * 5000 + "}", "bad.yaml", "mend the syntax"),
        ("- problem", "bad.yaml", "not a mapping"),
        ("problem", "bad.yaml", "not a mapping"),
        ("", "bad.yaml", "not a mapping"),
    ],
)
def test_bad_files_are_refused_with_field_and_remedy(
    text: str, field: str, remedy: str, tmp_path: Path, refuse: Callable[..., str]
) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    line = refuse("bad.yaml")
    assert field in line
    assert remedy in line


def test_unreadable_files_are_refused(tmp_path: Path, refuse: Callable[..., str]) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    assert "give a readable YAML file" in refuse("latin.yaml")
    assert "give a readable YAML file" in refuse(str(tmp_path))


def test_no_config_means_the_quickstart() -> None:
    asked = parse([])
    assert asked.config == build(read_yaml(DEFAULT))
    assert asked.config.name == "quickstart"
    assert (asked.out, asked.dry_run, asked.folder) == (None, False, DEFAULT.parent)


def test_config_may_stand_anywhere_among_the_options(config: Path) -> None:
    options = ["--problem.noise", "0.1", "0.2", "--dry-run", "--out", "my results/"]
    for place in (0, 3, 4, 6):
        asked = parse([*options[:place], str(config), *options[place:]])
        assert asked.config.problem.dim == Values((6,), False)
        assert asked.config.problem.noise == Values((0.1, 0.2), True)
        assert (asked.out, asked.dry_run, asked.folder) == (Path("my results"), True, config.parent)
        assert asked.config.name == "small-grid"


def test_config_named_without_its_ending_is_read_in_the_first_place(config: Path) -> None:
    plain = config.rename(config.with_suffix(""))
    assert parse([str(plain), "--dry-run"]).config.problem.dim == Values((6,), False)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["0.1"], Values((0.1,), False)),
        (["0.1", "0.2"], Values((0.1, 0.2), True)),
        (["0.1,0.2"], Values((0.1, 0.2), True)),
        (["[0.1, 0.2]"], Values((0.1, 0.2), True)),
        (["[0.1]"], Values((0.1,), True)),
        (["log:1e-3:1e-1:3"], Values((1e-3, 1e-2, 1e-1), True)),
        (["0.123457"], Values((0.123457,), False)),
    ],
)
def test_values_replace_those_of_the_file(config: Path, words: list[str], values: Values) -> None:
    assert parse([str(config), "--problem.noise", *words]).config.problem.noise == values
    assert parse([str(config), f"--problem.noise={words[0]}", *words[1:]]).config.problem.noise == values


def test_one_seed_by_name_is_not_mistaken_for_a_count(config: Path) -> None:
    assert parse([str(config)]).config.run.seeds.values == (5,)
    assert parse([str(config), "--run.seeds", "5"]).config.run.seeds.values == (0, 1, 2, 3, 4)
    assert parse([str(config), "--run.seeds", "3,5"]).config.run.seeds.values == (3, 5)


def test_last_of_two_options_counts(config: Path) -> None:
    asked = parse([str(config), "--problem.dim", "7", "--problem.dim", "8"])
    assert asked.config.problem.dim == Values((8,), False)


def test_null_takes_a_value_back(config: Path) -> None:
    config.write_text("prune: {threshold: 0.1}\nproblem: {width: 7}\n")
    asked = parse([str(config), "--prune.threshold", "null", "--problem.width", "None"]).config
    assert asked.prune.threshold is None
    assert asked.problem.width is None


def test_help_names_every_field_with_the_values_of_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        parse(["--help", str(config)])
    assert stop.value.code == 0
    text = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    for name in {name for name in (*field_names(), "out") if not name.startswith("claim")}:  # that is in the file
        assert re.search(rf"--{re.escape(name)}\s", text), name
    assert re.search(r"--dry[-_]run\s", text)
    for name, default in (("problem.dim", "6"), ("problem.noise", "0.1234567"), ("run.seeds", "'[5]'")):
        assert re.search(rf"--{name} [^-]*\(default: {re.escape(default)}\)", text), name


def test_help_comes_at_once_and_without_jax(process: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    begun = time.perf_counter()
    ran = process(["-c", NO_JAX], [], tmp_path)
    out, err = ran.communicate(timeout=60)
    assert time.perf_counter() - begun < 5
    assert err == "exit 0 False\n"
    assert "--problem.noise" in out


@pytest.mark.parametrize("argv", [["--problem.nosie", "1"], ["nowhere.yaml"]])
def test_a_refusing_process_ends_with_2_and_one_line(
    process: Callable[..., subprocess.Popen[str]], tmp_path: Path, argv: list[str]
) -> None:
    ran = process(["-m", "launch.grid"], argv, tmp_path)
    out, err = ran.communicate(timeout=60)
    assert (ran.returncode, out, err.count("\n")) == (2, "", 1)
    assert argv[0].removeprefix("--") in err
    assert list(tmp_path.iterdir()) == []
