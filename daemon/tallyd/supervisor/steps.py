"""What a service command is going to do, as a list of steps, and the doing of it.

A plan is made first and looked at with `--dry-run`; what is done is the plan and nothing else. Each
step may be repeated. A command that fails ends the plan with an error in words, or is passed over
where the step says that it may fail (stopping what does not run).
"""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path  # noqa: TC003 - a field of a value
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.contract.frozen import Frozen, replace
from tallyd.errors import TallydError, refused
from tallyd.limits import SERVICE_COMMAND_S, SERVICE_LOOK_S, SERVICE_SETTLE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class ServiceRefused(TallydError):
    """A service manager did not do what it was asked to."""

    exit_code = exits.UNAVAILABLE


# launchd takes no file that others can write.
_MODE = 0o644


class Write(Frozen):
    """Put `content` into a file that its user writes and everybody may read."""

    path: Path
    content: bytes

    @property
    def is_done(self) -> bool:
        """Whether it stands there already, and nobody else can write it."""
        try:
            about = self.path.lstat()
            if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o022:
                return False
            return self.path.read_bytes() == self.content
        except OSError:
            return False


class Remove(Frozen):
    """Remove a file that we wrote."""

    path: Path

    @property
    def is_done(self) -> bool:
        """Whether it is gone already."""
        return not os.path.lexists(self.path)


class RemoveEmpty(Frozen):
    """Remove a directory, if nothing is in it."""

    path: Path

    @property
    def is_done(self) -> bool:
        """Whether it is gone, or is somebody's."""
        try:
            return any(self.path.iterdir())
        except OSError:
            return True


class Run(Frozen):
    """Run a command; `may_fail` where its refusal means that there was nothing to do.

    Some managers answer before it is done. `again_on` are exit codes with which the same is tried
    again; `look` is a command that tells afterwards how it went: it is run until what it prints
    matches `until`, or, where that is empty, until it is refused. All for SERVICE_SETTLE_S at most.
    """

    command: tuple[str, ...]
    may_fail: bool = False
    again_on: tuple[int, ...] = ()
    look: tuple[str, ...] = ()
    until: str = ""

    @property
    def is_done(self) -> bool:
        """A command is always run."""
        return False


Step = Write | Remove | RemoveEmpty | Run


class Done(Frozen):
    """A finished command: its exit code, and what it said on stdout and stderr."""

    code: int
    out: str
    err: str


def run_command(command: Iterable[str]) -> Done:
    """Run a command of the system to its end, without a terminal. Raises ServiceRefused when it hangs."""
    import subprocess  # noqa: PLC0415 - `tallyd status` reads service files and runs nothing

    words = list(command)
    try:
        done = subprocess.run(  # noqa: S603 - words of ours, no shell
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=SERVICE_COMMAND_S,
            # Words that we look for are English ones.
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        )
    except FileNotFoundError as error:
        raise ServiceRefused(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceRefused(
            f"{' '.join(words)} did not end within {SERVICE_COMMAND_S:g} s", "try again"
        ) from error
    return Done(done.returncode, done.stdout.strip(), done.stderr.strip())


def has_program(name: str) -> bool:
    """Whether a program of this name is on the PATH."""
    import shutil  # noqa: PLC0415 - as above

    return shutil.which(name) is not None


def carry_out(
    steps: Iterable[Step],
    explain: Callable[[tuple[str, ...], Done], ServiceRefused],
    tell: Callable[[Step], None],
) -> None:
    """Do each step in order, and `tell` of each that changed something.

    Raises ServiceRefused with what `explain` makes of a command's refusal, StateUnusable for a file.
    """
    for step in steps:
        if step.is_done:
            continue
        match step:
            case Write():
                _write(step)
            case Remove() | RemoveEmpty():
                _remove(step.path)
            case Run():
                done = _run(step, explain)
                if done.code:
                    continue
        tell(step)


def _run(step: Run, explain: Callable[[tuple[str, ...], Done], ServiceRefused]) -> Done:
    """Run a command, and wait until it has taken effect. Raises ServiceRefused."""
    deadline = time.monotonic() + SERVICE_SETTLE_S
    done = run_command(step.command)
    while done.code in step.again_on and time.monotonic() < deadline:
        time.sleep(SERVICE_LOOK_S)
        done = run_command(step.command)
    while step.look and not _has_come(step):
        if done.code and not step.may_fail:
            raise explain(step.command, done)
        if time.monotonic() >= deadline:
            if step.until:
                # Its next look tells; nothing depends on it.
                return done
            if done.code:
                raise explain(step.command, done)
            raise ServiceRefused(
                f"{' '.join(step.command)}: not done after {SERVICE_SETTLE_S:g} s", "try again"
            )
        time.sleep(SERVICE_LOOK_S)
    if step.look:
        # Whatever the command itself said, by now it is as it should be.
        return replace(done, code=0)
    if done.code and not step.may_fail:
        raise explain(step.command, done)
    return done


def _has_come(step: Run) -> bool:
    seen = run_command(step.look)
    if not step.until:
        return seen.code != 0
    return seen.code == 0 and re.search(step.until, seen.out) is not None


def _write(step: Write) -> None:
    beside = step.path.with_name(f".{step.path.name}.{os.getpid()}.tmp")
    try:
        step.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
            with os.fdopen(descriptor, "wb") as opened:
                # Whatever the umask is.
                os.fchmod(descriptor, _MODE)
                opened.write(step.content)
            os.replace(beside, step.path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise refused(f"{step.path} cannot be written", error) from error


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise refused(f"{path} cannot be removed", error) from error


def read_text(path: Path) -> str:
    """The text of a service file, "" when there is none. Raises StateUnusable when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise refused(f"{path} cannot be read", error) from error
