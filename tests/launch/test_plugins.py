"""A user's own code: loaded where the command line names it, refused in a config file, one line where it fails."""

from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from gpsense.systems import System
from launch import grid, plugins
from launch.arguments import parse
from launch.config import build
from launch.shell import Refusal
from tests.commands import ended
from tests.launch.toy_system import RULES

TOY = Path(__file__).with_name("toy_system.py")
LEAST = Path(__file__).parents[1] / "systems" / "least.py"


def test_a_system_of_a_file_is_used_by_its_class(tmp_path: Path) -> None:
    found = plugins.find_system(f"{TOY}:Toy", allowed=True)
    assert issubclass(found, System)
    assert found.name == "toy"
    assert plugins.find_system(f"{TOY}:Toy") is found
    (tmp_path / "copy.py").write_text(TOY.read_text())
    assert plugins.find_system("copy.py:Toy", tmp_path, allowed=True).name == "toy"


def test_a_system_of_a_module_is_used_by_its_class() -> None:
    assert plugins.find_system("tests.launch.toy_system:Toy", allowed=True).name == "toy"


def test_a_plugin_registers_what_a_config_then_names(tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text(
        "from tests.launch import toy_system as toy\n"
        "from gpsense.systems import SYSTEMS\n"
        "toy.RULES['mine'] = toy.RULES['none']\n"
        "SYSTEMS['toy'] = toy.Toy\n"
    )
    argv = ["--plugin", str(tmp_path / "more.py"), "--system", "toy", "--prune.rule", "mine"]
    try:
        assert parse(argv).config.values["prune.rule"].values == ("mine",)
        assert parse(argv).config.name == "toy"
        assert parse(argv[:2]).config.name == "sensing"  # of the quickstart's fields, but not the quickstart
    finally:
        del RULES["mine"]
    with pytest.raises(Refusal, match=r"^prune\.rule: there is no 'mine'; "):
        parse(argv)


def test_code_in_a_config_file_is_run_only_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TOY.read_text())
    (tmp_path / "mine.yaml").write_text("system: mine.py:Toy\nproblem: {dim: 5}\n")
    (tmp_path / "more.py").write_text("raise RuntimeError('was run')\n")
    config = str(tmp_path / "mine.yaml")
    with pytest.raises(Refusal) as refusal:
        parse([config])
    line = "mine.py is code named in a config file; give --allow-plugins to run it"
    assert str(refusal.value) == f"system: {line}"
    with pytest.raises(Refusal, match="^plugins: more.py is code named in a config file"):
        build({"plugins": ["more.py"]}, tmp_path)
    with pytest.raises(Refusal, match="^plugins: more.py cannot be imported .RuntimeError: was run"):
        build({"plugins": ["more.py"]}, tmp_path, allow_plugins=True)
    assert parse([config, "--allow-plugins"]).config.values["problem.dim"].values == (5,)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            ', groups(lambda w: w, axis=0, unit="inputs")',
            ', ""',
            " has parts '', which are not Parts; set parts = groups(where, axis) or parts = weights()",
        ),
        ("name, Data, parts =", "name, Data, prts =", " does not define parts; rename its prts, or add it"),
        ("name, Data", "_, Data", " does not define name; add it to the class"),
        ("def init", "def inti", " does not define init; rename its inti, or add it"),
        ('s", Noise,', 's", dict,', " has a Data that is not a class of fields; derive it from gpsense.fields.Traced"),
        ("    dim:", "    margin:", " has a field margin, a name that the results use; rename it"),
        ("    noise:", "    step:", " has a field step, a name that the results use; rename it"),
    ],
)
def test_a_class_that_lacks_something_is_refused(
    old: str, new: str, problem: str, tmp_path: Path, refuse: Callable[..., str]
) -> None:
    (tmp_path / "mine.py").write_text(LEAST.read_text().replace(old, new))
    assert refuse("mine.py:LeastSquares", "--dry-run") == f"system: mine.py:LeastSquares{problem}"


