"""The fields that a config may have, by section, as its system declares them, and the errors for wrong ones."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any

from gpsense.errors import BadInput, lacking
from gpsense.fields import FLAG, NAME, NUMBER, NUMBERS, OTHER, WHOLE, WHOLES, Field, declared
from gpsense.keys import MOST_SEED, MOST_SEEDS
from gpsense.pipeline import Schedule
from gpsense.systems import SYSTEMS, AnySystem
from launch.shell import Refusal
from launch.values import Values, expand

SECTIONS = {
    "problem": "the truth and the data",
    "train": "training on loss plus penalty",
    "prune": "which parts are deleted",
    "fine_tune": "descent on the loss alone after pruning",
    "baseline": "tuning of the methods to compare with",
    "run": "seeds, precision, and how the work is divided",
}
TOP = ("name", "system", "plugins", "claim")
ENGINE = "engine"  # the role of fields that belong to no system
ALIASES = {"out": "--out", "seed": "run.seeds", "memory": "run.memory_gib"}


@dataclass(frozen=True)
class Engine:
    """The fields that the engine itself reads, for every system."""

    seeds: Annotated[int, Field("run", "how many seeds, or a list of them", at_least=0, at_most=MOST_SEED)] = 0
    memory_gib: Annotated[
        float | None,
        Field(
            "run",
            "memory of a chunk in GiB (null: half the free memory, or 80% of a GPU's)",
            above=0,
            at_most=2.0**20,
            axis=False,
        ),
    ] = None


def default_steps(system: type[AnySystem]) -> tuple[int, int] | None:
    """The default steps of training and of fine-tuning; None for a system without these phases.

    A user's function has no phases, but may have a parameter named ``steps``.
    """
    return None if "steps" in declared(system) else system.steps


@lru_cache(maxsize=64)
def schema(system: type[AnySystem]) -> Mapping[str, Field]:
    """The fields of a config of this system by ``section.key``, section by section.

    A size that both the system and its data or setting declare appears once, as the system declares it.
    """
    steps = default_steps(system) or ()
    owners = (
        (system, "static"),
        (system.Data, "data"),
        (system.Setting, "setting"),
        *([(Schedule, ENGINE)] if steps else []),
        (Engine, ENGINE),
    )
    found: dict[str, Field] = {}
    for owner, role in owners:
        for name, field in declared(owner, role).items():
            found.setdefault(name, field)
    for name, count in zip(("train_steps", "fine_tune_steps"), steps, strict=bool(steps)):
        found[name] = replace(found[name], default=count)
    shown = [field for field in found.values() if not field.hidden]
    sections = [*SECTIONS, *(field.section for field in shown)]
    return {field.dotted: field for field in sorted(shown, key=lambda field: sections.index(field.section))}


def is_axis(field: Field) -> bool:
    """Whether a grid may list several values of the field."""
    return field.axis and (field.kind in (WHOLE, NUMBER, NAME) or (field.kind == FLAG and field.role == "static"))


def required(field: Field) -> bool:
    """Whether the field has no default."""
    return field.default is None and not field.optional and field.kind != OTHER


def default(field: Field) -> Any:
    """The value of a field that a config leaves out, as Values for an axis.

    Seeds count as listed, so that they are a dimension of the results.
    """
    if field.default is None or not is_axis(field):
        return field.default
    return Values((_typed(field, field.default),), field.name == "seeds")


def parse(field: Field, raw: Any) -> Any:
    """The checked value of a field, from YAML or the command line: Values for an axis, otherwise one value.

    Raises BadInput as the library does for the same value, and for an axis that is empty or repeats a value.
    """
    if raw is None:
        return None if field.optional else default(field)
    if field.kind == OTHER:
        return replace(field, kind=NAME, choices=None).check(raw)  # the path of a file
    many = is_axis(field)
    if not many and field.kind not in (WHOLES, NUMBERS):
        return _typed(field, field.check(_read(field, raw)))
    try:
        items, listed = expand(raw)
    except ValueError as error:
        problem, _, remedy = str(error).rpartition("; ")
        raise BadInput(field.name, problem, remedy) from None
    if not many:
        return _typed(field, field.check([read_number(item) for item in items]))
    if field.name == "seeds" and len(items) == 1 and not listed:
        count = replace(field, at_least=1, at_most=MOST_SEEDS).check(_read(field, items[0]))
        return Values(tuple(range(count)), True)
    if not items:
        raise BadInput(field.name, "the axis is empty", "give at least one value")
    if None in items:
        raise BadInput(field.name, "null is listed with other values", "give null alone")
    values = tuple(_typed(field, field.check(_read(field, item))) for item in items)
    if len(set(values)) < len(values):
        raise BadInput(field.name, "the axis repeats a value", "list each value once")
    return Values(values, listed)


def _read(field: Field, raw: Any) -> Any:
    """Text converted to the field's kind where it can be; anything else unchanged."""
    if not isinstance(raw, str):
        return raw
    if field.kind == FLAG:
        return read_flag(raw)
    return read_number(raw) if field.kind in (WHOLE, NUMBER) else raw


