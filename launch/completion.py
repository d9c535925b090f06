"""Completion of the command line: ``gpsense --completion bash`` prints what a shell reads to complete names.

Commands first, then the options of each, as its help lists them; files by the shell itself.
"""

import re
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO

from launch.shell import Refusal

SHELLS = ("bash", "zsh")
SCRIPT = """_gpsense() {{
  local names current="${{COMP_WORDS[COMP_CWORD]}}"
  case "$COMP_CWORD ${{COMP_WORDS[1]}}" in
    "1 "*) names="{commands} --help --version" ;;
{cases}
  esac
  COMPREPLY=($(compgen -W "$names" -- "$current"))
}}
complete -o default -F _gpsense gpsense
"""


def script(shell: str, modules: dict[str, str]) -> str:
    """What ``shell`` reads, for commands by name with the module of each; Refusal for a shell that is not known."""
    if shell not in SHELLS:
        raise Refusal(f"--completion: there is no '{shell}'; use one of {', '.join(SHELLS)}")
    cases = [f'    *" {name}") names="{" ".join(options(module))}" ;;' for name, module in modules.items()]
    text = SCRIPT.format(commands=" ".join(modules), cases="\n".join(cases))
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def options(module: str) -> list[str]:
    """The options of a command, in the order of its help."""
    told = StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        import_module(module).main(["--help"])
    found = re.findall(r"(?m)^ +(?:-\w, )?(--[a-z][\w.-]*)", told.getvalue())
    return list(dict.fromkeys([*found, "--help"]))
