"""The systemd user manager: our units installed, started, looked at and taken away again.

It owns the unit files in the user's unit directory and the links that `enable` makes. It speaks to
the manager through `systemctl --user` alone. Nothing enables lingering.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd.contract.frozen import replace
from tallyd.paths import xdg_directory
from tallyd.supervisor import systemctl, unit
from tallyd.supervisor.steps import (
    Remove,
    RemoveEmpty,
    Run,
    ServiceRefused,
    Write,
    has_program,
    read_text,
    run_command,
)
from tallyd.supervisor.supervision import Supervision
from tallyd.supervisor.unit_files import NAME, installed_in, unit_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.supervisor.recipe import Recipe
    from tallyd.supervisor.steps import Done, Step
    from tallyd.supervisor.supervision import Installed

_UNITS = (unit.SERVICE, unit.PATH, unit.TIMER)
_SYSTEMCTL = ("systemctl", "--user")
# Where `enable` puts its links, of every target that a version of ours was wanted by.
_WANTS = ("default.target.wants", "paths.target.wants", "timers.target.wants")
_SHOWN = (
    "ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result,FragmentPath,StatusText,LoadState"
)


class Systemd:
    """One user's manager; `environ` is the shell's."""

    name = NAME

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._directory = unit_directory(environ)
        kept = xdg_directory(environ, "XDG_DATA_HOME", ".local/share")
        self._stamp = kept / "systemd" / "timers" / f"stamp-{unit.TIMER}"

    # --- what is asked ------------------------------------------------------------------------

    @staticmethod
    def is_here() -> bool:
        """Whether this user has a manager to speak to."""
        if not has_program("systemctl"):
            return False
        _find_runtime_directory()
        return run_command([*_SYSTEMCTL, "show", "--property=Version"]).code == 0

    def suited(self, recipe: Recipe) -> Recipe:
        """The recipe without the settings that this manager refuses, tried on a program that does nothing.

        Where user namespaces are forbidden that is the whole sandbox, and in a container some of it.
        """
        wanted = unit.sandbox(recipe)
        if not has_program("systemd-run"):
            return replace(recipe, left_out=tuple(wanted))
        if _can_start(wanted):
            return recipe
        kept: list[str] = []
        for one in wanted:
            if _can_start([*kept, one]):
                kept.append(one)
            elif not kept:
                # Without its own users there are no mounts.
                break
        return replace(recipe, left_out=tuple(one for one in wanted if one not in kept))

    def notes(self, recipe: Recipe) -> list[str]:
        """What the user should know of an installation."""
        if not recipe.left_out:
            return []
        return [
            f"your user manager cannot give {', '.join(recipe.left_out)};"
            " the unit goes without, and the rest of its hardening applies"
        ]

    def installed(self) -> Installed | None:
        """What stands in the unit directory, without asking the manager; None when nothing does."""
        return installed_in(self._directory)

    def look(self) -> Supervision:
        """What is installed, and how it goes by the manager's word. Raises ServiceRefused."""
        found = self.installed()
        shown = self._show(unit.SERVICE)
        is_on_demand = found is not None and found.is_on_demand
        leading = self._show(unit.PATH) if is_on_demand else shown
        return Supervision(
            supervisor=self.name,
            installed=found,
            is_enabled=_is_enabled(leading),
            state=shown.get("ActiveState", "unknown"),
            detail=shown.get("SubState", ""),
            waits=leading.get("ActiveState") == "active" if is_on_demand else False,
            pid=int(shown.get("MainPID") or 0) or None,
            restarts=int(shown.get("NRestarts") or 0),
            result=shown.get("Result", ""),
            says=shown.get("StatusText", "") if shown.get("ActiveState") != "inactive" else "",
            elsewhere=""
            if found is None or shown.get("FragmentPath", "") in ("", str(found.file))
            else shown["FragmentPath"],
            overridden=tuple(
                str(one)
                for one in sorted(self._directory.glob("tallyd.*.d/*.conf"))
                if one.is_file()
            ),
        )

    def _show(self, name: str) -> dict[str, str]:
        command = (*_SYSTEMCTL, "show", f"--property={_SHOWN}", name)
        done = run_command(command)
        if done.code:
            raise self.explain(command, done)
        return dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)

    # --- what is planned ----------------------------------------------------------------------

    def files(self, recipe: Recipe) -> dict[Path, bytes]:
        """Each file that an installation writes, with its content."""
        return {self._directory / name: text.encode() for name, text in unit.render(recipe).items()}

    def install(self, recipe: Recipe, *, start: bool, again: bool) -> list[Step]:
        """Write, enable and start what is not so yet; `again`: what runs is of another version."""
        self._refuse_foreign()
        files = self.files(recipe)
        writes: list[Step] = [Write(path, content) for path, content in files.items()]
        gone = [
            Remove(self._directory / name)
            for name in _UNITS
            if self._directory / name not in files and self._is_ours(self._directory / name)
        ]
        is_changed = not all(one.is_done for one in (*writes, *gone))
        leading = _leading(is_on_demand=recipe.is_on_demand)
        other = [one.path.name for one in gone]
        if recipe.is_on_demand and is_changed:
            # Until now it was started at login, and stayed.
            other.append(unit.SERVICE)
        steps: list[Step] = [
            *([Run((*_SYSTEMCTL, "disable", "--now", *other), may_fail=True)] if other else []),
            *writes,
            *gone,
            # When the timer fired last; systemd keeps it for ever.
            *([Remove(self._stamp)] if unit.TIMER in other else []),
        ]
        if is_changed:
            steps.append(Run((*_SYSTEMCTL, "daemon-reload")))
        shown = [self._show(name) for name in leading]
        if is_changed or not all(_is_enabled(one) for one in shown):
            steps.append(Run((*_SYSTEMCTL, "enable", *leading)))
        if not start:
            return steps
        service = self._show(unit.SERVICE)
        started = _started(is_on_demand=recipe.is_on_demand)
        if "failed" in {service.get("ActiveState"), *(one.get("ActiveState") for one in shown)}:
            # A start limit that was reached is forgotten: somebody is here to mend it.
            steps.append(Run((*_SYSTEMCTL, "reset-failed", *started), may_fail=True))
        if is_changed or again:
            steps.append(Run((*_SYSTEMCTL, "restart", *started)))
        elif not all(one.get("ActiveState") == "active" for one in shown):
            steps.append(Run((*_SYSTEMCTL, _start_word(service), *started)))
        return steps

    def uninstall(self) -> list[Step]:
        """Stop, disable, and remove what we wrote."""
        ours = [name for name in _UNITS if self._is_ours(self._directory / name)]
        links = [
            Remove(link)
            for wants in _WANTS
            for name in ours
            if os.path.islink(link := self._directory / wants / name)
        ]
        is_here = self.is_here()
        steps: list[Step] = []
        if ours and is_here:
            steps.append(Run((*_SYSTEMCTL, "disable", "--now", *ours), may_fail=True))
            if unit.SERVICE in ours:
                steps.append(Run((*_SYSTEMCTL, "stop", unit.SERVICE), may_fail=True))
        # What `disable` does, for a shell that has no manager to speak to.
        steps += links
        steps += [Remove(self._stamp)] if unit.TIMER in ours else []
        steps += [Remove(self._directory / name) for name in ours]
        if ours:
            # Directories that nobody else has anything in; their likes are made by whoever needs them.
            inner = [self._directory / wants for wants in _WANTS]
            steps += [RemoveEmpty(one) for one in (*inner, self._directory, self._directory.parent)]
        if ours and is_here:
            steps.append(Run((*_SYSTEMCTL, "daemon-reload")))
            steps.append(Run((*_SYSTEMCTL, "reset-failed", unit.SERVICE), may_fail=True))
        return steps

    def start(self) -> list[Step]:
        """Start what is installed."""
        found = self._found()
        # On demand too: what was dropped meanwhile is merged now.
        names = _started(is_on_demand=found.is_on_demand)
        shown = [self._show(one) for one in names]
        if all(one.get("ActiveState") == "active" for one in shown):
            return []
        return [
            Run((*_SYSTEMCTL, "reset-failed", *names), may_fail=True),
            Run((*_SYSTEMCTL, _start_word(shown[-1]), *names)),
        ]

    def stop(self) -> list[Step]:
        """Stop it until the next login or `start`."""
        found = self._found()
        names = _started(is_on_demand=found.is_on_demand)
        if all(self._show(one).get("ActiveState") == "inactive" for one in names):
            return []
        return [Run((*_SYSTEMCTL, "stop", *names))]

    def restart(self) -> list[Step]:
        """Stop and start it."""
        names = _started(is_on_demand=self._found().is_on_demand)
        return [
            Run((*_SYSTEMCTL, "reset-failed", *names), may_fail=True),
            Run((*_SYSTEMCTL, "restart", *names)),
        ]

    def logs(self, lines: int, *, follow: bool) -> list[str]:
        """The command that shows the log."""
        more = ["--follow"] if follow else ["--no-pager"]
        return ["journalctl", "--quiet", f"--user-unit={unit.SERVICE}", f"--lines={lines}", *more]

    def explain(self, command: tuple[str, ...], done: Done) -> ServiceRefused:
        """What a refusal of systemctl means, and what to do."""
        return systemctl.in_words(command, done, self._directory)

    def _found(self) -> Installed:
        found = self.installed()
        if found is None:
            raise ServiceRefused("tallyd is not installed as a service", '"tallyd service install"')
        if not found.is_ours:
            raise ServiceRefused(
                f'{found.file} is there, and "tallyd service install" did not write it',
                "use systemctl for it; or move it away, then install",
            )
        return found

    def _refuse_foreign(self) -> None:
        """Keep from replacing what somebody else wrote. Raises ServiceRefused."""
        for name in _UNITS:
            file = self._directory / name
            if file.is_symlink() and os.path.realpath(file) == os.devnull:
                raise ServiceRefused(
                    f"{name} is masked in your user manager", f"systemctl --user unmask {name}"
                )
            if os.path.lexists(file) and not self._is_ours(file):
                raise ServiceRefused(
                    f'{file} is there already, and "tallyd service install" did not write it',
                    "move it away; changes of your own belong into a drop-in (systemctl --user edit tallyd)",
                )

    def _is_ours(self, path: Path) -> bool:
        return not path.is_symlink() and read_text(path).startswith(unit.MARK)


