"""The command line: overrides in any order, help of one system, and one line for whatever is wrong."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gpsense.systems import SYSTEMS
from launch.arguments import parse
from launch.config import DEFAULT, build, read_yaml
from launch.paths import configs
from launch.schema import schema
from launch.shell import Refusal
from launch.values import Values

LIGHT = """
import sys
from launch.grid import main
try:
    main(["--system", "{}", "--help"])
except SystemExit as stop:
    heavy = {{"xarray", "sklearn", "matplotlib", "pydantic", "scipy"}} & set(sys.modules)
    print("exit", stop.code, sorted(heavy), file=sys.stderr)
"""
TOY = str(Path(__file__).with_name("toy_system.py"))


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
        (["--train.steps"], "train.steps", "use a whole number from 0 to 1000000000"),
        (["--train.steps", "1", "2"], "train.steps", "'1,2' is not a whole number"),
        (["--train.steps", "1.5"], "train.steps", "1.5 is not a whole number"),
        (["--train.steps", "-1"], "train.steps", "-1 is not allowed; use a whole number from 0 to 1000000000"),
        (["--run.record_every", "0"], "run.record_every", "use a whole number 1 or more"),
        (["--problem.dim", "6.5"], "problem.dim", "6.5 is not a whole number"),
        (["--problem.dim", "true"], "problem.dim", "'true' is not a whole number"),
        (["--problem.noise", "abc"], "problem.noise", "'abc' is not a number"),
        (["--problem.noise", "-1"], "problem.noise", "use a number 0 or more"),
        (["--problem.noise", "-1e-3"], "problem.noise", "use a number 0 or more"),
        (["--problem.noise=-1"], "problem.noise", "use a number 0 or more"),
        (["--problem.noise", "0.1", "nan"], "problem.noise", "not a finite number"),
        (["--problem.noise", "inf"], "problem.noise", "not a finite number"),
        (["--problem.noise"], "problem.noise", "give at least one value"),
        (["--problem.noise", ""], "problem.noise", "give at least one value"),
        (["--problem.noise", "[]"], "problem.noise", "give at least one value"),
        (["--problem.noise", "[0.1, 0.2"], "problem.noise", "'[0.1' is not a number"),
        (["--problem.noise", "0.1", "0.10"], "problem.noise", "list each value once"),
        (["--problem.noise", "log:0:1:3"], "problem.noise", "write log:low:high:count with 0 < low < high"),
        (["--problem.noise", "range:3:3"], "problem.noise", "give at least one value"),
        (["--train.smoothing", "0"], "train.smoothing", "use a number above 0"),
        (["--train.smoothing", "-0.1"], "train.smoothing", "use a number above 0"),
        (["--train.momentum", "1"], "train.momentum", "below 1"),
        (["--train.penalty_kind", "lasso"], "train.penalty_kind", "did you mean group_lasso?"),
        (["--train.optimizer", "gd,sdg"], "train.optimizer", "there is no 'sdg'"),
        (["--system", "trees"], "system", "use one of sensing, "),
        (["--system", "sensng"], "system", "did you mean sensing?"),
        (["--system", "a", "b"], "--system", "give one value, not 2"),
        (["--out"], "--out", "give one value, not 0"),
        (["--name", "a/b"], "name", "use letters, digits"),
        (["--run.seeds", "0"], "run.seeds", "use a whole number from 1 to 10000000"),
        (["--run.seeds"], "run.seeds", "give at least one value"),
        (["--run.seeds", "99999999999999999999"], "run.seeds", "use a whole number from 1 to 10000000"),
        (["--run.seeds", "3,5,3"], "run.seeds", "list each value once"),
        (["--run.precision", "float16"], "run.precision", "did you mean float64?"),
        (["--problem.condition", "0.5"], "problem.condition", "use a number 1 or more"),
        (["--problem.spectrum", "1,-1"], "problem.spectrum", "use a number above 0"),
        (["--problem.spectrum", "1,0.5,0.2"], "problem.spectrum", "give as many as the rank"),
        (["--problem.spectrum", "1,0.5", "--problem.condition", "3"], "problem.condition", "leave condition at 1"),
        (["--claim.check", "x"], "claim", "can only be set in a config file"),
        (["--problem.n", "1e30"], "problem.n", "too large (at most 9223372036854775807)"),
        (["--problem.noise", "0.1,,0.2"], "problem.noise", "write one comma between two values"),
        (["--problem.noise", "0.1,,", "0.2"], "problem.noise", "write one comma between two values"),
        (["--problem.noise", ","], "problem.noise", "write one comma between two values"),
        (["--problem.n", "40", "--problem.n", "50"], "problem.n", "is given twice; give it once, values separated by"),
        (["--system", "images", "--system", "digits"], "--system", "it is given twice; give it once"),
        (["--dry-run=3"], "--dry-run", "it takes no value"),
        (["a.yaml", "--dry-run", "b.yaml"], "b.yaml", "a second config; give one"),
        (["a.yaml", "--problem.noise", "0.1", "b.yaml"], "b.yaml", "a second config; give one"),
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
        ("problm: {noise: 0.1}", "problm.noise", "did you mean problem.noise?"),
        ("problm: 3", "problm", "did you mean problem?"),
        ("noise: 0.1", "noise", "did you mean problem.noise?"),
        ("1: 2", "1", "system sensing has no such field"),
        ("problem: 3", "problem", "write problem: {field: value}"),
        ("problem:", "problem", "write problem: {field: value}"),
        ("problem: [1]", "problem", "write problem: {field: value}"),
        ("problem: {noise: {a: 1}}", "problem.noise", "{'a': 1} is not a number"),
        ("problem: {noise: [[0.1], [0.2]]}", "problem.noise", "[0.1] is not a number"),
        ("problem: {noise: true}", "problem.noise", "True is not a number"),
        ("problem: {noise: .nan}", "problem.noise", "not a finite number"),
        ("problem: {noise: []}", "problem.noise", "give at least one value"),
        ("problem: {noise: [0.1, 0.1]}", "problem.noise", "list each value once"),
        ("problem: {noise: [0.1, abc]}", "problem.noise", "'abc' is not a number"),
        ("problem: {noise: 2020-01-01}", "problem.noise", "is not a number"),
        ("problem: {spectrum: 1}", "problem.spectrum", "give as many as the rank"),
        ("problem: {noise: [0.1, '']}", "problem.noise", "write one comma between two values"),
        ("system: [sensing, digits]", "system", "use one of sensing, "),
        ("problem: {truth: 3}", "problem.truth", "3 is not a name"),
        ("train: {steps: true}", "train.steps", "True is not a whole number"),
        ("train: {steps: 1.5}", "train.steps", "1.5 is not a whole number"),
        ("train: {steps: many}", "train.steps", "'many' is not a whole number"),
        ("run: {memory_gib: true}", "run.memory_gib", "True is not a number"),
        ("run: {seeds: true}", "run.seeds", "True is not a whole number"),
        ("run: {seeds: 0}", "run.seeds", "use a whole number from 1 to 10000000"),
        ("name: 3", "name", "use letters, digits"),
        ("system: x.py:Toy", "system", "give --allow-plugins"),
        ("plugins: [x.py]", "plugins", "give --allow-plugins"),
        ("plugins: x.py", "plugins", "write plugins: [FILE.py]"),
        ("train: {steps: 5}\ntrain: {rate: 0.1}", "line 2", "key train is given twice"),
        ("problem: {noise: [1,\nb: }", "line 2", "fix the file"),
        ("problem:\n\tdim: 3", "line 2", "fix the file"),
        ("problem: !!python/object:os.system {}", "line 1", "fix the file"),
        ("problem: " + "[" * 3000, "bad.yaml", "fix the file"),
        ("problem: {noise: " + "9" * 5000 + "}", "bad.yaml", "fix the file"),
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
    assert parse(["--problem.n", "200"]).config.name == "sensing"
    assert parse(["--problem.n", "200", "--name", "mine"]).config.name == "mine"
    assert parse([str(configs() / "quickstart.yaml"), "--problem.n", "200"]).config.name == "quickstart"
    assert (asked.out, asked.dry_run, asked.folder) == (None, False, DEFAULT.parent)


def test_config_may_stand_anywhere_among_the_options(config: Path) -> None:
    options = ["--problem.noise", "0.1", "0.2", "--dry-run", "--out", "my results/"]
    for place in (0, 3, 4, 6):
        asked = parse([*options[:place], str(config), *options[place:]])
        assert asked.config.values["problem.dim"] == Values((6,), False)
        assert asked.config.values["problem.noise"] == Values((0.1, 0.2), True)
        assert (asked.out, asked.dry_run, asked.folder) == (Path("my results"), True, config.parent)
        assert asked.config.name == "small-grid"


def test_config_named_without_its_ending_is_read_in_the_first_place(config: Path) -> None:
    plain = config.rename(config.with_suffix(""))
    assert parse([str(plain), "--dry-run"]).config.values["problem.dim"] == Values((6,), False)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["0.1"], Values((0.1,), False)),
        (["0.1", "0.2"], Values((0.1, 0.2), True)),
        (["0.1,0.2"], Values((0.1, 0.2), True)),
        (["0.1,", "0.2"], Values((0.1, 0.2), True)),
        (["0.1,"], Values((0.1,), True)),
        (["[0.1, 0.2]"], Values((0.1, 0.2), True)),
        (["[0.1]"], Values((0.1,), True)),
        (["log:1e-3:1e-1:3"], Values((1e-3, 1e-2, 1e-1), True)),
        (["0.123457"], Values((0.123457,), False)),
    ],
)
def test_values_replace_those_of_the_file(config: Path, words: list[str], values: Values) -> None:
    assert parse([str(config), "--problem.noise", *words]).config.values["problem.noise"] == values
    assert parse([str(config), f"--problem.noise={words[0]}", *words[1:]]).config.values["problem.noise"] == values


def test_one_seed_by_name_is_not_mistaken_for_a_count(config: Path) -> None:
    assert parse([str(config)]).config.values["run.seeds"].values == (5,)
    assert parse([str(config), "--run.seeds", "5"]).config.values["run.seeds"].values == (0, 1, 2, 3, 4)
    assert parse([str(config), "--run.seeds", "3,5"]).config.values["run.seeds"].values == (3, 5)


def test_null_takes_a_value_back(config: Path) -> None:
    config.write_text("prune: {threshold: 0.1}\nproblem: {width: 7}\n")
    asked = parse([str(config), "--prune.threshold", "null", "--problem.width", "None"]).config
    assert asked.values["prune.threshold"] is None
    assert asked.values["problem.width"] is None


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What an option prints that ends the command."""
    with pytest.raises(SystemExit) as stop:
        parse(list(argv))
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_field_with_the_values_of_the_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, "--help", str(config)).split())
    for name in (*schema(SYSTEMS["sensing"]), "out", "dry-run", "plugin", "allow-plugins", "systems"):
        assert re.search(rf"--{re.escape(name)} ", text), name
    assert "exit codes: 0 done, 1 all diverged or OS error, 2 bad input, " in text
    for name, value in (("problem.dim", "6"), ("problem.noise", "0.1234567"), ("run.seeds", "5,")):
        assert re.search(rf"--{name} [^\[]*\[{re.escape(value)}\]", text), name


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_of_a_system_fits_on_two_screens_and_names_its_fields_alone(
    system: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = printed(capsys, "--system", system, "--help").splitlines()
    assert len(lines) <= 100
    assert all(len(line) <= int(columns) for line in lines)
    named = {line.split()[0].removeprefix("--") for line in lines if line.startswith("  --") and "." in line.split()[0]}
    assert named == set(schema(SYSTEMS[system]))


def test_systems_are_listed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--systems").splitlines()
    assert [line.split()[0] for line in lines] == list(SYSTEMS)
    assert all(len(line.split()) > 3 for line in lines)


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("sparse_features", "teacher_student", "images")]


