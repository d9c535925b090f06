"""The notebooks: NAME.py and NAME.ipynb are the same cells, the first installs, and all run without an error."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
RUN = [pytest.param(name, marks=[pytest.mark.slow] * (name != "quickstart")) for name in NAMES]
LARGEST = 700_000  # bytes, outputs and pictures included
SELDOM = "--IPKernelApp.exec_lines=import gc; gc.set_threshold(100_000, 20, 20)"  # as conftest.py


def written(name: str) -> list[tuple[str, str]]:
    """Kind and text of the cells of NAME.py, as a notebook holds them."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    _, *parts = re.split(r"(?m)^# %%(.*)\n", text)
    cells = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        kind = "markdown" if "[markdown]" in head else "code"
        comment = r"(?m)^# ?" if kind == "markdown" else r"(?m)^(\s*)# (?=%)"
        cells.append((kind, re.sub(comment, r"" if kind == "markdown" else r"\1", body.strip())))
    return cells


def stored(name: str) -> list[dict[str, Any]]:
    """The cells of NAME.ipynb."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_every_notebook_has_its_source() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES
    assert len(NAMES) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_source_and_notebook_agree_and_it_was_run(name: str) -> None:
    cells = stored(name)
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == written(name)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "%pip install -q -e ." in "".join(code[0]["source"])
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize("name", RUN)
def test_it_runs_in_a_kernel_of_its_own(name: str) -> None:
    import nbformat  # here, since it may take seconds to import, and every process collects this file
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": FOLDER}}
    done = NotebookClient(notebook, timeout=300, resources=place, extra_arguments=[SELDOM]).execute()
    counts = [cell.execution_count for cell in done.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
