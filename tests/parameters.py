"""Parameters of tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def first_quick(values: Iterable[Any], quick: int = 1) -> list[Any]:
    """The values of ``parametrize``, those after the first ``quick`` ones slow: they repeat what these show."""
    given = list(values)
    return given[:quick] + [
        pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.slow) for each in given[quick:]
    ]
