"""Seeing that a daemon runs: a look after a drop, and who starts one where there is none.

It owns the question whether this process may start a daemon, and when it looks. It guarantees that
nothing is waited for, and that a host that is off, or whose place is not its user's own, starts
nobody. First the file, then the look: a daemon that leaves looks once more after it let go of its
lock, so one of the two sees the other. Loaded at the first drop of a host that wants it; on Windows
it does nothing.
"""

import os
import sys
import time
from stat import S_ISREG, S_IXUSR

from tallyd_client import _policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tallyd_client._policy import Policy

# A process looks at its first drop, and not again for as long as an idle daemon stays: a server that
# lives for days finds that it left.
_LOOK_AGAIN_S = 600.0
_LOCK_TEXT_BYTES = 4096
# How often, and how long each, the thread of ours looks whether the shell, which lives for 2 ms, ended.
_REAP_LOOKS, _REAP_PAUSE_S = 8, 0.005
TRAPLESS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# All that a daemon is told of its host's environment. What else there is may be a key, or a switch that
# its user set for one shell; in the daemon that would delete the counts of every other.
_PASSED = frozenset((
    *("HOME", "PATH", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ"),
    *("TALLYD_HOME", "TALLYD_POLICY_FILE", "TALLYD_CLOCK_AHEAD"),
    *("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
))  # fmt: skip


class Starter:
    """The looks of one process, and the shell that it started, if any.

    `given` is True, or the path of a `tallyd`.
    """

    def __init__(self, policy: "Policy", given: "bool | str") -> None:
        self._policy = policy
        self._state = policy.state_dir
        self._given = given
        self._program: "str | None" = None
        self._is_searched = self._has_asked = False
        self._next_look = 0.0
        self._shell = 0

    def after_drain(self, *, has_dropped: bool, may_pause: bool) -> None:
        """See that a daemon runs, after a drop that stays. `may_pause` in a thread of ours alone."""
        try:
            if self._shell:
                self._reap(may_pause=False)
            if has_dropped and time.monotonic() >= self._next_look and self._may_start():
                self._next_look = time.monotonic() + _LOOK_AGAIN_S
                self._look()
                if self._shell:
                    self._reap(may_pause=may_pause)
        except Exception:
            return

    def _may_start(self) -> bool:
        """Whether this process may start anything, and the place is ours."""
        # What is started on behalf of process 1 stays its child, and ends with it.
        if not hasattr(os, "posix_spawn") or os.getpid() == 1 or os.getuid() != os.geteuid():
            return False
        # A host that changed its environment since would start a daemon for another home.
        if _policy.directories(environ()) != (self._policy.config_dir, self._state):
            return False
        about = os.stat(self._state)
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            return False
        # Stopped by its user, who knows how to start it again.
        return not os.path.lexists(os.path.join(self._state, "stopped"))

    def _look(self) -> None:
        lock = os.path.join(self._state, "daemon.lock")
        text = text_if_held(lock)
        if text is not None:
            self._see_who_runs(text)
            return
        from tallyd_client import _start

        if not self._is_searched:
            self._is_searched = True
            if self._given is True:
                self._program = beside_interpreter() or _start.on_path()
            elif can_run(str(self._given)):
                self._program = str(self._given)
        if self._program is not None:
            self._shell = _start.start(self._state, lock, self._program)

    def _see_who_runs(self, text: bytes) -> None:
        """Ask the daemon that runs to make room, if this host brings a newer one."""
        program = None if self._has_asked else beside_interpreter()
        if program is None or self._given not in (True, program):
            return
        from tallyd_client._state import read_json

        said = read_json(text.decode("ascii"))
        running = said["version"]
        # One of a service manager, or of a terminal, stays in any case.
        if said.get("way") == "on demand" and not _is_installed(running):
            from tallyd_client import _handover

            self._has_asked = True
            _handover.ask(self._state, program, running)

    def _reap(self, *, may_pause: bool) -> None:
        """Bury the shell, without waiting for it. At exit the system does."""
        for look in range(_REAP_LOOKS if may_pause else 1):
            if look:
                time.sleep(_REAP_PAUSE_S)
            try:
                # A host that waits for any child may have met it, and its number may be another's by
                # now: ours leads a session of its own, or a group where that cannot be had.
                is_ours = self._shell in (os.getsid(self._shell), os.getpgid(self._shell))
                if not is_ours or os.waitpid(self._shell, os.WNOHANG)[0]:
                    self._shell = 0
            except OSError:
                self._shell = 0
            if not self._shell:
                return


def text_if_held(lock: str) -> "bytes | None":
    """What the lock's holder says; None when nobody holds it. Raises on what is no plain file."""
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY | TRAPLESS)
    except FileNotFoundError:
        return None
    try:
        need_plain(descriptor)
        try:
            # Shared, so that two who look never see each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.read(descriptor, _LOCK_TEXT_BYTES)
        # Said, and not left to the close: a child forked just now may hold the same descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return None
    finally:
        os.close(descriptor)


def need_plain(descriptor: int) -> None:
    """Raise ValueError where it is anything but a plain file."""
    if not S_ISREG(os.fstat(descriptor).st_mode):
        raise ValueError("not a plain file")


def environ() -> "dict[str, str]":
    """What a daemon is told of this host's environment."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or name.startswith("LC_")
    }


def sites() -> "tuple[str, str]":
    """Where a `tallyd` that this host brings is installed: beside this package, or in its environment."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    python = "python%d.%d" % sys.version_info[:2]
    return here, os.path.join(sys.prefix, "lib", python, "site-packages")


def _is_installed(version: str) -> bool:
    """Whether this host brings that very version: one look where, as nearly always, it does."""
    return any(os.path.isdir(os.path.join(one, "tallyd-%s.dist-info" % version)) for one in sites())


def beside_interpreter() -> "str | None":
    """The `tallyd` that came with this host."""
    program = os.path.join(os.path.dirname(sys.executable or ""), "tallyd")
    return program if can_run(program) else None


def can_run(program: str) -> bool:
    """Whether it is a program, named so that no directory decides which."""
    try:
        mode = os.stat(program).st_mode if os.path.isabs(program) else 0
    except (OSError, ValueError):
        return False
    return S_ISREG(mode) and bool(mode & S_IXUSR) and os.access(program, os.X_OK)
