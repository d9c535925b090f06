"""Every config in the repository is read, planned, and carries the header that makes it a claim."""

import pytest

from gpsense.grid import make_plan
from launch.config import build, read_yaml, verify_used
from launch.paths import configs
from launch.work import to_grid
from tests.reference_claims import without_mnist

CONFIGS = sorted(configs().rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_planned_and_says_what_to_expect(path, monkeypatch):
    without_mnist(monkeypatch)
    config = build(read_yaml(path))
    verify_used(config, read_yaml(path))
    plan = make_plan(to_grid(config), 8 * 2**30)
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert config.name == path.stem
    assert "python -m launch.grid" in header
    assert f"{plan.cells} cells" in header
    assert ("Expect" in header) is (config.claim is None)  # what a claim expects stands in its section


def test_there_are_the_quickstart_and_figure_1():
    assert {"quickstart", "figure1"} <= {path.stem for path in CONFIGS}