def _can_start(settings: list[str]) -> bool:
    tried = [f"--property={one}" for one in settings]
    command = ["systemd-run", "--user", "--quiet", "--wait", "--collect", *tried, "true"]
    return run_command(command).code == 0


def _leading(*, is_on_demand: bool) -> tuple[str, ...]:
    """The units that are enabled, and by whose start everything starts."""
    return (unit.PATH, unit.TIMER) if is_on_demand else (unit.SERVICE,)


def _started(*, is_on_demand: bool) -> tuple[str, ...]:
    """The units that a start by hand starts: on demand, the service too, for what waits already."""
    return tuple(dict.fromkeys((*_leading(is_on_demand=is_on_demand), unit.SERVICE)))


def _start_word(shown: dict[str, str]) -> str:
    """What starts a unit now: to "start" one that waits for its restart waits as well."""
    return "restart" if shown.get("SubState") == "auto-restart" else "start"


def _is_enabled(shown: dict[str, str]) -> bool:
    return shown.get("UnitFileState") in ("enabled", "enabled-runtime")


def _find_runtime_directory() -> None:
    """Let systemctl find the manager in a shell that was not told (su, cron, some ssh)."""
    if os.environ.get("XDG_RUNTIME_DIR") or not hasattr(os, "getuid"):
        return
    usual = f"/run/user/{os.getuid()}"
    if os.path.isdir(usual) and os.stat(usual).st_uid == os.getuid():
        os.environ["XDG_RUNTIME_DIR"] = usual
