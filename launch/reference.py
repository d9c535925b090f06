"""Writes the API reference from the docstrings: ``python -m launch.reference [--out DIR]``.

HTML pages with a search, one for the public names and one for every public module; needs the extra ``dev``.
"""

import dataclasses
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_origin
from unittest.mock import patch

import gpsense
from gpsense.fields import Field, declared
from gpsense.systems import System
from launch.shell import Parser, Refusal, guarded, program

_plainly = inspect.formatannotation


def main(argv: list[str] | None = None) -> int:
    """Write the API reference of all public names and modules as HTML pages."""
    parser = Parser(program("reference"), description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("reference"), metavar="DIR", help="folder; default: reference")

    def work() -> int:
        print(build(parser.parse_args(argv).out))
        return 0

    return guarded(work)


def build(out: Path) -> Path:
    """Write all pages to a folder and return the path of index.html; raises Refusal if pdoc is not installed."""
    try:
        from pdoc import doc, render  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise Refusal('pdoc is not installed; pip install "gpsense[dev]"') from None
    for module in map(import_module, modules()):
        for name in getattr(module, "__all__", ()):
            vars(module)[name] = getattr(module, name)  # pdoc sees only what has been imported
    render.configure(docformat="restructuredtext", footer_text=f"gpsense {gpsense.__version__}", show_source=False)
    with patch("inspect.formatannotation", annotation), patch("pdoc.doc.formatannotation", annotation):
        pages = {name: doc.Module(import_module(name)) for name in modules()}
        for page in pages.values():
            for each in everything(page):
                each.docstring = fenced(each.docstring)
                if isinstance(each, doc.Class):
                    describe(each)
        for name, page in pages.items():
            path = out / f"{name.replace('.', '/')}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render.html_module(page, pages), encoding="utf-8")
        (out / "index.html").write_text(render.html_index(pages), encoding="utf-8")
        (out / "search.js").write_text(render.search_index(pages), encoding="utf-8")
    return out / "index.html"


def modules() -> list[str]:
    """The public modules of the package, itself first."""
    found = (info.name for info in pkgutil.walk_packages(gpsense.__path__, "gpsense."))
    return ["gpsense", *sorted(name for name in found if "._" not in name)]


def everything(page: Any) -> Iterator[Any]:
    """A documented object and, recursively, all its members."""
    yield page
    for each in getattr(page, "members", {}).values():
        yield from everything(each)


def fenced(text: str) -> str:
    """A docstring with its example (lines from ``>>>``) as a block of code."""
    return re.sub(r"(?m)^>>> (?:.+\n?)+", lambda found: f"\n```pycon\n{found[0].rstrip()}\n```\n", text)


def describe(page: Any) -> None:
    """Document the fields of a dataclass by their help and range; for a system also those of its Data and Setting."""
    kind: Any = page.obj
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        return
    fields = declared(kind)
    for name, member in page.members.items():
        if name in fields and not member.docstring:
            member.docstring = meaning(fields[name])
    if not issubclass(kind, System) or kind.__abstractmethods__:
        return
    numbers = {f"`{name}`": getattr(kind, name) for name in ("Data", "Setting") if hasattr(kind, name)}
    for title, owner in ({"compiled in": kind} | numbers).items():
        listed = [field for field in declared(owner).values() if not field.hidden and meaning(field)]
        lines = [f"- `{field.name}` = `{field.default}`: {meaning(field)}" for field in listed]
        if lines:
            page.docstring += "\n".join(["", "", f"Fields, {title}:", "", *lines, ""])


def meaning(field: Field) -> str:
    """A field's help, and its range or the names allowed."""
    allowed = ", ".join(field.choices) if field.choices is not None else field.range_words()
    return " ".join(filter(None, (field.help, allowed and f"({allowed})")))


def annotation(value: Any, *rest: Any, **options: Any) -> str:
    """The text of a type, without module names and without the ``Field`` that ``Annotated`` adds."""
    while get_origin(value) is Annotated:
        value = value.__origin__
    text = re.sub(r"Annotated\[([\w.| \[\],]+), Field\(.*", r"\1", _plainly(value, *rest, **options))
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=\w)", "", text)
    return text.replace("Union[Array, ndarray, bool, number, bool, int, float, complex]", "ArrayLike")


if __name__ == "__main__":
    sys.exit(main())
