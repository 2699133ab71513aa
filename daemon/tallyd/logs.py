"""Log lines: key=value on stderr, one per change of state, never one per delta.

Under systemd each line begins with its priority (`<6>`), which journald takes off again. Values are
counts, ids, versions and reasons; never names or paths of the user's.
"""

from __future__ import annotations

import logging
import os
import sys

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"level={record.levelname.lower()} {record.getMessage()}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        if "JOURNAL_STREAM" in os.environ:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}"
        return f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S%z')} {line}"


def set_up(level: str) -> None:
    """Send every log line of ours, and warnings of the libraries, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
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
