"""What a service manager needs to know to run this tallyd: rendered into its files by `unit` and `agent`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd import installation
from tallyd.contract.frozen import Frozen
from tallyd.errors import BadRequest
from tallyd.paths import home_of
from tallyd.supervisor.supervision import TOLD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.paths import Paths


class Recipe(Frozen):
    """How the daemon is to be run.

    `command` is the absolute command line before `run`; `environ` what its environment must hold;
    `is_on_demand`: it is started when something was dropped, and leaves when it is idle; `products`
    are those whose drops start it then. `left_out` are settings that the user's manager refuses,
    `writable` the directories that it writes below, where links lead to, `parts` those that its code is
    read from.
    `has_desktop`: somebody is logged in at the screen, as far as the manager (launchd) can tell.
    """

    command: tuple[str, ...]
    environ: tuple[tuple[str, str], ...]
    home: Path
    config: Path
    state: Path
    is_on_demand: bool = False
    products: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    writable: tuple[Path, ...] = ()
    parts: tuple[Path, ...] = ()
    has_desktop: bool = True

    @property
    def is_below_tmp(self) -> bool:
        """Whether it works in a directory for temporary files, which must then be the real one."""
        places = (
            self.config,
            self.state,
            self.home,
            Path(self.command[0]),
            *self.writable,
            *self.parts,
        )
        return any(one.is_relative_to(tmp) for one in places for tmp in ("/tmp", "/var/tmp"))  # noqa: S108 - not used as one


def recipe_for(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    is_on_demand: bool = False,
    products: tuple[str, ...] = (),
) -> Recipe:
    """The recipe of this installation, run for the user and the shell that ask for it.

    Raises BadRequest where what they would write down is gone tomorrow, or no service file can say it.
    """
    why = installation.why_ephemeral()
    if why:
        raise BadRequest(
            f"this tallyd will not last: {why}",
            'install it: "uv tool install tallyd" (or "pipx install tallyd"), then "tallyd service install"',
        )
    told = tuple((name, environ[name]) for name in TOLD if os.path.isabs(environ.get(name, "")))
    home = home_of(environ)
    made = Recipe(
        installation.command(),
        told,
        home,
        paths.config,
        paths.state,
        is_on_demand,
        products,
        parts=tuple(Path(one) for one in sys.path if os.path.isabs(one)),
        writable=tuple(dict.fromkeys(one.resolve() for one in (home, paths.config, paths.state))),
    )
    places = (home, made.config, made.state, *made.writable)
    for text in (*made.command, *(value for _, value in told), *map(str, places)):
        if not text.isprintable():
            raise BadRequest(f"no service file can hold {text!r}", "rename that directory")
    return made
