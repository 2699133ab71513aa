"""The completions of each shell: shtab's, with the registered products and files as what a value may be.

A product's name is found by the shell itself, in the directory of registered contracts: a Python would
take 30 ms and more for every press of the key. Only a name of the grammar is offered: anybody's file may lie
there, and what a shell inserts it will also run.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

import shtab
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.usage import parser

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = """\
# Completes the words of tallyd. Made from its command line's table by `make shell` with shtab.
# Printed by `tallyd completion {shell}`; put it where {shell} looks:
{place}
"""
_PLACES: Final = {
    "bash": "#   tallyd completion bash > ~/.local/share/bash-completion/completions/tallyd",
    "zsh": (
        "#   tallyd completion zsh > ~/.zfunc/_tallyd\n"
        "# with, in ~/.zshrc before compinit:  fpath=(~/.zfunc $fpath)"
    ),
    "fish": "#   tallyd completion fish > ~/.config/fish/completions/tallyd.fish",
}

# The rule of `tallyd.paths` in the words of each shell.
_BASH: Final = """\
_tallyd_products() {
  # Called in a shell of its own, so what is set here ends with it.
  set +eufx
  shopt -s nullglob
  shopt -u failglob nocaseglob dotglob
  LC_ALL=C
  GLOBIGNORE=
  local home file name
  case ${TALLYD_HOME-} in
    /*) home=$TALLYD_HOME/config ;;
    *) case ${XDG_CONFIG_HOME-} in
      /*) home=$XDG_CONFIG_HOME/tallyd ;;
      *) home=${HOME-}/.config/tallyd ;;
    esac ;;
  esac
  for file in "$home"/contracts/*.toml; do
    name=${file##*/}
    name=${name%.toml}
    [[ $name =~ ^@NAME@$ && $name == "${1-}"* ]] && printf '%s\\n' "$name"
  done
  return 0
}

_tallyd_contract_file() {
  _tallyd_products "${1-}"
  compgen -f -- "${1-}"
}"""
_ZSH: Final = """\
_tallyd_products() {
  # Whatever its user set, zsh completes under options of its own, extended_glob among them.
  local home
  local -a names
  if [[ ${TALLYD_HOME-} == /* ]]; then
    home=$TALLYD_HOME/config
  elif [[ ${XDG_CONFIG_HOME-} == /* ]]; then
    home=$XDG_CONFIG_HOME/tallyd
  else
    home=${HOME-}/.config/tallyd
  fi
  names=($home/contracts/*.toml(N:t:r))
  names=(${(M)names:#@GLOB@})
  _wanted products expl product compadd -a names
}

_tallyd_contract_file() {
  _alternative 'products:product:_tallyd_products' 'files:file:_files'
}"""
_FISH: Final = """\
function _tallyd_products
  set -l home $HOME/.config/tallyd
  if string match -q '/*' -- "$XDG_CONFIG_HOME"
    set home $XDG_CONFIG_HOME/tallyd
  end
  if string match -q '/*' -- "$TALLYD_HOME"
    set home $TALLYD_HOME/config
  end
  for file in $home/contracts/*.toml
    string match -rq '/(?<name>@NAME@)\\.toml\\z' -- $file
    and printf '%s\\tproduct\\n' $name
  end
end

function _tallyd_contract_file
  _tallyd_products
  __fish_complete_path (commandline -ct)
end"""
_PREAMBLES: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_PRODUCTS: Final = {
    "bash": "_tallyd_products",
    "zsh": "_tallyd_products",
    "fish": "(_tallyd_products)",
}
_CONTRACTS: Final = {
    "bash": "_tallyd_contract_file",
    "zsh": "_tallyd_contract_file",
    "fish": "(_tallyd_contract_file)",
}
_BY_METAVAR: Final[dict[str, Any]] = {
    "PRODUCT": _PRODUCTS,
    "FILE": shtab.FILE,
    "CONTRACT": _CONTRACTS,
    "OLD": _CONTRACTS,
    "NEW": _CONTRACTS,
}


def render_completion(shell: str) -> str:
    """The whole file that `shell` reads: bash, zsh or fish."""
    whole = parser()
    for action in _actions(whole):
        completer = _BY_METAVAR.get(str(action.metavar))
        if completer is not None and not action.choices:
            action.complete = completer  # where shtab looks for it
    preamble = _PREAMBLES[shell].replace("@NAME@", PRODUCT_NAME)
    preamble = preamble.replace("@GLOB@", "[a-z0-9][a-z0-9-](#c0,31)")
    text = shtab.complete(whole, shell, preamble=preamble)
    # shtab's own header tells how to install by hand what is installed with the package.
    first = "#compdef tallyd\n\n" if shell == "zsh" else ""
    body = re.sub(r"\A(#.*\n|\n)+", "", text).replace("# End Custom Preamble\n", "")
    body = body.replace("# Custom Preamble\n", "")
    header = _HEADER.format(shell=shell, place=_PLACES[shell])
    return f"{first}{header}\n{body.rstrip()}\n"


def _actions(whole: argparse.ArgumentParser) -> Iterator[Any]:
    for action in whole._actions:  # noqa: SLF001 - argparse has no public way to ask
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for one in action.choices.values():
                yield from _actions(one)
