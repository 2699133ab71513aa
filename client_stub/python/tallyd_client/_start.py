"""Starting the daemon: the claim, and one `posix_spawn`.

It owns `state/starting`, by which of many hosts one starts. It guarantees that nothing of the host's
(descriptors, directory, console, signals, environment) reaches the daemon, that it is nobody's child,
and that a start that failed is not tried again for a minute. Loaded where no daemon runs.
"""

import os
import time

from tallyd_client._autostart import TRAPLESS, can_run, environ, need_plain, text_if_held
from tallyd_client._drop import OPEN_FLAGS, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long a claim holds, in seconds: who made it starts a daemon just now, or could not.
_CLAIM_STALE_S = 60.0
# The daemon keeps its log to 256 KiB; those that never come so far leave twice that at most.
_LOG_MAX_BYTES = 512 * 1024
# A shell, so that the daemon is nobody's child: its parent ends at once, and the system adopts it.
_SCRIPT = 'cd /;umask 077;"$@"&'


def start(state: str, lock: str, program: str) -> int:
    """Start the daemon, if it is on this process to do so: the shell's process id; 0: it is not.

    Raises OSError and ValueError where something is in the way.
    """
    starting = os.path.join(state, "starting")
    if not _claim(starting):
        return 0
    if text_if_held(lock) is not None:
        # The daemon of an earlier claim, which it removed just now.
        remove(starting)
        return 0
    return _spawn(program, os.path.join(state, "daemon.log"))


def on_path() -> "str | None":
    """The first `tallyd` on the PATH that nobody but root and this user can have put there."""
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        program = os.path.join(directory, "tallyd")
        if can_run(program):
            about = os.stat(program)
            if about.st_uid in (0, os.geteuid()) and not about.st_mode & 0o022:
                return program
    return None


def _claim(starting: str) -> bool:
    """Whether this process is the one to start: it made the claim, or took over one that is stale."""
    import fcntl

    try:
        os.close(os.open(starting, OPEN_FLAGS, 0o600))
        return True
    except FileExistsError:
        if not _is_stale(os.lstat(starting)):
            return False
    descriptor = os.open(starting, os.O_RDWR | TRAPLESS)
    try:
        need_plain(descriptor)
        # Of two that find it stale the later one finds it taken, or fresh: nothing is removed, by whose
        # name a third one could make another in between. Nobody waits.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            if not os.path.samestat(os.lstat(starting), os.fstat(descriptor)):
                return False
            if not _is_stale(os.fstat(descriptor)):
                return False
            os.utime(descriptor)
            return True
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _is_stale(about: os.stat_result) -> bool:
    # `abs`: a claim from the future (the clock was set back) must not stay for ever.
    return abs(time.time() - about.st_mtime) > _CLAIM_STALE_S


def _spawn(program: str, log: str) -> int:
    """Start a shell that starts the daemon; the shell's process id. Raises OSError."""
    import _signal  # type: ignore[import-not-found]  # without the enums that cost

    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | TRAPLESS
    try:
        if os.lstat(log).st_size > _LOG_MAX_BYTES:
            flags |= os.O_TRUNC
    except FileNotFoundError:
        pass
    actions: "list[tuple[Any, ...]]" = [(os.POSIX_SPAWN_CLOSE, one) for one in _inheritable()]
    actions += [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    arguments = ["/bin/sh", "-c", _SCRIPT, "tallyd", program, "run", "--on-demand"]
    how: "dict[str, Any]" = {
        "file_actions": actions,
        "setsigmask": (),
        "setsigdef": _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP},
    }
    try:
        return os.posix_spawn(arguments[0], arguments, environ(), setsid=True, **how)
    except NotImplementedError:
        # A system without it: a group of its own until the daemon makes its session itself.
        return os.posix_spawn(arguments[0], arguments, environ(), setpgroup=0, **how)


def _inheritable() -> "list[int]":
    """The descriptors that a program started by this process would be given, beside the first three."""
    for listing in ("/proc/self/fd", "/dev/fd"):
        try:
            names = os.listdir(listing)
        except OSError:
            continue
        return [one for one in map(int, names) if one > 2 and _is_inheritable(one)]
    # The daemon closes what it has at its start.
    return []


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        # That of the listing, or another thread's; it is closed by now.
        return False
