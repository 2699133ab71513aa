"""Each hostile file among good ones, in a real running daemon: set aside with a reason, nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.deltas import delta, name_of
from support.faults import OTHER, counted, delta_of, drop_now, problems, set_up, today
from support.processes import daemon, show, status, wait_for
from support.tools import need

pytestmark = pytest.mark.slow
_BOTH = ("tallyd-demo", OTHER)
_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
Put = Callable[[Path], Any]
_NOT_JSON = "is not JSON as spool-v1 wants it"


def _text(content: bytes | dict[str, Any]) -> Put:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda at: at.write_bytes(raw)


def _with(old: str, new: str) -> Put:
    """A good delta of today whose text says one thing otherwise."""
    text = json.dumps(delta_of())
    assert old in text, old
    return _text(text.replace(old, new).encode())


def _nested(levels: int) -> object:
    return [] if levels == 0 else [_nested(levels - 1)]


def _socket(at: Path) -> None:
    # A name longer than a socket's may be: bind from inside.
    here = os.getcwd()
    os.chdir(at.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("../s")
        os.rename("../s", at.name)
    finally:
        os.chdir(here)


def _directory(at: Path) -> None:
    (at / "inner" / "more").mkdir(parents=True)
    (at / "inner" / "file").write_text("x")


def _unreadable_directory(at: Path) -> None:
    _directory(at)
    at.chmod(0)


def _sparse(at: Path) -> None:
    with at.open("wb") as file:
        file.truncate(1 << 40)


def _of_another_user(at: Path) -> None:
    _text(delta_of())(at)
    os.chown(at, 12345, 12345)


_TODAY = today()
_COUNT = '"count": 1'
# What is hostile about the content: how it is put there, and what the reason says.
_CONTENTS: dict[str, tuple[Put, str]] = {
    "empty": (_text(b""), _NOT_JSON),
    "cut short": (_text(json.dumps(delta_of()).encode()[:-20]), _NOT_JSON),
    "huge": (_text(b" " * (64 * 1024 + 1)), "is over 64 KiB"),
    "deep lists": (_text(b"[" * 60_000), "levels deep"),
    "deep objects": (_text(b'{"a":' * 10_000), "levels deep"),
    "nine levels": (_text(delta(day=_TODAY, deep=_nested(8))), "is over 8 levels deep"),
    "not UTF-8": (_text(b'{"v":1,"product":"\xff\xfe"}'), "is not UTF-8"),
    "UTF-16": (_text(json.dumps(delta_of()).encode("utf-16")), "is not UTF-8"),
    "a BOM": (_text(b"\xef\xbb\xbf" + json.dumps(delta_of()).encode()), _NOT_JSON),
    "NUL bytes": (_text(b"\0" * 200), _NOT_JSON),
    "a NUL after": (_text(json.dumps(delta_of()).encode() + b"\0"), _NOT_JSON),
    "two objects": (_text(json.dumps(delta_of()).encode() * 2), _NOT_JSON),
    "a key twice": (_with('"v": 1', '"v": 1, "v": 1'), "a key stands twice"),
    "a writer's key twice": (_with('"seq": 0', '"seq": 0, "seq": 0'), "a key stands twice"),
    "a measure twice": (_with(_COUNT, f"{_COUNT}, {_COUNT}"), "a key stands twice"),
    "a dimension twice": (_with('"tool"', '"tool": "b", "tool"'), "a key stands twice"),
    "an unknown key twice": (_with('"v": 1', '"v": 1, "z": {"a": 1, "a": 1}'), "stands twice"),
    "NaN": (_with(_COUNT, '"count": NaN'), "NaN is no number"),
    "Infinity": (_with(_COUNT, '"count": Infinity'), "Infinity is no number"),
    "-Infinity": (_with(_COUNT, '"count": -Infinity'), "-Infinity is no number"),
    "negative": (_with(_COUNT, '"count": -1'), "is not a whole number"),
    "a boolean": (_with(_COUNT, '"count": true'), "is not a whole number"),
    "1.0": (_with(_COUNT, '"count": 1.0'), "is not a whole number"),
    "1e3": (_with(_COUNT, '"count": 1e3'), "is not a whole number"),
    "1e999": (_with(_COUNT, '"count": 1e999'), "is not a whole number"),
    "-0.0": (_with(_COUNT, '"count": -0.0'), "is not a whole number"),
    "2^53": (_with(_COUNT, '"count": 9007199254740992'), "is not a whole number"),
    "5,000 digits": (_with(_COUNT, '"count": ' + "9" * 5_000), ""),
    "null": (_with(_COUNT, '"count": null'), "is not a whole number"),
    "a leading zero": (_with(_COUNT, '"count": 01'), _NOT_JSON),
    "another product's": (_with('"product": "tallyd-demo"', f'"product": "{OTHER}"'), "product:"),
    "no writer": (_text(delta(day=_TODAY, writer=None)), "writer:"),
    "version 2": (_text(delta(day=_TODAY, v=2)), "v: is not 1"),
    "day 2026-02-30": (_text(delta(day="2026-02-30")), "day:"),
}
# What is no plain file of ours.
_KINDS: dict[str, tuple[Put, str]] = {
    "a link": (lambda at: at.symlink_to("/etc/hostname"), "cannot be opened"),
    "a dangling link": (lambda at: at.symlink_to("/nowhere/at/all"), "cannot be opened"),
    "a link to a directory": (lambda at: at.symlink_to("/etc"), "cannot be opened"),
    "a link to itself": (lambda at: at.symlink_to(at), "cannot be opened"),
    "a pipe": (os.mkfifo, "is not a regular file"),
    "a socket": (_socket, "cannot be opened"),
    "a directory": (_directory, "is not a regular file"),
    "an empty directory": (Path.mkdir, "is not a regular file"),
    "an unreadable directory": (_unreadable_directory, "" if _ROOT else "cannot be opened"),
}
if _ROOT:
    _KINDS |= {
        "a device": (lambda at: os.mknod(at, 0o600 | 0o020000, os.makedev(1, 5)), "not a regular"),
        "a file of another user": (_of_another_user, "belongs to another user"),
    }
_NAMES = {
    "no format": "x.json",
    "hidden": ".1795176000000-1-1-0123456789abcdef.json",
    "longer than 96": f"1795176000000-{'1' * 20}-{'2' * 20}-{'3' * 40}.json",
    "as long as a name may be": "a" * 255,
    "lines": "1795176000000-1-1-0123456789abcdef.json\n\n",
    "two lines": "one\ntwo.json",
    "not UTF-8": os.fsdecode(b"caf\xe9.json"),
    "dots": "...json",
    "a way out": "..%2f..%2fetc.json",
    "a reason's": "1795176000000-1-1-0123456789abcdef.json.why",
    "wide digits": "\uff11" * 13 + "-1-1-0123456789abcdef.json",
}


@pytest.mark.timeout(600)
def test_each_hostile_file_is_set_aside_with_its_reason_and_costs_the_good_ones_nothing(home):
    """All of spool-v1's hostile content, in one spool, before and behind good files."""
    set_up(home, rescan_s=3600, watch=True, other=True)
    hostile = {**_CONTENTS, **_KINDS}
    with daemon(home) as process:
        new = drop_now(home).parent
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        names = {}
        for what, (put, _) in hostile.items():
            names[what] = name_of()
            put(new / names[what])
            drop_now(home)
            drop_now(home, OTHER)
        # More than the quarantine may hold: it goes at once, and takes nothing else along.
        _sparse(new / name_of())
        for name in _NAMES.values():
            (new / name).write_text(json.dumps(delta_of(count=1000)))
        drop_now(home)
        good = len(hostile)
        wait_for(lambda: not os.listdir(new))
        wait_for(lambda: counted(home, *_BOTH) == {"tallyd-demo": good + 2, OTHER: good})
        product = status(home)["products"]["tallyd-demo"]
        bad = Path(product["spool"]["bad"])
        reasons = {what: (bad / f"{name}.why").read_text() for what, name in names.items()}
        unnamed = sorted(one.read_text() for one in bad.glob("unnamed-*.why"))

        wrong = {what: why for what, why in reasons.items() if hostile[what][1] not in why}
        assert wrong == {}
        assert len(unnamed) == len(_NAMES)
        assert all("the name is not in the spool format" in why for why in unnamed)
        assert any("its name was 'one\\ntwo.json'" in why for why in unnamed)
        set_aside = len(hostile) + len(_NAMES)
        assert (product["lost"], product["spool"]["quarantined"]) == (
            {"malformed": set_aside + 1},
            set_aside,
        )
        assert (process.poll(), problems(home)) == (None, {})


