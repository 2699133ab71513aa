"""`tallyd completion`: the file by which a shell completes, as it lies in the package.

The files are made from the command line's table by `make shell`, and a test keeps them equal to it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd.cli.output import print_bytes
from tallyd.errors import refused

if TYPE_CHECKING:
    import argparse

# Named as each shell looks them up in a directory of completions.
_FILES = {"bash": "tallyd.bash", "zsh": "_tallyd", "fish": "tallyd.fish"}


def completion(arguments: argparse.Namespace) -> int:
    """Print what a shell reads. Raises StateUnusable where the installation lacks the file."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    file = os.path.join(package, "shell", _FILES[arguments.shell])
    try:
        with open(file, "rb") as opened:
            content = opened.read()
    except OSError as error:
        raise refused(f"{file} cannot be read; install tallyd again", error) from None
    print_bytes(content)
    return 0
