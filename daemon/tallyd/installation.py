"""This installation of tallyd: how it is started again, whether it will last, whether it changed.

It owns the command line by which others (a service manager, the next version's hand-over) start
this program. `sys.executable` is taken as it is: inside a tool's environment it is the stable path,
and what its link leads to is replaced with every patch of Python. It reads the disk, and changes
nothing.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent
_TAG, _TAG_TEXT = "CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55"


def command() -> tuple[str, ...]:
    """The absolute command line of `tallyd`, to which a subcommand is added."""
    # Isolated from the directory and the variables of whoever starts it; what `pip install --user`
    # put into the user's site is hidden by -I, so there it is -I without its -s.
    is_users = bool(site.ENABLE_USER_SITE) and _PACKAGE.is_relative_to(site.getusersitepackages())
    return (sys.executable, *(("-E", "-P") if is_users else ("-I",)), "-m", "tallyd")


def package_file() -> str:
    """A file that is there as long as this installation is."""
    return str(_PACKAGE / "__init__.py")


def why_ephemeral(prefix: str = sys.prefix) -> str:
    """Why what lies in `prefix` will not be there tomorrow; "" when it will.

    `uvx` and `pipx run` make environments in their caches, which are swept.
    """
    for above in Path(prefix).parents:
        if above.name == ".cache" or _is_cache(above):
            return f"{prefix} is in a cache ({above})"
    return ""


def _is_cache(directory: Path) -> bool:
    # The sign by which backup programs know a cache: bford.info/cachedir.
    try:
        with open(directory / _TAG, "rb") as opened:
            return opened.read(len(_TAG_TEXT)) == _TAG_TEXT
    except OSError:
        return False


class Fingerprint:
    """Which files this process was started from, to be compared with what is there now."""

    def __init__(self, package: Path = _PACKAGE) -> None:
        self._file = package / "__init__.py"
        self._began = self._last = self._look()

    def change(self) -> str:
        """Say "replaced" or "removed" once two looks in a row agree on it, "" until then.

        An upgrade takes some seconds: whoever looks in the middle sees neither the old nor the new.
        """
        before, self._last = self._last, self._look()
        if self._last == self._began or self._last != before:
            return ""
        return "removed" if self._last is None else "replaced"

    def _look(self) -> tuple[int, int, int] | None:
        try:
            about = os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            # A disk that fails is no removal: as it was.
            return getattr(self, "_last", None)
        return about.st_dev, about.st_ino, about.st_mtime_ns
