"""Log lines: key=value on stderr, one per change of state, never one per delta.

In the journal each line has its priority. A log that is a file, under launchd and on demand, is kept small
here: nobody else would. Values are counts, ids, versions and reasons; the only paths are those of tallyd's own
files, in a reason. Nothing of this is sent.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd import journal
from tallyd.errors import refused
from tallyd.files import NO_TRAPS
from tallyd.limits import LOG_MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._is_for_journal = journal.is_told()

    def format(self, record: logging.LogRecord) -> str:
        line = f"level={record.levelname.lower()} {record.getMessage()}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        if self._is_for_journal:
            return journal.marked(line, _PRIORITIES.get(record.levelno, journal.INFO))
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S%z')} {line}"


class _CappedHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic for checkers only
    """Writes to stderr, which is `file`; past the cap the file's content goes to `<file>.1`.

    By copying and truncating, not by a rename: whoever opened it for us, too, holds it open.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(sys.stderr)
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        with suppress(OSError, ValueError):
            _keep_small(sys.stderr.fileno(), self._file)


def _keep_small(descriptor: int, file: Path) -> None:
    """Past the cap, copy the newest of an open log to `<file>.1`, and truncate it. Raises OSError."""
    size = os.fstat(descriptor).st_size
    if size <= LOG_MAX_BYTES:
        return
    # A full disk may refuse the copy; then the truncation is what helps.
    with suppress(OSError), open(_open(f"{file}.1", os.O_TRUNC), "wb") as kept:
        kept.write(os.pread(descriptor, LOG_MAX_BYTES, size - LOG_MAX_BYTES))
    os.ftruncate(descriptor, 0)


def to_file(file: Path) -> None:
    """Let stdout and stderr of this process end up in `file`, which `set_up` then keeps small.

    Raises StateUnusable.
    """
    try:
        descriptor = _open(str(file), os.O_APPEND)
    except OSError as error:
        raise refused(f"{file} cannot be opened", error) from error
    # A daemon that fails at each start writes what no handler of it sees, and is started for ever.
    with suppress(OSError):
        _keep_small(descriptor, file)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def _open(file: str, flag: int) -> int:
    """Open a log for the user alone; no link is followed, and no pipe waited for."""
    return os.open(file, os.O_RDWR | os.O_CREAT | NO_TRAPS | flag, 0o600)


def set_up(level: str, capped: Path | None = None) -> None:
    """Send every log line of ours, and warnings of the libraries, to stderr.

    `capped` is the file that stderr was led into, and that is to be kept small.
    """
    handler = logging.StreamHandler(sys.stderr) if capped is None else _CappedHandler(capped)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """From now on log what is at least as important as `level`."""
    logging.getLogger("tallyd").setLevel(level.upper())


def line(action: str, **values: object) -> str:
    """`action=… key=value …`, values quoted where they hold a space, None left out."""
    said = {"action": action, **values}
    return " ".join(f"{key}={_value(value)}" for key, value in said.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value).replace("\n", " ").replace('"', "'")
    return f'"{text}"' if " " in text or not text else text
