"""Notices: which versions of a contract a user was told of, and when.

It owns `state/notices/<product>/`: a file per digest with the instant at which its notice was shown,
and `<digest>.wanted`, by which the daemon asks the next host to show it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd.contract.days import instant, unix_of
from tallyd.errors import StateUnusable
from tallyd.files import read_regular, replace_file

if TYPE_CHECKING:
    from tallyd.contract import Contract
    from tallyd.paths import Paths

_INSTANT_MAX_BYTES = 64


def shown_at(contract: Contract, paths: Paths) -> float | None:
    """When the notice for this version of the contract was shown, Unix s; None when it was not."""
    try:
        content = read_regular(
            paths.notices(contract.product) / contract.short_digest, _INSTANT_MAX_BYTES
        )
    except (OSError, ValueError):
        return None
    return unix_of(content.decode("ascii", "replace").strip()) if content is not None else None


def mark_shown(contract: Contract, paths: Paths, now: float) -> None:
    """Record that the notice was shown. Raises StateUnusable."""
    replace_file(
        paths.notices(contract.product) / contract.short_digest, f"{instant(now)}\n".encode("ascii")
    )


def ask_for(contract: Contract, paths: Paths) -> None:
    """Ask the next host to show the notice: something would leave.

    Best effort, for where no mark can be made no notice can be recorded either, and nothing leaves.
    """
    wanted = paths.notices(contract.product) / f"{contract.short_digest}.wanted"
    with suppress(StateUnusable):
        if not wanted.exists():
            replace_file(wanted, b"")
