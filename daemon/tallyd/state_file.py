"""The text of a state file: what it says, and the same text with something changed.

Pure. It owns the two formats that products keep their choice in, JSON and flat TOML, and what a
contract's mapping of keys makes of them. It guarantees that what is no such file, or holds a value
of the wrong type, is a ValueError in words, and that a change keeps every key that it does not name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from tallyd import flat_toml
from tallyd.contract.consent import Choice
from tallyd.contract.days import unix_of
from tallyd.contract.fields import Uuid
from tallyd.contract.frozen import Frozen
from tallyd.contract.model import Mode, StateFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract import Contract

_UUID = Uuid()
USER_MAX_CHARS = 256
# A product's settings, not a document.
JSON_MAX_LEVELS = 64


class Said(Frozen):
    """What a state file says: the choice, in which mode, since when, and the ids in it.

    `is_explicit` is None where it is on and nothing in the file tells a choice from the default.
    """

    choice: Choice
    mode: Mode | Literal["on"] = "on"
    updated: str | None = None
    machine_id: str | None = None
    user: str = ""
    is_explicit: bool | None = True

    @property
    def word(self) -> str:
        """The choice in one word, as it is kept beside a file without a date."""
        return {Choice.OFF: "off", Choice.ON: self.mode}.get(self.choice, "")


def keys_of(contract: Contract) -> StateFile:
    """What the keys of a product's state file are called: its own, or tallyd's."""
    if contract.state is not None:
        return contract.state
    return StateFile(
        "",
        mode="mode" if contract.consent.modes else "",
        user="user_id" if contract.identity.kind == "user" else "",
    )


def read_values(content: bytes, keys: StateFile) -> dict[str, object]:
    """The keys and values of a state file. Raises ValueError in words."""
    # UTF-8 and nothing that json would guess; editors put a byte order mark before it.
    text = content.decode("utf-8-sig")
    try:
        values = (
            flat_toml.read(text)
            if keys.format == "toml"
            else json.loads(text, object_pairs_hook=_unique)
        )
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        why = "is not JSON" if keys.format == "json" else f"is not the TOML expected: {error}"
        raise ValueError(why) from None
    if not isinstance(values, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - damage, like the others
    # How deep `json` goes depends on the Python and on what called it; a "no" must not.
    if _is_deeper(values, JSON_MAX_LEVELS):
        raise ValueError("is nested too deeply")
    return values


def understand(values: Mapping[str, object], contract: Contract) -> Said:
    """What these values say under the contract's mapping. Raises ValueError for a wrong type."""
    keys = keys_of(contract)
    if keys.is_strict:
        # Its product would call the whole file invalid, and make a new one that is on.
        _refuse_unlisted(values, keys)
    machine_id = values.get(keys.id) if keys.id else None
    if machine_id is not None and not (
        isinstance(machine_id, str) and isinstance(_UUID.screen(machine_id), str)
    ):
        raise ValueError(f"{keys.id} is not a UUID")
    user = values.get(keys.user) if keys.user else None
    if user is not None and not (isinstance(user, str) and len(user) <= USER_MAX_CHARS):
        raise ValueError(f"{keys.user} is not a text of at most {USER_MAX_CHARS} characters")
    updated = values.get(keys.updated) if keys.updated else None
    since = updated if isinstance(updated, str) and unix_of(updated) is not None else None
    user = user.strip() if isinstance(user, str) else ""
    choice, mode, is_explicit = _choice(values, keys, contract.consent.modes)
    return Said(choice, mode, since, machine_id, user, is_explicit)


def changed(content: bytes | None, changes: Mapping[str, object], keys: StateFile) -> bytes:
    """The file's text with these keys set (None: no value), all else as it was.

    TOML has no null: a user's id becomes "", every other key goes with its line. `content` None
    or damaged makes a new file. Raises ValueError when the text cannot be kept.
    """
    if keys.format == "toml":
        text = (content or b"").decode("utf-8")
        flat = {
            name: "" if value is None and name == keys.user else value
            for name, value in changes.items()
        }
        return flat_toml.replace(text, flat).encode("utf-8")  # type: ignore[arg-type]
    values = {} if content is None else read_values(content, keys)
    indent = _indent_of(content or b"")
    return (json.dumps({**values, **changes}, indent=indent) + "\n").encode("ascii")


def _is_deeper(value: object, levels: int) -> bool:
    """Whether `value` nests deeper than `levels`; no deeper than that is looked at."""
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper(one, levels - 1) for one in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_is_deeper(one, levels - 1) for one in value)
    return False


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        # A "no" may stand first and a "yes" after it: nobody knows which was meant.
        raise ValueError("a key stands twice")
    return values


def _choice(
    values: Mapping[str, object], keys: StateFile, modes: tuple[Mode, ...]
) -> tuple[Choice, Mode | Literal["on"], bool | None]:
    enabled = values.get(keys.enabled) if keys.enabled else None
    if enabled is not None and not isinstance(enabled, bool):
        raise ValueError(f"{keys.enabled} is neither true nor false")
    if modes and keys.mode:
        mode = values.get(keys.mode)
        if mode is not None and mode not in modes:
            raise ValueError(f"{keys.mode} is none of {', '.join(modes)}")
        if enabled is False:
            # Two keys that disagree: whoever is stricter wins.
            return Choice.OFF, "off", True
        if mode is None:
            return Choice.NONE, "on", False
        return (Choice.OFF if mode == "off" else Choice.ON), mode, True
    if enabled is None and keys.is_strict:
        raise ValueError(f"{keys.enabled} is missing")
    if enabled is False:
        return Choice.OFF, "off", True
    if enabled is None:
        return Choice.NONE, "on", False
    if not keys.source:
        return Choice.NONE, "on", None
    is_default = values.get(keys.source) == keys.default_source
    return (Choice.NONE, "on", None) if is_default else (Choice.ON, "on", True)


def _refuse_unlisted(values: Mapping[str, object], keys: StateFile) -> None:
    for name in values:
        if name not in keys.keys:
            raise ValueError(f"holds the key {name[:64]!r}, which is none of its product's")
    for name in (keys.notice_at, keys.created, keys.updated):
        if name and values.get(name) is not None and unix_of(values[name]) is None:
            raise ValueError(f"{name} is not an instant")
    for name, wanted in ((keys.source, str), (keys.notice, bool), (keys.notice_version, int)):
        if name and values.get(name) is not None and type(values[name]) is not wanted:
            raise ValueError(f"{name} is of the wrong type")


def _indent_of(content: bytes) -> int:
    """By how much its product indents a JSON file."""
    line = content.partition(b"\n")[2]
    return len(line) - len(line.lstrip(b" ")) or 2
