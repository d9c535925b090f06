"""``gpsense COMMAND``: the commands are listed at once, passed on with their exit codes, and unknown ones refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import __main__ as command
from launch.arguments import parse
from launch.completion import script
from launch.paths import configs


def leaves(argv: list[str]) -> object:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as stop:
        command.main(argv)
    return stop.value.code


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_names_every_command_in_a_few_lines(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 13
    assert [line.split()[0] for line in lines[2:8]] == list(command.COMMANDS)


@pytest.mark.parametrize(
    ("name", "near"), [("gird", "did you mean grid? "), ("claim", "did you mean claims? "), ("x", "")]
)
def test_an_unknown_command_is_refused(name: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves([name]) == 2
    line = f"error: there is no command '{name}'; {near}use one of {', '.join(command.COMMANDS)}\n"
    assert capsys.readouterr().err == line


def test_help_into_a_closed_pipe_ends_without_a_traceback() -> None:
    code = "import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w)"
    code += "; from launch.__main__ import main; main(['--help'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gpsense re", {"recover", "report", "reference"}),
        (
            "gpsense grid --train.p",
            {"--train.penalty", "--train.penalty_kind", "--train.patience", "--train.perturbation"},
        ),
        ("gpsense recover --r", {"--row", "--rank", "--robust"}),
        ("gpsense claims --paper x --cl", {"--claim", "--cluster"}),
        ("gpsense report nothing", set()),
        ("gpsense grid --problem.measurements ''", {"gaussian", "rank_one", "bernoulli", "population"}),
        ("gpsense grid --prune.rule threshold,to", {"threshold,top_r"}),
        ("gpsense grid --system patch", {"patches"}),
        ("gpsense claims --paper s", {"sparse_features"}),
        ("gpsense bench --group st", {"start", "stopping"}),
        ("gpsense recover --robust ''", {"auto", "yes", "no"}),
        ("gpsense report --width o", {"one"}),
        ("gpsense report --width one --fo", {"--format"}),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, expected: set[str], bash: str) -> None:
    code = f'{bash}\nCOMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _gpsense; echo "${{COMPREPLY[@]}}"'
    told = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert set(told.stdout.split()) == expected


@pytest.fixture(scope="module")
def bash() -> str:
    """What bash reads to complete names."""
    return script("bash", {name: module for name, (module, _) in command.COMMANDS.items()})


def test_other_shells_are_refused_and_zsh_has_what_bash_has(bash: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves(["--completion", "zsh"]) == 0
    assert capsys.readouterr().out.strip().endswith(bash.strip())
    assert leaves(["--completion", "fish"]) == 2
    assert capsys.readouterr().err == "error: --completion: 'fish' is not a supported shell; use one of bash, zsh\n"


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves([name, "--help"]) == 0
    assert "--out" in (out := capsys.readouterr().out) or name == "report"
    assert "usage" in out


@pytest.mark.parametrize("name", command.COMMANDS)
def test_help_calls_the_command_as_it_was_called(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, known = str(Path("site", "gpsense", "__main__.py")), f"gpsense {name}"
    ways = ("/usr/bin/gpsense", known), (module, f"python -m {known}"), ("launch/x.py", f"python -m launch.{name}")
    for called, words in ways:
        monkeypatch.setattr("sys.argv", [called])
        assert leaves([name, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: {words} ")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["report"], "DIR: give the directory of a run, or --index FOLDER"),
        (["report", "nosuch"], "nosuch is not a directory; name the directory of a run"),
        (["claims", "--foo"], "--foo: there is no such option; see --help"),
        (["bench", "--group", "foo"], "--group: there is no 'foo'; use one of compile, "),
        (["recover", "--foo"], "--foo: there is no such option; see --help"),
        (["claims", "--ful"], "--ful: there is no such option; did you mean --full?"),
        (
            ["claims", "--seed-offset", "two"],
            "--seed-offset: 'two' is not a whole number; use a whole number 0 or more",
        ),
        (["report", "--widht", "one"], "--widht: there is no such option; did you mean --width?"),
        (["bench", "--grup", "grid"], "--grup: there is no such option; did you mean --group?"),
        (["reference", "--ot=x"], "--ot: there is no such option; did you mean --out?"),
    ],
)
def test_wrong_options_are_one_line(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves(argv) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith(f"error: {line}")


def test_a_refusal_keeps_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves(["grid", "no_such.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert leaves(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gpsense ")


def test_the_package_run_as_a_module_is_the_command() -> None:
    run = [sys.executable, "-m", "gpsense"]
    told = [subprocess.run([*run, *rest], capture_output=True, text=True, check=False) for rest in (["--help"], ["x"])]
    assert (told[0].returncode, told[0].stdout) == (0, command.usage() + "\n")
    assert (told[1].returncode, told[1].stderr[:32]) == (2, "error: there is no command 'x'; ")


def test_help_imports_no_package() -> None:
    code = "import sys, launch.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'pydantic')))"
    root = Path(command.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert run.returncode == 0


def test_the_configs_and_the_examples_table_are_found() -> None:
    assert (configs() / "quickstart.yaml").is_file()
    assert (configs() / "recover" / "european_cities.csv").is_file()


def test_a_config_of_the_package_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(["configs/greedy_pruning/figure1.yaml"]).config.name == "figure1"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text("name: mine")
    assert parse(["configs/quickstart.yaml"]).config.name == "mine"
    assert leaves(["grid", "configs/none.yaml"]) == 2
