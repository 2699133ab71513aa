"""What a real shell offers when somebody presses the key: its own words for what follows a line.

Each shell is a process of its own with nobody's configuration; the script is the one in the package.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from support.processes import ROOT
from support.tools import need

SCRIPTS = ROOT / "daemon" / "tallyd" / "shell"
SHELLS = ("bash", "zsh", "fish")

# As bash does it: the words of the line in COMP_WORDS, then the function that `complete` was told of.
_BASH = """\
{before}
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
COMP_LINE={line} COMP_POINT=${{#COMP_LINE}}
asked=$(complete -p tallyd)
asked=${{asked##*-F }}
"${{asked%% *}}" tallyd "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

# A terminal with the line typed already; each candidate is written down where zsh itself takes it.
_ZSHRC = """\
fpath=({scripts} $fpath)
autoload -Uz compinit
compinit -u -D
compadd() {{
  local -a taken
  if [[ ${{@[1,(i)(-|--)]}} != *-(O|A|D)\\ * ]]; then
    builtin compadd -A taken "$@"
    print -rl -- $taken >> {offered}
  fi
  builtin compadd "$@"
}}
leave() {{ exit 0 }}
comppostfuncs=(leave)
zle -C offer complete-word _main_complete
zle-line-init() {{ BUFFER={line}; CURSOR=$#BUFFER; zle offer; exit 0 }}
zle -N zle-line-init
{before}
"""


def offered(
    shell: str, line: str, environ: dict[str, str], desk: Path, scratch: Path, before: str = ""
) -> tuple[list[str], str]:
    """(what `shell` offers after `line`, sorted; what it printed besides, which should be nothing).

    It stands in the directory `desk`; `before` is what its user's own configuration says; `scratch` is ours.
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](line, environ, desk, scratch, before)


def _bash(
    line: str, environ: dict[str, str], desk: Path, scratch: Path, before: str
) -> tuple[list[str], str]:
    words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
    script = _BASH.format(
        before=before,
        script=shlex.quote(str(SCRIPTS / "tallyd.bash")),
        words=" ".join(map(shlex.quote, words)),
        line=shlex.quote(line),
    )
    command = [need("bash"), "--norc", "--noprofile", "-c", script]
    return _said(subprocess.run(command, env=environ, cwd=desk, check=False, **_QUIET))


def _fish(
    line: str, environ: dict[str, str], desk: Path, scratch: Path, before: str
) -> tuple[list[str], str]:
    script = f"{before}\nsource {SCRIPTS / 'tallyd.fish'}\ncomplete -C{shlex.quote(line)}"
    command = [need("fish"), "--no-config", "-c", script]
    return _said(subprocess.run(command, env=environ, cwd=desk, check=False, **_QUIET))


def _zsh(
    line: str, environ: dict[str, str], desk: Path, scratch: Path, before: str
) -> tuple[list[str], str]:
    settings = scratch / "zsh-settings"
    settings.mkdir(exist_ok=True)
    into = settings / "offered"
    into.write_text("")
    (settings / ".zshrc").write_text(
        _ZSHRC.format(
            before=before, scripts=SCRIPTS, offered=shlex.quote(str(into)), line=shlex.quote(line)
        )
    )
    mine, theirs = os.openpty()
    process = subprocess.Popen(
        [need("zsh"), "-d", "-i"],
        env={**environ, "ZDOTDIR": str(settings), "TERM": "dumb", "PS1": ""},
        cwd=desk,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(mine)
    return sorted(filter(None, into.read_text().splitlines())), said


_QUIET: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "capture_output": True,
    "text": True,
    "timeout": 60,
}


def _said(done: subprocess.CompletedProcess[str]) -> tuple[list[str], str]:
    # fish tells what a word means after a tab.
    words = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    return sorted(filter(None, words)), done.stderr
