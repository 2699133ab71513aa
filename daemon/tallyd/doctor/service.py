"""What starts the daemon: the service manager, whether it stays after logout, the interpreter it names."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from tallyd.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tallyd.doctor.scene import Scene

_LINGER = "/var/lib/systemd/linger"


def check(scene: Scene) -> Iterator[Finding]:
    """The manager that is there, and linger."""
    environ = scene.around.environ
    if sys.platform == "darwin":
        yield Finding("service", Level.OK, "launchd is this system's service manager")
        return
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.exists(os.path.join(runtime, "systemd", "private")):
        yield Finding("service", Level.OK, "systemd's user manager runs")
        yield _linger(environ)
    elif os.path.isdir("/run/systemd/system"):
        what = "systemd runs, and no user manager of it for this session"
        yield Finding("service", Level.NOTE, what, "log in as this user, not by su or sudo")
    else:
        what = "no service manager is here: a daemon runs as long as somebody lets it"
        yield Finding("service", Level.NOTE, what, "tallyd run")


def _linger(environ: Mapping[str, str]) -> Finding:
    """Whether user services outlive the last logout; read, for `loginctl` would start a service."""
    user = environ.get("USER") or environ.get("LOGNAME", "")
    if re.fullmatch(r"[^/\0]+", user) and os.path.exists(os.path.join(_LINGER, user)):
        what = f"linger is on for {user}: the daemon runs also while nobody is logged in"
        fix = f"tallyd needs no linger; if nothing else does: loginctl disable-linger {user}"
        return Finding("service", Level.NOTE, what, fix)
    what = "linger is off, and right so: nothing is counted while nobody is logged in"
    return Finding("service", Level.OK, what)
