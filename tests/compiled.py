"""Functions compiled as a whole: called as they are, each of their operations is compiled as a program of its own."""

from types import ModuleType
from typing import Any

import jax


class Compiled:
    """The functions of a module under their names, for arguments that are all arrays or numbers."""

    def __init__(self, module: ModuleType):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        self.__dict__[name] = jax.jit(getattr(self._module, name))
        return self.__dict__[name]
