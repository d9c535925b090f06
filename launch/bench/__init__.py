"""Speed, measured side by side in one run: ``python -m launch.bench [--out DIR] [--group NAME]``.

The sizes of what is measured stand here. ``machine`` measures matrix products, ``rivals`` what one would run instead
of the grid engine (``jax_rivals``, ``numpy_rivals``, ``torch_rivals``; one ``workload`` for all), ``solvers`` other
ways to recover one matrix.
"""

SEEDS, PENALTIES, DIM, MEASUREMENTS = 8, 32, 30, 900
TRAIN, FINE_TUNE, FLAT_STEPS = 500, 200, 10
SOLVE_DIM, SOLVE_RANK, SOLVE_MEASUREMENTS, SOLVE_NOISE = 50, 3, 600, 0.1
OTHER_SEEDS, OTHER_SIZES = 2, ((20, 400), (50, 1500))


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    from launch.bench.__main__ import main as command

    return command(argv)
