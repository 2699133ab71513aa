"""A database that is broken, foreign, held or newer: nobody has to mend it, and nothing is doubled."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.clock import NOON
from support.deltas import tool_calls
from support.disks import DEMO, daemon_with_log, drop_now, registered
from support.pipeline import Pipeline
from support.processes import environ_of, run, show, status, tallyd, wait_for
from tallyd import damage
from tallyd.limits import DAMAGED_DAYS
from tallyd.paths import Paths

pytestmark = pytest.mark.slow


def _header(file: Path) -> None:
    _overwrite(file, 0, 100)


def _table(file: Path) -> None:
    """Every page but the first: whichever is read next is broken."""
    _overwrite(file, 4096, file.stat().st_size - 4096)


def _schema(file: Path) -> None:
    _overwrite(file, 100, 3996)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _cut_within_the_header(file: Path) -> None:
    os.truncate(file, 50)


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "somebody's").write_text("own")


def _foreign(file: Path) -> None:
    file.write_text("a letter to my aunt\n" * 500)


_DAMAGES = [_header, _schema, _table, _cut, _cut_within_the_header, _directory, _foreign]


def _overwrite(file: Path, at: int, size: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(random.Random(7).randbytes(size))


def _counted(home: Path) -> int:
    return sum(row["measures"]["count"] for row in show(home))


def _aside(home: Path) -> list[str]:
    return sorted(one.name for one in (home / "state").glob("tallyd.db.damaged-*"))


@pytest.mark.parametrize("harm", _DAMAGES)
def test_a_damaged_database_is_set_aside_and_what_waits_is_merged_into_a_new_one(home, harm):
    """By the next start, with no word to anybody; `status` says what became of it, before and after."""
    registered(home)
    drop_now(home, 1)
    tallyd(home, "flush")
    harm(home / "state" / "tallyd.db")
    drop_now(home, 2)
    before = run("tallyd", "status", environ=environ_of(home), check=False)
    tallyd(home, "flush")
    after = status(home)

    assert ("Traceback" in before.stderr, "1 new file;" in before.stdout) == (False, True)
    (kept,) = {one.removesuffix("-wal").removesuffix("-shm") for one in _aside(home)}
    assert (_counted(home), after["problems"]) == (2, [])
    assert after["last_damage"]["kept"] == str(home / "state" / kept)


def test_a_database_of_no_bytes_is_a_new_one(home):
    """Made, and killed before the first commit."""
    registered(home)
    tallyd(home, "flush")
    _empty(home / "state" / "tallyd.db")
    drop_now(home, 2)
    tallyd(home, "flush")

    assert (_counted(home), _aside(home)) == (2, [])


@pytest.mark.parametrize("harm", [_table, _cut])
def test_a_database_that_breaks_under_the_daemon_is_set_aside_without_a_restart_by_hand(
    home, tmp_path, harm
):
    """The same process begins anew, and merges what comes."""
    registered(home)
    drop_now(home, 1)
    with daemon_with_log(home, tmp_path / "log") as process:
        wait_for(lambda: _counted(home) == 1)
        # Its pages are in the log: a reader's checkpoint brings them into the file.
        sqlite3.connect(home / "state" / "tallyd.db").execute("PRAGMA wal_checkpoint(TRUNCATE)")
        harm(home / "state" / "tallyd.db")
        drop_now(home, 2)
        wait_for(lambda: _aside(home) and not list((home / "state/spool" / DEMO / "new").iterdir()))
        pid = status(home)["daemon"]["pid"]
        is_alive = process.poll() is None

    assert (_counted(home), is_alive, pid) == (2, True, process.pid)


def test_a_log_of_the_database_that_is_broken_takes_the_commits_after_the_break_with_it(home):
    """SQLite checks each part of its log: what is whole counts, the rest never happened, with its names."""
    registered(home)
    drop_now(home, 1)
    database = home / "state" / "tallyd.db"
    holder = sqlite3.connect(database)
    with daemon_with_log(home, home / "log") as process:
        wait_for(lambda: _counted(home) == 1)
        drop_now(home, 2)
        wait_for(lambda: _counted(home) == 3)
        process.kill()
        process.wait()
    holder.close()
    log = Path(f"{database}-wal")
    _overwrite(log, log.stat().st_size // 2, 5000)
    drop_now(home, 4)

    tallyd(home, "flush")

    assert (_counted(home) in (4, 5, 7), _aside(home)) == (True, [])


def test_only_the_newest_damage_is_kept_for_thirty_days_and_not_after_a_no(home, clock):
    """It may hold anybody's counts."""
    paths = Paths(home / "config", home / "state")
    paths.state.mkdir()
    kept = []
    for at in (NOON - 60, NOON):
        for part in ("", "-wal", "-shm"):
            Path(f"{paths.database}{part}").write_bytes(b"broken")
        damage.set_aside(paths, at)
        kept.append(_aside(home))
    with Pipeline.open(home, clock) as pipeline:
        pipeline.register(DEMO)
        for seconds in (DAMAGED_DAYS * 86400, 1):
            clock.pass_s(seconds)
            pipeline.keep_bounds()
            kept.append(_aside(home))
        Path(f"{paths.database}.damaged-20261120T120000Z").write_bytes(b"broken")
        pipeline.environ["DO_NOT_TRACK"] = "1"
        pipeline.intake()
        kept.append(_aside(home))

    names = [
        [f"tallyd.db.damaged-2026112{day}{part}" for part in ("", "-shm", "-wal")]
        for day in ("0T115900Z", "0T120000Z")
    ]
    assert kept == [*names, names[1], [], []]


