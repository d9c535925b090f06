"""What the tests of the commands share: a command that is refused, a command in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpsense.systems import SYSTEMS
from launch import grid, plugins

ROOT = Path(__file__).parents[2]
Refuse = Callable[..., str]


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that was just started: no plug-in is loaded, none has registered a system."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_functions", {})
    monkeypatch.setattr(SYSTEMS, "data", dict(SYSTEMS.data))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pictures, which take longer than the rest of a small run."""
    monkeypatch.setattr("launch.figures.draw", lambda *arguments: [])


@pytest.fixture(scope="module")
def never_drawn() -> Iterator[None]:
    """No pictures in a whole module, whose fixtures run grids."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("launch.figures.draw", lambda *arguments: [])
        yield


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Run ``launch.grid`` in ``tmp_path``: it must refuse with one line, exit code 2, and write nothing."""

    def run(*argv: str) -> str:
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        code = grid.main(list(argv))
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return printed.err.removeprefix("error: ").strip()

    return run


def start(code: list[str], argv: list[str], folder: Path) -> subprocess.Popen[str]:
    """Python with ``code`` (``-m`` or ``-c`` and what follows) and arguments, in a folder, outputs piped."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *code, *argv], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


@pytest.fixture(scope="session")
def process() -> Callable[[list[str], list[str], Path], subprocess.Popen[str]]:
    """Starts a command in a process of its own."""
    return start
