"""Run the claims and judge them; exit 0 if none fails, 1 if one does, 2 for bad input, 130 when interrupted."""

import argparse
import json
import textwrap
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import Any

from gpsense.fields import nearest
from launch.paths import configs
from launch.shell import Parser, Refusal, guarded, leave, program

CONFIGS = configs()


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    return guarded(lambda: run(_arguments(argv)))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        program("claims"),
        description="Run the papers' claims as experiments and print claim, expected, measured and verdict.",
    )
    parser.add_argument("--paper", help=f"one of {', '.join(papers())}; default: all")
    parser.add_argument("--claim", help="this claim only, by the name of its config")
    parser.add_argument("--full", action="store_true", help="at the full size")
    parser.add_argument(
        "--seed-offset",
        type=_count,
        default=0,
        metavar="N",
        help="add N to all seeds; results go to OUT/offset-N (default 0)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="folder (default runs/claims)")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def papers() -> list[str]:
    """The folders of configs that hold claims and have a module that measures them."""
    here = Path(__file__).parent
    return sorted(path.name for path in here.iterdir() if (path / "__init__.py").exists())


def run(arguments: argparse.Namespace) -> int:
    """Read and check all claims, then run one after the other; what is done is written at once."""
    chosen = papers() if arguments.paper is None else [arguments.paper]
    if unknown := [name for name in chosen if name not in papers()]:
        near = nearest(unknown[0], papers())
        raise Refusal(f"--paper: no claims of {unknown[0]}; {near or 'use one of ' + ', '.join(papers())}")

    from gpsense.grid import files
    from gpsense.grid.tracing import Traces
    from launch import device
    from launch.claims.experiment import Running, caveat, evaluate, read_claims
    from launch.claims.table import heading, lines, summary

    device.use_cores()
    out = arguments.out / f"offset-{arguments.seed_offset}" if arguments.seed_offset else arguments.out
    files.writable(out)
    offset = arguments.seed_offset
    claims = [claim for paper in chosen for claim in read_claims(CONFIGS / paper, arguments.full, offset)]
    if arguments.claim is not None:
        claims, known = [c for c in claims if c.name == arguments.claim], [c.name for c in claims]
        if not claims:
            near = nearest(arguments.claim, known)
            raise Refusal(f"--claim: no claim {arguments.claim}; {near or 'use one of ' + ', '.join(known)}")
    print(heading())
    records: list[dict[str, Any]] = []
    running = [Running(claim, out, Traces()) for claim in claims]
    for one, following in zip_longest(running, running[1:]):
        record = evaluate(one, following)
        records.append(record)
        files.write_json(out / "claims.json", kept(out / "claims.json", records))
        print(lines(record), flush=True)
    print(summary(records))
    for paper in dict.fromkeys(claim.paper for claim in claims):
        if words := caveat(paper):
            print(textwrap.fill(f"{paper}: {words}", 120))
    print(f"written to {out / 'claims.json'}   figures {out / 'figures'}")
    return 1 if any(record["verdict"] == "fails" for record in records) else 0


def kept(path: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These records, after those of earlier runs into the same folder that they do not replace."""
    key = itemgetter("paper", "claim", "size")
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        fresh = {key(record) for record in records}
        return [record for record in earlier if key(record) not in fresh] + records
    except (OSError, ValueError, KeyError, TypeError):
        return records


if __name__ == "__main__":
    leave(main())
