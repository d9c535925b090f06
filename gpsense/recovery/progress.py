"""What a search is at, told in words to whoever listens: the rank, the part held out, the resample."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str], object]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_within: ContextVar[str] = ContextVar("within", default="")


@contextmanager
def telling(listener: Listener | None) -> Iterator[None]:
    """Within the block ``listener`` is called with words; None: with whatever listened before."""
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
    """Within the block these words stand before what is told."""
    token = _within.set(f"{_within.get()}{words}: ")
    try:
        yield
    finally:
        _within.reset(token)


def tell(words: str) -> None:
    """Tell what begins now."""
    if (listener := _listener.get()) is not None:
        listener(_within.get() + words)
