"""The command line of ``launch.grid``: a YAML config and overrides ``--section.field values``.

Every value stays text until :mod:`launch.schema` reads it as its field, so a wrong value is refused the same way
whether it came from the file or from the command line. The help lists the fields that the chosen system declares.
"""

import dataclasses
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from gpsense.errors import BadInput
from gpsense.fields import FLAG, NAME, Field, first_line, shown
from gpsense.systems import SYSTEMS, AnySystem
from launch import plugins
from launch.config import DEFAULT, Config, build, read_yaml, verify_used
from launch.paths import find_config
from launch.schema import SECTIONS, parameters, plain, read_flag, read_number, required, schema, unknown
from launch.shell import Refusal, program
from launch.values import expand

FLAGS = {
    "dry-run": "print the plan, write nothing",
    "allow-plugins": "run code that the config names",
    "systems": "list the systems (problems and their models)",
    "help": "this help, for the system and config asked for",
}
OPTIONS = {
    "name": "name of the run",
    "system": "a name, FILE.py:NAME or package.module:NAME",
    "out": "folder for the results; default runs/NAME-DIGEST",
    "plugin": "FILE.py or module with further rules, systems, ...",
    "shard": "i/N: run only part i (from 0) of N",
    "cluster": "run on a dask cluster: local:N (N processes here) or tcp://HOST:PORT",
    "distributed": "run by jax.distributed: auto, or HOST:PORT + --shard",
    "verify": "DIR: recompute cells of the run stored in DIR; exit code 1 if one differs",
}
EXITS = "exit codes: 0 done, 1 all diverged or OS error, 2 bad input, 130 interrupted"
STATIC = "NAME,...: parameters to compile as constants (shapes, loop lengths); one program for each value"
NUMBER = re.compile(r"-[\d.]|-inf|-nan")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The parsed command line that runs a grid."""

    config: Config
    folder: Path
    out: Path | None
    dry_run: bool
    shard: tuple[int, int] | None = None
    cluster: str | None = None
    distributed: str | None = None


@dataclasses.dataclass(frozen=True)
class Check:
    """The parsed command line that recomputes cells of a run directory (``--verify``)."""

    directory: Path
    allow_plugins: bool


def parse(argv: list[str]) -> Arguments | Check:
    """Read ``[CONFIG.yaml] [--section.field values] [--out DIR] [--dry-run]``; raises Refusal for anything wrong.

    ``--verify DIR`` takes no config, since DIR has its own.

    ``--help`` prints the fields of the system, with the values of CONFIG as defaults, and exits; ``--systems`` lists
    the systems and exits. ``FILE.py:NAME`` in the place of CONFIG means ``--system FILE.py:NAME``.
    """
    _verify_names(argv)
    path, options, flags = _words(argv)
    path = path and find_config(path)
    added = options.pop("plugin", [])
    for words in added:
        plugins.load("--plugin", _value("plugin", words))
    if "systems" in flags:
        print(systems())
        sys.exit(0)
    given = {name: _value(name, _single(name, uses)) for name, uses in options.items()}
    if "verify" in given and "help" not in flags:
        if path or len(given) > 1:
            remedy = "give no config and no other option but --allow-plugins"
            raise Refusal(f"--verify: the run in DIR has its own config; {remedy}")
        return Check(Path(given["verify"]), "allow-plugins" in flags)
    out, asked = given.pop("out", None), given.pop("system", None)
    shard = _shard(given.pop("shard")) if "shard" in given else None
    cluster = read_cluster(given.pop("cluster")) if "cluster" in given else None
    distributed = _distributed(given.pop("distributed"), shard) if "distributed" in given else None
    if cluster and (shard or distributed):
        name = "distributed" if distributed else "shard"
        raise Refusal(f"--cluster: a cluster divides the chunks itself; leave out --{name}")
    allowed, folder = "allow-plugins" in flags, (path or DEFAULT).parent
    if asked is not None:
        system = plugins.find_system(asked, allowed=True)
        if plugins.is_function(asked):
            given = _of_function(asked, system, given)
    base, source = _base(path, asked)
    fields = base
    if path is None and "help" not in flags and (given or added):  # no longer the quickstart
        fields = fields | {"name": _plain_name(fields.get("system", plugins.FIRST_SYSTEM))}
    reference = fields.get("system", plugins.FIRST_SYSTEM)
    asked_for: dict[str, dict[str, Any]] = {}
    for place, value in given.items():
        section, _, key = place.partition(".")
        if key and value is not None:
            asked_for.setdefault(section, {})[key] = value
        if section == "claim":
            raise Refusal(f"claim: can only be set in a config file; {program('claims')} runs it")
        if not key and place != "name":
            raise Refusal(unknown(place, plugins.find_system(reference, folder, allowed)))
        if not key:
            fields = fields | {section: value}
        elif isinstance(part := fields.get(section, {}), dict):
            fields = fields | {section: part | {key: value}}
    if "help" in flags:
        print(help_text(build(fields, folder, allowed, complete=False), source))
        sys.exit(0)
    config = build(fields, folder, allowed)
    verify_used(config, base, asked_for)
    out = None if out is None else Path(out)
    return Arguments(config, folder, out, "dry-run" in flags, shard, cluster, distributed)


def _verify_names(argv: list[str]) -> None:
    """Raises Refusal for a function one of whose parameters has the name of an option of this command."""
    words = [part for word in argv for part in (word.split("=", 1) if word.startswith("--") else [word])]
    named = [*words[:1], *(after for word, after in pairwise(words) if word == "--system")]
    reference = next(filter(plugins.is_code, named), None)
    own = [] if reference is None else parameters(plugins.find_system(reference, allowed=True))
    taken = {name.replace("-", "_") for name in (*OPTIONS, *FLAGS)}
    if clash := [name for name in own if name in taken]:
        raise Refusal(f"cell: parameter {clash[0]} has the name of an option of this command; rename it")


def read_cluster(text: str) -> str:
    """The address of a cluster as given; raises Refusal if it is not valid or dask is not installed."""
    from gpsense.grid.cluster import check_cluster

    try:
        return check_cluster(text)
    except BadInput as error:
        raise Refusal(f"--{error}") from None


def _distributed(text: str, shard: tuple[int, int] | None) -> str:
    """The text as given; raises Refusal if it is neither ``auto`` nor an address, or does not fit ``--shard``."""
    if text == "auto":
        if shard:
            problem = "--distributed auto finds the process number"
            raise Refusal(f"--shard: {problem}; leave out --shard, or give --distributed HOST:PORT")
    elif not re.fullmatch(r"[0-9A-Za-z.:\[\]_-]+:[0-9]{1,5}", text):
        raise Refusal(f"--distributed: {shown(text)} is not an address; give auto, or HOST:PORT of process 0")
    elif not shard:
        raise Refusal("--distributed: HOST:PORT does not say which process this is; add --shard i/N, i from 0 to N - 1")
    return text


def _shard(text: str) -> tuple[int, int]:
    """The numbers i and N of ``i/N``; raises Refusal unless i is below N."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not index < count:
        raise Refusal(f"--shard: {shown(text)} is not a part of a run; give i/N with i from 0 to N - 1, such as 0/4")
    return index, count


