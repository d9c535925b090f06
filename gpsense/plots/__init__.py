"""Results drawn on matplotlib Axes: those given, or new ones. Nothing is written; ``axes.figure.savefig`` does so."""

from gpsense.plots.grids import plot_columns, plot_curves, plot_measure
from gpsense.plots.recoveries import plot_fit, plot_map, plot_ranks

__all__ = ["plot_columns", "plot_curves", "plot_fit", "plot_map", "plot_measure", "plot_ranks"]
