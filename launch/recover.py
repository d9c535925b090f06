"""Recover a factor from your own measurements: ``python -m launch.recover MEASUREMENTS.npz [--out DIR]``.

The file holds ``y`` (n,) and one of: ``A`` (n, d, d); ``x`` (n, d) for A_i = x_i x_i^T; ``rows``, ``cols`` (n,) for
single entries; ``i``, ``j`` (n,) with ``kind="distances"`` for squared distances. Rank and noise need not be known.
``python -m launch.recover --example cities`` makes such a file from real places and recovers their map.
Writes factor.npy (d, rank), summary.json and figures. Exit codes: 0 done, 2 refused.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsense.grid.files import atomic, writable, write_json
from launch.shell import Parser, Refusal, guarded, leave, program

if TYPE_CHECKING:
    import jax

    from gpsense.estimators.recover import Recovery


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    return guarded(lambda: run(_arguments(argv)))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    summary, details = (__doc__ or "").replace("``", "").split("\n\n", 1)
    parser = Parser(program("recover"), description=summary, epilog=details)
    parser.add_argument("measurements", nargs="?", type=Path, metavar="MEASUREMENTS.npz", help="the file")
    parser.add_argument("--example", choices=["cities"], help="make and recover a worked example instead")
    parser.add_argument("--out", type=Path, help="folder for the results; default runs/recover-NAME-DIGEST")
    parser.add_argument("--width", type=int, default=20, help="columns to start from (default 20, at most d)")
    parser.add_argument("--penalties", type=int, default=16, help="penalties on the path (default 16)")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of measurements held out (default 0.2)")
    parser.add_argument("--seed", type=int, default=0, help="draws the split, the start and the example (default 0)")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float64", help="default float64")
    parser.add_argument("--noise", type=float, default=0.02, help="example: relative noise (default 0.02)")
    parser.add_argument("--share", type=float, default=0.3, help="example: share of pairs measured (default 0.3)")
    arguments = parser.parse_args(argv)
    if (arguments.measurements is None) == (arguments.example is None):
        raise Refusal("MEASUREMENTS.npz: give one file, or --example cities")
    for name, good, need in (
        ("width", arguments.width >= 1, "at least 1"),
        ("penalties", arguments.penalties >= 2, "at least 2"),
        ("held-out", 0 < arguments.held_out < 1, "between 0 and 1"),
        ("seed", arguments.seed >= 0, "at least 0"),
        ("noise", arguments.noise >= 0, "at least 0"),
        ("share", 0 < arguments.share <= 1, "above 0 and at most 1"),
    ):
        if not good:
            raise Refusal(f"--{name}: {getattr(arguments, name.replace('-', '_'))} is not {need}; change it")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Read and check, recover, write."""
    from launch import cities, measured

    name = arguments.example or arguments.measurements.stem
    example = cities.example(arguments.share, arguments.noise, arguments.seed) if arguments.example else None
    data = measured.check(example.fields if example else measured.read(arguments.measurements), arguments.precision)
    options = {key: getattr(arguments, key) for key in ("seed", "width", "held_out", "penalties", "precision")}
    digest = _digest(data, options)
    out = arguments.out or Path("runs") / f"recover-{name}-{digest[:8]}"
    _usable(out, digest)
    for notice in data.notices:
        print(f"notice: {notice}", file=sys.stderr)

    from gpsense.errors import BadInput
    from gpsense.estimators.recover import recover
    from gpsense.grid.store import versions
    from launch import device

    device.configure(arguments.precision)
    measurements, values = measured.to_map(data)
    del options["precision"]
    begun = time.perf_counter()
    try:
        result = recover(measurements, values, **options)
    except BadInput as error:
        raise Refusal(str(error)) from None
    seconds = time.perf_counter() - begun
    facts = {"name": name, "kind": data.kind, "n": data.values.size, "dim": data.dim, "seconds": round(seconds, 3)}
    facts["scale"] = float(np.sqrt((data.values.astype(float) ** 2).mean()))
    facts |= {"rank": result.rank, "noise": result.noise, "residual": result.residual}
    if example:
        facts |= example.score(result.factor)
    found = data.notices + _doubts(result, data, arguments.width)
    for notice in found[len(data.notices) :]:
        print(f"notice: {notice}", file=sys.stderr)
    record = facts | {"digest": digest, "settings": options, "notices": found}
    record |= versions()
    predicted = np.asarray(measurements.forward(jax_factor(result, values)))
    _write(out, record, result, predicted, data.values, example)
    print(_text(facts))
    print(f"factor {out / 'factor.npy'}   summary {out / 'summary.json'}   figures {out / 'figures'}")
    return 0


