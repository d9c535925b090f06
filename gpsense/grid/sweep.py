"""A user's own functions as a grid: the names of their parameters are the axes.

:func:`sweep` runs them in the engine that runs the papers' systems; :func:`function_system` turns them into a system.
"""

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Annotated, Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from gpsense._devices import add_threads
from gpsense._types import RandomKey
from gpsense.descent import CONVERGED, DIVERGED
from gpsense.errors import BadInput, lacking
from gpsense.fields import Field, Traced, as_plain, nearest, shown, unknown_name
from gpsense.grid.axes import Axis, Grid
from gpsense.grid.calling import measures_of
from gpsense.grid.plan import one_cell
from gpsense.grid.results import diverged_words
from gpsense.grid.run import MEMORY, run_whole, verify_run
from gpsense.keys import Keys, key_shapes
from gpsense.pipeline import Schedule
from gpsense.systems import AnySystem, Evaluator, Measure, Measures, System
from gpsense.systems._calling import call, make_static, number_for

ONCE = Schedule(0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class FunctionSystem(System[Any, Any, Any]):
    """A system of one phase: ``draw_problem`` draws a problem, ``cell`` measures it.

    Both receive, by name, the fields of the subclass, its Data and its Setting for which they have parameters.
    """

    table: ClassVar[tuple[str, ...]] = ()
    steps: ClassVar[None] = None
    cell: ClassVar[Callable[..., Any]]
    draw_problem: ClassVar[Callable[..., Any] | None]
    reads: ClassVar[tuple[frozenset[str], frozenset[str]]]
    tails: ClassVar[Mapping[str, Sequence[str]]]
    described: ClassVar[Collection[str]]

    def given(self, numbers: Traced, function: int) -> dict[str, Any]:
        """The arguments, by name, of a ``function`` (0: draw, 1: cell), from static fields and a Data or Setting."""
        static = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        traced = {each.name: getattr(numbers, each.name) for each in dataclasses.fields(numbers)}
        return {name: value for name, value in {**static, **traced}.items() if name in self.reads[function]}

    def names(self) -> set[str]:
        """The names of the axes, the parameters and the precision, none of which a measure can have."""
        fields = [field.name for part in (self, self.Data, self.Setting) for field in dataclasses.fields(part)]
        return {"seed", *fields, *(axis for axes in self.tails.values() for axis in axes)}

    def draw(self, data: Any, key: RandomKey) -> Any:
        """The problem (None without a draw function) and the data, whose numbers the cell may read too."""
        draw = type(self).draw_problem
        return None if draw is None else call("draw", draw, (key,), self.given(data, 0), self.to_static), data

    def to_static(self, names: Sequence[str]) -> str:
        """A remedy for an error: how to make these parameters static, besides those that already are."""
        fields = [each.name for each in dataclasses.fields(self)]
        return make_static(names, [name for name in fields if not _is_name(getattr(self, name))])

    @property
    def learner(self) -> "RunFunction":
        return RunFunction(self)

    def describe(self) -> str:
        static = [f"{each.name} {shown(getattr(self, each.name))}" for each in dataclasses.fields(self)]
        return ", ".join((self.name, *static))


@final
@dataclass(frozen=True)
class RunFunction(Evaluator[Any, Any]):
    """Evaluates the cell of a :class:`FunctionSystem`; its status is DIVERGED if a number is not finite."""

    system: FunctionSystem

    def evaluate(self, problem: Any, setting: Any, keys: Keys) -> Measures:
        drawn, data = problem
        system, cell = self.system, type(self.system).cell
        first = () if system.draw_problem is None else (drawn,)
        keyed = {"key": keys.start} if "key" in system.reads[1] else {}
        numbers = system.given(data, 1) | system.given(setting, 1)
        returned = call("cell", cell, first, {**keyed, **numbers}, system.to_static)
        measures = measures_of(returned, system.tails, system.described, system.names())
        real = [value for value in measures.values() if jnp.issubdtype(value.dtype, jnp.inexact)]
        finite = reduce(jnp.logical_and, [jnp.all(jnp.isfinite(value)) for value in real], jnp.asarray(True))
        return measures | {"status": jnp.where(finite, jnp.int32(CONVERGED), jnp.int32(DIVERGED))}


def function_system(
    cell: Callable[..., Any],
    draw: Callable[..., Any] | None = None,
    *,
    static: Mapping[str, type] | Sequence[str] = (),
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: Mapping[str, Mapping[str, str]] | None = None,
    whole: Sequence[str] = (),
) -> type[FunctionSystem]:
    """The class of a system made of ``draw(key, ...) -> problem`` and ``cell(problem, key, ...) -> {name: array}``.

    Without ``draw``, the cell takes no problem. Parameters of ``draw`` become fields of Data, those of the cell alone
    fields of Setting, those in ``static`` (a mapping also gives types) fields of the system, with the same defaults.
    Parameters in ``whole`` are traced as integers. Raises BadInput for functions that cannot be called like this.
    """
    drawn = {} if draw is None else _parameters("draw", draw, 1)
    taken = _parameters("cell", cell, 0 if draw is None else 1)
    keyed = "key" in taken
    taken.pop("key", None)
    defaults = taken | drawn
    for each in static:
        if each != "steps" and each in NEEDED:
            raise BadInput("static", f"{each} is a name that sweep needs itself", "rename that parameter")
    one = lambda name: (name, _annotation(name in whole), field(default=_default(defaults[name])))  # noqa: E731
    numbers = lambda names: {name: one(name) for name in names if name not in static}  # noqa: E731
    data, setting = numbers(drawn), {name: each for name, each in numbers(taken).items() if name not in drawn}
    kinds = static if isinstance(static, Mapping) else dict.fromkeys(static, Any)
    fields = [(name, Annotated[kinds[name], FIXED], field(default=_default(defaults[name]))) for name in static]
    dims = {name: (axes,) if isinstance(axes, str) else tuple(axes) for name, axes in (dims or {}).items()}
    name: Any = getattr(cell, "__name__", type(cell).__name__)
    namespace = {
        "name": name,
        "__doc__": inspect.getdoc(cell) or name,
        "__module__": getattr(cell, "__module__", __name__),
        "Data": _module("Data", data.values()),
        "Setting": _module("Setting", setting.values()),
        "cell": staticmethod(cell),
        "draw_problem": None if draw is None else staticmethod(draw),
        "reads": (frozenset(drawn), frozenset(taken) | ({"key"} if keyed else set())),
        "tails": dims,
        "described": tuple(attrs or ()),
        "measures": {
            name: Measure(each.get("long_name", name), each.get("units", "1"), dims.get(name, ()))
            for name, each in {**{name: {} for name in dims}, **dict(attrs or {})}.items()
        },
    }
    made: Any = dataclasses.make_dataclass(
        name, fields, bases=(FunctionSystem,), namespace=namespace, frozen=True, kw_only=True
    )
    return made


NEEDED = {
    *dir(FunctionSystem),
    *(name for each in FunctionSystem.__mro__ for name in vars(each).get("__annotations__", ())),
}
RESERVED = (
    "seed",
    "seeds",
    "static",
    "dims",
    "attrs",
    "out",
    "memory",
    "memory_gib",
    "progress",
    "cluster",
    "dtype",
    "step",
    "phase",
    "status",
    "cls",
)
DESCRIBED = ("long_name", "units")  # the attributes of a measure that attrs may give
FIXED = Field("cell")
NUMBER = Field("cell", kind="number")
INTEGER = Field("cell", integer=True)


def _annotation(whole: bool) -> Any:
    return Annotated[int, INTEGER] if whole else Annotated[float, NUMBER]


def _module(name: str, fields: Any) -> type[Traced]:
    """An ``eqx.Module`` with these fields."""
    listed = list(fields)
    body = {"__annotations__": {each: annotation for each, annotation, _ in listed}, "__module__": __name__}
    made: Any = type(Traced)
    return made(name, (Traced,), body | {each: value.default for each, _, value in listed})


def _default(parameter: inspect.Parameter) -> Any:
    return None if parameter.default is inspect.Parameter.empty else parameter.default


def _parameters(field: str, function: Callable[..., Any], positional: int) -> dict[str, inspect.Parameter]:
    """The parameters after the first ``positional`` ones, by name; BadInput where they cannot be given by name."""
    if not callable(function):
        raise BadInput(field, f"{shown(function)} is not a function", "give a function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        problem = f"the parameter names of {shown(function)} cannot be read"
        raise BadInput(field, problem, "wrap it in a function of your own") from None
    if len(parameters) < positional:
        first = "a key" if field == "draw" else "the problem"
        raise BadInput(field, "it takes no parameter", f"give a function that takes {first} first")
    named = parameters[positional:]
    if positional and field == "cell" and parameters[0].name == "key":
        problem = "its first parameter is called key, but receives the problem that draw returned"
        raise BadInput(field, problem, "write cell(problem, key, ...), or leave draw out")
    for each in named:
        if each.name in RESERVED:
            other = "use key, the random key of the cell, or " if each.name in ("seed", "seeds") else ""
            remedy = f"{other}rename it (reserved: {', '.join(RESERVED)})"
            raise BadInput(field, f"its parameter {each.name} is reserved by sweep", remedy)
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            raise BadInput(field, f"its parameter {each.name} cannot be given by name", "use plain named parameters")
    return {each.name: each for each in named}


def sweep_grid(
    cell: Callable[..., Any],
    draw: Callable[..., Any] | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    static: Sequence[str] = (),
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: Mapping[str, Mapping[str, str]] | None = None,
    dtype: str | None = None,
    **axes: Any,
) -> Grid:
    """The grid that :func:`sweep` runs."""
    static = (static,) if isinstance(static, str) else static
    if not isinstance(static, Sequence):
        raise BadInput("static", f"{shown(static)} is not a list of names", "name parameters of draw or cell")
    for name, given in (("dims", dims), ("attrs", attrs)):
        if given is not None and not isinstance(given, Mapping):
            raise BadInput(name, f"{shown(given)} is not a dictionary", f"give {name}={{measure: ...}}")
    for name, given in (attrs or {}).items():
        if not isinstance(given, Mapping):
            problem = f"{shown(given)} for {name} is not a dictionary"
            raise BadInput("attrs", problem, f'give attrs={{"{name}": {{"long_name": ..., "units": ...}}}}')
        if unknown := [each for each in given if each not in DESCRIBED]:
            raise unknown_name("attrs", unknown[0], DESCRIBED)
        if wrong := [each for each in given.values() if not isinstance(each, str)]:
            raise BadInput(
                "attrs",
                f"{shown(wrong[0])}, given for the measure {name}, is not text",
                'write it in quotes, such as "m"',
            )
    for name, names in (dims or {}).items():
        if not isinstance(names, Sequence) or not all(isinstance(each, str) for each in names):
            problem = f"{shown(names)} for {name} is not a list of names"
            raise BadInput("dims", problem, f'give dims={{"{name}": ["axis"]}}')
    if strange := [name for name in static if not isinstance(name, str)]:
        raise BadInput("static", f"{shown(strange[0])} is not a name", "name parameters of draw or cell")
    values = {name: _values(name, value) for name, value in axes.items()}
    drawn = {} if draw is None else _parameters("draw", draw, 1)
    taken = _parameters("cell", cell, 0 if draw is None else 1)
    defaults = drawn | taken
    defaults.pop("key", None)
    has = lacking("cell", draw is not None)
    usable = f"use any of {', '.join(defaults)}" if defaults else "leave it out"
    for name in values:
        if name == "key":
            raise BadInput(name, "random keys are made from the seeds", "leave it out; seeds says how many")
        if draw is not None and name not in defaults and name == next(iter(inspect.signature(draw).parameters)):
            problem = f"its first parameter, {name}, receives the random key"
            raise BadInput("draw", problem, f"write draw(key, {name}, ...)")
        if name not in defaults:
            raise BadInput(name, f"{has} parameter of this name", nearest(name, defaults) or usable)
    missing = [name for name, one in defaults.items() if name not in values and one.default is one.empty]
    if missing and missing[0] == "self":
        raise BadInput("cell", "it is a method of a class", "give the method of an object, such as Model().cell")
    if missing and missing[0] == next(iter(taken)) and (draw is None or "key" not in taken):
        if "key" not in taken and any(word in missing[0] for word in ("key", "rng")):
            raise BadInput(missing[0], "it has no value", "call it key if it is the random key")
        if draw is None:
            remedy = f"give {missing[0]}=[...], or draw=, a function that returns it"
            raise BadInput(missing[0], "it has no value", remedy)
    if missing:
        raise BadInput(missing[0], "it has no value", f"give one or several: {missing[0]}=[...]")
    for name, (items, _) in values.items():
        verify_text(defaults[name], items)
    values |= {name: ((one.default,), False) for name, one in defaults.items() if name not in values}
    if unknown := [name for name in static if name not in defaults]:
        raise BadInput("static", f"{has} parameter {unknown[0]}", nearest(unknown[0], defaults) or usable)
    fixed = [name for name, (items, _) in values.items() if name in static or any(map(_is_name, items))]
    whole = [
        name
        for name, (items, _) in values.items()
        if all(isinstance(item, int) for item in items) and not isinstance(defaults[name].default, float)
    ]
    system = function_system(cell, draw, static=fixed, dims=dims, attrs=attrs, whole=whole)
    kept = {name for names in (dims or {}).values() for name in ((names,) if isinstance(names, str) else names)}
    if clash := sorted(kept & {"seed", *values}):
        raise BadInput("dims", f"{clash[0]} is an axis of the sweep already", "use another name")
    listed = tuple(Axis(name, items, many) for name, (items, many) in values.items())
    precision = dtype or str(jnp.result_type(float))
    grid = Grid(system(dtype=precision), ONCE, seeds, listed)
    check_seeds(grid)
    return grid


def check_seeds(grid: Grid) -> None:
    """Raises BadInput for several seeds where no result depends on the random key: all seeds would give the same."""
    system, count = grid.system, len(grid.seeds)
    if not isinstance(system, FunctionSystem) or count < 2:
        return
    if system.draw_problem is None and "key" not in system.reads[1]:
        problem = f"it takes no key, so that all {count} seeds would give the same numbers"
        raise BadInput("cell", problem, "add a parameter key, the random key of a cell, or ask for one seed")
    try:
        cell = jax.eval_shape(lambda: one_cell(grid))
        used = any(uses_key(each, *cell) for _, each in grid.programs())
    except Exception:  # the run will raise it again, with an explanation
        return
    if not used:
        takes = "the key is not used" if system.draw_problem else "it takes key and does not use it"
        problem = f"{takes}, so that all {count} seeds would give the same numbers"
        remedy = "draw with jax.random from key (numpy.random draws once, for all seeds), or ask for one seed"
        raise BadInput("cell", problem, remedy)


def uses_key(system: AnySystem, data: Any, setting: Any) -> bool:
    """Whether any number returned by a system with an Evaluator depends on the random key, directly or by its draw."""
    learner: Any = system.learner

    def whole(keys: Keys, data: Any, setting: Any) -> Any:
        return learner.evaluate(system.draw(data, keys.problem), setting, keys)

    traced = jax.make_jaxpr(whole)(keys := key_shapes(), data, setting).jaxpr
    return any(_needed(traced, [True] * len(traced.outvars))[: len(jax.tree.leaves(keys))])


def _needed(jaxpr: Any, wanted: Sequence[bool]) -> list[bool]:
    """For each input, whether a ``wanted`` output may depend on it; inner functions are analysed only if jitted."""
    needed = {id(each) for each, is_wanted in zip(jaxpr.outvars, wanted, strict=True) if is_wanted}
    for equation in reversed(jaxpr.eqns):
        read = [id(each) in needed for each in equation.outvars]
        if any(read):
            jitted = equation.primitive.name in ("jit", "pjit")
            which = _needed(equation.params["jaxpr"].jaxpr, read) if jitted else [True] * len(equation.invars)
            needed |= {id(each) for each, is_read in zip(equation.invars, which, strict=True) if is_read}
    return [id(each) in needed for each in jaxpr.invars]


def verify_text(parameter: inspect.Parameter, values: Sequence[Any]) -> None:
    """Raises BadInput for text given for a parameter whose default is a number."""
    default = parameter.default
    if isinstance(default, int | float) and not isinstance(default, bool):
        for text in values:
            if isinstance(text, str | bytes):
                problem = f"{shown(text)} is not a number, as its default {default} is"
                raise BadInput(parameter.name, problem, number_for(text) or "give a number")


def _values(name: str, value: Any) -> tuple[tuple[Any, ...], bool]:
    """The values of an axis, and whether they were given as a list."""
    if isinstance(value, Mapping | set | frozenset | Iterator):
        raise BadInput(name, f"a {type(value).__name__} is not an axis", "give a value or a list of values")
    if hasattr(value, "__array__") and not isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value)  # a pandas Series, say
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray | jax.Array | range):
        return (value,), False
    if getattr(value, "ndim", 1) == 0:
        return (as_plain(value),), False
    if getattr(value, "ndim", 1) > 1:
        raise BadInput(name, f"an array of shape {np.shape(value)}", "give a list of numbers or names")
    items = tuple(map(as_plain, value))
    if bad := [item for item in items if isinstance(item, list | dict | set | np.ndarray | jax.Array)]:
        raise BadInput(name, f"{shown(bad[0])} is not one value", "list numbers or names")
    return items, True


