"""``gpsense COMMAND ...`` or ``python -m gpsense COMMAND ...`` runs ``python -m launch.COMMAND ...``."""

import difflib
import sys
from importlib import import_module

from gpsense import __version__

# module and purpose of every command
COMMANDS = {
    "grid": ("launch.grid", "run a grid from a config or over your own function; write results, figures, a page"),
    "recover": ("launch.recover", "find a low-rank matrix from your own measurements"),
    "claims": ("launch.claims.__main__", "run the papers' claims, or your own, as experiments and check them"),
    "bench": ("launch.bench.__main__", "measure speed against the machine's limits and other methods"),
    "report": ("launch.report", "redraw figures and page of a stored run, compare runs, write tables for papers"),
    "reference": ("launch.reference", "write the API reference of all public names as HTML pages"),
}
COMPLETION = 'To let bash (or zsh) complete commands and options, put eval "$(gpsense --completion bash)" into .bashrc.'


def main(argv: list[str] | None = None) -> None:
    """Run a command and end the process with its exit code; 2 for a command that does not exist."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "--version"):
        from launch.shell import guarded

        text = f"gpsense {__version__}" if name == "--version" else usage()
        sys.exit(guarded(lambda: print(text, flush=True) or 0))
    if name == "--completion":
        from launch.completion import script
        from launch.shell import guarded

        modules = {name: module for name, (module, _) in COMMANDS.items()}
        sys.exit(guarded(lambda: print(script(" ".join(rest), modules), flush=True) or 0))
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1, 0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        print(f"error: there is no command '{name}'; {meant}use one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    command = import_module(COMMANDS[name][0])
    from launch.shell import leave

    leave(command.main(rest))


def usage() -> str:
    """The help text, with one command per line."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {words}" for name, (_, words) in COMMANDS.items()]
    return "\n".join(["usage: gpsense COMMAND ...", "", *lines, "", "gpsense COMMAND --help says more.", COMPLETION])


if __name__ == "__main__":
    main()
