"""launchd: our agent installed, started, looked at and taken away again.

It owns one file in ~/Library/LaunchAgents, the log, and the job of its label in the user's domain:
`gui/UID` where somebody is logged in at the screen, else `user/UID`, as the file says. It speaks to
launchd through `launchctl` alone. `bootout` returns before the job is gone, and a `bootstrap` into that
gap fails: so a stop is over only when `print` no longer finds the job. A file that we did not write is
neither replaced nor removed. None of this was run on a Mac: see docs/decisions.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd.contract.frozen import replace
from tallyd.paths import home_of
from tallyd.supervisor import agent, launchctl
from tallyd.supervisor.launchctl import Refusal
from tallyd.supervisor.steps import Remove, Run, ServiceRefused, Write, has_program, run_command
from tallyd.supervisor.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Done, Step
    from tallyd.supervisor.supervision import Installed

_NAME = "launchctl"
# What launchd says of a job, in the words of `Supervision.state`.
_STATES = {
    "running": "active",
    "spawn scheduled": "activating",
    "spawning": "activating",
    "xpcproxy": "activating",
    "not running": "inactive",
    "waiting": "inactive",
    "exited": "inactive",
}
# A bootstrap that follows a bootout is tried again with these: launchd is not done with the old job.
_NOT_YET = (5, 37)
# `print` says so when a start was made: it runs, or did and ended.
_STARTED = r"(?m)^\s*(state = running|last exit code = \d)"
_STOPPED = r"(?m)^\s*state = (not running|waiting|spawn scheduled)"


class Launchd:
    """One user's launchd; `environ` is the shell's."""

    name = agent.SUPERVISOR

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._home = home_of(environ)
        self._file = agent.directory(environ) / agent.FILE

    # --- what is asked ------------------------------------------------------------------------

    @staticmethod
    def is_here() -> bool:
        """Whether there is a launchd to speak to."""
        return has_program(_NAME)

    def suited(self, recipe: Recipe) -> Recipe:
        """The recipe for the session there is: without one at the screen, any login must do."""
        done = run_command((_NAME, "print", _domain(is_for_desktop=True)))
        has_none = done.code != 0 and launchctl.refusal(done) is Refusal.NO_DOMAIN
        return replace(recipe, has_desktop=not has_none)

    def notes(self, recipe: Recipe) -> list[str]:
        """What the user should know of this installation."""
        said = [
            "macOS tells you of a new background item (from version 13 on, maybe under the name of"
            f" Python); it can be switched off in {launchctl.LOGIN_ITEMS}, too"
        ]
        if not recipe.has_desktop:
            said.append(
                "nobody is logged in at this Mac's screen, so the agent is for any login of yours;"
                ' run "tallyd service install" again at the screen to have it there'
            )
        return said

    def installed(self) -> Installed | None:
        """What stands in the agents' directory, without asking launchd; None when nothing does."""
        return agent.installed_in(self._file.parent)

    def look(self) -> Supervision:
        """What is installed, and how it goes by launchd's word. Raises ServiceRefused."""
        found = self.installed()
        domain = _domain_of(found)
        command = _print(domain)
        done = run_command(command)
        why = launchctl.refusal(done) if done.code else None
        if why not in (None, Refusal.NOT_LOADED, Refusal.NO_DOMAIN):
            raise self.explain(command, done)
        seen = launchctl.fields(done.out) if why is None else {}
        state = _STATES.get(seen.get("state", ""), "unknown") if why is None else "inactive"
        ended = launchctl.number(seen.get("last exit code"))
        if state == "inactive" and ended:
            state = "failed"
        is_on_demand = found is not None and found.is_on_demand
        runs = launchctl.number(seen.get("runs")) or 0
        return Supervision(
            supervisor=self.name,
            installed=found,
            is_enabled=found is not None and not _is_disabled(domain),
            state=state,
            detail=_detail(seen, why),
            waits=is_on_demand and why is None,
            pid=launchctl.number(seen.get("pid")),
            # On demand every start is one that somebody wanted.
            restarts=0 if is_on_demand else max(0, runs - 1),
            result=launchctl.how_it_ended(seen),
        )

    # --- what is planned ----------------------------------------------------------------------

    def files(self, recipe: Recipe) -> dict[Path, bytes]:
        """Each file that an installation writes, with its content."""
        return {self._file: agent.render(recipe)}

    def install(self, recipe: Recipe, *, start: bool, again: bool) -> list[Step]:
        """Write and load; `again`: what runs is of another version and begins anew."""
        found = self.installed()
        if found is not None and not found.is_ours:
            raise ServiceRefused(
                f"{self._file} was not written by tallyd", "move it away, then try again"
            )
        domain = _domain(is_for_desktop=recipe.has_desktop)
        writes = [Write(path, content) for path, content in self.files(recipe).items()]
        is_changed = (again and start) or not all(one.is_done for one in writes)
        loaded = _loaded()
        # What is loaded is what stands in the file: a later look tells no difference.
        old = loaded if is_changed else []
        steps: list[Step] = [*map(_bootout, old), *writes]
        if not start:
            return steps
        _refuse_disabled(domain)
        if domain not in loaded or domain in old:
            return [*steps, self._bootstrap(domain, is_after=bool(old))]
        return [*steps, *_kickstart(domain, is_on_demand=recipe.is_on_demand)]

    def uninstall(self) -> list[Step]:
        """Unload, and remove what we wrote: the agent, and its log."""
        found = self.installed()
        if found is not None and not found.is_ours:
            return []
        loaded = _loaded() if self.is_here() else []
        steps: list[Step] = [_bootout(domain) for domain in loaded]
        if found is not None:
            log = agent.log_file(self._home)
            steps += [Remove(self._file), Remove(log), Remove(log.with_name(f"{log.name}.1"))]
        return steps

    def start(self) -> list[Step]:
        """Load what is installed, or start it where it is loaded and does not run."""
        found = self._found()
        domain = _domain_of(found)
        _refuse_disabled(domain)
        if domain not in _loaded():
            return [self._bootstrap(domain)]
        return _kickstart(domain, is_on_demand=found.is_on_demand)

    def stop(self) -> list[Step]:
        """Unload it until the next login or `start`: a signal alone would not keep it stopped."""
        self._found()
        return [_bootout(domain) for domain in _loaded()]

    def restart(self) -> list[Step]:
        """Stop it in order, and start it: `kickstart -k` alone kills it in the middle of its work."""
        domain = _domain_of(self._found())
        _refuse_disabled(domain)
        if domain not in _loaded():
            return [self._bootstrap(domain)]
        target = f"{domain}/{agent.LABEL}"
        return [
            Run(
                (_NAME, "kill", "SIGTERM", target),
                may_fail=True,
                look=_print(domain),
                until=_STOPPED,
            ),
            Run((_NAME, "kickstart", "-k", target), look=_print(domain), until=_STARTED),
        ]

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the log, and the end of the one before it where it is short."""
        log = agent.log_file(self._home)
        before = log.with_name(f"{log.name}.1")
        follows = ["-F"] if follow else []
        missing = lines - _count_lines(log)
        if missing <= 0 or not before.is_file():
            if not log.exists() and not follow:
                raise ServiceRefused(f"nothing was logged yet: there is no {log}")
            return ["tail", "-n", str(lines), *follows, str(log)]
        show = 'tail -n "$1" "$2"; shift 2; exec tail -n "$@"'
        return ["sh", "-c", show, "sh", str(missing), str(before), str(lines), *follows, str(log)]

    def explain(self, command: tuple[str, ...], done: Done) -> ServiceRefused:
        """What a refusal of launchctl means, and what to do."""
        domain = next((one for one in command if one.startswith(("gui/", "user/"))), "")
        domain = "/".join(domain.split("/")[:2]) or _domain(is_for_desktop=True)
        why = launchctl.refusal(done)
        if why is Refusal.UNSPECIFIC:
            why = self._why_unspecific(domain)
        what, hint = launchctl.in_words(why, f"{domain}/{agent.LABEL}", self._file)
        said = launchctl.first_line(done)
        return ServiceRefused(f"{what} ({said})" if what else f"{' '.join(command)}: {said}", hint)

    def _why_unspecific(self, domain: str) -> Refusal:
        """Look for the cause of an "Input/output error", which launchctl gives for most of them."""
        if _is_disabled(domain):
            return Refusal.DISABLED
        done = run_command((_NAME, "print", domain))
        if done.code and launchctl.refusal(done) is Refusal.NO_DOMAIN:
            return Refusal.NO_DOMAIN
        try:
            about = self._file.stat()
        except OSError:
            return Refusal.UNSPECIFIC
        is_safe = about.st_uid == os.getuid() and not about.st_mode & 0o022
        return Refusal.UNSPECIFIC if is_safe else Refusal.BAD_PERMISSIONS

    def _bootstrap(self, domain: str, *, is_after: bool = False) -> Run:
        return Run(
            (_NAME, "bootstrap", domain, str(self._file)),
            again_on=_NOT_YET if is_after else (),
            look=_print(domain),
            until=_STARTED,
        )

    def _found(self) -> Installed:
        found = self.installed()
        if found is None:
            raise ServiceRefused("tallyd is not installed as a service", '"tallyd service install"')
        if found.problem:
            # launchd would load it, and fail to start it without a word.
            raise ServiceRefused(
                found.problem, "install tallyd again, then: tallyd service install"
            )
        return found


# --- launchd's words --------------------------------------------------------------------------------


def _domain(*, is_for_desktop: bool) -> str:
    return f"{'gui' if is_for_desktop else 'user'}/{os.getuid()}"


def _domain_of(found: Installed | None) -> str:
    """The session that an agent is for, by its own word."""
    keys = agent.keys_of(agent.read(found.file) or b"") if found is not None else {}
    return _domain(is_for_desktop=agent.is_for_desktop(keys))


def _print(domain: str) -> tuple[str, ...]:
    return (_NAME, "print", f"{domain}/{agent.LABEL}")


def _loaded() -> list[str]:
    """The user's sessions in which a job of our label is loaded."""
    both = (_domain(is_for_desktop=True), _domain(is_for_desktop=False))
    return [domain for domain in both if run_command(_print(domain)).code == 0]