def _digest(data: Any, options: dict[str, Any]) -> str:
    """Identity of a recovery: the data and every option that decides a number."""
    digest = hashlib.sha256(json.dumps([data.kind, data.dim, options]).encode())
    for array in (data.values, *data.arrays.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _doubts(result: "Recovery", data: Any, width: int) -> list[str]:
    """What a reader of the result must know: a rank at the width, too few measurements to tell."""
    rank, dim, held = result.rank, data.dim, result.held_out.size
    unknowns, fitted = rank * dim - rank * (rank - 1) // 2, data.values.size - held
    doubts = []
    if rank == width < dim:
        doubts.append(f"rank {rank} is the width the search started from; raise --width to see whether it is more")
    if rank and fitted < 1.2 * unknowns:
        doubts.append(f"rank {rank} has {unknowns} unknowns, fitted to {fitted} measurements; do not trust it")
    if held < 5:
        doubts.append(f"only {held} measurements were held out to check against; raise --held-out or measure more")
    return doubts


def _usable(out: Path, digest: str) -> None:
    """Refuse a folder that cannot be written to, or that a recovery did not make; writes nothing."""
    if out.is_dir() and any(out.iterdir()):
        try:
            theirs = json.loads((out / "summary.json").read_text(encoding="utf-8"))["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            raise Refusal(f"--out: {out} holds files that are not a recovery's; name an empty directory") from None
        if theirs != digest:
            raise Refusal(f"--out: {out} holds the recovery of other data or settings; choose another directory")
    writable(out)


def jax_factor(result: "Recovery", values: "jax.Array") -> "jax.Array":
    """The factor in the dtype of the values; one zero column stands for rank 0."""
    import jax.numpy as jnp

    factor = result.factor if result.rank else np.zeros((result.factor.shape[0], 1))
    return jnp.asarray(factor, values.dtype)


def _write(
    out: Path, record: dict[str, Any], result: "Recovery", predicted: np.ndarray, values: np.ndarray, example: Any
) -> None:
    """factor.npy, path.npz-like numbers in summary.json, figures; the example's own measurements too."""
    from gpsense.plots import plot_fit, plot_map, plot_path
    from launch import figures

    path = {key: np.asarray(value).tolist() for key, value in result.path._asdict().items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        with atomic(out / "factor.npy") as aside, open(aside, "wb") as file:
            np.save(file, result.factor)
        if example:
            with atomic(out / "measurements.npz") as aside, open(aside, "wb") as file:
                np.savez(file, **example.fields)
        figures.save(plot_path(result), out / "figures" / "path.png")
        figures.save(plot_fit(result, predicted, values), out / "figures" / "fit.png")
        if example:
            headline = f"{len(example.names)} cities from {values.size} noisy distances: rank {result.rank}, "
            headline += f"error {100 * record['error']:.2f} %, median offset {record['median_offset_km']:.0f} km"
            axes = plot_map(example.names, example.places, example.aligned(result.factor))
            axes.set_title(headline)
            figures.save(axes, out / "figures" / "map.png")
        write_json(out / "summary.json", record | {"chosen": result.chosen, "path": path})
    except OSError as error:
        raise Refusal(f"--out: {out} cannot be written to ({error.strerror}); name a writable directory") from None


def _text(facts: dict[str, Any]) -> str:
    """What was found, for people."""
    held_out, residual = (f"{facts[key]:.4g} ({facts[key] / facts['scale']:.2%} of y)" for key in ("noise", "residual"))
    lines = [
        f"{facts['name']}: {facts['n']} values ({facts['kind']}) of a {facts['dim']} x {facts['dim']} matrix",
        f"rank {facts['rank']}   held-out error {held_out}   residual {residual}   {facts['seconds']:.1f} s",
    ]
    if "error" in facts:
        lines.append(
            f"error of the centred Gram matrix {100 * facts['error']:.2f} %   median offset "
            f"{facts['median_offset_km']:.1f} km, largest {facts['largest_offset_km']:.1f} km"
        )
    if facts["rank"] == 0:
        lines.append("rank 0: no factor predicts the held-out values better than zero; check the sign of y")
    return "\n".join(lines)


if __name__ == "__main__":
    leave(main())
