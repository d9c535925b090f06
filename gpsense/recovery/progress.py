"""Progress of a search, reported in words to a listener: the rank, the held-out part, the resample."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], object]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_within: ContextVar[str] = ContextVar("within", default="")


@contextmanager
def telling(listener: Listener | None) -> Iterator[None]:
    """Within the block, ``listener`` is called with each report; None leaves the present listener."""
    if listener is None:
        yield
        return
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def within(words: str) -> Iterator[None]:
    """Within the block, these words precede every report."""
    token = _within.set(f"{_within.get()}{words}: ")
    try:
        yield
    finally:
        _within.reset(token)


def tell(words: str) -> None:
    """Reports to the listener, if any, what begins now."""
    if (listener := _listener.get()) is not None:
        listener(_within.get() + words)
