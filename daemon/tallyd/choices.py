"""Choice and id of each product, as files that its hosts share with us.

It owns the state file (the product's own, adopted as it is, or `state/consent/<product>.json`), and
beside an own file that has no place for a date, `state/consent/<product>.json` with the date and
the word of the choice that was made through tallyd: it counts only while it says what the file says.
It guarantees that a damaged, linked, oversized or unreadable state file reads as damage, that
unknown keys survive, and that every write is an atomic replace with mode 0600 of just the text that
was read. The stub reads the same files by the same rules.
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

from tallyd.chance import random_uuid
from tallyd.contract.consent import Choice, StoredChoice
from tallyd.contract.days import instant, unix_of
from tallyd.contract.frozen import Frozen, replace
from tallyd.contract.model import StateFile
from tallyd.errors import StateUnusable
from tallyd.files import keep_beside, read_regular, replace_file
from tallyd.limits import STATE_FILE_MAX_BYTES
from tallyd.paths import expand_home
from tallyd.state_file import Said, changed, keys_of, read_values, understand

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.contract import Contract
    from tallyd.paths import Paths


_NOTHING: Mapping[str, object] = {}
# How the file is written that tallyd keeps beside a product's own.
_OWN = StateFile("")


class ChoiceFile(Frozen):
    """What the state file says: the choice and the ids; `values` is the whole object.

    `content` is its bytes, None when there is no file.
    """

    file: Path
    stored: StoredChoice
    machine_id: str | None = None
    user: str = ""
    values: Mapping[str, object] = _NOTHING
    content: bytes | None = None
    # Where the damaged file went that a choice has replaced.
    kept: Path | None = None


def read_choice(contract: Contract, paths: Paths, environ: Mapping[str, str]) -> ChoiceFile:
    """The state file of a product. Never raises for what stands in it: damage is an answer."""
    keys = keys_of(contract)
    beside = paths.choice(contract.product)
    file = expand_home(keys.path, environ) if keys.path else beside
    content = None
    try:
        content = read_regular(file, STATE_FILE_MAX_BYTES)
        if content is None:
            return ChoiceFile(file, StoredChoice(_left_behind(contract, beside)))
        values = read_values(content, keys)
        said = understand(values, contract)
    except OSError as error:
        problem = "is a link" if error.errno == errno.ELOOP else str(error.strerror)
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except ValueError as error:
        problem = str(error)
    else:
        stored = _stored(said, beside if keys.path and not keys.updated else None)
        return ChoiceFile(file, stored, said.machine_id, said.user, values, content)
    damaged = StoredChoice(Choice.DAMAGED, problem=f"{file.name}: {problem}")
    return ChoiceFile(file, damaged, content=content)


def ensure_id(contract: Contract, paths: Paths, environ: Mapping[str, str], now: float) -> str:
    """The product's machine id, made and written down when there is none. Raises StateUnusable."""
    choice = read_choice(contract, paths, environ)
    if choice.machine_id is not None:
        return choice.machine_id
    if choice.stored.choice in (Choice.OFF, Choice.DAMAGED):
        raise StateUnusable(f"{choice.file} allows no id", 'see "tallyd status"')
    keys = keys_of(contract)
    machine_id = random_uuid()
    changes: dict[str, object] = {}
    if choice.content is None and contract.state is not None:
        # A product that keeps its own file expects all of its keys there.
        changes = {
            keys.enabled: True,
            keys.source: keys.default_source,
            keys.notice: True,
            keys.notice_at: instant(now),
            keys.notice_version: 1,
            keys.created: instant(now),
            keys.updated: instant(now),
        }
    _write(contract, choice, {**changes, keys.id: machine_id})
    return machine_id


def forget_id(contract: Contract, paths: Paths, environ: Mapping[str, str]) -> None:
    """Remove the id from a state file that says off; it may have been written by hand.

    Raises StateUnusable.
    """
    choice = read_choice(contract, paths, environ)
    keys = keys_of(contract)
    # A strict file must hold an id: the one that stands there was made when it went off.
    if choice.stored.choice is Choice.OFF and choice.machine_id is not None and not keys.is_strict:
        _write(contract, choice, {keys.id: None})