# Strange, but within the format: counted.
_ODD: dict[str, tuple[str, str, int]] = {
    "-0": (_COUNT, '"count": -0', 0),
    "2^53-1": (_COUNT, '"count": 9007199254740991', 2**53 - 1),
    "a lone surrogate": ('"search"', '"\\ud800"', 1),
    "a NUL in a text": ('"search"', '"a\\u0000b"', 1),
    "an unknown key": ('"v": 1', '"v": 1, "future": [1e999, "\\ud800"]', 1),
    "a huge seq": ('"seq": 0', '"seq": 9007199254740991', 1),
}


@pytest.mark.parametrize("what", _ODD)
def test_what_is_strange_but_in_the_format_stops_nothing(home, what):
    """Counted or screened; the files before and behind it are counted."""
    set_up(home, watch=False)
    old, new_text, count = _ODD[what]
    with daemon(home) as process:
        new = drop_now(home).parent
        _with(old, new_text)(new / name_of())
        drop_now(home)
        wait_for(lambda: not os.listdir(new))
        product = status(home)["products"]["tallyd-demo"]
        lost = product["lost"].get("screened", 0)

        total = min(counted(home)["tallyd-demo"] + lost, 2**53 - 1)
        assert (total, product["spool"]["quarantined"]) == (min(2 + count, 2**53 - 1), 0)
        assert (process.poll(), problems(home)) == (None, {})


