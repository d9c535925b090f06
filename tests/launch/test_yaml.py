"""Config files of strangers: scalars mean what YAML 1.2 says, and what is no config is refused at once."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launch import grid, values
from launch.config import DEFAULT, build, read_yaml
from launch.shell import Refusal
from tests.commands import ended


def read(text: str, folder: Path) -> Any:
    path = folder / "strange.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("10", 10), ("010", 10), ("-3", -3), ("0x10", 16), ("0o17", 15), ("1e1", 10.0), ("1.5e-3", 0.0015)],
        *[(".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), ("true", True), ("False", False), ("~", None), ("", None)],
        *[("10:40", "10:40"), ("12:30:45", "12:30:45"), ("yes", "yes"), ("off", "off"), ("1_000", "1_000")],
        *[("2001-01-01", "2001-01-01"), ("'10'", "10"), ("lin:0:1:3", "lin:0:1:3"), ("[1, 1e0]", [1, 1.0])],
    ],
)
def test_scalars_are_those_of_version_1_2(text: str, value: Any, tmp_path: Path) -> None:
    found = read(f"problem: {{n: {text}}}" if not text.startswith("[") else f"problem:\n  n: {text}", tmp_path)
    assert found["problem"]["n"] == value
    assert type(found["problem"]["n"]) is type(value)


def test_anchors_and_merges_are_read(tmp_path: Path) -> None:
    assert read("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}", tmp_path)["d"] == {"b": 1, "c": 3}


def bomb(levels: int) -> str:
    """Each level lists the one before nine times."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(9), "aliases expanded"),
        ("a: &a [*a]", "aliases expanded"),
        ("n: 0x" + "f" * 100_000, "a number of 100002 characters"),
        ("n: " + "9" * 5_000, "a number of 5000 characters, more than 40.; fix the file"),
        ("[" * 5_000, "more than 50 deep"),
        ("a: " + "1," * 2_500_000, "more than 4000000 characters"),
        ("a: {b: 1", "line 1"),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        read(text, tmp_path)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("raw", ["1," * 200_000, ["lin:0:1:90000"] * 3, list(range(100_001))])
def test_axes_of_too_many_values_are_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match="give at most 100000|give fewer"):
        values.expand(raw)


WORDS = [
    "",
    "-1",
    "1e400",
    ".nan",
    "~",
    "[]",
    "{}",
    "[[1]]",
    "&x [*x]",
    "10:40",
    "0x",
    "lin:0:1:3",
    "log:0:1:3",
    "1,,2",
]
WORDS += [
    "9" * 50,
    "!!python/name:os.system",
    "2001-01-01",
    '"\\e[31m"',
    "\x1b",
    "file.py:x",
    "lin:nan:1:3",
    "? a",
    "[1,",
]
CHANGE = st.tuples(st.sampled_from(["value", "line", "letter", "gone", "twice"]), st.integers(0, 10**4))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CHANGE, st.sampled_from(WORDS)), max_size=4))
def test_a_changed_config_is_one_or_is_refused_in_one_line(
    tmp_path: Path, changes: list[tuple[tuple[str, int], str]]
) -> None:
    lines = DEFAULT.read_text(encoding="utf-8").splitlines()
    for (kind, number), word in changes:
        at = number % len(lines)
        if kind == "value":
            lines[at] = f"{lines[at].partition(':')[0]}: {word}"
        elif kind == "letter":
            place = number % (len(lines[at]) + 1)
            lines[at] = lines[at][:place] + word[:1] + lines[at][place + 1 :]
        else:
            lines[at : at + (kind != "line")] = {"gone": [""], "twice": 2 * [lines[at]], "line": [word]}[kind]
    said = ""
    try:
        build(read("\n".join(lines), tmp_path))
    except Refusal as refusal:
        said = str(refusal)
    assert len(said) < 1000
    assert "\n" not in said


def test_names_of_strangers_reach_no_terminal_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "strange.yaml"
    path.write_text('"\\e[31mred\\r\\x1c": {n: 3}\nproblem: {"\\x9b2J": 1}', encoding="utf-8")
    refused = ended(grid.main, path)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith("error: \\x1b[31mred\\r\\x1c.n: ")
    assert refused.err.strip().isprintable()