def test_a_class_made_from_one_of_the_package_keeps_its_fields(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import gpsense\n\n\nclass Mine(gpsense.Sensing):\n    name = 'mine'\n")
    assert plugins.find_system("mine.py:Mine", tmp_path, allowed=True).name == "mine"


def test_a_plugin_that_was_edited_makes_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["--system", f"{tmp_path / 'mine.py'}:Toy"]
    digests = []
    for text in ("", "", "\n# edited\n"):
        monkeypatch.setattr(plugins, "_loaded", {})
        (tmp_path / "mine.py").write_text(TOY.read_text() + text)
        digests.append(parse(argv).config.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "import nothing_of_this_name",
            "ModuleNotFoundError: No module named 'nothing_of_this_name' in bad.py at line 1",
        ),
        ("x = 1\ny = 1 / 0", "ZeroDivisionError: division by zero in bad.py at line 2"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_fails_is_one_line_with_file_and_error(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text + "\n")
    for argv in (["--plugin", str(tmp_path / "bad.py")], ["--system", f"{tmp_path / 'bad.py'}:Toy"]):
        with pytest.raises(Refusal) as refusal:
            parse(argv)
        start = {"--plugin": "--plugin", "--system": "system"}[argv[0]]
        assert str(refusal.value).startswith(f"{start}: {tmp_path / 'bad.py'} cannot be imported ({problem}")
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--plugin", "nowhere.py"], "--plugin: no file nowhere.py; give the path of a Python file"),
        (["--plugin", "no_such_module"], "--plugin: no_such_module cannot be imported"),
        (["--plugin"], "--plugin: give one value, not 0"),
        (["--system", f"{TOY}:Toi"], f"system: {TOY} has no Toi; did you mean Toy?"),
        (["--system", f"{TOY}:x"], f"system: {TOY} has no x; name one of ToyData, "),
        (["--system", f"{TOY}:RULES"], f"system: RULES in {TOY} is neither a system nor a function"),
        (["--system", f"{TOY}"], f"system: {TOY} is a file or a module; name the class or function: {TOY}:Toy"),
        ([f"{TOY}"], f"system: {TOY} is a file or a module; name the class or function: {TOY}:Toy"),
        ([f"{TOY}:"], f"system: {TOY}: is a file or a module; name the class or function: {TOY}:Toy"),
    ],
)
def test_what_is_not_there_is_refused(argv: list[str], line: str, refuse: Callable[..., str]) -> None:
    assert refuse(*argv).startswith(line)


def test_a_name_is_to_be_defined_in_a_file_without_any(tmp_path: Path, refuse: Callable[..., str]) -> None:
    (tmp_path / "empty.py").touch()
    assert refuse("--system", "empty.py:foo") == "system: empty.py has no foo; define it there"


def test_a_run_of_a_users_system_tells_the_defaults_it_was_trained_by_and_no_name_for_an_error(tmp_path: Path) -> None:
    own = "\n    def error(self, w, problem):\n        return jnp.abs(w[0] - 1.0)\n"
    for text, rate, said in (
        (LEAST.read_text(), [], "errors: loss of least_squares; optimizer adam and rate 0.01 by default"),
        (LEAST.read_text() + own, ["--train.rate", "0.02"], "optimizer adam by default"),
        (LEAST.read_text() + own, ["--train.rate", "0.02", "--train.optimizer", "gd"], ""),
    ):
        file = tmp_path / f"mine{len(rate)}.py"
        file.write_text(text)
        steps = ["--train.steps", "2", "--fine_tune.steps", "1", "--run.seeds", "2"]
        out = tmp_path / f"run{len(rate)}"
        with jax.numpy_dtype_promotion("standard"):
            told = ended(grid.main, f"{file}:LeastSquares", *steps, *rate, "--out", out)
        assert told.code == 0, told.err
        (line,) = [each for each in told.out.splitlines() if each.startswith("Medians over 2 seeds")]
        assert line == "; ".join(filter(None, ["Medians over 2 seeds", said]))
    assert grid.defaults_words(parse([]).config) == ""
