"""The marks that tell the journal how important a line is: `<3>` at its beginning (sd-daemon(3)).

Only where stderr itself goes to the journal. JOURNAL_STREAM alone does not say so: the shells of a desktop inherit it from
the service that their terminal is, and a unit may lead stderr into a file. So it is compared with the stream, as
systemd.exec(5) asks for.
"""

from __future__ import annotations

import os

ERROR = 3
INFO = 6


def is_told() -> bool:
    """Whether stderr goes to the journal."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


def marked(text: str, priority: int) -> str:
    """`text`, each of its lines with the mark of `priority` (syslog's, 0 to 7)."""
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))
