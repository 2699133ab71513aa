"""Choice, id and notice of each product, as files that its hosts share with us.

It owns the state file (the product's own, adopted as it is, or `state/consent/<product>.json`) and
the notices (`state/notices/<product>/<digest>`, each holding the instant it was shown). It
guarantees that a damaged, linked, oversized or unreadable state file reads as damage and is never
overwritten, that unknown keys survive, and that every write is an atomic replace with mode 0600.
The stub reads the same files by the same rules.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tallyd.contract.consent import Choice, StoredChoice
from tallyd.contract.days import instant, unix_of
from tallyd.contract.model import StateFile
from tallyd.errors import StateUnusable
from tallyd.files import replace_file
from tallyd.limits import STATE_FILE_MAX_BYTES
from tallyd.paths import expand_home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.contract import Contract
    from tallyd.paths import Paths

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChoiceFile:
    """What the state file says: the choice and the id; `values` is the whole object.

    `content` is its bytes, None when there is no file.
    """

    file: Path
    stored: StoredChoice
    machine_id: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    content: bytes | None = None


def read_choice(contract: Contract, paths: Paths, environ: Mapping[str, str]) -> ChoiceFile:
    """The state file of a product. Never raises for what stands in it: damage is an answer."""
    keys = contract.state or StateFile("")
    own = paths.choices / f"{contract.product}.json"
    file = expand_home(keys.path, environ) if keys.path else own
    content = None
    try:
        content = _read(file)
        if content is None:
            return ChoiceFile(file, StoredChoice(Choice.NONE))
        # UTF-8 and nothing that json would guess; editors put a byte order mark before it.
        values = json.loads(content.decode("utf-8-sig"))
        if not isinstance(values, dict):
            raise ValueError("is not a JSON object")  # noqa: TRY004 - damage, like the others
        return _understood(file, keys, values, content)
    except OSError as error:
        problem = "is a link" if error.errno == errno.ELOOP else str(error.strerror)
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:
        problem = str(error) if type(error) is ValueError else "is not JSON"
    damaged = StoredChoice(Choice.DAMAGED, problem=f"{file.name}: {problem}")
    return ChoiceFile(file, damaged, content=content)


def ensure_id(contract: Contract, paths: Paths, environ: Mapping[str, str], now: float) -> str:
    """The product's machine id, made and written down when there is none. Raises StateUnusable."""
    choice = read_choice(contract, paths, environ)
    if choice.machine_id is not None:
        return choice.machine_id
    if choice.stored.choice in (Choice.OFF, Choice.DAMAGED):
        raise StateUnusable(f"{choice.file} allows no id", 'see "tallyd status"')
    keys = contract.state or StateFile("")
    machine_id = str(uuid.uuid4())
    values = dict(choice.values)
    if not values and contract.state is not None:
        # A product that keeps its own file expects all of its keys there.
        values = {
            keys.enabled: True,
            keys.source: keys.default_source,
            keys.notice: True,
            keys.updated: instant(now),
        }
    values[keys.id] = machine_id
    _write(choice, values)
    return machine_id


def forget_id(contract: Contract, paths: Paths, environ: Mapping[str, str]) -> None:
    """Remove the id from a state file that says off; it may have been written by hand.

    Raises StateUnusable.
    """
    choice = read_choice(contract, paths, environ)
    if choice.stored.choice is Choice.OFF and choice.machine_id is not None:
        keys = contract.state or StateFile("")
        _write(choice, {**choice.values, keys.id: None})


def write_choice(
    contract: Contract, paths: Paths, environ: Mapping[str, str], *, is_on: bool, now: float
) -> ChoiceFile:
    """Write an explicit choice: on makes a new id, off removes it. Raises StateUnusable."""
    choice = read_choice(contract, paths, environ)
    if choice.stored.choice is Choice.DAMAGED and (
        choice.file.is_symlink() or choice.file.is_dir()
    ):
        raise StateUnusable(f"{choice.file} is not a plain file", "remove it and choose again")
    keys = contract.state or StateFile("")
    values = {
        **choice.values,
        keys.enabled: is_on,
        keys.id: str(uuid.uuid4()) if is_on else None,
        keys.source: "cli",
        keys.notice: True,
        keys.updated: instant(now),
    }
    _write(choice, values)
    return read_choice(contract, paths, environ)


def any_notice_shown(contract: Contract, paths: Paths) -> bool:
    """Whether the notice for any version of this product's contract was shown."""
    try:
        return any(
            re.fullmatch(r"[0-9a-f]{16}", one)
            for one in os.listdir(paths.notices(contract.product))
        )
    except OSError:
        return False


def notice_shown_at(contract: Contract, paths: Paths) -> float | None:
    """When the notice for this version of the contract was shown, Unix s; None when it was not."""
    try:
        content = _read(paths.notices(contract.product) / contract.short_digest)
    except OSError:
        return None
    return unix_of(content.decode("ascii", "replace").strip()) if content is not None else None


def mark_notice_shown(contract: Contract, paths: Paths, now: float) -> None:
    """Record that the notice was shown. Raises StateUnusable."""
    replace_file(
        paths.notices(contract.product) / contract.short_digest, f"{instant(now)}\n".encode("ascii")
    )


def _understood(
    file: Path, keys: StateFile, values: dict[str, object], content: bytes
) -> ChoiceFile:
    enabled, machine_id = values.get(keys.enabled), values.get(keys.id)
    if enabled is not None and not isinstance(enabled, bool):
        raise ValueError(f"{keys.enabled} is neither true nor false")
    if machine_id is not None and not (isinstance(machine_id, str) and _UUID.fullmatch(machine_id)):
        raise ValueError(f"{keys.id} is not a UUID")
    updated = values.get(keys.updated)
    since = updated if isinstance(updated, str) and unix_of(updated) is not None else None
    if enabled is False:
        stored = StoredChoice(Choice.OFF, since)
    elif enabled is None or values.get(keys.source) == keys.default_source:
        stored = StoredChoice(Choice.NONE)
    else:
        stored = StoredChoice(Choice.ON, since)
    return ChoiceFile(file, stored, machine_id, values, content)


def _read(file: Path) -> bytes | None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(file, flags)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = os.read(descriptor, STATE_FILE_MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > STATE_FILE_MAX_BYTES:
        raise ValueError(f"is over {STATE_FILE_MAX_BYTES // 1024} KiB")
    return content


def _write(choice: ChoiceFile, values: Mapping[str, object]) -> None:
    """Put `values` in the place of what was read. Raises StateUnusable, also when it changed since.

    Two who write at once, a user's "no" among them, must not undo one another.
    """

    def is_unchanged() -> bool:
        try:
            return _read(choice.file) == choice.content
        except (OSError, ValueError):
            return choice.stored.choice is Choice.DAMAGED

    content = (json.dumps(values, indent=2) + "\n").encode("ascii")
    replace_file(choice.file, content, only_if=is_unchanged)
