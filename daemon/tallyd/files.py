"""Small files written whole or not at all.

It owns one act: write beside, sync, rename over. Whoever reads sees the old text or the new one,
after a crash and after a power cut too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd.errors import StateUnusable

if TYPE_CHECKING:
    from pathlib import Path


def replace_file(file: Path, content: bytes) -> None:
    """Put `content` in place of `file` (0600, its directory 0700). Raises StateUnusable."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(beside, file)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        raise StateUnusable(
            f"{file} cannot be written: {error.strerror}",
            "free space, or make its directory yours and writable",
        ) from error
