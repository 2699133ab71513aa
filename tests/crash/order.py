"""What a power cut could break, read from the system calls of a real flush.

A kill leaves the page cache; a power cut leaves what was synced, and of the rest any part. So the calls of
all threads are taken down in their order, with the files they mean, and every act that relies on a
write is checked to come after that write's sync. A call that strace shows in two halves takes effect
where it matters most: a sync at its end, everything else at its beginning.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

from crash.lab import Lab
from crash.outside import held
from crash.scenarios import Scenario

_CALLS = (
    *("?open", "openat", "write", "pwrite64", "?pwritev", "?writev", "fsync", "fdatasync"),
    *(
        "ftruncate",
        "?unlink",
        "unlinkat",
        "?rename",
        "?renameat",
        "?renameat2",
        "connect",
        "sendto",
    ),
)
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)( resumed>|\()(.*)$")
_OF_FD = re.compile(r"^\d+<([^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Event:
    """One act: open, write, sync, unlink, rename (to `target`) or send."""

    act: str
    file: str
    target: str = ""


_ACTS = {
    **dict.fromkeys(("write", "pwrite64", "pwritev", "writev", "ftruncate"), "write"),
    **dict.fromkeys(("fsync", "fdatasync"), "sync"),
    **dict.fromkeys(("unlink", "unlinkat"), "unlink"),
    **dict.fromkeys(("rename", "renameat", "renameat2"), "rename"),
    **dict.fromkeys(("open", "openat"), "open"),
    **dict.fromkeys(("connect", "sendto"), "send"),
}


def taken_down(lab: Lab, scenario: Scenario, wrong: str | None = None) -> list[Event]:
    """The acts of one undisturbed `tallyd flush`, in their order; names are relative to its state."""
    with lab.copy(scenario) as home:
        log = home / "trace"
        pid = lab.zygote.fork("flush", lab.environ(home), stop="main", wrong=wrong)
        lab.zygote.wait(pid)
        how = ("-f", "-yy", "-o", str(log), "-e", f"trace={','.join(_CALLS)}")
        with held(pid, *how):
            os.kill(pid, signal.SIGCONT)
            ended = lab.zygote.wait(pid)
        assert ended.code == 0, (home / "log").read_text()
        return read(log.read_text(), home / "state")


def read(trace: str, state: Path) -> list[Event]:
    """The acts that a trace tells of, in their order."""
    halves: dict[tuple[str, str], str] = {}
    events = []
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None or match[2] not in _ACTS:
            continue
        thread, call, how, rest = match.groups()
        act = _ACTS[call]
        if how == " resumed>":
            if act != "sync":
                continue
            rest = halves.pop((thread, call)) + rest
        elif "<unfinished ...>" in rest:
            halves[thread, call] = rest
            if act == "sync":
                continue
        event = _event(act, call, rest, state)
        # A connection is under way when the call says so by an error.
        if event is not None and (act == "send" or "= -1 " not in rest):
            events.append(event)
    return events


def _event(act: str, call: str, rest: str, state: Path) -> Event | None:
    of_fd = _OF_FD.match(rest)
    if act == "send":
        # The event loop wakes itself through a socket too, but not one of TCP.
        is_out = "htons(" in rest if call == "connect" else "<TCP" in rest
        return Event("send", "gateway") if is_out else None
    if act in ("write", "sync"):
        return Event(act, _below(of_fd[1], state)) if of_fd and of_fd[1].startswith("/") else None
    # A name below an open directory is told with that directory.
    at = os.path.join(of_fd[1], "") if of_fd else ""
    names = [_below(one if one.startswith("/") else at + one, state) for one in _TEXT.findall(rest)]
    return Event(act, names[0], names[1] if act == "rename" else "") if names else None


def _below(name: str, state: Path) -> str:
    return os.path.relpath(name, state) if name.startswith(str(state)) else name


@dataclass
class _Disk:
    """Which files have writes that were not synced yet, and what was synced since when."""

    unsynced: set[str] = field(default_factory=set)
    commits: int = 0
    # How many commits there were when a delta was opened.
    opened: dict[str, int] = field(default_factory=dict)
    renamed_in: list[str] = field(default_factory=list)
    is_listed: bool = False


DATABASE, LOG = "tallyd.db", "tallyd.db-wal"


def faults(events: list[Event]) -> list[str]:
    """What a power cut at some moment of these could break."""
    disk, found = _Disk(), []
    for one in events:
        found += [f"{problem}: {one}" for problem in _problems(disk, one)]
        match one.act:
            case "write":
                disk.unsynced.add(one.file)
            case "sync":
                disk.commits += one.file == LOG and LOG in disk.unsynced
                disk.unsynced.discard(one.file)
                disk.is_listed |= one.file == "."
                disk.renamed_in = [at for at in disk.renamed_in if at != one.file]
            case "open" if "/new/" in one.file:
                disk.opened[one.file] = disk.commits
            case "rename":
                disk.unsynced.discard(one.file)
                if "/bad/" not in one.target:
                    disk.renamed_in.append(os.path.dirname(one.target))
    found += [f"a rename in {at} is not synced at the end" for at in disk.renamed_in]
    return found


def _problems(disk: _Disk, one: Event) -> list[str]:
    found = []
    is_dirty = bool(disk.unsynced & {DATABASE, LOG})
    if one.act == "unlink" and "/new/" in one.file:
        if LOG in disk.unsynced:
            found.append("a delta goes before the commit of its sums is synced")
        if disk.opened.get(one.file, disk.commits) >= disk.commits:
            found.append("a delta goes without a commit since it was read")
        if not disk.is_listed:
            found.append("a delta goes before the log's own name is synced")
    if one.act == "send":
        if is_dirty:
            found.append("a batch leaves before the commit of its seal is synced")
        if disk.renamed_in:
            found.append("a batch leaves before the id that it bears is synced")
    if one.act == "write" and one.file == LOG and disk.renamed_in:
        found.append("a commit relies on a name that is not synced")
    if one.act == "rename" and "/bad/" not in one.target and one.file in disk.unsynced:
        found.append("a file is put in place before it is synced")
    if one.act == "write" and one.file == DATABASE and LOG in disk.unsynced:
        found.append("the log is copied back before it is synced")
    if one.act == "unlink" and one.file == LOG and DATABASE in disk.unsynced:
        found.append("the log goes before its copy is synced")
    return found
