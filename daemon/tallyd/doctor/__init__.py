"""The doctor: walks everything that a daemon needs, and says of each what it found and what mends it.

It owns nothing and changes nothing: it makes no directory, no database, no lock. It guarantees that no
check holds or breaks the walk: each has a thread and a time limit of its own, and one that fails is a
finding ("could not look"). Without `online` it opens no socket; with it, it asks for the endpoints of
products whose consent is on, and of no other. It knowingly runs no program: what another tallyd on
PATH is, and how the service stands, is read from files.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from tallyd.doctor import clock, consent, daemon, disk, network, program, service, spool
from tallyd.doctor.finding import Finding, Level
from tallyd.doctor.scene import Scene, look_around
from tallyd.errors import TallydError, in_words
from tallyd.limits import DOCTOR_CHECK_S, DOCTOR_SILENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tallyd.product import Surroundings

__all__ = ["Finding", "Level", "report", "text", "walk"]

# In the order in which a person would look.
_CHECKS: tuple[tuple[str, Callable[[Scene], Iterable[Finding]]], ...] = (
    ("consent", consent.check),
    ("spool", spool.check),
    ("mount", disk.check_mounts),
    ("room", disk.check_room),
    ("lock", daemon.check_lock),
    ("database", daemon.check_database),
    ("service", service.check),
    ("program", program.check),
    ("proxy", network.check_proxy),
    ("trust", network.check_trust),
    ("clock", clock.check),
)
_SIGNS = {Level.OK: "ok", Level.NOTE: "note", Level.WARNING: "MEND", Level.PROBLEM: "WRONG"}


def walk(
    around: Surroundings, now: float, say: Callable[[str], None], *, online: bool = False
) -> list[Finding]:
    """Every finding, check by check; `now` is in Unix seconds, `say` tells of what takes long."""
    # Until somebody looked: nobody holds the lock as far as we know.
    scenes = [Scene(around, now, None, None)]

    def look() -> tuple[()]:
        scenes.append(look_around(around, now))
        return ()

    found = _guarded("lock", look, say)
    scene = scenes[-1]
    found += [one for name, check in _CHECKS for one in _guarded(name, partial(check, scene), say)]
    if online:
        from tallyd.doctor.online import look_online  # noqa: PLC0415 - it alone knows of sockets

        found += look_online(scene, say)
    return found


def _guarded(
    name: str, check: Callable[[], Iterable[Finding]], say: Callable[[str], None]
) -> list[Finding]:
    """What one check found, within DOCTOR_CHECK_S; a disk that never answers holds its thread alone."""
    found: list[Finding] = []

    def look() -> None:
        try:
            found.extend(check())
        except TallydError as problem:
            found.append(_could_not(name, problem.what, problem.hint))
        except OSError as error:
            found.append(_could_not(name, in_words(error)))
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding, and the rest goes on
            found.append(_could_not(name, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(DOCTOR_SILENCE_S)
    if thread.is_alive():
        say(f"still looking at {name} …")
        thread.join(DOCTOR_CHECK_S - DOCTOR_SILENCE_S)
    if thread.is_alive():
        return [*found, _could_not(name, f"no answer within {DOCTOR_CHECK_S:g} s")]
    return found


def _could_not(name: str, why: str, hint: str = "") -> Finding:
    fix = hint or "look at what it names; a disk that does not answer holds everything on it"
    return Finding(name, Level.PROBLEM, f"could not look: {why}", fix)


def report(findings: Iterable[Finding]) -> dict[str, object]:
    """What `doctor --json` prints; `problems` counts what is to be mended, warnings too."""
    findings = list(findings)
    return {
        "schema_version": 1,
        "findings": [{**one.as_dict(), "level": one.level.value} for one in findings],
        "problems": sum(one.level.is_to_mend for one in findings),
    }


def text(findings: Iterable[Finding]) -> list[str]:
    """The same for people: what is to be mended first, then check by check, one summary at the end."""
    findings = list(findings)
    wrong = [one for one in findings if one.level.is_to_mend]
    rest = [one for one in findings if not one.level.is_to_mend]
    order = list(_SIGNS)
    lines: list[str] = []
    for one in sorted(wrong, key=lambda one: order.index(one.level), reverse=True):
        lines += [f"{_SIGNS[one.level]}: {one.check}: {_plain(one.what)}", *_fix(one), ""]
    at = ""
    for one in rest:
        lines.append(
            f"{one.check if one.check != at else '':<9} {_SIGNS[one.level]:<4}  {_plain(one.what)}"
        )
        lines += [f"{'':<9} {line}" for line in _fix(one)]
        at = one.check
    notes = sum(one.level is Level.NOTE for one in findings)
    summary = f"{len(wrong)} to mend, {notes} to know, {len(rest) - notes} well"
    return [*lines, "", summary]


def _fix(one: Finding) -> Iterator[str]:
    if one.fix:
        yield f"      {_plain(one.fix)}"


def _plain(text: str) -> str:
    """Names of files may hold anything; a terminal must not obey them."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
