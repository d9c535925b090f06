"""The command line of ``launch.grid``: a YAML config and overrides ``--section.field values``.

tyro gives the help and reads the options; every field stays text until :mod:`launch.config` checks it, so a wrong
value is refused the same way whether it came from the file or from the command line.
"""

import contextlib
import dataclasses
import io
import re
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from tyro.constructors import PrimitiveConstructorSpec

from launch.config import DEFAULT, Config, Refusal, Section, build, read_yaml, unknown
from launch.values import AxisOf

QUICKSTART_SYSTEMS = ("sensing", "rectangular", "quadratic_network")  # which read all that the quickstart says
FLAGS = ("--help", "--dry-run", "--dry_run")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What was asked for."""

    config: Config
    folder: Path
    out: Path | None
    dry_run: bool


def parse(argv: list[str]) -> Arguments:
    """Read ``[CONFIG.yaml] [--section.field values] [--out DIR] [--dry-run]``; Refusal on anything wrong.

    ``--help`` prints the fields with the values of CONFIG as defaults and exits.
    """
    path, rest = _split(argv)
    fields = _base(path, rest)
    config = build(fields)
    given = _read(_mirror(config), rest, path)
    for dotted, text in given["fields"].items():
        section, _, name = dotted.rpartition(".")
        target = fields
        if section:
            target = fields[section] = dict(fields.get(section) or {})
        target[name] = text
    out = Path(given["out"]) if given["out"] else None
    return Arguments(build(fields) if given["fields"] else config, path.parent, out, given["dry_run"])


def _split(argv: list[str]) -> tuple[Path, list[str]]:
    """The config's path (default: the quickstart) and the other arguments."""
    for index, word in enumerate(argv):
        before = argv[index - 1] if index else ""
        if word.endswith((".yaml", ".yml")) and (not before.startswith("--") or before in FLAGS):
            return Path(word), argv[:index] + argv[index + 1 :]
    if argv and not argv[0].startswith("-"):
        return Path(argv[0]), argv[1:]
    return DEFAULT, argv


def _base(path: Path, argv: list[str]) -> dict[str, Any]:
    """The fields to start from: those of the config, or none where the quickstart's are not the system's asked for."""
    words = [part for word in argv for part in word.split("=", 1)]
    asked = words[words.index("--system") + 1 :][:1] if "--system" in words else []
    if path != DEFAULT or not asked or asked[0] in QUICKSTART_SYSTEMS:
        return read_yaml(path)
    return {"name": asked[0], "system": asked[0]}


def _text(value: Any) -> str:
    """A field's value as one writes it on the command line."""
    if isinstance(value, list):
        text = ",".join(_text(item) for item in value)
        return text if len(value) > 1 else f"[{text}]"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "null" if value is None else str(value)


def _field(name: str, info: Any, value: Any) -> tuple[str, Any, Any]:
    """A dataclass field that takes one or more words and keeps them as text."""
    marks = [mark for mark in info.metadata if isinstance(mark, AxisOf)]
    metavar = "VALUES" if marks or name in ("seeds", "spectrum") else "VALUE"
    words = PrimitiveConstructorSpec(
        nargs="*" if metavar == "VALUES" else 1,
        metavar=metavar,
        instance_from_str=",".join,
        is_instance=lambda x: isinstance(x, str),
        str_from_instance=lambda x: [x],
    )
    if name == "seeds" and value == list(range(len(value))):
        value = len(value)
    help_text = (info.description or "").replace("%", "%%")
    return name, Annotated[str, words, tyro.conf.arg(help=help_text)], dataclasses.field(default=_text(value))


def _mirror(config: Config) -> Any:
    """A dataclass of texts, shaped like the config, with its values as defaults, and the options of the command."""
    plain = config.plain()
    top: list[Any] = [
        ("out", Annotated[str, tyro.conf.arg(help="folder for the results; default runs/NAME-DIGEST")], ""),
        ("dry_run", Annotated[bool, tyro.conf.arg(name="dry-run", help="print the plan, write nothing")], False),
    ]
    for name, info in Config.model_fields.items():
        if name == "claim":
            continue
        section = info.annotation
        if isinstance(section, type) and issubclass(section, Section):
            inner = [_field(key, part, plain[name][key]) for key, part in section.model_fields.items()]
            made = dataclasses.make_dataclass(section.__name__, inner, frozen=True)
            made.__doc__ = section.__doc__
            top.append((name, made, dataclasses.field(default_factory=made)))
        else:
            top.append(_field(name, info, plain[name]))
    return dataclasses.make_dataclass("Grid", top, frozen=True)


def _read(mirror: Any, argv: list[str], path: Path) -> dict[str, Any]:
    """Parse options with tyro; anything it objects to becomes one line."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            parsed, surplus = tyro.cli(
                mirror,
                prog="python -m launch.grid",
                description=f"Run a grid of cells. Defaults are those of {path}; give another YAML file first.\n"
                "VALUES: one or more numbers, or log:low:high:count, lin:low:high:count, range:start:stop.",
                args=argv,
                return_unknown_args=True,
                use_underscores=True,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise Refusal(_flatten(messages.getvalue())) from None
    if surplus:
        word = surplus[0].split("=")[0]
        if word.split(".")[0] == "--claim":
            raise Refusal("claim: stands in a config, not on the command line; python -m launch.claims runs it")
        if word.startswith("--"):
            raise Refusal(unknown(word.removeprefix("--")))
        raise Refusal(f"{word}: not understood; see --help")
    return {"fields": _changes(parsed, mirror()), "out": parsed.out, "dry_run": parsed.dry_run}


def _changes(parsed: Any, default: Any, prefix: str = "") -> dict[str, Any]:
    """The fields that differ from their default text, as YAML would read them."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(parsed):
        value, usual = getattr(parsed, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            changed |= _changes(value, usual, f"{field.name}.")
        elif value != usual and (prefix or field.name not in ("out", "dry_run")):
            changed[prefix + field.name] = _yaml_value(value)
    return changed


def _yaml_value(text: str) -> Any:
    """Text of an option as data: null, a list in brackets, or the text itself for the config to read."""
    if text in ("null", "None"):
        return None
    if text.startswith("["):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _flatten(boxed: str) -> str:
    """tyro's framed message as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    lines = [re.sub(r"[─│╭╮╰╯]|-{5,}", "", line).strip() for line in text.splitlines()]
    headings = ("Parsing error", "Missing argument", "For full helptext")
    kept = [line for line in lines if line and not line.startswith(headings)]
    return " ".join(kept) or "the command line was not understood; see --help"
