"""Reads the config of a grid, from YAML and the command line, into a checked Config.

The system of a config declares which fields it may have, see :mod:`launch.schema`. A field that is an axis takes one
value or several, see :mod:`launch.values`.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from gpsense.errors import BadInput
from gpsense.fields import OTHER, shown, verify_read
from gpsense.systems import AnySystem
from launch import plugins
from launch.paths import configs
from launch.schema import SECTIONS, TOP, default, parameters, parse, plain, required, schema, sections_named, unknown
from launch.shell import Refusal
from launch.values import Values

if TYPE_CHECKING:
    from launch.claims.expectations import Claim

LONGEST, LONGEST_NUMBER, MOST_NODES, DEEPEST = 4_000_000, 40, 200_000, 50  # characters (file, number); nodes; depth
DEFAULT = configs() / "quickstart.yaml"


@dataclass(frozen=True)
class Config:
    """One grid: a value for every field of its system, by ``section.key``; all combinations of the axes are run.

    ``reference`` is the system as the config names it; ``claim`` is what launch.claims expects of the grid; ``code``
    holds hashes of the plug-in files that were loaded.
    """

    name: str
    reference: str
    system: type[AnySystem]
    values: Mapping[str, Any]
    claim: "Claim | None" = None
    code: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The config as a dictionary for YAML, with every field of its system but without the claim."""
        fields: dict[str, Any] = {"name": self.name, "system": self.reference}
        for place, value in self.values.items():
            section, _, key = place.partition(".")
            fields.setdefault(section, {})[key] = plain(value)
        return fields

    def digest(self, files: bytes = b"") -> str:
        """The hash of what identifies an experiment: system, its revision, fields that differ from defaults, files.

        A new field whose default keeps the old meaning therefore leaves old runs resumable; where a default or a
        formula changes its meaning, the system's ``revision`` is raised. Files and plug-ins enter by their contents.
        The name and the memory limit are left out, since they affect no number.
        """
        changed = {
            place: plain(self.values[place])
            for place, field in sorted(schema(self.system).items())
            if place != "run.memory_gib" and field.kind != OTHER and self.values[place] != default(field)
        }
        identity = [self.system.name, self.system.revision, changed, *self.code]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode() + files).hexdigest()[:16]


class _Loader(yaml.SafeLoader):
    """Safe YAML loader with the scalars of YAML 1.2, where 010 is ten and 10:40 is text; a repeated key is an error."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"sections within sections, more than {DEEPEST} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def whole(self, node: yaml.ScalarNode) -> int:
        text = str(node.value)
        if len(text) > LONGEST_NUMBER:
            problem = f"a number of {len(text)} characters, more than {LONGEST_NUMBER}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)

    def number(self, node: yaml.ScalarNode) -> float:
        return float(str(node.value).lower().replace(".inf", "inf").replace(".nan", "nan"))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for tag, pattern, first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def _load(text: str) -> Any:
    """The value of a YAML text; raises YAMLError or RecursionError if it is invalid, or too large or deeply nested."""
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"more than {LONGEST} characters")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        sizes: dict[int, int] = {}

        def size(node: Any) -> int:
            """The number of nodes from this one down, with aliases expanded."""
            if id(node) not in sizes:
                sizes[id(node)] = MOST_NODES  # for a node that contains itself
                parts = [node.value] if isinstance(node, yaml.ScalarNode) else node.value
                inside = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
                sizes[id(node)] = 1 + sum(size(each) for each in inside if isinstance(each, yaml.Node))
            return sizes[id(node)]

        if node is not None and size(node) >= MOST_NODES:
            raise yaml.MarkedYAMLError(problem=f"{MOST_NODES} values or more, with aliases expanded")
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with the file's name as its default ``name``; raises Refusal if it holds none."""
    try:
        with open(path, encoding="utf-8") as file:
            loaded = _load(file.read(LONGEST + 1))
    except FileNotFoundError:
        raise Refusal(f"config {path}: no such file; give the path of a YAML config, e.g. {DEFAULT}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"config {path}: cannot be read ({type(error).__name__}); give a readable YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or _plain_words(error)
        where = (f" at line {mark.line + 1}" if mark else "") + (f" ({problem})" if problem else "")
        raise Refusal(f"config {path}: cannot be read as YAML{where}; fix the file") from None
    if not isinstance(loaded, dict):
        raise Refusal(f"config {path}: not a mapping of sections; see {DEFAULT.name} for the form")
    return {"name": re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)} | loaded


