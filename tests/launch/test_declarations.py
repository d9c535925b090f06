"""Every field of every system: what its declaration excludes is refused alike from Python and from a config."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import pytest

from gpsense.errors import BadInput
from gpsense.fields import FLAG, NAME, NUMBERS, OTHER, WHOLE, WHOLES, Field
from gpsense.grid import Axis, Grid
from gpsense.pipeline import Schedule
from gpsense.systems import SYSTEMS, AnySystem
from launch.config import build
from launch.schema import ENGINE, is_axis, schema
from launch.shell import Refusal
from launch.work import to_grid
from tests.launch.toy_system import Toy

CLASSES = [Toy, *(SYSTEMS[name] for name in SYSTEMS)]
FIELDS = [
    pytest.param(system, field, id=f"{system.name}-{field.dotted}")
    for system in CLASSES
    for field in schema(system).values()
    if field.name not in ("seeds", "memory_gib")  # of the command alone
]


@pytest.fixture(autouse=True)
def _toy_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SYSTEMS, "toy", Toy)


@pytest.fixture(scope="module")
def events() -> list[str]:
    """What JAX tells that it did from now on; a listener stays, as not all versions let one go."""
    seen: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **more: seen.append(event))
    return seen


@pytest.fixture(autouse=True)
def _compiled(events: list[str]) -> Iterator[None]:
    """Nothing may be compiled for a refusal."""
    before = len(events)
    yield
    assert not [event for event in events[before:] if "backend_compile" in event]


def bad_values(field: Field) -> Iterator[Any]:
    """Wrong type, not whole, not finite, beyond each bound, none of the choices."""
    if field.kind == FLAG:
        yield "maybe"
    elif field.kind == NAME:
        yield 3
        if field.choices is not None:
            yield from ("nothing of this name", next(iter(field.choices))[:-1])
    elif field.kind != OTHER:
        yield from ("abc", float("nan"))
        if field.kind in (WHOLE, WHOLES) or field.whole:
            yield 1.5
        ends = ((field.at_least, -1), (field.at_most, 1), (field.above, 0), (field.below, 0))
        yield from (bound + beyond for bound, beyond in ends if bound is not None)


def from_python(system: type[AnySystem], field: Field, value: Any) -> None:
    """The value given to the class that declares the field."""
    owner = {"static": system, "data": system.Data, "setting": system.Setting, ENGINE: Schedule}[field.role]
    owner(**{field.name: value})


def from_an_axis(system: type[AnySystem], field: Field, value: Any) -> None:
    """The value given to a grid: on an axis, or where no axis is allowed, as a constant."""
    if is_axis(field):
        Grid(system(), axes=(Axis(field.name, (value,)),))
    else:
        Grid(system(), constants={field.name: value})


def from_a_config(system: type[AnySystem], field: Field, value: Any) -> None:
    """The value as YAML gives it."""
    to_grid(build({"system": system.name, field.section: {field.key: value}}))


def line(give: Callable[..., None], system: type[AnySystem], field: Field, value: Any) -> str:
    """The one line that refuses the value."""
    with pytest.raises((BadInput, Refusal)) as refusal:
        give(system, field, value)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(("system", "field"), FIELDS)
def test_a_value_that_cannot_be_is_refused_alike_everywhere(system: type[AnySystem], field: Field) -> None:
    for bad in bad_values(field):
        value = [bad] if field.kind in (WHOLES, NUMBERS) else bad
        inside = line(from_python, system, field, value)
        assert inside.startswith(f"{field.name}: ")
        assert "; " in inside
        if field.role != ENGINE:
            assert line(from_an_axis, system, field, value) == inside
        assert line(from_a_config, system, field, value) == inside.replace(field.name, field.dotted, 1)


@pytest.mark.parametrize(("system", "field"), FIELDS)
def test_a_misspelt_name_is_refused_with_the_right_one(system: type[AnySystem], field: Field) -> None:
    wrong = replace(field, name=f"{field.name}s", key=f"{field.key}s")
    if wrong.dotted in schema(system) or wrong.name in {each.name for each in schema(system).values()}:
        return
    problem = f"system {system.name} has no such field"
    if field.role != ENGINE:
        assert line(from_an_axis, system, wrong, 1).startswith(f"{wrong.name}: {problem}; did you mean ")
    refused = line(from_a_config, system, wrong, 1)
    assert refused.startswith(f"{wrong.dotted}: {problem}")
    assert "did you mean " in refused or "leave it out" in refused


@pytest.mark.parametrize("system", CLASSES, ids=lambda system: system.name)
def test_every_field_says_what_it_is_and_its_default_may_be(system: type[AnySystem]) -> None:
    names = [field.name for field in schema(system).values()]
    assert len(set(names)) == len(names)
    for field in schema(system).values():
        assert field.help, field.dotted
        assert field.optional or field.default is not None, field.dotted
        if field.kind != OTHER:
            field.check(field.default)
    assert to_grid(build({"system": system.name})).system == system()
