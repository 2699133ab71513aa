"""The life of one run: the watchdog is patted on progress only, and a leave waits for a round's end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from support.clock import FakeClock
from tallyd.limits import START_LOOK_S, STUCK_AFTER_S
from tallyd.notify import Notifier
from tallyd.runs import StopReason
from tallyd.service.life import Ending, Life

_IDLE = Ending(StopReason.IDLE, "idle")


class _Heard:
    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    @property
    def words(self) -> list[str]:
        found = []
        try:
            while True:
                found.append(self.socket.recv(4096).decode().partition("\n")[0])
        except BlockingIOError:
            return found


class _Scope:
    """What the loops run in, as far as a life looks at it."""

    cancel_called = False

    def cancel(self) -> None:
        self.cancel_called = True


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[_Heard]:
    made = _Heard(str(tmp_path / "notify"))
    with made.socket:
        yield made


@pytest.fixture
def life(tmp_path: Path, clock: FakeClock, heard: _Heard) -> Life:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "180000000"}
    made = Life(clock, Notifier(environ), lambda _: None)
    made.scope = _Scope()  # type: ignore[assignment]  # all that is asked of it
    return made


def test_a_duty_that_hangs_keeps_the_pat_back_until_it_goes_on(life, clock, heard):
    life.scanned(1, 0)
    patted = []
    with life.progress.round("intake"):
        for _ in range(3):
            life.beat()
            patted.append("WATCHDOG=1" in heard.words)
            clock.pass_s(STUCK_AFTER_S * 0.6)
        # One piece of work done, and it is alive again.
        life.progress.step()
        life.beat()
        patted.append("WATCHDOG=1" in heard.words)
    life.beat()
    patted.append("WATCHDOG=1" in heard.words)

    assert patted == [True, True, False, True, True]


def test_the_steps_of_one_duty_do_not_speak_for_another(life, clock, heard):
    async def hang(began: anyio.Event) -> None:
        with life.progress.round("delivery"):
            began.set()
            await anyio.sleep_forever()

    async def both() -> None:
        async with anyio.create_task_group() as group:
            began = anyio.Event()
            group.start_soon(hang, began)
            await began.wait()
            clock.pass_s(STUCK_AFTER_S + 1)
            with life.progress.round("intake"):
                life.progress.step()
                life.beat()
            group.cancel_scope.cancel()

    anyio.run(both)

    assert "WATCHDOG=1" not in heard.words


def test_a_duty_that_waits_for_another_does_not_hang_and_that_other_may(life, clock, heard):
    """A flush to a silent gateway takes minutes, and the delivery waits for its turn meanwhile."""
    life.scanned(1, 0)
    heard.words  # noqa: B018 - READY
    patted = []
    with life.progress.round("delivery"):
        with life.progress.waiting():
            clock.pass_s(STUCK_AFTER_S * 2)
            life.beat()
            patted.append("WATCHDOG=1" in heard.words)
        clock.pass_s(STUCK_AFTER_S + 1)
        life.beat()
        patted.append("WATCHDOG=1" in heard.words)

    assert patted == [True, False]


def test_what_goes_wrong_is_in_the_status_line_at_once_and_gone_as_soon(life, heard):
    life.scanned(1, 0)
    heard.words  # noqa: B018 - READY
    life.troubles.met("intake", "", "a full disk")
    wrong = heard.words
    life.troubles.over("intake")
    well = heard.words

    start = "STATUS=1 product, 0 deltas merged since the start"
    assert (wrong, well) == (
        [f"{start}, 1 wrong (tallyd status says what)"],
        [f"{start}, nothing wrong"],
    )


def test_a_start_is_extended_until_the_first_scan_is_done(life, heard):
    life.beat()
    before = (life.beat_interval_s, heard.words)
    life.scanned(2, 5)
    life.beat()

    assert (before, life.beat_interval_s, heard.words) == (
        (START_LOOK_S, ["EXTEND_TIMEOUT_USEC=90000000", "WATCHDOG=1"]),
        60.0,
        ["READY=1", "WATCHDOG=1"],
    )


def test_a_reload_before_the_first_scan_says_no_ready(life, heard):
    life.reload()
    life.reloaded()
    before = heard.words
    life.scanned(1, 0)
    life.reload()
    life.reloaded()

    assert [one for one in before if one.startswith("READY")] == []
    assert heard.words.count("READY=1") == 2


def test_a_duty_that_waits_for_its_turn_is_in_a_round_and_no_leave_cuts_it_short(life):
    with life.progress.round("flush"):
        with life.progress.round("delivery"):
            life.leave(Ending(StopReason.IDLE))
        with life.progress.waiting():
            during = life.ending

    assert (during, life.ending is not None) == (None, True)


def test_a_leave_waits_for_the_end_of_every_round_and_a_signal_for_none(life):
    with life.progress.round("delivery"):
        life.leave(_IDLE)
        with life.progress.round("intake"):
            during = [life.ending]
        during.append(life.ending)

    assert (during, life.ending, life.scope.cancel_called) == ([None, None], _IDLE, True)


def test_a_signal_ends_it_in_the_middle_of_a_round(life):
    signal = Ending(StopReason.SIGNAL, "SIGTERM")
    with life.progress.round("delivery"):
        life.end(signal)
        assert life.scope.cancel_called
    life.leave(_IDLE)

    assert life.ending == signal
