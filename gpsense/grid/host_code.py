"""A digest of the Python functions that a traced program calls back on the host, so that a changed one is noticed.

The operations of a program do not show what ``jax.pure_callback`` and ``jax.io_callback`` call. Files that such a
function reads are not part of the digest. State that it changes, such as a counter or a list that it fills, is part of
the digest: the next run in the same process then counts as another run.
"""

import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

PATHS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
INSTALLED = tuple(str(Path(path).resolve()) for path in (*PATHS, Path(__file__).parents[1]))


def callbacks(jaxpr: Any) -> Iterator[Any]:
    """The Python functions that a jaxpr calls back, in order, inner jaxprs included; those of jax.debug left out."""
    for eqn in jaxpr.eqns:
        if "callback" in eqn.primitive.name and "debug" not in eqn.primitive.name:
            given = eqn.params.get("callback")
            yield getattr(given, "callback_func", given)
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda each: hasattr(each, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from callbacks(getattr(inner, "jaxpr", inner))


def code_digest(function: Any) -> bytes:
    """A digest of what a Python function does: its code, defaults, closure and the globals it names, recursively.

    Modules and classes outside installed packages enter by their source files, arrays by their bytes.
    """
    digest, seen = hashlib.sha256(), dict[int, tuple[int, Any]]()  # place, and object, to keep its id in use

    def add(value: Any) -> None:
        digest.update(type(value).__name__.encode())
        if value is None or isinstance(value, str | bytes | int | float | complex):
            digest.update(repr(value).encode())
        elif isinstance(value, np.ndarray | np.generic | jax.Array):
            array = np.asarray(value)
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        elif isinstance(value, tuple):
            each(value)
        elif isinstance(value, CodeType):
            digest.update(value.co_code + repr(value.co_names).encode())
            each(value.co_consts)
        elif id(value) in seen:
            digest.update(str(seen[id(value)][0]).encode())
        else:
            seen[id(value)] = len(seen), value
            each(_parts(value))

    def each(values: Iterable[Any]) -> None:
        for value in values:
            add(value)

    add(function)
    return digest.digest()


def _parts(value: Any) -> Iterable[Any]:
    """The parts of an object that determine its behaviour, as far as Python shows them."""
    if isinstance(value, FunctionType):
        if _is_installed(value.__code__.co_filename):
            return [value.__module__, value.__qualname__]
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return [value.__code__, value.__defaults__, value.__kwdefaults__, *cells, *_named(value, value.__code__)]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, ModuleType | type):
        module = value if isinstance(value, ModuleType) else sys.modules.get(value.__module__)
        source = _source(module)
        inner = sorted(vars(module).items()) if module is not None and source else []
        return [value.__name__, source, *(each for _, each in inner if isinstance(each, ModuleType))]
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list):
        return value
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return [type(value), getattr(value, "__dict__", {})]


def _named(function: FunctionType, code: CodeType) -> Iterator[Any]:
    """The globals and modules that the ``code`` of a function names, also in its imports and its inner functions."""
    for name in code.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]
        elif name in sys.modules:
            yield sys.modules[name]
        elif name.isidentifier() and (spec := _spec(name)) is not None and not _is_installed(spec):
            yield Path(spec).read_bytes()
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _named(function, inner)


def _spec(name: str) -> str | None:
    """The source file of a module that is not imported yet; None if there is none."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _source(module: ModuleType | None) -> bytes:
    """The bytes of a module's source file; none for an installed or built-in module."""
    path = getattr(module, "__file__", None)
    if path is None or _is_installed(path) or not path.endswith(".py"):
        return b""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _is_installed(path: str) -> bool:
    return str(Path(path).resolve()).startswith(INSTALLED) or path.startswith("<frozen")


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