def read_flag(raw: Any) -> Any:
    """Text as true or false; anything else as it is."""
    return {"true": True, "false": False}.get(raw.lower(), raw) if isinstance(raw, str) else raw


def read_number(raw: Any) -> Any:
    """Text as the number it shows, 1e3 as 1000; anything else as it is."""
    if isinstance(raw, str):
        with suppress(ValueError):
            return int(raw)
        with suppress(ValueError):
            number = float(raw)
            return int(number) if number.is_integer() and abs(number) < 2**63 else number
    return raw


def _typed(field: Field, value: Any) -> Any:
    """A checked value in the field's own type of number, so that 0 and 0.0 give the same config."""
    if field.kind == NUMBER:
        return int(value) if field.whole else float(value)
    return tuple(map(float, value)) if field.kind == NUMBERS else value


def plain(value: Any) -> Any:
    """A value as YAML or JSON would hold it."""
    if isinstance(value, Values):
        return list(value.values) if value.listed else value.values[0]
    return list(value) if isinstance(value, tuple) else value


def dotted(name: str, system: type[AnySystem]) -> str:
    """The ``section.key`` of a field that the library calls by its bare name."""
    found = {field.name: place for place, field in schema(system).items()}
    return found.get(name) or ALIASES.get(name, name)


@contextmanager
def sections_named(system: type[AnySystem]) -> Iterator[None]:
    """A context that turns a BadInput, whose field has no section, into the Refusal that a command prints."""
    try:
        yield
    except BadInput as error:
        raise Refusal(f"{dotted(error.field, system)}: {error.problem}; {error.remedy}") from None


def unknown(name: str, system: type[AnySystem]) -> str:
    """The error line for an unknown field: which systems have it, and the nearest known one."""
    known = [*schema(system), *TOP, *SECTIONS]
    if inside := [field for field in known if field.startswith(f"{name}.")]:
        return f"{name}: a section; give one of its fields, e.g. --{inside[0]}"
    if own := parameters(system):
        mine = [*own, *(field.name for field in schema(system).values())]
        close = difflib.get_close_matches(name.rpartition(".")[2], mine, 1, 0.6)
        remedy = f"did you mean {close[0]}?" if close else f"use any of {', '.join(own)}"
        has = lacking(system.name, getattr(system, "draw_problem", None) is not None)
        return f"{name if '.' in name else f'cell.{name}'}: {has} parameter of this name; {remedy}"
    others = [other for other in SYSTEMS if name in schema(SYSTEMS[other])]
    have = f" ({', '.join(others)} {'have' if len(others) > 1 else 'has'})" if others else ""
    known = [field for field in known if "." in field] if "." in name else known
    near = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    if not others:  # otherwise the name is right, and only the part after the section is compared
        near = near or difflib.get_close_matches(name, known, 1, 0.7)
    last = {field.rpartition(".")[2]: field for field in reversed(known)}
    near = near or [last[each] for each in difflib.get_close_matches(name.rpartition(".")[2], last, 1, 0.7)]
    section = name.partition(".")[0]
    fields = schema(system).values()
    section = next(iter(difflib.get_close_matches(section, {field.section for field in fields}, 1, 0.7)), section)
    keys = [field.key for field in fields if field.section == section]
    listed = f"section {section} has {', '.join(keys)}" if keys and "." in name else "--help lists the fields"
    remedy = f"did you mean {near[0]}?" if near else listed
    return f"{name}: system {system.name} has no such field{have}; {remedy}"


def parameters(system: type[AnySystem]) -> list[str]:
    """The parameter names of a user's function that was made a system; empty for any other system."""
    if default_steps(system) is not None:
        return []
    return [field.name for field in schema(system).values() if field.section == "cell"]
