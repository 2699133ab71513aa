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

# spool-v1: a delta is at most 64 KiB; the rest is room for what stands around the counts.
_MAX_CONTENT_BYTES = 60 * 1024
# spool-v1: what may wait in new/ before the oldest goes.
_CAP_FILES = 2048
_CAP_BYTES = 2 * 1024 * 1024
# One drop in 64 looks at the cap: a look costs more than a drop, and the disk stays far within twice
# the cap (2,048 drops that none looked at: one in 10^14).
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
        """Drop everything, in as many files as it takes. False: nothing was dropped, all is kept.

        `day_s` is an instant of the day these counts belong to.
        """
        if not self._epoch:
            self._epoch = os.urandom(8).hex()
        spool = os.path.join(policy.state_dir, "spool", policy.product)
        self._keep_cap(os.path.join(spool, "new"))
        screened.lose("cap", self._removed)
        names: "list[str]" = []
        try:
            for content in self._contents(policy, screened, day_s):
                names.append(_write(spool, self._seq + len(names), content))
            for name in names:
                self._publish(spool, name)
        except OSError:
            for name in names:
                _remove(os.path.join(spool, "tmp", name))
            return False
        self._seq += len(names)
        self._removed = 0
        if not self._is_introduced:
            self._is_introduced = _introduce(policy)
        return True

    def _contents(self, policy: "Policy", screened: "Screened", day_s: float) -> "list[bytes]":
        counts = [to_json(list(one)) for one in screened.counts]
        events = [to_json([name, instant(at), kept]) for name, at, kept in screened.events]
        lost = {cause: count for cause, count in screened.lost.items() if count}
        contents: "list[bytes]" = []
        while counts or events or lost:
            of_counts, room = _fitting(counts, _MAX_CONTENT_BYTES)
            of_events, _ = _fitting(events, room)
            contents.append(
                (
                    '{"v":1,"product":%s,"contract":%s,"writer":{"epoch":%s,"seq":%d,'
                    '"lang":"python","version":%s},"envelope":%s,"day":%s,'
                    '"counts":[%s],"events":[%s]%s}'
                    % (
                        _quote(policy.product),
                        _quote(policy.digest),
                        _quote(self._epoch),
                        self._seq + len(contents),
                        _quote(STUB_VERSION),
                        to_json(policy.envelope),
                        _quote(instant(day_s)[:10]),
                        ",".join(counts[:of_counts]),
                        ",".join(events[:of_events]),
                        ',"lost":%s' % to_json(lost) if lost else "",
                    )
                ).encode("ascii")
            )
            counts, events, lost = counts[of_counts:], events[of_events:], {}
            if not of_counts and not of_events and (counts or events):
                # One entry larger than any delta: it can never be dropped.
                raise ValueError("an entry is over the size of a delta")
        return contents

    def _publish(self, spool: str, name: str) -> None:
        source, target = os.path.join(spool, "tmp", name), os.path.join(spool, "new", name)
        try:
            os.rename(source, target)
        except FileNotFoundError:
            _make_directories(spool)
            os.rename(source, target)

    def _keep_cap(self, new: str) -> None:
        """Now and then, remove the oldest until the spool fits; what went is counted as lost."""
        if os.urandom(1)[0] % _LOOK_ONE_IN:
            return
        try:
            names = sorted(os.listdir(new), reverse=True)
        except OSError:
            return
        size = 0
        for place, name in enumerate(names):
            file = os.path.join(new, name)
            try:
                size += os.lstat(file).st_size
                if place >= _CAP_FILES or size > _CAP_BYTES:
                    held = _held(file)
                    os.unlink(file)
                    self._removed += held
            except OSError:
                continue


def _fitting(texts: "list[str]", room: int) -> "tuple[int, int]":
    """How many of `texts`, from the first, fit `room` characters; and the room that is left."""
    for place, text in enumerate(texts):
        if len(text) + 1 > room:
            return place, 0
        room -= len(text) + 1
    return len(texts), room


def _held(file: str) -> int:
    """How much is lost with a delta: the sum of its primary measures, and its events."""
    from tallyd_client._policy import read_json

    try:
        with open(file, "rb") as opened:
            said = read_json(opened.read(64 * 1024).decode("utf-8"))
        counted = sum([max(measures.values(), default=0) for _, _, measures in said["counts"]])
        return int(counted) + len(said.get("events", ()))
    except Exception:
        return 1


def _write(spool: str, seq: int, content: bytes) -> str:
    name = "%013d-%d-%d-%s.json" % (time.time() * 1000, os.getpid(), seq, os.urandom(8).hex())
    file = os.path.join(spool, "tmp", name)
    try:
        descriptor = os.open(file, _OPEN_FLAGS, 0o600)
    except FileNotFoundError:
        _make_directories(spool)
        descriptor = os.open(file, _OPEN_FLAGS, 0o600)
    try:
        _write_all(descriptor, content)
    except OSError:
        _remove(file)
        raise
    return name


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
        with open(file, "rb") as opened:
            if opened.read() == policy.text:
                return
    except FileNotFoundError:
        _make_directory(os.path.dirname(file))
    beside = "%s.%d.%s" % (file, os.getpid(), os.urandom(4).hex())
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
        if not _can_write_to_stderr():
            raise OSError("stderr is full or closed")
        sys.stderr.write("%s\n" % policy.notice)
        sys.stderr.flush()
        os.rename(claim, shown)
    except Exception:
        _remove(claim)
        return False
    return True


def _can_write_to_stderr() -> bool:
    """Whether a line on stderr is taken at once: a full pipe must never hold the host."""
    if sys.stderr is None or os.name == "nt":
        return sys.stderr is not None
    try:
        from select import select

        return bool(select([], [sys.stderr.fileno()], [], 0)[1])
    except (ValueError, OSError, AttributeError):
        # A stream without a descriptor (a test's, a GUI's) takes what it is given.
        return not getattr(sys.stderr, "closed", False)
