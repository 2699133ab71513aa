"""`make shell`: write the completions, the manual page and README's exit codes; `--check` compares only.

The exit code is 1 when a file is not as it would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shell.completions import render_completion
from shell.exit_codes import render_readme
from shell.manual import render_manual

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "daemon" / "tallyd" / "shell"


def rendered() -> dict[Path, str]:
    """Every file that is made, with what it should say."""
    return {
        _PACKAGE / "tallyd.bash": render_completion("bash"),
        _PACKAGE / "_tallyd": render_completion("zsh"),
        _PACKAGE / "tallyd.fish": render_completion("fish"),
        _PACKAGE / "tallyd.1": render_manual(),
        _ROOT / "README.md": render_readme((_ROOT / "README.md").read_text(encoding="utf-8")),
    }


def main() -> int:
    is_check = sys.argv[1:] == ["--check"]
    stale = [
        file
        for file, text in rendered().items()
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]
    for file in stale:
        if not is_check:
            file.write_text(rendered()[file], encoding="utf-8")
        print(f"{file.name} {'is stale; run: make shell' if is_check else 'is written'}")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
