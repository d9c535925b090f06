"""What stopping saves: cells that need few or many steps, stopped at a tolerance, against all steps in every cell."""

from dataclasses import replace
from statistics import median

import numpy as np

from launch import bench
from launch.bench.rows import Row, make_row, once
from launch.bench.workload import compiled, phases

TARGET = 4.0


def stopping() -> list[Row]:
    """Row: seconds of a grid over learning rates with a tolerance; ratio: seconds without a tolerance over these."""
    workload = bench.STOP
    rates = tuple(float(rate) for rate in np.geomspace(*bench.STOP_RATES, bench.STOP_CELLS))
    stopped, chunk = compiled(workload, {"rate": rates}, tolerance=bench.STOP_TOLERANCE)
    part = replace(workload, train=min(bench.STOP_TIMED, workload.train))
    whole, same = compiled(part, {"rate": rates})
    steps = stopped.run(chunk)["steps_train"]
    whole.run(same)
    few, many = [], []
    for _ in range(3):
        few.append(once(lambda: stopped.run(chunk))[1])
        total, train, _ = phases(part, whole, same)
        many.append(total + train * (workload.train / part.train - 1))
    few.append(once(lambda: stopped.run(chunk))[1])
    seconds, full = median(few), median(many)
    note = (
        f"{steps.size} cells, rates {rates[0]:g} to {rates[-1]:g}, stopped at gradient norm {bench.STOP_TOLERANCE:g} "
        f"after {steps.min()} to {steps.max()} steps, {steps.mean():.0f} on average (at best a ratio of "
        f"{workload.train / steps.mean():.3g}), then {workload.fine_tune} steps of fine-tuning; all to the last step "
        f"{full:.3g} s, timed on {part.train} steps and scaled to {workload.train}"
    )
    name = f"grid with stopped cells, d = k = {workload.dim}"
    return [make_row("stopping", name, seconds, note, ratio=full / seconds, target=TARGET)]
