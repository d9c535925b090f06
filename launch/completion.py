"""Shell completion: ``gpsense --completion bash`` prints a script with which the shell completes names.

It completes commands, the options that their help lists, and the names that an option takes, also after a comma; the
shell itself completes files.
"""

import re
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from io import StringIO

from launch.shell import Refusal

SHELLS = ("bash", "zsh")
SCRIPT = """_gpsense() {{
  local names listed="" current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  case "$COMP_CWORD ${{COMP_WORDS[1]}}" in
    "1 "*) names="{commands} --help --version" ;;
{cases}
  esac
  case "${{COMP_WORDS[1]}} $before" in
{values}
  esac
  case "$current" in
    *,*) listed="${{current%,*}},"; current="${{current##*,}}" ;;
  esac
  COMPREPLY=($(compgen -P "$listed" -W "$names" -- "$current"))
}}
complete -o default -F _gpsense gpsense
"""


def script(shell: str, modules: dict[str, str]) -> str:
    """The completion script for ``shell``, given each command's module by name; raises Refusal for an unknown one."""
    if shell not in SHELLS:
        raise Refusal(f"--completion: '{shell}' is not a supported shell; use one of {', '.join(SHELLS)}")
    cases = [f'    *" {name}") names="{" ".join(options(module))}" ;;' for name, module in modules.items()]
    values = [
        f'    "{name} {option}") names="{" ".join(names)}" ;;'
        for name, module in modules.items()
        for option, names in choices(module).items()
    ]
    text = SCRIPT.format(commands=" ".join(modules), cases="\n".join(cases), values="\n".join(values))
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def options(module: str) -> list[str]:
    """The options of a command, in the order of its help."""
    found = re.findall(r"(?m)^ +(?:-\w, )?(--[a-z][\w.-]*)", _help(module))
    return list(dict.fromkeys([*found, "--help"]))


def choices(module: str) -> dict[str, list[str]]:
    """The allowed names of a command's options, by option, from its help or from its module's function ``choices``."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"(?m)^ +(?:-\w, )?(?=--[a-z])", _help(module))[1:]:
        option, _, rest = " ".join(entry.split()).partition(" ")
        if listed := re.match(r"{([^}]+)}|[A-Z]* ?one of ([^;]+);", rest):
            found[option] = re.split(", ?", listed[1] or listed[2])
    own = getattr(import_module(module), "choices", dict)
    return found | own()


@cache
def _help(module: str) -> str:
    """The text that a command prints for ``--help``."""
    told = StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        import_module(module).main(["--help"])
    return told.getvalue()
