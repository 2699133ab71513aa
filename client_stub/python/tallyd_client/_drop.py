"""Dropping: one delta becomes one file in the spool, by docs/spool.md.

It owns the writer's half of the spool format: name, content, the rename, the cap. It guarantees that
a complete file appears in `new/` by one rename, and that on any failure nothing is left and the
counts stay with the caller. Nothing is synced to disk: a power cut may cost the last seconds. The
notice and the contract that a first drop brings along are in `_introduce`. Loaded by the thread
that drops.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._policy import Consent, Policy
    from tallyd_client._screen import Screened

STUB_VERSION = "0.2.0"

# spool-v1: a delta is at most 64 KiB, and no number in it is over 2^53-1.
_MAX_CONTENT_BYTES = 64 * 1024
_MAX_INTEGER = 2**53 - 1
_LONGEST_LOST = {"cap": _MAX_INTEGER, "error": _MAX_INTEGER}
# spool-v1: what may wait in new/ before the oldest goes.
_CAP_FILES = 2048
_CAP_BYTES = 2 * 1024 * 1024
# A look at the cap costs more than a drop, so one drop in 64 looks; of larger ones, one look in 64 KiB
# on average. The disk stays within twice the cap: 2,048 small drops that none looked at are one
# chance in 10^14, 2 MiB of larger ones less.
_LOOK_ONE_IN = 64
OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:
    from json.encoder import encode_basestring_ascii as _quote


def to_json(value: "Any") -> str:
    """JSON of the values that a contract lets through: texts, numbers, booleans, lists, objects."""
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return "%d" % value
    if isinstance(value, float):
        return repr(value)
    if value is None:
        return "null"
    if isinstance(value, dict):
        pairs = ["%s:%s" % (_quote(key), to_json(one)) for key, one in value.items()]
        return "{%s}" % ",".join(pairs)
    return "[%s]" % ",".join([to_json(one) for one in value])


class Writer:
    """Writes this process's deltas: one epoch, numbered from 0; `seq` is the next one's number."""

    def __init__(self) -> None:
        # Made at the first drop: a process that counts nothing draws no random bytes.
        self._epoch = ""
        self.seq = 0
        self._removed = 0
        self._is_registered = False
        self._is_noticed = False

    def drop(
        self,
        policy: "Policy",
        consent: "Consent",
        envelope: "dict[str, Any]",
        screened: "Screened",
        day: str,
    ) -> "str | None":
        """Drop one delta of as much as it holds, take that out of `screened`, and give its path.

        None: nothing was dropped, all is kept. `day` is the day these counts belong to, `consent` the
        decision under which they were counted.
        """
        if not self._epoch:
            self._epoch = os.urandom(8).hex()
        spool = os.path.join(policy.state_dir, "spool", policy.product)
        head, tail = self._head(policy, consent, envelope, day), _tail(_LONGEST_LOST)
        room = _MAX_CONTENT_BYTES - len(head) - len(tail) - len('"counts":[],"events":[]')
        counts, of_counts, left = _fitting(screened, screened.counts, room, room)
        events, of_events, left = _fitting(screened, screened.events, left, room)
        self._keep_cap(os.path.join(spool, "new"), room - left)
        lost = dict(screened.lost, cap=screened.lost.get("cap", 0) + self._removed)
        body = '"counts":[%s],"events":[%s]' % (",".join(counts), ",".join(events))
        content = "".join((head, body, _tail(lost))).encode("ascii")
        file = _publish(spool, self.seq, content)
        if file is None:
            return None
        del screened.counts[:of_counts], screened.events[:of_events]
        screened.lost.clear()
        self.seq += 1
        self._removed = 0
        return file

    def introduce(self, policy: "Policy", consent: "Consent") -> None:
        """See that the daemon has the contract and the user had the notice, after a drop that stays."""
        try:
            if not self._is_registered:
                file = os.path.join(policy.config_dir, "contracts", "%s.toml" % policy.product)
                if not _holds(file, policy.text):
                    from tallyd_client import _introduce

                    _introduce.register(policy, file)
                self._is_registered = True
            if not self._is_noticed:
                self._is_noticed = os.path.exists(policy.notice_file)
            if not self._is_noticed:
                from tallyd_client import _introduce

                self._is_noticed = _introduce.show_notice(policy, consent)
        except Exception:
            return

    def _head(
        self, policy: "Policy", consent: "Consent", envelope: "dict[str, Any]", day: str
    ) -> str:
        return (
            '{"v":1,"product":%s,"contract":%s,"writer":{"epoch":%s,"seq":%d,'
            '"lang":"python","version":%s},"consent":%s,%s"envelope":%s,"day":%s,'
        ) % (
            _quote(policy.product),
            _quote(policy.digest),
            _quote(self._epoch),
            self.seq,
            _quote(STUB_VERSION),
            to_json(consent.stamp),
            '"id":%s,' % _quote(policy.own_id) if policy.own_id is not None else "",
            to_json(envelope),
            _quote(day),
        )

    def _keep_cap(self, new: str, size: int) -> None:
        """Now and then, remove the oldest until the spool fits; what went is counted as lost.

        `size` is that of the coming drop: the larger, the likelier is a look.
        """
        if os.urandom(1)[0] % _LOOK_ONE_IN > size // 1024:
            return
        try:
            names = sorted(os.listdir(new), reverse=True)
        except OSError:
            return
        total = 0
        for place, name in enumerate(names):
            file = os.path.join(new, name)
            try:
                total += os.lstat(file).st_size
                if place >= _CAP_FILES or total > _CAP_BYTES:
                    held = _held(file)
                    os.unlink(file)
                    self._removed += held
            except OSError:
                continue


def _tail(lost: "dict[str, int]") -> str:
    lost = {cause: min(count, _MAX_INTEGER) for cause, count in lost.items() if count}
    return ',"lost":%s}' % to_json(lost) if lost else "}"


def _holds(file: str, content: bytes) -> bool:
    """Whether the file is there with exactly this content."""
    try:
        # Not blocking: whatever stands there, a pipe too, the host does not wait for it.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return False
    try:
        return os.read(descriptor, len(content) + 1) == content
    finally:
        os.close(descriptor)


def _fitting(
    screened: "Screened", entries: "list[Any]", room: int, whole: int
) -> "tuple[list[str], int, int]":
    """As JSON what of `entries` fits, from the first; how many that were; the room that is left."""
    texts: "list[str]" = []
    for place, (_, entry, weight) in enumerate(entries):
        text = to_json(entry)
        if len(text) >= whole:
            # Larger than any delta: it can never be dropped, and must not hold up the rest.
            screened.lose("error", weight)
            continue
        if len(text) >= room:
            return texts, place, room
        room -= len(text) + 1
        texts.append(text)
    return texts, len(entries), room


def _held(file: str) -> int:
    """How much is lost with a delta: its primary measures, its events, and what it told of as lost."""
    from tallyd_client._state import read_object

    try:
        said = read_object(file) or {}
        counted = [max(measures.values(), default=0) for _, _, measures in said["counts"]]
        counted.extend(said.get("lost", {}).values())
        # What others wrote here must not make a number that the reader refuses in ours.
        if any(type(one) is not int or not 0 <= one <= _MAX_INTEGER for one in counted):
            return 1
        return sum(counted) + len(said.get("events", ()))
    except Exception:
        return 1


def _publish(spool: str, seq: int, content: bytes) -> "str | None":
    """Make a file in `new/` of it, at once and whole, and give its path; None: there is nothing."""
    name = "%013d-%d-%d-%s.json" % (time.time() * 1000, os.getpid(), seq, os.urandom(8).hex())
    beside, target = os.path.join(spool, "tmp", name), os.path.join(spool, "new", name)
    try:
        try:
            descriptor = os.open(beside, OPEN_FLAGS, 0o600)
        except FileNotFoundError:
            _make_directories(spool)
            descriptor = os.open(beside, OPEN_FLAGS, 0o600)
        write_all(descriptor, content)
        try:
            os.rename(beside, target)
        except FileNotFoundError:
            _make_directories(spool)
            os.rename(beside, target)
    except OSError:
        remove(beside)
        return None
    return target


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it and close, or raise and close."""
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)


def _make_directories(spool: str) -> None:
    for directory in (os.path.join(spool, "tmp"), os.path.join(spool, "new")):
        make_directory(directory)


def make_directory(directory: str) -> None:
    """Make it and what is above it, each for the user alone."""
    if not os.path.isdir(directory):
        make_directory(os.path.dirname(directory))
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            return


def remove(file: str) -> None:
    """Remove it, if that can be done."""
    try:
        os.unlink(file)
    except OSError:
        return
