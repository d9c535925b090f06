"""Measures speed, side by side in one run: ``python -m launch.bench [--out DIR] [--group NAME]``.

This module holds the sizes. The other modules measure:

- ``machine``: matrix products; ``engine``: the grid engine, relative to these products.
- ``baselines``: the engine beside ``jax_baselines``, ``numpy_baselines`` and ``torch_baselines`` on one ``workload``.
- ``stopping``, ``scale``, ``start``, ``compile``: what a user waits for.
- ``sparse``: sparse features, beside ``sparse_baselines``; a grid of them is in ``sparse_grid``.
- ``tickets``: networks whose weights are pruned, beside ``ticket_baselines``.
- ``recovery``: one matrix from dense measurements, beside ``recovery_baselines`` and the packages in ``solvers``, and
  from tables, beside ``table_baselines``.
"""

from launch.bench.sparse_baselines import Size
from launch.bench.workload import Workload

SEEDS, PENALTIES, DIM, MEASUREMENTS = 8, 64, 30, 900
TRAIN, FINE_TUNE, FLAT_STEPS = 400, 160, 10
PRODUCT_FLOPS, SQUARE = 2e9, 2048
LISTED = tuple(0.3 * i / (PENALTIES - 1) for i in range(PENALTIES))

# what the engine runs, and the share of the rate of matrix products that it should reach
ENGINE = (
    (Workload(30, 30, 900, penalties=LISTED, train=400, fine_tune=200, record_every=100, form="gram"), 0.7),
    (Workload(20, 20, 400, penalties=LISTED, train=1600, fine_tune=800, record_every=400, form="gram"), 0.6),
    (Workload(50, 50, 1500, (0, 1, 2, 3), LISTED, train=180, fine_tune=120, record_every=60, form="gram"), 0.8),
    (Workload(50, 10, 1500, (0, 1, 2, 3), LISTED, train=180, fine_tune=120, record_every=60, form="gram"), 0.9),
)
# other sizes for the baselines, and how many times slower PyTorch's loop and its batch should be
OTHER_SIZES = (
    (Workload(20, 20, 400, (0, 1, 2, 3), LISTED, train=1000, fine_tune=400), (60.0, 1.5)),
    (Workload(50, 50, 1500, (0, 1), LISTED, train=300, fine_tune=120), (None, 1.3)),
)

# cells that need 200 to 20,000 steps, depending on their learning rate
STOP = Workload(20, 20, 400, tuple(range(8)), train=20_000, fine_tune=500, record_every=500, form="gram")
STOP_CELLS, STOP_RATES, STOP_TOLERANCE, STOP_TIMED = 64, (0.0006, 0.03), 0.1, 2_000

SCALE_CELLS, SCALE_SETTINGS, PLAN_SECONDS = (1_000, 10_000, 100_000), 50, 2.0
SCALE_SIZE = Workload(6, 4, 30, train=50, fine_tune=20, record_every=50)
MEMORY_SIZE = Workload(30, 30, 900, tuple(range(400)), LISTED, train=4, fine_tune=4, record_every=4, form="gram")
START_SECONDS, START_JOB = 2.5, ()

# configs whose programs are compiled; width of fine-tuning; target ratios; allowed difference of errors
COMPILE_CONFIGS = ("quickstart", "greedy_pruning/pruning_rules", "sparse_features/baselines", "lottery_ticket/noise")
COMPILE_WIDTH, COMPILE_QUICKSTART, COMPILE_EFFORT, COMPILE_AGREE = 4, 1.8, 2.0, 1e-3

SOLVE_DIM, SOLVE_RANK, SOLVE_MEASUREMENTS, SOLVE_NOISE = 50, 3, 600, 0.1
SOLVE_WIDTH, SOLVE_SEEDS, SOLVE_STEPS = 10, 3, 1500
TRIAL_SEEDS = 300  # random problems
# tables with gaps: sides, rank, condition, seeds; for each row of the bench, entries over unknowns and relative noise
TABLE_SHAPE, TABLE_RANK, TABLE_CONDITION, TABLE_SEEDS = (100, 120), 3, 10.0, 3
TABLE_CASES = ((1.5, 0.0), (2.5, 0.0), (3.0, 0.1))

# sparse features: Algorithm 1, the same in a stream (timed at Size.n; bytes at both counts), one step, a grid of cells
PRUNE, PRUNE_POOL, PRUNE_SECONDS = Size(4_000, 1024, 4), 10, 3.0
STREAM, STREAM_COUNTS = Size(9_600, 512, 4), (10_000, 1_000_000)
STEP = Size(32_000, 512, 64)
SPARSE_SEEDS, SPARSE_CONTRACTIONS = tuple(range(8)), tuple(0.3 + 0.1 * i for i in range(6))
SPARSE_SIZE = {"dim": 64, "n": 3_200, "pool": 10, "neurons": 32, "test": 1_280}

# tickets: a phase map of masked teachers and students, and iterative magnitude pruning of a network on digits
MAP_SEEDS, MAP_SUPPORTS, MAP_SAMPLES = tuple(range(8)), (10, 20, 30, 40, 50, 60), (60, 140, 220, 300, 380, 460)
MAP_STEPS = 2000
MAP_SIZE = {"dim": 100, "neurons": 5, "distance": 0.1, "rate": 10.0, "momentum": 0.9, "fine_tune_tolerance": 1e-8}
MAP_SIZE |= {"success": 1e-4}
TICKET_SEEDS, TICKET_KEPT, TICKET_STEPS = tuple(range(4)), tuple(0.8**i for i in range(1, 15)), 100
TICKET_SIZE = {"round_steps": 50, "batch": 100, "rate": 0.005, "share": 0.2}


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    from launch.bench.__main__ import main as command

    return command(argv)


CONVOLUTIONS, CONVOLUTION_ROWS, CONVOLUTION_STEPS = 12, 128, 5  # cells, images, steps
