"""A user's own code: systems and registry entries from a file or module that is named on the command line.

``FILE.py`` and ``package.module`` are imported, which lets them add rules, penalties, ensembles, methods or systems to
their dictionaries; ``FILE.py:NAME`` and ``package.module:NAME`` name a class in them, or a function, which is run as a
sweep. Naming code means running it, so a config file may name code only where that is allowed.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from gpsense.errors import BadInput, lacking
from gpsense.fields import declared, nearest, shown, unknown_name
from gpsense.systems import SYSTEMS, AnySystem, System
from launch.shell import Refusal

RESERVED = ("seed", "step", "phase")  # axes of the results
FIRST_SYSTEM = next(iter(SYSTEMS))  # the system of a config that names none
_functions: dict[str, type[AnySystem]] = {}  # systems made of functions, by reference
_loaded: dict[str, ModuleType] = {}  # modules by reference that were allowed once in this process


def is_code(reference: Any) -> bool:
    """Whether a reference names code rather than an entry of a registry."""
    return isinstance(reference, str) and (":" in reference or reference.endswith(".py"))


def load(option: str, reference: str, folder: Path = Path()) -> ModuleType:
    """Import ``FILE.py`` (here or in ``folder``) or ``package.module``; raises Refusal with the error if that fails."""
    if reference not in _loaded:
        _loaded[reference] = _imported(option, reference, folder)
    return _loaded[reference]


def find_function(option: str, reference: str, folder: Path = Path()) -> Callable[..., Any]:
    """The function ``FILE.py:NAME`` or ``package.module:NAME``; its source does not enter the digest of grids."""
    module_name, _, name = reference.rpartition(":")
    if not module_name or not name:
        raise Refusal(f"{option}: {reference} names no function; write FILE.py:NAME")
    module = _loaded.get(module_name) or _imported(option, module_name, folder)
    found = getattr(module, name, None)
    if not inspect.isfunction(found):
        near = nearest(name, [each for each, value in vars(module).items() if inspect.isfunction(value)])
        raise Refusal(f"{option}: {module_name} has no function {name}; {near or 'name a function in it'}")
    return found


def _imported(option: str, reference: str, folder: Path) -> ModuleType:
    """The imported module; raises Refusal with the file and the error if it cannot be imported."""
    from gpsense._devices import add_threads

    add_threads()
    try:
        if reference.endswith(".py"):
            path = next((path for path in (Path(reference), folder / reference) if path.is_file()), None)
            if path is None:
                raise Refusal(f"{option}: no file {reference}; give the path of a Python file")
            return _run(path.resolve())
        return importlib.import_module(reference)
    except Refusal:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if "importlib" in last.filename else f" in {Path(last.filename).name} at line {last.lineno}"
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Refusal(f"{option}: {reference} cannot be imported ({words}{where}); fix it") from None


@lru_cache(maxsize=64)
def _run(path: Path) -> ModuleType:
    """The module made by running a file, once per process; its folder is appended to the import path."""
    spec = importlib.util.spec_from_file_location(f"gpsense_plugin_{path.stem}_{crc32(str(path).encode()):x}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def sources() -> tuple[str, ...]:
    """Hashes of the loaded files' contents, which are part of a run's identity."""
    files = {module.__file__ for module in _loaded.values() if module.__file__ is not None}
    return tuple(sorted(sha256(Path(file).read_bytes()).hexdigest()[:16] for file in files))


def load_named(names: Any, folder: Path, allowed: bool) -> None:
    """Import the ``plugins`` of a config file; raises Refusal if that is not ``allowed``."""
    if names is None:
        return
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise Refusal(f"plugins: {shown(names)} is not a list of files or modules; write plugins: [FILE.py]")
    for name in names:
        _permit("plugins", name, allowed)
        load("plugins", name, folder)


def find_system(reference: Any, folder: Path = Path(), allowed: bool = False) -> type[AnySystem]:
    """The class of a system: one of SYSTEMS or, if ``allowed``, ``FILE.py:NAME`` or ``package.module:NAME``."""
    if isinstance(reference, str) and reference in _functions:
        return _functions[reference]
    if not is_code(reference):
        if not isinstance(reference, str) or reference not in SYSTEMS:
            error = unknown_name("system", reference, SYSTEMS)
            raise Refusal(f"{error}, or give FILE.py:NAME")
        return _verified(reference, SYSTEMS[reference])
    module_name, _, name = reference.rpartition(":")
    if not module_name or not name:
        file = module_name or reference
        known = _defined(folder / file if not Path(file).is_file() else Path(file))
        names = " or ".join(f"{file}:{each}" for each in known[:3]) or f"{file}:NAME"
        raise Refusal(f"system: {reference} is a file or a module; name the class or function: {names}")
    _permit("system", module_name, allowed)
    found = getattr(load("system", module_name, folder), name, None)
    if found is None:
        module = _loaded[module_name]
        near = nearest(name, vars(module))
        own = [each for each, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        listed = f"name one of {', '.join(own)}" if own else "define it there"
        raise Refusal(f"system: {module_name} has no {name}; {near or listed}")
    if inspect.isfunction(found):
        return as_system(reference, found, {})
    if not (isinstance(found, type) and issubclass(found, System)):
        what = "neither a system nor a function; name a class that derives from System, or a function"
        raise Refusal(f"system: {name} in {module_name} is {what}")
    return _verified(reference, found)


def _verified(reference: str, system: type[AnySystem]) -> type[AnySystem]:
    """The class of a system; raises Refusal for a user's own that cannot run or has a field with a result's name.

    Fields inherited from this package may have such a name: the results then say, for example, ``true_rank``.
    """
    if _ours(system):
        return system
    try:
        system.check_class()
    except BadInput as error:
        raise Refusal(f"system: {reference} {error.problem}; {error.remedy}") from None
    from gpsense.grid.results import MEASURES

    known = {name for base in system.__mro__ if _ours(base) and issubclass(base, System) for name in _fields(base)}
    measures = {**MEASURES, **system.measures}
    axes = {dim for measure in measures.values() for dim in measure.dims}
    if clash := [name for name in _fields(system) if name not in known and name in {*measures, *axes, *RESERVED}]:
        raise Refusal(f"system: {reference} has a field {clash[0]}, a name that the results use; rename it")
    return system


def _ours(kind: type) -> bool:
    return kind.__module__.startswith("gpsense.")


def _fields(system: type[AnySystem]) -> list[str]:
    """The fields of a system and of its data and setting."""
    owners = (system, getattr(system, "Data", None), getattr(system, "Setting", None))
    return [name for owner in owners if owner is not None for name in declared(owner)]


def as_system(
    reference: str, cell: Callable[..., Any], given: Mapping[str, Any], fixed: Sequence[str] = ()
) -> type[AnySystem]:
    """The system of a function, with parameters typed by their ``given`` lists of numbers or names, or their defaults.

    Parameters named in ``fixed`` are compiled as constants. A cell whose first parameter is called ``problem`` is given
    what the function ``draw`` of the same file returns.
    """
    from gpsense.grid.sweep import function_system, verify_text

    parameters = list(inspect.signature(cell).parameters.values())
    draw = cell.__globals__.get("draw") if parameters and parameters[0].name == "problem" else None
    if parameters and parameters[0].name == "problem" and not inspect.isfunction(draw):
        raise Refusal(f"system: {cell.__name__} takes a problem, but its file has no function draw; add draw(key, ...)")
    named = [*parameters[draw is not None :], *(list(inspect.signature(draw).parameters.values())[1:] if draw else [])]
    values = {each.name: [each.default] for each in named if each.default is not each.empty}
    values |= {name: list(items) for name, items in given.items()}
    static: dict[str, Any] = {
        name: type(items[0]) for name, items in values.items() if isinstance(items[0], str | bool)
    }
    if unknown := [name for name in fixed if name not in {each.name for each in named}]:
        known = [each.name for each in named if each.name != "key"]
        has = lacking(cell.__name__, draw is not None)
        listed = f"name one of {', '.join(known)}" if known else "leave it out"
        raise Refusal(f"--static: {has} parameter {unknown[0]}; {nearest(unknown[0], known) or listed}")
    static |= {name: type(values[name][0]) for name in fixed if name in values}
    static |= {each.name: _list_type(each) for each in named if isinstance(each.default, tuple | list | dict | set)}
    try:
        for each in named:
            verify_text(each, given.get(each.name, ()))
    except BadInput as error:
        raise Refusal(f"cell.{error}") from None
    floats = {each.name for each in named if isinstance(each.default, float)}
    whole = [
        name
        for name, items in values.items()
        if name not in static and name not in floats and all(isinstance(each, int) for each in items)
    ]
    with_draw = {name: kind for name, kind in static.items() if name in {each.name for each in named}}
    try:
        system = function_system(cell, draw, static=with_draw, whole=whole)
    except BadInput as error:
        raise Refusal(str(error)) from None
    _functions[reference] = system
    return system


def _list_type(parameter: inspect.Parameter) -> Any:
    """The type of a parameter whose default is a tuple of numbers; raises Refusal for any other collection."""
    default = parameter.default
    for kind in (int, float):
        if isinstance(default, tuple) and default and all(isinstance(each, int | kind) for each in default):
            return tuple[kind, ...]
    remedy = "make it a tuple of numbers, or call gpsense.sweep with this function"
    raise Refusal(f"cell.{parameter.name}: its default {shown(default)} cannot be given in a command; {remedy}")


@contextmanager
def blamed(reference: str) -> Iterator[None]:
    """A context that turns an error of a user's code into a Refusal with its file and line; other errors pass."""
    try:
        yield
    except (BadInput, Refusal) as error:
        static = re.search(r"static=\[(.*?)\]", str(error))
        if not static:
            raise
        option = "--static " + re.sub('[" ]', "", static[1])
        raise Refusal(str(error).replace(static[0], option)) from error
    except Exception as error:
        own = _loaded.get(reference.rpartition(":")[0])
        frames = traceback.extract_tb(error.__traceback__)
        mine = [frame for frame in frames if own is not None and frame.filename == getattr(own, "__file__", None)]
        if not mine:
            raise
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        where = f"{Path(mine[-1].filename).name} at line {mine[-1].lineno}"
        raise Refusal(f"system: {reference} failed in {where} ({words}); fix it") from error


def _defined(path: Path) -> list[str]:
    """The names of the systems in a file, and of its functions that return a dictionary; the file is not run."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return []
    bases = ("System", "TrainPruneFineTune")
    found = []
    for each in body:
        if isinstance(each, ast.ClassDef):
            fits = any(name in ast.unparse(base) for base in each.bases for name in bases)
        else:
            returned = (inner.value for inner in ast.walk(each) if isinstance(inner, ast.Return))
            fits = isinstance(each, ast.FunctionDef) and any(isinstance(value, ast.Dict) for value in returned)
        if fits:
            found.append(getattr(each, "name", ""))
    return found


def _permit(field: str, reference: str, allowed: bool) -> None:
    if not allowed and reference not in _loaded:
        raise Refusal(f"{field}: {reference} is code named in a config file; give --allow-plugins to run it")


def is_function(reference: str) -> bool:
    """Whether a reference that was loaded names a function."""
    return reference in _functions
