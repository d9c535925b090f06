"""The reference: every public name has a place in it, with its example, its fields and readable types."""

import re
from pathlib import Path
from typing import Annotated

import pytest
from jaxtyping import Array, Float

import gpsense
from gpsense.fields import Field
from launch import reference


def test_modules_are_the_public_ones() -> None:
    found = reference.modules()
    assert found[0] == "gpsense"
    assert {"gpsense.theory.columns", "gpsense.sensing.measurements.entries"} < set(found)
    assert not [name for name in found if "._" in name or name.endswith("__main__")]


def test_an_example_becomes_a_block_of_code() -> None:
    assert reference.fenced("One.\n\n>>> 1 + 1\n2") == "One.\n\n\n```pycon\n>>> 1 + 1\n2\n```\n"
    assert reference.fenced("One, with >>> inside.") == "One, with >>> inside."


def test_types_are_told_without_modules_and_declarations() -> None:
    assert reference.annotation(Annotated[int, Field("problem", "a size")]) == "int"
    assert reference.annotation(Float[Array, "dim width"] | None) == "Float[Array, 'dim width'] | None"


def test_a_meaning_has_the_range_or_the_names() -> None:
    assert reference.meaning(Field(help="a size", at_least=1)) == "a size (1 or more)"
    assert reference.meaning(Field(help="a way", choices=("up", "down"))) == "a way (up, down)"
    assert reference.meaning(Field(help="any")) == "any"


def test_without_pdoc_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pdoc", None)
    assert reference.main(["--out", str(tmp_path / "pages")]) == 2
    assert capsys.readouterr().err == 'error: pdoc is not installed; pip install "gpsense[dev]"\n'
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_every_public_name_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pdoc")
    assert reference.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'index.html'}\n"
    page = (tmp_path / "gpsense.html").read_text(encoding="utf-8")
    assert set(gpsense.__all__) - {"theory"} <= set(re.findall(r'<section id="(\w+)"', page))
    assert (tmp_path / "gpsense" / "theory.html").is_file()
    assert " at 0x" not in page
    assert page.count('class="go"') > 40
    assert "weight lambda of the penalty (0 or more)" in page
