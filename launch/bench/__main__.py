"""The command ``python -m launch.bench [--out DIR] [--group NAME]``.

Measures gpsense's speed beside the machine's limits and other methods, all in one run. Prints one table and writes
bench.json. Ratios are defined so that more is better, and the results of every baseline are compared with gpsense's in
the same run. A note says where a row was measured on fewer cells or steps and scaled up. Exit codes: 0 done, 1 a group
failed, 2 bad input.
"""

import json
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

from gpsense.errors import BadInput
from launch.bench.child import child
from launch.bench.rows import Row, text
from launch.shell import Parser, Refusal, leave, program, refused

# the module of each group; its function has the name of the group
GROUPS = {
    "machine": "machine",
    "engine": "engine",
    "grid": "baselines",
    "sizes": "baselines",
    "stopping": "stopping",
    "scale": "scale",
    "start": "start",
    "compile": "compile",
    "sparse": "sparse",
    "tickets": "tickets",
    "recovery": "recovery",
}
DOUBLE = "recovery"


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = Parser(program("bench"), description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder for bench.json (default bench)")
    parser.add_argument(
        "--group", choices=sorted(GROUPS), metavar="NAME", help=f"one of {', '.join(sorted(GROUPS))}; default: all"
    )

    import jax

    from gpsense.grid import files
    from launch import device

    try:
        arguments = parser.parse_args(argv)
        files.writable(arguments.out)
    except (Refusal, BadInput) as error:
        return refused(error)
    device.configure("float64" if arguments.group == DOUBLE else "float32")
    jax.config.update("jax_enable_compilation_cache", False)  # so that every run measures the cost of compiling
    rows, failed = [], False
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in [arguments.group] if arguments.group else list(GROUPS):
        print(f"measuring {name} ...", file=sys.stderr)
        try:
            rows += measured(name) if name == arguments.group or name != DOUBLE else apart(name)
        except Exception:  # the rows of the other groups are kept
            failed = True
            traceback.print_exc()
            print(f"error: group {name} failed; the others continue", file=sys.stderr)
        files.write_json(arguments.out / "bench.json", rows)
    print(text(rows))
    print(f"\nwritten to {arguments.out / 'bench.json'}")
    return int(failed)


def measured(group: str) -> list[Row]:
    """The rows of a group."""
    return getattr(import_module(f"launch.bench.{GROUPS[group]}"), group)()


def apart(group: str) -> list[Row]:
    """The rows of a group, measured in a process of its own with another precision."""
    with tempfile.TemporaryDirectory() as folder:
        child(["-m", "launch.bench", "--group", group, "--out", folder])
        return json.loads((Path(folder) / "bench.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    leave(main())
