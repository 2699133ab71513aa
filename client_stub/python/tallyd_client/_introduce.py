"""What a first drop brings along: the product's contract for the daemon, and its notice.

It owns the showing of the notice: when a contract wants it, where it may be shown, once on this
machine for one version of the contract. It guarantees that nothing but that line is written, to
stderr alone, and that no host waits for whoever reads it. Loaded when one of the two is missing.
"""

import os
import sys
import time

from tallyd_client._drop import OPEN_FLAGS, make_directory, remove, write_all
from tallyd_client._screen import instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._policy import Consent, Policy

_CLAIM_STALE_S = 60.0


def register(policy: "Policy", file: str) -> None:
    """Put the contract where the daemon looks for it. Raises OSError."""
    make_directory(os.path.dirname(file))
    beside = beside_of(file)
    try:
        write_all(os.open(beside, OPEN_FLAGS, 0o600), policy.text)
        os.replace(beside, file)
    except OSError:
        remove(beside)
        raise


def beside_of(file: str) -> str:
    """A name beside `file` that the daemon sweeps when this process is killed before its rename."""
    hidden = ".%s.%d-%s.tmp" % (os.path.basename(file), os.getpid(), os.urandom(4).hex())
    return os.path.join(os.path.dirname(file), hidden)


def show_notice(policy: "Policy", consent: "Consent") -> bool:
    """Print the notice if its time has come and no process has yet; False: not now."""
    shown = policy.notice_file
    when = policy.consent_rules.get("notice_when", "first-use")
    wanted = shown + ".wanted"
    is_wanted = os.path.lexists(wanted)
    # Whoever chose was asked, and is told again only when the daemon has something new to tell.
    if not is_wanted and (consent.is_explicit or when == "before-send"):
        return False
    if when == "interactive" and not _is_terminal(sys.stderr):
        return False
    # Of many processes that come here together, one claims the showing; a claim whose owner was
    # killed is taken over a minute later.
    claim = shown + ".claim"
    make_directory(os.path.dirname(shown))
    try:
        descriptor = os.open(claim, OPEN_FLAGS, 0o600)
    except FileExistsError:
        if abs(time.time() - os.stat(claim).st_mtime) > _CLAIM_STALE_S:
            remove(claim)
        return False
    try:
        write_all(descriptor, ("%s\n" % instant(time.time())).encode("ascii"))
        if os.path.exists(shown):
            # Another process showed it, and its claim became `shown`, since the look above.
            remove(claim)
            return True
        _say(policy.notice)
        os.rename(claim, shown)
    except Exception:
        remove(claim)
        return False
    remove(wanted)
    return True


def _say(line: str) -> None:
    """Write it to stderr. Raises when that cannot be done at once: it must never hold the host."""
    stream = sys.stderr
    if stream is None or getattr(stream, "closed", False):
        raise OSError("stderr is closed")
    line = "%s\n" % (dimmed(line) if takes_color(stream) else line)
    try:
        descriptor = stream.fileno()
    except Exception:
        # A stream without a descriptor (a test's, a GUI's) takes what it is given.
        stream.write(line)
        stream.flush()
        return
    if os.name != "nt":
        from select import select

        if not select([], [descriptor], [], 0)[1]:
            raise OSError("stderr is full")
    stream.write(line)
    stream.flush()


def dimmed(line: str) -> str:
    """The line as a terminal shows it less brightly than the host's own."""
    return "\x1b[2m%s\x1b[0m" % line


def takes_color(stream: "Any") -> bool:
    """Whether the stream is a terminal that understands colours, and whose user wants them."""
    environ = os.environ
    return (
        _is_terminal(stream)
        and not environ.get("NO_COLOR", "")
        and environ.get("TERM", "") != "dumb"
        and os.name != "nt"
    )


def _is_terminal(stream: "Any") -> bool:
    try:
        return bool(stream.isatty())
    except Exception:
        return False
