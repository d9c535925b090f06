"""Run the claims and check them; exit 0 if none fails, 1 if one does, 2 for bad input, 130 when interrupted."""

import argparse
import textwrap
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsense.errors import nearest, shown
from launch.paths import configs, find_config
from launch.shell import Parser, Refusal, guarded, leave, program

if TYPE_CHECKING:
    from launch.claims.experiment import Experiment

CONFIGS = configs()


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return guarded(lambda: run(_arguments(argv)))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        program("claims"),
        description="Run the papers' claims, or your own, as experiments and check them.",
        epilog="Exit codes: 0 no claim fails, 1 one does, 2 bad input, 130 interrupted (rerun to resume).",
    )
    parser.add_argument(
        "configs",
        nargs="*",
        type=Path,
        metavar="CONFIG.yaml",
        help="configs of your own claims, each checked by the FILE.py:FUNCTION in its claim.check; default: the "
        "papers' claims",
    )
    parser.add_argument("--paper", help=f"one of {', '.join(papers())}; default: all")
    parser.add_argument("--claim", help="run only the claim whose config has this name")
    parser.add_argument("--full", action="store_true", help="run the claims at their full size")
    parser.add_argument(
        "--seed-offset",
        type=_count,
        default=0,
        metavar="N",
        help="add N (default 0) to all seeds; results then go to OUT/offset-N",
    )
    parser.add_argument(
        "--write-tables",
        action="store_true",
        help="run nothing; merge the results in OUT/claims.json, except those of --full, into the claims.json and "
        "README.md beside each paper's configs",
    )
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="run on a dask cluster: local:N (N processes here) or tcp://HOST:PORT"
    )
    out = "folder for the results (default runs/claims)"
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help=out)
    return parser.parse_args(argv)


def _count(text: str) -> int:
    """``text`` as a whole number of 0 or more; ArgumentTypeError for any other text."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a whole number; use a whole number 0 or more")
    return int(text)


def papers() -> list[str]:
    """The names of the papers: each has a folder of configs, and a package beside this module that measures them."""
    here = Path(__file__).parent
    return sorted(path.name for path in here.iterdir() if (path / "__init__.py").exists())


def chosen(arguments: argparse.Namespace) -> "list[Experiment]":
    """The claims that the arguments choose, their configs checked."""
    from launch.claims.experiment import read_claims, read_own

    size = arguments.full, arguments.seed_offset
    if arguments.configs:
        if option := "--paper" if arguments.paper else "--claim" if arguments.claim else "":
            raise Refusal(f"{option}: chooses among the papers' claims; leave it out, or the config files")
        return [read_own(find_config(path), *size) for path in arguments.configs]
    names = papers() if arguments.paper is None else [arguments.paper]
    if unknown := [name for name in names if name not in papers()]:
        near = nearest(unknown[0], papers())
        raise Refusal(f"--paper: no claims of {unknown[0]}; {near or 'use one of ' + ', '.join(papers())}")
    claims = [claim for paper in names for claim in read_claims(CONFIGS / paper, *size)]
    if arguments.claim is None:
        return claims
    if not (found := [claim for claim in claims if claim.name == arguments.claim]):
        known = [claim.name for claim in claims]
        near = nearest(arguments.claim, known)
        raise Refusal(f"--claim: no claim {arguments.claim}; {near or 'use one of ' + ', '.join(known)}")
    return found


def run(arguments: argparse.Namespace) -> int:
    """Read and check all chosen claims, then run them one after the other; a record is written as soon as it is made.

    With --write-tables no claim is run.
    """
    from gpsense.grid import files
    from gpsense.grid.cluster import started
    from gpsense.grid.tracing import Traces
    from launch import device
    from launch.arguments import read_cluster
    from launch.claims.experiment import Running, caveat, evaluate
    from launch.claims.page import write_page
    from launch.claims.rehearsal import check_names
    from launch.claims.table import heading, lines, summary

    if arguments.write_tables:
        from launch.claims.readme import write_tables

        for path in write_tables(CONFIGS, papers(), arguments.out):
            print(path)
        return 0
    device.use_cores()
    out = arguments.out / f"offset-{arguments.seed_offset}" if arguments.seed_offset else arguments.out
    files.writable(out)
    cluster = read_cluster(arguments.cluster) if arguments.cluster is not None else None
    claims = chosen(arguments)
    for claim in claims:
        check_names(claim)
    out.mkdir(parents=True, exist_ok=True)
    files.remove_left_over(out)
    print(heading())
    records: list[dict[str, Any]] = []
    with started(cluster) as workers:
        running = [Running(claim, out, Traces(), workers) for claim in claims]
        for one, following in zip_longest(running, running[1:]):
            record = evaluate(one, following)
            records.append(record)
            files.write_json(out / "claims.json", kept(out / "claims.json", records))
            print(lines(record), flush=True)
    print(summary(records))
    for paper in dict.fromkeys(claim.paper for claim in claims):
        if words := caveat(paper):
            print(textwrap.fill(f"{paper}: {words}", 120))
    print(f"written to {out / 'claims.json'}   figures {out / 'figures'}   page {write_page(out)}")
    return 1 if any(record["verdict"] == "fails" for record in records) else 0


def kept(path: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The earlier records in ``path`` that ``records`` do not replace and that have the same keys, then ``records``."""
    from gpsense.grid import files

    key = itemgetter("paper", "claim", "size")
    try:
        earlier = files.read_json(path)
        fresh = {key(record) for record in records}
        alike = [record for record in earlier if record.keys() == records[0].keys()]
        return [record for record in alike if key(record) not in fresh] + records
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return records


if __name__ == "__main__":
    leave(main())