@pytest.mark.parametrize("system", ["sensing", *OTHERS])
def test_help_imports_little(process: Callable[..., subprocess.Popen[str]], tmp_path: Path, system: str) -> None:
    ran = process(["-c", LIGHT.format(system)], [], tmp_path)
    out, err = ran.communicate(timeout=60)
    assert err == "exit 0 []\n"
    assert "--train.steps" in out


def test_a_system_of_ones_own_starts_from_its_defaults_under_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    config = parse(["--system", f"{TOY}:Toy", "--problem.dim", "5"]).config
    assert (config.name, config.system.__name__, config.reference) == ("Toy", "Toy", f"{TOY}:Toy")
    assert parse([f"{TOY}:Toy", "--problem.dim", "5"]).config == config
    assert "Square brackets hold the defaults. " in " ".join(printed(capsys, f"{TOY}:Toy", "--help").split())
    assert config.values["problem.dim"] == Values((5,), False)
    assert config.values["train.steps"] == 4


def test_flags_of_a_function_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def cell(key, big=True, n=1):\n    return {'x': n}\n")
    config = parse([f"{path}:cell", "--big", "false,true", "--n", "1", "2"]).config
    assert config.values["cell.big"] == Values((False, True), True)
    path.with_name("open.py").write_text("def cell(key, big):\n    return {'x': 1}\n")
    config = parse([f"{path.with_name('open.py')}:cell", "--big", "false,true"]).config
    assert config.values["cell.big"] == Values((False, True), True)
    assert parse([f"{path}:cell"]).config.values["cell.big"] == Values((True,), False)
    for argv, line in (
        (["--cell.big", "maybe"], "cell.big: 'maybe' is neither true nor false"),
        (["--n", "1", "--cell.n", "2"], "cell.n: it is given twice"),
        (["--n", "1,,2"], "cell.n: '1,,2' has an empty entry"),
        (["--n", ""], "cell.n: the axis is empty"),
        (["--n", "log:0:1:2"], "cell.n: 'log:0:1:2' is not a valid range"),
    ):
        with pytest.raises(Refusal, match=f"^{re.escape(line)}"):
            parse([f"{path}:cell", *argv])