def test_a_file_with_another_name_elsewhere_is_counted_and_left_there(home):
    """A hard link to a file of the user's own: only the name in the spool is ours to remove."""
    set_up(home, watch=False)
    kept = home / "kept.json"
    kept.write_text(json.dumps(delta_of(count=5)))
    letter = home / "letter.txt"
    letter.write_text("precious")
    with daemon(home):
        new = drop_now(home).parent
        os.link(kept, new / name_of())
        os.link(letter, new / name_of())
        wait_for(lambda: counted(home) == {"tallyd-demo": 6})
        wait_for(lambda: status(home)["products"]["tallyd-demo"]["spool"]["quarantined"] == 1)

    assert (letter.read_text(), json.loads(kept.read_text())["day"]) == ("precious", today())


@pytest.mark.skipif(not _ROOT, reason="only root can make a file immutable")
@pytest.mark.parametrize("what", ["a good file", "a malformed file", "the directory"])
def test_what_can_be_neither_removed_nor_moved_is_counted_once_and_stops_nothing(home, what):
    """An immutable file; more good ones behind it than one transaction takes."""
    set_up(home, watch=False, other=True)
    stuck = drop_now(home)
    if what == "a malformed file":
        stuck.write_text("{")
    for _ in range(600):
        drop_now(home)
    drop_now(home, OTHER)
    place = stuck.parent if what == "the directory" else stuck
    done = subprocess.run([need("chattr"), "+i", str(place)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this file system knows no immutable files")
    count = 600 if what == "a malformed file" else 601
    try:
        with daemon(home) as process:
            wait_for(lambda: ("intake", "tallyd-demo") in problems(home))
            wait_for(lambda: counted(home, *_BOTH) == {"tallyd-demo": count, OTHER: 1})
            said = problems(home)["intake", "tallyd-demo"]
            if what != "the directory":
                wait_for(lambda: os.listdir(stuck.parent) == [stuck.name])
                # It is met again and again, and adds nothing.
                for number in range(3):
                    drop_now(home)
                    wanted = {"tallyd-demo": count + number + 1, OTHER: 1}
                    wait_for(lambda wanted=wanted: counted(home, *_BOTH) == wanted)
            assert (str(stuck.parent) in said, process.poll()) == (True, None)
            subprocess.run(["chattr", "-i", str(place)], check=True)
            wait_for(lambda: (os.listdir(stuck.parent), problems(home)) == ([], {}))
            assert sum(one["measures"]["count"] for one in show(home)) >= count
    finally:
        subprocess.run(["chattr", "-i", str(place)], check=False)
