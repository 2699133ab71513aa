"""The spool deleted, made again, or turned into a link while a daemon watches it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import OTHER, counted, drop_now, problems, set_up
from support.processes import daemon, wait_for

pytestmark = pytest.mark.slow
_BOTH = ("tallyd-demo", OTHER)
_HOUR_AGO = time.time() - 7200


def _precious(place: Path) -> Path:
    """A directory of somebody else's, with what a spool has and files that look old and new."""
    for part in (
        "tmp",
        "new",
        "bad",
        "tallyd-demo/new",
        "tallyd-demo/tmp",
        "spool/tallyd-demo/new",
    ):
        (place / part).mkdir(parents=True, exist_ok=True)
        (place / part / "letter.txt").write_text("precious")
        os.utime(place / part / "letter.txt", (_HOUR_AGO, _HOUR_AGO))
    for number in range(120):
        (place / f"{number}.json").write_text("precious")
        os.utime(place / f"{number}.json", (_HOUR_AGO, _HOUR_AGO))
    drop_now(place / "home")
    return place


def _picture(place: Path) -> dict[str, tuple[int, int]]:
    return {
        str(one.relative_to(place)): (one.lstat().st_ino, one.lstat().st_mtime_ns)
        for one in sorted(place.rglob("*"))
    }


@pytest.mark.parametrize("part", ["spool/tallyd-demo/new", "spool/tallyd-demo", "spool"])
def test_a_part_of_the_spool_that_is_deleted_comes_back_by_itself(home, part):
    """Somebody tidies up ~/.local; hosts make what they need again, and the daemon goes on."""
    set_up(home, other=True)
    with daemon(home):
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        for number in range(3):
            shutil.rmtree(home / "state" / part)
            drop_now(home)
            drop_now(home, OTHER)
            wanted = {"tallyd-demo": 2 + number, OTHER: 1 + number}
            wait_for(lambda wanted=wanted: counted(home, *_BOTH) == wanted)

        assert problems(home) == {}


@pytest.mark.parametrize("part", ["spool/tallyd-demo/new", "spool/tallyd-demo"])
def test_a_part_that_is_made_again_is_watched_again(home, part):
    """The slow timer does not come in this test: each drop is found by a wake-up."""
    set_up(home, rescan_s=3600)
    with daemon(home):
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        shutil.rmtree(home / "state" / part)
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 2})

        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 3})


@pytest.mark.parametrize(
    "part",
    [
        *("spool/tallyd-demo/new", "spool/tallyd-demo/tmp", "spool/tallyd-demo/bad"),
        *("spool/tallyd-demo", "spool", "flush"),
    ],
)
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_a_part_that_became_a_link_is_not_followed_and_nothing_outside_is_touched(home, part, when):
    """Whoever plants a link could otherwise make the daemon read, move and delete another's files."""
    set_up(home, other=True)
    outside = _precious(home / "outside")
    before = _picture(outside)
    place = home / "state" / part

    def turn_into_a_link() -> None:
        if place.exists():
            place.rename(home / "aside")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(outside)

    is_for_all = part in {"spool", "flush"}
    if when == "before the start":
        turn_into_a_link()
    with daemon(home):
        if when == "while it runs":
            drop_now(home)
            wait_for(lambda: counted(home) == {"tallyd-demo": 1})
            turn_into_a_link()
        if not is_for_all:
            drop_now(home, OTHER)
            wait_for(lambda: counted(home, OTHER) == {OTHER: 1})
        key = ("flush", "") if part == "flush" else ("intake", "tallyd-demo")
        wait_for(lambda: key in problems(home))
        said = problems(home)[key]
        assert said.startswith(f"{place} is a link, and none is followed")
        assert _picture(outside) == before

        place.unlink()
        count = counted(home)["tallyd-demo"]
        assert count == (when == "while it runs")
        drop_now(home)
        wait_for(lambda: (counted(home), problems(home)) == ({"tallyd-demo": count + 1}, {}))


@pytest.mark.parametrize("put", [Path.touch, os.mkfifo, lambda at: at.symlink_to("/nowhere")])
@pytest.mark.parametrize("part", ["spool/tallyd-demo/new", "spool"])
def test_no_directory_at_all_where_one_should_be_is_told_until_it_is_one(
    home: Path, put: Callable[[Path], object], part: str
):
    set_up(home, other=True)
    place = home / "state" / part
    place.parent.mkdir(parents=True, exist_ok=True)
    put(place)
    with daemon(home):
        wait_for(lambda: ("intake", "tallyd-demo") in problems(home))
        assert str(place) in problems(home)["intake", "tallyd-demo"]
        if part != "spool":
            drop_now(home, OTHER)
            wait_for(lambda: counted(home, OTHER) == {OTHER: 1})

        place.unlink()
        drop_now(home)
        wait_for(lambda: (counted(home), problems(home)) == ({"tallyd-demo": 1}, {}))


@pytest.mark.parametrize("how", ["gone", "a link elsewhere", "another directory"])
def test_a_state_that_is_not_the_one_it_began_with_ends_the_daemon(home, how):
    """What it goes on to merge would be seen by nobody, or go into another's files."""
    set_up(home)
    outside = _precious(home / "outside")
    before = _picture(outside)
    with daemon(home) as process:
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 1})
        (home / "state").rename(home / "aside")
        if how == "a link elsewhere":
            (home / "state").symlink_to(outside)
        elif how == "another directory":
            (home / "state/spool/tallyd-demo/new").mkdir(parents=True)

        assert (process.wait(90), _picture(outside) == before) == (73, True)

    if (home / "state").is_symlink():
        (home / "state").unlink()
    shutil.rmtree(home / "state", ignore_errors=True)
    (home / "aside").rename(home / "state")
    with daemon(home):
        drop_now(home)
        wait_for(lambda: counted(home) == {"tallyd-demo": 2})


def test_a_state_behind_a_link_of_the_users_own_is_fine(home):
    """Many keep ~/.local/state elsewhere; what is above the spool is the user's own business."""
    set_up(home)
    (home / "elsewhere").mkdir(mode=0o700)
    (home / "state").rename(home / "earlier")
    (home / "state").symlink_to(home / "elsewhere")
    with daemon(home):
        drop_now(home)
        wait_for(lambda: (counted(home), problems(home)) == ({"tallyd-demo": 1}, {}))