def _is_name(value: Any) -> bool:
    """Whether a value cannot be traced: a name, a flag, None, anything but a number."""
    return isinstance(value, bool) or not isinstance(value, int | float)


def sweep(
    cell: Callable[..., Any],
    draw: Callable[..., Any] | None = None,
    *,
    seeds: int | Sequence[int] = 1,
    static: Sequence[str] = (),
    dims: Mapping[str, Sequence[str]] | None = None,
    attrs: Mapping[str, Mapping[str, str]] | None = None,
    out: Any = None,
    memory: float = MEMORY,
    progress: bool | None = None,
    cluster: Any = None,
    **axes: Any,
) -> xr.Dataset:
    """Run a function of your own, compiled once, over all combinations of ``axes`` and seeds; returns a Dataset.

    A ``cell``, say ``cell(problem, key, rate, ridge)``, is any pure function of JAX arrays that returns
    ``{name: array}``; a ``draw``, say ``draw(key, n, noise)``, makes its problem. Without ``draw``, the cell takes no
    problem, ``cell(key, rate, ridge)``. Each parameter is an axis, given by name: one value, or a list of values, which
    becomes a dimension. One problem is drawn for each seed and each combination of the parameters of ``draw``; on it
    ``cell`` is vmapped over all values of its own parameters. Numbers are traced, defaults too (whole numbers as
    integers, unless the default is a float); parameters named in ``static``, and values that are names, flags or None,
    are compiled in, one program for each value. ``seeds``: how many (default 1), or a list. Reserved names: seed, step,
    phase, status, dtype, memory_gib, cls and the arguments of this function from ``seeds`` on.

    ``dims={"weights": ("weight",)}`` names trailing axes, ``attrs={"error": {"long_name": "risk", "units": "1"}}``
    describes measures. In the Dataset missing numbers are NaN, so flags become 0 and 1 in float32, whole numbers become
    float64 (those of 8 or 16 bits float32), and float16 becomes float32. ``status`` is 3 (diverged) for a cell with a
    number that is not finite, and a UserWarning says how many there are; numbers are kept as returned, so take means
    and medians over seeds of ``dataset.where(dataset.status != 3)``. With ``out``, chunks are written to that
    directory. Calling again resumes; a directory of another sweep is refused, where functions are compared by the
    operations and constants that they trace to. ``memory``: bytes that a chunk may take; ``progress``: whether to show
    a bar, by default only on a terminal; ``cluster`` (with ``out``): ``local:N``, a dask scheduler's address or a
    Client.

    Raises BadInput where an argument is wrong, where a function needs the value of a traced number (for a shape, an
    if), and for several seeds if no result depends on the key; other errors of the functions are raised unchanged, with
    a note that names the line and the values that are compiled in.

    >>> def cell(key, penalty):
    ...     x = 1.0 + 0.1 * jax.random.normal(key)
    ...     return {"estimate": jnp.sign(x) * jnp.maximum(jnp.abs(x) - penalty, 0.0)}
    >>> results = gpsense.sweep(cell, seeds=3, penalty=[0.0, 2.0])
    >>> results["estimate"].median("seed").values.round().tolist()
    [1.0, 0.0]
    """
    add_threads()
    verify_run(memory, progress)
    make = partial(sweep_grid, cell, draw, seeds=seeds, static=static, dims=dims, attrs=attrs, **axes)
    dataset = run_whole(make(), memory, out, progress, cluster, make)
    if words := diverged_words(dataset):
        warnings.warn(f"{words}: numbers that the function returned are NaN or infinite", stacklevel=2)
    return dataset
