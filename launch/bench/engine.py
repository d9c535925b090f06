"""The FLOP rate of the grid engine, as a share of the machine's rate in bare matrix products."""

from statistics import median

from gpsense.sensing.symmetric import packed_size
from launch import bench
from launch.bench.machine import fastest, product_rates
from launch.bench.rows import Row, make_row
from launch.bench.workload import Workload, compiled, form, needed_flops, phases

TURNS = 3


def engine() -> list[Row]:
    """A row for every size of :data:`launch.bench.ENGINE`."""
    return [share(workload, target) for workload, target in bench.ENGINE]


def share(workload: Workload, target: float) -> Row:
    """The row of one workload; ratio: median FLOP rate of the engine over that of products, measured in alternation.

    The engine's time is that of a whole chunk, from sampling to measures; only necessary operations count.
    """
    program, chunk = compiled(workload)
    flops = needed_flops(workload, program.run(chunk))
    products, totals, around = [], [], []
    for turn in range(TURNS + 1):
        products.append(product_rates(len(workload.penalties), packed_size(workload.dim)))
        if turn < TURNS:
            total, *steps = phases(workload, program, chunk)
            totals.append(total)
            around.append(total - sum(steps))
    seconds, machine = median(totals), fastest(*products)
    rate = median(flops / total for total in totals) / 1e9
    name = f"engine, d = {workload.dim}, k = {workload.width}, {len(workload.penalties)} settings"
    note = (
        f"{len(workload.seeds)} seeds, n = {workload.n}, {workload.train} + {workload.fine_tune} steps, form "
        f"{form(program)}; {median(around):.2g} s of it for sampling, pruning and measures; against "
        f"{machine.gflops:.3g} GFLOP/s of products ({machine.way})"
    )
    return make_row("engine", name, seconds, note, rate, rate / machine.gflops, target)