@pytest.mark.parametrize("argv", [["--problem.nosie", "1"], pytest.param(["nowhere.yaml"], marks=pytest.mark.slow)])
def test_a_refusing_process_ends_with_2_and_one_line(
    process: Callable[..., subprocess.Popen[str]], tmp_path: Path, argv: list[str]
) -> None:
    ran = process(["-m", "launch.grid"], argv, tmp_path)
    out, err = ran.communicate(timeout=60)
    assert (ran.returncode, out, err.count("\n")) == (2, "", 1)
    assert argv[0].removeprefix("--") in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--prune.keep", "2"],
            "prune.keep: rule threshold does not read it; use rule top_r or random, or leave it out",
        ),
        (
            ["--train.momentum", "0.9"],
            "train.momentum: optimizer gd does not read it; use optimizer momentum",
        ),
        (
            ["--train.method", "irls", "--prune.rule", "top_r"],
            "prune.rule: method irls does not read it; use method",
        ),
        (
            ["--baseline.penalty", "1"],
            "baseline.penalty: method greedy_pruning does not read it; use method irls",
        ),
        (["--system", "patches", "--prune.count", "3"], "prune.count: rule threshold does not read it; use rule top_r"),
        (["--problem.measurements", "population", "--problem.n", "9"], "problem.n: measurements population does not"),
    ],
)
def test_a_field_that_nothing_reads_is_refused(argv: list[str], line: str) -> None:
    with pytest.raises(Refusal, match=f"^{re.escape(line)}"):
        parse(argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["--prune.keep", "2", "--prune.rule", "threshold,top_r"],
        ["--prune.keep", "null"],
        ["--train.method", "irls"],  # the config's penalties stay, to no effect
    ],
)
def test_a_field_that_some_value_reads_or_that_only_the_config_gave_passes(argv: list[str]) -> None:
    parse(argv)
