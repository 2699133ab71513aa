"""The spool: only plain files of ours are read; everything else is set aside and bounded."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import pytest
from support.clock import NOON
from support.deltas import delta, name_of
from support.pipeline import Pipeline, Tally
from tallyd import spool
from tallyd.errors import Malformed
from tallyd.limits import (
    DELTA_MAX_BYTES,
    LEFTOVER_S,
    QUARANTINE_MAX_FILES,
    WAITING_MAX_NAMES,
)
from tallyd.paths import Paths


def _new(pipeline: Pipeline) -> str:
    spool.prepare(pipeline.view().spool)
    return str(pipeline.view().spool.new)


def _link(path: str) -> None:
    os.symlink("/etc/hostname", path)


def _dangling_link(path: str) -> None:
    os.symlink("/nowhere/at/all", path)


def _directory(path: str) -> None:
    os.makedirs(f"{path}/inner")


def _socket(path: str) -> None:
    # A path longer than a socket's name may be: bind from inside.
    here = os.getcwd()
    os.chdir(os.path.dirname(path))
    try:
        made = socket.socket(socket.AF_UNIX)
        made.bind("s")
        made.close()
        os.rename("s", path)
    finally:
        os.chdir(here)


def _huge(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(DELTA_MAX_BYTES + 1)


@pytest.mark.parametrize(
    "make",
    [_link, _dangling_link, _directory, os.mkfifo, _socket, _huge],
    ids=lambda one: one.__name__,
)
def test_what_is_no_plain_small_file_is_set_aside_at_once_and_for_good(pipeline: Pipeline, make):
    """A pipe would block a careless reader, a link would make it read another's file."""
    make(f"{_new(pipeline)}/{name_of()}")
    pipeline.drop()

    pipeline.intake()

    assert Tally(bad=1, counted={"search": 1}, lost={"malformed": 1}) == pipeline.tally()
    assert pipeline.intake().quarantined == 0


def test_a_file_at_exactly_the_cap_is_read(pipeline: Pipeline):
    import json

    text = json.dumps(delta()).encode()
    pipeline.drop(text + b" " * (DELTA_MAX_BYTES - len(text)))

    pipeline.intake()

    assert Tally(counted={"search": 1}) == pipeline.tally()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can chown")
def test_a_file_of_another_user_is_set_aside(pipeline: Pipeline):
    os.chown(pipeline.drop(), 12345, 12345)

    pipeline.intake()

    assert Tally(bad=1, lost={"malformed": 1}) == pipeline.tally()


@pytest.mark.parametrize(
    "name",
    [
        "x.json",
        ".hidden",
        "1795176000000-1-1-0123456789abcdef.json.tmp",
        "1795176000000-1-1-0123456789ABCDEF.json",
        "1795176000000-1-1-0123456789abcdef",
        f"1795176000000-{'1' * 20}-{'2' * 20}-{'3' * 40}.json",
        "a" * 250,
        "caf\udce9 \n name",
    ],
)
def test_a_name_outside_the_format_is_set_aside_under_a_name_of_ours(pipeline: Pipeline, name):
    with open(f"{_new(pipeline)}/{name}", "wb"):
        pass

    pipeline.intake()

    bad = sorted(os.listdir(pipeline.view().spool.bad))
    assert (len(bad), bad[0].startswith("unnamed-")) == (2, True)
    why = (pipeline.view().spool.bad / bad[1]).read_text()
    assert "the name is not in the spool format" in why


def test_quarantine_is_bounded_and_the_oldest_go_first_with_their_reasons(pipeline: Pipeline):
    for number in range(QUARANTINE_MAX_FILES + 20):
        pipeline.drop(b"{", at=NOON + number)

    pipeline.intake()

    bad = os.listdir(pipeline.view().spool.bad)
    kept = [one for one in bad if not one.endswith(".why")]
    assert (len(kept), len(bad)) == (QUARANTINE_MAX_FILES, 2 * QUARANTINE_MAX_FILES)


def test_what_a_killed_writer_left_in_tmp_is_swept_after_an_hour(pipeline: Pipeline):
    tmp = _new(pipeline).replace("/new", "/tmp")
    for name, age_s in (("old", LEFTOVER_S + 1), ("young", 60), ("ahead", -LEFTOVER_S - 1)):
        with open(f"{tmp}/{name}", "w"):
            pass
        os.utime(f"{tmp}/{name}", (NOON - age_s, NOON - age_s))

    pipeline.keep_bounds()

    assert os.listdir(tmp) == ["young"]


def test_a_spool_that_is_a_link_is_not_followed(pipeline: Pipeline):
    """Whoever can plant a link could otherwise make the daemon empty another directory."""
    new = pipeline.view().spool.new
    elsewhere = pipeline.home / "elsewhere"
    pipeline.drop()
    new.rename(elsewhere)
    new.symlink_to(elsewhere)

    with pytest.raises(AssertionError, match="is a link, and none is followed"):
        pipeline.intake()

    assert (pipeline.tally().counted, len(list(elsewhere.iterdir()))) == (None, 1)


def test_running_out_of_descriptors_is_not_the_files_fault(pipeline: Pipeline):
    import resource

    path = pipeline.drop()
    files = spool.list_new("tallyd-demo", pipeline.view().spool)
    (entry,) = files.take()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with files, pytest.raises(Exception) as refused:
            files.read(entry)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (isinstance(refused.value, Malformed), path.exists()) == (False, True)


def test_a_file_that_its_writer_took_back_is_skipped(pipeline: Pipeline):
    pipeline.drop().unlink()
    (pipeline.state / "spool/tallyd-demo/new").mkdir(exist_ok=True)

    assert pipeline.intake().merged == 0


def test_directories_and_files_are_for_the_user_alone(pipeline: Pipeline):
    _new(pipeline)
    pipeline.drop(b"{")
    pipeline.intake()

    modes = {
        str(path.relative_to(pipeline.home)): oct(path.stat().st_mode & 0o777)
        for path in pipeline.home.rglob("*")
        if path.suffix not in {".json", ".why"}
    }
    wrong = {
        path: mode
        for path, mode in modes.items()
        if mode != ("0o700" if (pipeline.home / path).is_dir() else "0o600")
    }
    assert wrong == {}


def test_a_file_that_two_passes_listed_at_once_is_set_aside_once(pipeline: Pipeline):
    """A daemon that merges while somebody flushes lists `new/` twice before either pass has moved it."""
    pipeline.drop(b"not json", name="not-a-name")

    async def two_at_once() -> None:
        async with anyio.create_task_group() as passes:
            passes.start_soon(pipeline.passes.merge_all)
            passes.start_soon(pipeline.passes.merge_all)

    anyio.run(two_at_once)

    assert Tally(bad=1, lost={"malformed": 1}) == pipeline.tally()


@pytest.mark.slow
def test_of_a_flooded_spool_no_more_names_are_looked_at_than_the_cap_says(home: Path):
    """While a daemon on demand leaves; what it does not see then waits for the next start."""
    paths = Paths.locate({"TALLYD_HOME": str(home)})
    new = paths.spool("tallyd-demo").new
    new.mkdir(parents=True)
    for number in range(WAITING_MAX_NAMES + 5):
        (new / f"{number}.json").touch()

    assert len(spool.waiting_names(paths)) == WAITING_MAX_NAMES