def test_a_database_that_another_program_holds_is_named_and_waited_for(home, tmp_path):
    """Rounds fail and are told; when it is let go the next one succeeds."""
    registered(home)
    with daemon_with_log(home, tmp_path / "log") as process:
        wait_for((home / "state" / "reserve").exists)
        holder = sqlite3.connect(home / "state" / "tallyd.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        drop_now(home, 2)
        wait_for(lambda: status(home)["daemon"]["problems"])
        told = status(home)["daemon"]["problems"][0]
        holder.execute("ROLLBACK")
        holder.close()
        wait_for(lambda: _counted(home) == 2 and not status(home)["daemon"]["problems"])

    assert ("locked" in told["why"], told["product"], process.poll()) == (True, DEMO, 0)


@pytest.mark.parametrize("words", [["off", DEMO], ["reset", DEMO]])
def test_a_no_with_a_damaged_database_leaves_nothing_of_it(home, words):
    """Nobody can tell whose counts are in what was set aside."""
    registered(home)
    drop_now(home, 1)
    tallyd(home, "flush")
    _table(home / "state" / "tallyd.db")

    done = run("tallyd", *words, environ=environ_of(home), check=False)

    assert (done.returncode, _aside(home), "Traceback" in done.stderr) == (0, [], False)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_newer_database_is_never_touched(home, how):
    """Not by a daemon, not by a flush, not by a no; and `status` tells the rest.

    Nor is the lock's text, by which the newer one knows until when its killed run was up. A log that a
    kill has left is not written back; only SQLite's index of it, which each reader makes anew, may change.
    """
    registered(home)
    tallyd(home, "flush")
    database = home / "state" / "tallyd.db"
    sql = sqlite3.connect(database)
    sql.execute("PRAGMA wal_autocheckpoint = 0")
    sql.execute("PRAGMA user_version = 99")
    if how == "killed":
        shutil.copytree(home / "state", home / "as it was left")
    sql.close()
    if how == "killed":
        shutil.rmtree(home / "state")
        (home / "as it was left").rename(home / "state")
    before = _every_byte(home)
    codes = {}
    looks = (["run"], ["flush"], ["status"], ["show", DEMO], ["preview", DEMO])
    for words in (*looks, ["off", DEMO], ["reset", DEMO]):
        done = run("tallyd", *words, environ=environ_of(home), check=False)
        said = done.stdout + done.stderr
        codes[words[0]] = (done.returncode, "newer tallyd" in said, "Traceback" in said)
        if words in looks:
            assert _every_byte(home) == before, words
    after = _every_byte(home)

    assert set(codes.values()) == {(73, True, False)}, codes
    assert "state/tallyd.db-wal" in before or how == "stopped"
    # The no itself is heard: it lies in the product's own file.
    assert {name for name in {**before, **after} if before.get(name) != after.get(name)} == {
        f"state/consent/{DEMO}.json"
    }


def _every_byte(home: Path) -> dict[str, bytes]:
    return {
        one.relative_to(home).as_posix(): one.read_bytes()
        for one in home.rglob("*")
        if one.is_file() and not one.name.endswith("-shm")
    }


def test_pages_broken_by_chance_never_need_a_human_and_double_nothing(home, tmp_path):
    """Wherever the damage falls: soon all that comes is merged, and what came before at most once."""
    registered(home)
    for number in range(300):
        drop_now(home, counts=[tool_calls(f"t{number}")])
    tallyd(home, "flush")
    whole = tmp_path / "whole"
    shutil.copytree(home / "state", whole)
    chance = random.Random(4)
    pictures = []
    for _ in range(8):
        shutil.rmtree(home / "state")
        shutil.copytree(whole, home / "state")
        database = home / "state" / "tallyd.db"
        pages = database.stat().st_size // 4096
        for page in chance.sample(range(pages), chance.randint(1, pages // 3)):
            _overwrite(database, page * 4096 + chance.randrange(4000), chance.randint(1, 96))
        for number in range(3):
            drop_now(home, counts=[tool_calls(f"new{number}", count=5)])
            said = run("tallyd", "flush", environ=environ_of(home), check=False)
        counted = {row["dimensions"]["tool"]: row["measures"]["count"] for row in show(home)}
        is_once = {counted.get(f"new{number}", 5) for number in range(3)} == {5}
        pictures.append((said.returncode, counted.get("new2"), is_once, "Traceback" in said.stderr))

    assert pictures == [(0, 5, True, False)] * 8