def _of_function(reference: str, system: type[AnySystem], given: dict[str, Any]) -> dict[str, Any]:
    """The options of a user's function by ``section.key``; also makes its system again, with their values' types."""
    fixed = str(given.pop("static", "")).replace(",", " ").split()
    fields = schema(system)
    known = {field.name: place for place, field in fields.items()}
    uses: dict[str, list[Any]] = {}
    for name, value in given.items():
        uses.setdefault(known.get(name, name), []).append(value)
    given = {place: _single(place, values) for place, values in uses.items()}
    values: dict[str, list[Any]] = {}
    for place, value in given.items():
        field = fields.get(place)
        if field and field.section == "cell" and field.kind != FLAG:
            with suppress(ValueError):  # left for the field to refuse
                if items := expand(value)[0]:
                    texts = items if field.kind == NAME else map(read_flag, items)
                    values[field.name] = [read_number(item) for item in texts]
    plugins.as_system(reference, vars(system)["cell"].__func__, values, fixed)
    return given


def _words(argv: list[str]) -> tuple[Path | None, dict[str, list[list[str]]], set[str]]:
    """The config's path (None if not given), the words after each use of every option, and the flags."""
    path, options, flags = None, {}, set()
    words: list[str] | None = None  # of the option that is being read
    rest: list[str] = []
    for word in argv:
        parts = word.split("=", 1) if word.startswith("--") else [word]
        if len(parts) > 1 and (flag := parts[0].removeprefix("--").replace("_", "-")) in FLAGS:
            raise Refusal(f"--{flag}: it takes no value; write --{flag}")
        rest += parts
    for index, word in enumerate(rest):
        name = word.removeprefix("--").replace("-", "_") if word.startswith("--") else ""
        dashed = name.replace("_", "-")
        if dashed in FLAGS or word == "-h":
            flags.add(dashed or "help")
            words = None
        elif name:
            words = []
            options.setdefault(name, []).append(words)
        elif word.endswith((".yaml", ".yml")) and words != []:
            if path is not None:
                raise Refusal(f"{word}: a second config; give one")
            path, words = Path(word), None
        elif words is not None and (not word.startswith("-") or NUMBER.match(word)):
            words.append(word)
        elif index == 0 and plugins.is_code(word):
            options["system"] = [[word]]
        elif index == 0 and not word.startswith("-"):
            path = Path(word)
        else:
            raise Refusal(f"{word}: not understood; see --help")
    return path, options, flags


def _single(name: str, uses: list[Any]) -> Any:
    """The value of an option; raises Refusal if it was given more than once."""
    if len(uses) > 1:
        several = "" if name in OPTIONS else ", values separated by commas"
        raise Refusal(f"{f'--{name}' if name in OPTIONS else name}: it is given twice; give it once{several}")
    return uses[0]


