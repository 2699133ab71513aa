"""What starts the daemon: the service as its files say, the program it names, linger, what holds it down.

Read from files: to ask the manager is to speak through a socket, and `tallyd service status` does it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tallyd import installation, policy, spool, supervisor
from tallyd.doctor.finding import Finding, Level
from tallyd.errors import StateUnusable
from tallyd.limits import WAITED_LONG_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tallyd.doctor.scene import Scene
    from tallyd.supervisor.supervision import Installed

_LINGER = "/var/lib/systemd/linger"
_AGAIN = "tallyd service install"


def check(scene: Scene) -> Iterator[Finding]:
    """The service file, the manager that is there, linger, and what the running daemon gave up."""
    environ = scene.around.environ
    try:
        found = supervisor.installed(environ)
    except StateUnusable as problem:
        yield Finding("service", Level.PROBLEM, problem.what, problem.hint)
    else:
        yield from _installed(scene, found) if found is not None else _not_installed(scene)
    yield from _manager(environ)
    if scene.has_daemon and scene.service is not None and scene.holder is not None:
        yield from _hardening(scene.holder.pid)


def _not_installed(scene: Scene) -> Iterator[Finding]:
    what = "no service is installed: whatever starts tallyd now, nothing does after the next login"
    if not scene.products:
        what = "no service is installed, and no product needs one yet"
    yield Finding("service", Level.NOTE, what, _AGAIN)
    if os.path.exists(scene.around.paths.stopped):
        what = 'no tool starts a daemon: "tallyd service stop" was said'
        yield Finding("service", Level.NOTE, what, "tallyd service start")


def _installed(scene: Scene, found: Installed) -> Iterator[Finding]:
    """The file, beside this tallyd and this shell."""
    if not found.is_ours:
        what = f'{found.file} was not written by "tallyd service install", and is left alone'
        fix = f"to have ours: mv {found.file} {found.file}.mine; {_AGAIN}"
        yield Finding("service", Level.NOTE, what, fix)
    elif found.problem:
        yield Finding("service", Level.PROBLEM, found.problem, _AGAIN)
    if found.problem:
        return
    ours = installation.command()
    if found.command[: len(ours)] != ours:
        what = f"{found.file} starts {found.command[0]}; this is {ours[0]}"
        yield Finding("service", Level.WARNING, what, f"{_AGAIN}, by the tallyd that is to stay")
    for name, (here, there) in found.told_otherwise(scene.around.environ).items():
        what = (
            f"{name} is {here or 'not set'} in this shell, and {there or 'not set'} in the service"
        )
        yield Finding("service", Level.WARNING, what, f"{_AGAIN}, in the shell that is right")
    watched = set(found.watches)
    for product in scene.products if found.is_on_demand else ():
        if str(scene.around.paths.spool(product).new) not in watched:
            what = f"a drop of {product} does not start the service; it waits for the timer"
            yield Finding("service", Level.WARNING, what, f"{_AGAIN} --on-demand")
    rule = policy.all_forbidden_by(scene.around.paths, scene.around.environ)
    if rule:
        what = f"every product is off ({rule}): the service ends at once, as it should"
        yield Finding("service", Level.OK, what)
    elif found.is_on_demand and not scene.has_daemon and (late := _late(scene)):
        what = f"drops of {', '.join(late)} wait for over an hour, and nothing was started for them"
        yield Finding("service", Level.PROBLEM, what, "tallyd service start; tallyd service status")
    elif scene.has_daemon or found.is_on_demand:
        how = ", on demand" if found.is_on_demand else ""
        yield Finding("service", Level.OK, f"{found.supervisor} starts it by {found.file}{how}")
    elif os.path.exists(scene.around.paths.stopped):
        what = 'the service was stopped, by "tallyd service stop"'
        yield Finding("service", Level.NOTE, what, "tallyd service start")
    else:
        what = f"{found.file} is there, and no daemon runs"
        yield Finding("service", Level.WARNING, what, "tallyd service start; tallyd service logs")


def _late(scene: Scene) -> list[str]:
    """The products whose drops a service on demand should have been started for."""
    found = []
    for product in scene.products:
        ages = spool.measure(scene.around.paths.spool(product), scene.now).waiting
        if ages is not None and ages.oldest_s is not None and ages.oldest_s > WAITED_LONG_S:
            found.append(product)
    return found


def _manager(environ: Mapping[str, str]) -> Iterator[Finding]:
    if supervisor.kind(environ) == "launchd":
        yield Finding("service", Level.OK, "launchd is this system's service manager")
        return
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.exists(os.path.join(runtime, "systemd", "private")):
        yield Finding("service", Level.OK, "systemd's user manager runs")
        yield _linger(environ)
    elif os.path.isdir("/run/systemd/system"):
        what = "systemd runs, and no user manager of it for this session"
        yield Finding("service", Level.NOTE, what, "log in as this user, not by su or sudo")
    else:
        what = "no service manager is here: a daemon runs as long as somebody lets it"
        yield Finding("service", Level.NOTE, what, "tallyd run --on-demand &")


def _linger(environ: Mapping[str, str]) -> Finding:
    """Whether user services outlive the last logout; read, for `loginctl` speaks through a socket."""
    user = _account() or environ.get("USER", "")
    if re.fullmatch(r"[^/\0]+", user) and os.path.exists(os.path.join(_LINGER, user)):
        what = f"linger is on for {user}: the daemon runs also while nobody is logged in"
        fix = f"tallyd needs no linger; if nothing else does: loginctl disable-linger {user}"
        return Finding("service", Level.NOTE, what, fix)
    what = "linger is off, and right so: nothing is counted while nobody is logged in"
    return Finding("service", Level.OK, what)


def _account() -> str:
    """Who this is, whatever a shell that was changed by `su` still says; "" where no list has him."""
    import pwd  # noqa: PLC0415 - not on Windows, where there is no linger either

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _hardening(pid: int) -> Iterator[Finding]:
    """What the kernel says of the running daemon, whatever the unit wanted."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        has_own_mounts = os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    except (OSError, ValueError):
        return
    held = [
        *(["system calls are filtered"] if status.get("Seccomp") == "2" else []),
        *(["it can gain no rights"] if status.get("NoNewPrivs") == "1" else []),
        *(["it has mounts of its own"] if has_own_mounts else []),
    ]
    told = ", ".join(held) or "nothing holds it down: a shell started it, or a host"
    yield Finding("service", Level.OK, f"the running daemon: {told}")
