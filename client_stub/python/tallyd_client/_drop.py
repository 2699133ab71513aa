"""Dropping: one delta becomes one file in the spool, by docs/spool.md.

It owns the writer's half of the spool format: name, content, the rename, the cap; and the two things
that a first drop brings along, the product's notice and its contract for the daemon. It guarantees
that a complete file appears in `new/` by one rename, and that on any failure nothing is left and
the counts stay with the caller. Nothing is synced to disk: a power cut may cost the last seconds.
"""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._policy import Policy, Screened

STUB_VERSION = "0.1.0"

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
_CLAIM_STALE_S = 60.0
_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:
    from json.encoder import encode_basestring_ascii as _quote


def instant(unix_s: float) -> str:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`."""
    whole = int(unix_s)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (
        *time.gmtime(whole)[:6],
        int((unix_s - whole) * 1000),
    )


def to_json(value: "Any") -> str:
    """JSON of the values that a contract lets through: texts, whole numbers, booleans, lists, objects."""
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return "%d" % value
    if isinstance(value, dict):
        pairs = ["%s:%s" % (_quote(key), to_json(one)) for key, one in value.items()]
        return "{%s}" % ",".join(pairs)
    return "[%s]" % ",".join([to_json(one) for one in value])


class Writer:
    """Writes this process's deltas: one epoch, numbered from 0."""

    def __init__(self) -> None:
        # Made at the first drop: a process that counts nothing draws no random bytes.
        self._epoch = ""
        self._seq = 0
        self._removed = 0
        self._is_introduced = False

    def drop(self, policy: "Policy", screened: "Screened", day_s: float) -> bool:
        """Drop one delta of as much as it holds, and take that out of `screened`.

        False: nothing was dropped, all is kept. `day_s` is an instant of the day these counts
        belong to.
        """
        if not self._epoch:
            self._epoch = os.urandom(8).hex()
        spool = os.path.join(policy.state_dir, "spool", policy.product)
        room = _MAX_CONTENT_BYTES - len(self._content(policy, day_s, [], [], _LONGEST_LOST))
        counts, of_counts, left = _fitting(screened, screened.counts, room, room)
        events, of_events, left = _fitting(screened, screened.events, left, room)
        self._keep_cap(os.path.join(spool, "new"), room - left)
        lost = dict(screened.lost, cap=screened.lost.get("cap", 0) + self._removed)
        if not _publish(spool, self._seq, self._content(policy, day_s, counts, events, lost)):
            return False
        del screened.counts[:of_counts], screened.events[:of_events]
        screened.lost.clear()
        self._seq += 1
        self._removed = 0
        if not self._is_introduced:
            self._is_introduced = _introduce(policy)
        return True

    def _content(
        self,
        policy: "Policy",
        day_s: float,
        counts: "list[str]",
        events: "list[str]",
        lost: "dict[str, int]",
    ) -> bytes:
        lost = {cause: min(count, _MAX_INTEGER) for cause, count in lost.items() if count}
        return (
            '{"v":1,"product":%s,"contract":%s,"writer":{"epoch":%s,"seq":%d,'
            '"lang":"python","version":%s},"envelope":%s,"day":%s,'
            '"counts":[%s],"events":[%s]%s}'
            % (
                _quote(policy.product),
                _quote(policy.digest),
                _quote(self._epoch),
                self._seq,
                _quote(STUB_VERSION),
                to_json(policy.envelope),
                _quote(instant(day_s)[:10]),
                ",".join(counts),
                ",".join(events),
                ',"lost":%s' % to_json(lost) if lost else "",
            )
        ).encode("ascii")

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


def _publish(spool: str, seq: int, content: bytes) -> bool:
    """Make a file in `new/` of it, at once and whole; False: there is nothing, nowhere."""
    name = "%013d-%d-%d-%s.json" % (time.time() * 1000, os.getpid(), seq, os.urandom(8).hex())
    beside, target = os.path.join(spool, "tmp", name), os.path.join(spool, "new", name)
    try:
        try:
            descriptor = os.open(beside, _OPEN_FLAGS, 0o600)
        except FileNotFoundError:
            _make_directories(spool)
            descriptor = os.open(beside, _OPEN_FLAGS, 0o600)
        _write_all(descriptor, content)
        try:
            os.rename(beside, target)
        except FileNotFoundError:
            _make_directories(spool)
            os.rename(beside, target)
    except OSError:
        _remove(beside)
        return False
    return True


def _write_all(descriptor: int, content: bytes) -> None:
    """Write all of it and close, or raise and close."""
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)


def _make_directories(spool: str) -> None:
    for directory in (os.path.join(spool, "tmp"), os.path.join(spool, "new")):
        _make_directory(directory)


def _make_directory(directory: str) -> None:
    """Make it and what is above it, each for the user alone."""
    if not os.path.isdir(directory):
        _make_directory(os.path.dirname(directory))
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            return


def _remove(file: str) -> None:
    try:
        os.unlink(file)
    except OSError:
        return


def _introduce(policy: "Policy") -> bool:
    """Show the notice once on this machine, and register the contract; False: try at the next drop."""
    try:
        _register(policy)
        return _show_notice(policy)
    except Exception:
        return False


def _register(policy: "Policy") -> None:
    file = os.path.join(policy.config_dir, "contracts", "%s.toml" % policy.product)
    try:
        # Not blocking: whatever stands there, a pipe too, the host does not wait for it.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as opened:
            if opened.read() == policy.text:
                return
    except FileNotFoundError:
        _make_directory(os.path.dirname(file))
    # A name that the daemon sweeps when this process is killed before the rename.
    hidden = ".%s.toml.%d-%s.tmp" % (policy.product, os.getpid(), os.urandom(4).hex())
    beside = os.path.join(os.path.dirname(file), hidden)
    try:
        _write_all(os.open(beside, _OPEN_FLAGS, 0o600), policy.text)
        os.replace(beside, file)
    except OSError:
        _remove(beside)
        raise


def _show_notice(policy: "Policy") -> bool:
    """Print the notice where no process has yet, for this version of the contract."""
    shown = os.path.join(policy.state_dir, "notices", policy.product, policy.digest)
    if os.path.exists(shown):
        return True
    # Of many processes that come here together, one claims the showing; a claim whose owner was
    # killed is taken over a minute later.
    claim = shown + ".claim"
    _make_directory(os.path.dirname(shown))
    try:
        descriptor = os.open(claim, _OPEN_FLAGS, 0o600)
    except FileExistsError:
        if abs(time.time() - os.stat(claim).st_mtime) > _CLAIM_STALE_S:
            _remove(claim)
        return False
    try:
        _write_all(descriptor, ("%s\n" % instant(time.time())).encode("ascii"))
        if os.path.exists(shown):
            # Another process showed it, and its claim became `shown`, since the look above.
            _remove(claim)
            return True
        _say(policy.notice)
        os.rename(claim, shown)
    except Exception:
        _remove(claim)
        return False
    return True


def _say(line: str) -> None:
    """Write it to stderr. Raises when that cannot be done at once: it must never hold the host."""
    stream = sys.stderr
    if stream is None or getattr(stream, "closed", False):
        raise OSError("stderr is closed")
    try:
        descriptor = stream.fileno()
    except Exception:
        # A stream without a descriptor (a test's, a GUI's) takes what it is given.
        stream.write("%s\n" % line)
        stream.flush()
        return
    if os.name != "nt":
        from select import select

        if not select([], [descriptor], [], 0)[1]:
            raise OSError("stderr is full")
    stream.write("%s\n" % line)
    stream.flush()