def _value(name: str, words: list[str]) -> Any:
    """The words of an option as a YAML value; raises Refusal if one of OPTIONS does not have exactly one word."""
    if name in OPTIONS and len(words) != 1:
        raise Refusal(f"--{name}: give one value, not {len(words)}")
    if name in OPTIONS:
        return words[0]
    return _yaml_value(",".join([*(word.removesuffix(",") for word in words[:-1]), *words[-1:]]))


def _yaml_value(text: str) -> Any:
    """The text of an option as data: None for null, a list in brackets, otherwise the text for the config to read."""
    if text in ("null", "None"):
        return None
    if text.startswith("["):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _base(path: Path | None, asked: str | None) -> tuple[dict[str, Any], Path | None]:
    """The fields to begin with, and the file that they come from (None: no file).

    The file is CONFIG or, without it, the quickstart if that has the system asked for.
    """
    fields = read_yaml(path or DEFAULT)
    if asked is None or (path is None and asked == fields.get("system", plugins.FIRST_SYSTEM)):
        return fields, path or DEFAULT
    return (fields if path else {"name": _plain_name(asked)}) | {"system": asked}, path


def _plain_name(reference: str) -> str:
    """A system's name with only the characters that a run's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", reference.rpartition(":")[2])


def systems() -> str:
    """The names and summaries of the systems, one per line."""
    width = max(map(len, SYSTEMS))
    return "\n".join(f"{name:{width}}  {first_line(SYSTEMS[name])}" for name in SYSTEMS)


def help_text(config: Config, path: Path | None) -> str:
    """The help: the options, and the fields of the config's system, each with its meaning, range and value."""
    wide = max(60, min(shutil.get_terminal_size((120, 24)).columns, 120))
    fields = schema(config.system)
    indent = max(map(len, fields)) + 5
    flags = {name: about for name, about in FLAGS.items() if name != "help"}
    words = [*(f"--{name}" for name in OPTIONS), *(f"--{name}" for name in flags)]
    usage = f"usage: {program('grid')} [CONFIG.yaml | FILE.py:NAME] [--option VALUES ...]"
    about = [*OPTIONS.values(), *flags.values()]
    own = parameters(config.system)
    what, where = f"Fields of system {config.reference}", "the defaults"
    where = f"the values of {path.name} or {where}" if path else where
    if own:
        usage = f"usage: {program('grid')} {config.reference} [--parameter VALUES] [--seeds N] [options]"
        what = f"Parameters of {config.reference}"
        words, about = [*words, "--static"], [*about, STATIC]
    lines = [
        *textwrap.wrap(usage, wide),
        *textwrap.wrap(
            f"{what}: {first_line(config.system).rstrip('.')}. Square brackets hold {where}. VALUES: a,b,... or "
            "log:low:high:count, lin:low:high:count, range:start:stop; null gives the default, unless the field "
            "says what null means.",
            wide,
        ),
    ]
    entries: list[tuple[str, str]] = [*zip(words, about, strict=True)]
    section = ""
    for place, field in sorted(fields.items(), key=lambda pair: bool(own) and pair[1].section != "cell"):
        if field.section != section:
            section = field.section
            title = "parameters" if own and section == "cell" else section
            entries.append((title + (f": {SECTIONS[section]}" if section in SECTIONS else ""), ""))
        value = config.values[place]
        shown_value = "no default" if required(field) and value is None else _text(field, value)
        about_it = f"{describe(field)} [{shown_value}]".lstrip()
        entries.append((f"--{field.name if own else place}", about_it))
    for option, text in entries:
        if option.startswith("--"):
            start = f"  {option}".ljust(indent)
            lines += textwrap.wrap(text, wide, initial_indent=start, subsequent_indent=" " * 6)
        else:
            lines.append(option)
    return "\n".join([*lines, EXITS])


def choices() -> dict[str, list[str]]:
    """For each option that takes names, the allowed ones; options of fields are those of the default system."""
    fields = schema(SYSTEMS[plugins.FIRST_SYSTEM])
    named = {f"--{place}": list(field.choices) for place, field in fields.items() if field.choices is not None}
    return {"--system": list(SYSTEMS), **named}


def describe(field: Field) -> str:
    """A field in words: its help, then its choices or range."""
    if field.choices is not None and not all(name in field.help for name in field.choices):
        return f"{field.help} ({', '.join(field.choices)})" if field.help else ", ".join(field.choices)
    no_range = field.choices is not None or field.name == "seeds"  # seeds: their range is not that of their number
    return "; ".join(filter(None, (field.help, "" if no_range else field.range_words())))


def _text(field: Field, value: Any) -> str:
    """A field's value as it is typed on the command line."""
    value = plain(value)
    if field.name == "seeds" and value == list(range(len(value))):
        return str(len(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        text = ",".join(_one(item) for item in value)
        return text if len(value) > 1 else f"{text},"
    return _one(value)


def _one(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