def _is_disabled(domain: str) -> bool:
    done = run_command((_NAME, "print-disabled", domain))
    return done.code == 0 and launchctl.is_disabled(done.out, agent.LABEL)


def _refuse_disabled(domain: str) -> None:
    """Raise ServiceRefused where it was switched off: that is for whoever did it to take back."""
    if _is_disabled(domain):
        target = f"{domain}/{agent.LABEL}"
        raise ServiceRefused(*launchctl.in_words(Refusal.DISABLED, target, Path(agent.FILE)))


def _bootout(domain: str) -> Run:
    target = f"{domain}/{agent.LABEL}"
    return Run((_NAME, "bootout", target), may_fail=True, look=_print(domain))


def _kickstart(domain: str, *, is_on_demand: bool) -> list[Step]:
    """Start what is loaded and does not run; what is on demand waits as it should."""
    if is_on_demand:
        return []
    seen = launchctl.fields(run_command(_print(domain)).out)
    if _STATES.get(seen.get("state", "")) in ("active", "activating"):
        return []
    target = f"{domain}/{agent.LABEL}"
    return [Run((_NAME, "kickstart", target), look=_print(domain), until=_STARTED)]


def _detail(seen: Mapping[str, str], why: Refusal | None) -> str:
    if why is Refusal.NO_DOMAIN:
        return "nobody is logged in at the screen"
    return "not loaded" if why is not None else seen.get("state", "")


def _count_lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0