def write_choice(
    contract: Contract,
    paths: Paths,
    environ: Mapping[str, str],
    *,
    mode: str,
    now: float,
    user: str = "",
) -> ChoiceFile:
    """Write an explicit choice: any mode but "off" makes a new id, "off" removes it.

    A new id also where the file must hold one: the old one is gone. Raises StateUnusable.
    """
    choice = read_choice(contract, paths, environ)
    keys = keys_of(contract)
    is_on = mode != "off"
    had = choice.values
    changes: dict[str, object] = {
        keys.enabled: is_on,
        keys.mode: mode,
        keys.id: random_uuid() if is_on or keys.is_strict else None,
        keys.user: user if mode == "identified" else None,
        keys.source: "cli",
        keys.notice: True,
        keys.created: had.get(keys.created) or instant(now),
        keys.updated: instant(now),
    }
    if is_on:
        # Whoever says yes was told of what it is; a "no" tells of no notice.
        changes[keys.notice_at] = had.get(keys.notice_at) or instant(now)
        changes[keys.notice_version] = had.get(keys.notice_version) or 1
    kept = _write(contract, choice, changes)
    _write_beside(contract, paths, mode, now)
    return replace(read_choice(contract, paths, environ), kept=kept)


def reset_id(
    contract: Contract, paths: Paths, environ: Mapping[str, str], now: float
) -> str | None:
    """Another id in the place of the one that is there; None when there is none.

    The choice stays as it is. Raises StateUnusable.
    """
    choice = read_choice(contract, paths, environ)
    if choice.stored.choice is Choice.DAMAGED:
        raise StateUnusable(f"{choice.file} is damaged", "mend it, or remove it to begin anew")
    if choice.machine_id is None:
        return None
    keys = keys_of(contract)
    machine_id = random_uuid()
    changes: dict[str, object] = {keys.id: machine_id, keys.created: instant(now)}
    if choice.stored.choice is Choice.ON:
        changes[keys.updated] = instant(now)
    _write(contract, choice, changes)
    if choice.stored.choice is Choice.ON:
        _write_beside(contract, paths, choice.stored.mode, now)
    return machine_id


def _stored(said: Said, beside: Path | None) -> StoredChoice:
    """The choice with its date, which may stand beside a file that has no place for one."""
    since, choice = said.updated, said.choice
    if beside is not None:
        word, at = _beside(beside)
        if choice is Choice.NONE and said.is_explicit is None and word == "on":
            # The file is on, and through tallyd somebody said so.
            return StoredChoice(Choice.ON, at)
        since = at if word == said.word else None
    if choice is Choice.NONE:
        return StoredChoice(Choice.NONE)
    mode = said.mode if choice is Choice.ON else "on"
    if mode == "identified" and not said.user:
        # Never a blank id: without one it is the mode that needs none.
        mode = "anonymous"
    return StoredChoice(choice, since, mode=mode)


def _write_beside(contract: Contract, paths: Paths, word: str, now: float) -> None:
    """Write the word and the date of a choice where its own file has no place for them."""
    keys = keys_of(contract)
    if keys.path and not keys.updated:
        beside = {"choice": word, "updated_at": instant(now)}
        replace_file(paths.choice(contract.product), json.dumps(beside).encode("ascii"))


def _beside(file: Path) -> tuple[str, str | None]:
    """(word, instant) of a choice that was made through tallyd; ("", None) when there is none."""
    said = _object(file)
    word, at = said.get("choice"), said.get("updated_at")
    return (
        word if isinstance(word, str) else "",
        at if isinstance(at, str) and unix_of(at) is not None else None,
    )


def _left_behind(contract: Contract, own: Path) -> Choice:
    """What a product without its own file says: off, if it was off before it was to have one."""
    is_off = contract.state is not None and _object(own).get("enabled") is False
    return Choice.OFF if is_off else Choice.NONE


def _object(file: Path) -> Mapping[str, object]:
    """What tallyd's own file says; nothing where it is damaged."""
    try:
        content = read_regular(file, STATE_FILE_MAX_BYTES)
        return {} if content is None else read_values(content, _OWN)
    except (OSError, ValueError):
        return {}


def _write(contract: Contract, choice: ChoiceFile, changes: Mapping[str, object]) -> Path | None:
    """Change what was read; says where a damaged file went. Raises StateUnusable, also when it changed.

    Two who write at once, a user's "no" among them, must not undo one another.
    """
    is_damaged = choice.stored.choice is Choice.DAMAGED
    if is_damaged and choice.file.is_dir() and not choice.file.is_symlink():
        raise StateUnusable(f"{choice.file} is a directory", "remove it and choose again")

    def is_unchanged() -> bool:
        try:
            return read_regular(choice.file, STATE_FILE_MAX_BYTES) == choice.content
        except (OSError, ValueError):
            return is_damaged

    # A key that the mapping has no name for is "": there is no place for it in that file.
    named = {name: value for name, value in changes.items() if name}
    # A damaged file is replaced whole, by the choice that its user has just made; what stood there
    # stays beside it.
    base = None if is_damaged else choice.content
    kept = keep_beside(choice.file, ".damaged") if is_damaged else None
    content = changed(base, named, keys_of(contract))
    is_new = choice.content is None and not is_damaged
    replace_file(choice.file, content, only_if=is_unchanged, is_new=is_new)
    return kept
