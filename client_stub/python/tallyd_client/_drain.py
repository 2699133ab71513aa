"""One drain: what was counted since the last one becomes deltas, under the decision that covers it.

It owns the question whether a window of counts may be dropped at all. It guarantees that nothing
stays that was counted while consent was off, under another id, or before somebody chose: it looks
at consent before a drop and once more after its rename, so either it sees an "off", or whoever
wrote the "off" sees the file. Loaded by the thread that drops.
"""

import _thread
import os
import time

from tallyd_client import _drop, _screen
from tallyd_client._cells import calls_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tallyd_client import Client
    from tallyd_client._policy import Consent, Policy

_DAY_S = 86400.0


def drain(client: "Client", policy: "Policy") -> None:
    """Drop what the client counted since its last drain, or what failed to drop then."""
    if client._drains is None:
        try:
            client._drains = Drain(policy)
        except Exception as error:
            client.problem = str(error) or type(error).__name__
            client._is_off = True
            return
    client._drains.once(client)
    if client._autostart is not False:
        _look_for_daemon(client, policy, client._drains)


def _look_for_daemon(client: "Client", policy: "Policy", drains: "Drain") -> None:
    """After the drop, never before: a daemon that leaves in between looks once more itself."""
    has_dropped, drains.has_dropped = drains.has_dropped, False
    if client._starter is None:
        if not has_dropped:
            return
        given = client._autostart
        if given is not True and not isinstance(given, (str, os.PathLike)):
            client._autostart = False
            return
        from tallyd_client import _autostart

        given = True if given is True else str(os.fspath(given))
        client._starter = _autostart.Starter(policy, given)
    may_pause = _thread.get_native_id() == client._thread_id and not client._is_exiting
    client._starter.after_drain(has_dropped=has_dropped, may_pause=may_pause)


def prepare(client: "Client") -> None:
    """Make ready what the first drain needs, which may be the one that a process waits for at its end.

    Not where the host may yet register names that its envelope holds; what fails here fails there.
    """
    policy = client._policy
    if policy is None or not client._draining.acquire(False):
        return
    try:
        listed = policy.listed_envelope.values()
        if client._drains is None and not any(spec.get("registered") for spec in listed):
            client._drains = Drain(policy)
    except Exception:
        return
    finally:
        client._draining.release()


class Drain:
    """The drains of one process: its screen, its writer, and the decision it last saw."""

    def __init__(self, policy: "Policy") -> None:
        self._policy = policy
        self._screen = _screen.Screen(policy)
        self._writer = _drop.Writer()
        # Whether a drop stayed since somebody asked.
        self.has_dropped = False

    def once(self, client: "Client") -> None:
        """One drain."""
        now, began = time.time(), client._window_began
        moved = [one for source in list(client._sources) for one in source.fresh()]
        events = list(client._events)
        lost = {one: calls_of(cell) - client._lost_marks[one] for one, cell in client._lost.items()}
        if moved or events or any(lost.values()):
            seen, consent = client._seen, self._policy.consent()
            client._seen = consent
            # Off, or decided within this window: some of it was counted under another decision, and
            # all of it goes nowhere.
            if _covers(consent, seen, began):
                # A drain in the first second of a day is the midnight drain: yesterday's counts.
                midnight = now - now % _DAY_S
                day_s = midnight - 1.0 if began < midnight and now - midnight < 1.0 else now
                if self._policy.identity.get("kind") == "derived":
                    from tallyd_client import _identity

                    _identity.ensure_own_id(self._policy)
                screened = self._screen.screen(moved, events, lost, _screen.instant(day_s)[:10])
                first, is_whole = self._writer.seq, False
                try:
                    is_whole = self._drop_all(client, consent, screened, day_s)
                finally:
                    self._screen.settle(screened, is_dropped=client._seen is consent)
                if not is_whole:
                    if self._writer.seq == first:
                        return
                    # What is dropped is dropped; the rest waits for the next drain.
                    kept = {place for place, _, _ in screened.counts}
                    waiting = {place for place, _, _ in screened.events}
                    rest = [one for place, one in enumerate(moved) if place not in kept]
                    client._settle(rest, lost)
                    client._events[: len(events)] = [
                        one for place, one in enumerate(events) if place in waiting
                    ]
                    return
            client._settle(moved, lost)
            del client._events[: len(events)]
        elif client._seen is not None and not client._is_exiting:
            # Nothing to drop, but a decision within an idle window must not spoil the next one.
            client._seen = self._policy.consent()
        client._window_began = now

    def _drop_all(
        self, client: "Client", consent: "Consent", screened: "_screen.Screened", day_s: float
    ) -> bool:
        """Drop all of it, in as many files as it takes; False: what is left in `screened` waits."""
        policy, day = self._policy, _screen.instant(day_s)[:10]
        envelope = self._screen.envelope(day)
        while screened:
            file = self._writer.drop(policy, consent, envelope, screened, day)
            if file is None:
                return False
            now = policy.consent()
            if not now.is_on or now.is_other_than(consent):
                # Whoever decided in between may have looked before the file was there.
                _drop.remove(file)
                client._seen = now
                return True
            self._writer.introduce(policy, now)
            self.has_dropped = True
        return True


def _covers(consent: "Consent", seen: "Consent | None", began: float) -> bool:
    """Whether one decision stood all the time from `began` on, as far as anybody can tell."""
    return (
        consent.is_on
        and consent.since < began
        and (seen is None or not consent.is_other_than(seen))
    )
