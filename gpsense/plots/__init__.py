"""Plots of results on matplotlib Axes, given or new. Nothing is saved; ``axes.figure.savefig`` does so."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpsense.plots.grids import plot_columns, plot_curves, plot_measure
    from gpsense.plots.recoveries import plot_fit, plot_map, plot_ranks

__all__ = ["plot_columns", "plot_curves", "plot_fit", "plot_map", "plot_measure", "plot_ranks"]
_RECOVERIES = ("plot_fit", "plot_map", "plot_ranks")


def __getattr__(name: str) -> Any:
    """The public function of this name; importing it on first use spares programs that only read results matplotlib."""
    if name not in __all__:
        raise AttributeError(f"module 'gpsense.plots' has no attribute {name!r}")
    return getattr(import_module(f"gpsense.plots.{'recoveries' if name in _RECOVERIES else 'grids'}"), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