def _plain_words(error: Exception) -> str:
    """The text of a YAML error if it is one short line, otherwise empty."""
    text = str(error)
    return text if isinstance(error, yaml.YAMLError) and "\n" not in text and len(text) < 100 else ""


def build(
    fields: Mapping[Any, Any], folder: Path = Path(), allow_plugins: bool = False, complete: bool = True
) -> Config:
    """A checked Config; raises Refusal in one line that names wrong fields and, if ``complete``, missing ones.

    Code that the config names (``system: FILE.py:NAME``, ``plugins: [...]``) is loaded only if ``allow_plugins`` or if
    it was loaded before; its files are looked for here and in ``folder``.
    """
    name, reference = fields.get("name", "grid"), fields.get("system") or plugins.FIRST_SYSTEM
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise Refusal(f"name: {shown(name)} cannot name a run; use letters, digits, dots, dashes and underscores")
    plugins.load_named(fields.get("plugins"), folder, allow_plugins)
    system = plugins.find_system(reference, folder, allow_plugins)
    _verify_top(fields, system)
    given, refused = _flat(fields, system)
    own, values = parameters(system), {}
    for place, field in schema(system).items():
        try:
            values[place] = parse(field, given[place]) if place in given else default(field)
            if complete and required(field) and values[place] is None:
                raise BadInput(field.name, "it has no value", f"give --{field.name if own else place} VALUES")
        except BadInput as error:
            refused.append(f"{place}: {error.problem}; {error.remedy}")
    if refused:
        raise Refusal("; ".join(refused[:3]))
    claim = fields.get("claim")
    if claim is not None:
        from launch.claims.expectations import read_claim

        claim = read_claim(claim)
    return Config(name, reference, system, values, claim, plugins.sources())


def verify_used(config: Config, *layers: Mapping[Any, Any]) -> None:
    """Raises Refusal for a given field without effect, as it is read only for other values of another field.

    ``layers`` hold the given fields, each overriding those before: a config's, then those of the command line or of a
    claim's grid. Values in a later layer may leave a field of an earlier one without effect. A default value is
    accepted in the first layer, and where it overrides an earlier one.
    """
    fields = schema(config.system)
    places = {field.name: place for place, field in fields.items()}
    given = [_flat(each, config.system)[0] for each in layers]
    layer = {place: number for number, each in enumerate(given) for place in each}
    values = {
        field.name: value.values if isinstance(value := config.values[place], Values) else (value,)
        for place, field in fields.items()
    }
    known = {field.name: field for field in fields.values()}
    for place, number in layer.items():
        field = fields.get(place)
        if field is None or config.values[place] is None:
            continue
        by = [each for each in field.read_by if each.field in places and layer.get(places[each.field], 0) <= number]
        alone = number > 0 and not any(place in each for each in given[:number])
        if by and (alone or config.values[place] != default(field)):
            with sections_named(config.system):
                verify_read(field.name, known | {field.name: replace(field, read_by=tuple(by))}, values)


def _verify_top(fields: Mapping[Any, Any], system: type[AnySystem]) -> None:
    """Raises Refusal if ``name``, ``system``, ``plugins`` or ``claim`` is misspelt; checked before all other fields."""
    sections = {*SECTIONS, *(field.section for field in schema(system).values())}
    for given in fields:
        near = next(iter(difflib.get_close_matches(str(given), [*TOP, *sections], 1, 0.7)), None)
        if near in TOP and near not in fields:
            raise Refusal(f"{given}: there is no such field; did you mean {near}?")


def _flat(fields: Mapping[Any, Any], system: type[AnySystem]) -> tuple[dict[str, Any], list[str]]:
    """The given values by ``section.key``, and an error line for everything that is not a field."""
    known = schema(system)
    sections = {*SECTIONS, *(field.section for field in known.values())}
    given: dict[str, Any] = {}
    refused = []
    for section, part in fields.items():
        if section in TOP:
            continue
        if section not in sections:
            key = next(iter(part), None) if isinstance(part, Mapping) else None
            refused.append(unknown(str(section) if key is None else f"{section}.{key}", system))
        elif not isinstance(part, Mapping):
            write = f"write {section}: {{field: value}}"
            refused.append(f"{section}: a section holds fields, not {shown(part)}; {write}")
        else:
            inside = {f"{section}.{key}": value for key, value in part.items()}
            given |= inside
            refused += [unknown(place, system) for place in inside if place not in known]
    return given, refused


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config's fields with ``changes`` applied, section by section."""
    inside = [name for name, new in changes.items() if isinstance(new, dict) and isinstance(fields.get(name), dict)]
    return fields | changes | {name: merged(fields[name], changes[name]) for name in inside}
