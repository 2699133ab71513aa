"""Writing a product's state file: an id that is needed, or the answer to a question.

It owns every write to that file by this package. It guarantees that the file is made exclusively or
replaced whole, 0600 below directories of 0700, that keys that the contract does not map stay as
they are and none is added, that a damaged file is never overwritten, and that what another
program wrote meanwhile is never undone. Loaded when there is something to write.
"""

import os
import time

from tallyd_client import _drop, _state
from tallyd_client._introduce import beside_of
from tallyd_client._screen import instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._policy import Policy


# What products write that show their first notice; the daemon writes it too.
_NOTICE_VERSION = 1


def mint(policy: "Policy") -> "str | None":
    """The product's random id, made and written down when there is none; None where it has no place.

    Raises OSError when it cannot be written down. Of two processes that mint at once one writes.
    """
    keys, file = policy.keys, policy.state_file
    if "id" not in keys:
        return None
    for _ in range(3):
        content = _state.read_content(file)
        said = _state.checked_values(policy, content) if content is not None else {}
        found: "str | None" = said.get(keys["id"])
        if found is not None:
            return found
        made = _uuid()
        if content is None:
            if create(file, _content(policy, None, _first(policy, made))):
                return made
        elif _replace(file, content, _content(policy, content, {keys["id"]: made})):
            return made
    raise OSError("others keep writing the state file")


def store(policy: "Policy", choice: str, user: str) -> bool:
    """Write down an explicit choice ("off", "on" or a mode); False when that could not be done.

    Switching on makes a new id and switching off removes it, as the daemon's own command does.
    """
    keys, file, now = policy.keys, policy.state_file, instant(time.time())
    try:
        content = _state.read_content(file)
        before = _state.read_values(policy, file) or {}
        is_on = choice != "off"
        # A strict file must hold an id; off or on, the old one is gone.
        has_id = is_on or _is_strict(policy)
        said = {
            "enabled": is_on,
            "mode": choice if policy.modes else None,
            "id": _uuid() if has_id else None,
            "user": user if choice == "identified" else None,
            "source": "cli",
            "notice": True,
            "notice_at": before.get(keys.get("notice_at", "")) or now,
            "notice_version": before.get(keys.get("notice_version", "")) or _NOTICE_VERSION,
            "created": before.get(keys.get("created", "")) or now,
            "updated": now,
        }
        changes = {keys[what]: value for what, value in said.items() if what in keys}
        if content is None:
            is_written = create(file, _content(policy, None, changes))
        else:
            is_written = _replace(file, content, _content(policy, content, changes))
        if is_written and policy.needs_companion:
            _keep_companion(policy, {"choice": choice, "updated_at": now})
        return is_written
    except Exception:
        return False


def create(file: str, content: bytes) -> bool:
    """Make the file with this content at once, or not at all; False: another one is there.

    Raises OSError.
    """
    beside = _written_beside(file, content)
    try:
        os.link(beside, file)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links: still one process alone makes it.
        try:
            _drop.write_all(os.open(file, _drop.OPEN_FLAGS, 0o600), content)
        except FileExistsError:
            return False
    finally:
        _drop.remove(beside)
    return True


def _replace(file: str, before: bytes, content: bytes) -> bool:
    """Put this content in the place of `before`; False when something else stands there by now."""
    beside = _written_beside(file, content)
    if _state.read_content(file) != before:
        _drop.remove(beside)
        return False
    os.replace(beside, file)
    return True


def _written_beside(file: str, content: bytes) -> str:
    _drop.make_directory(os.path.dirname(file))
    beside = beside_of(file)
    try:
        _drop.write_all(os.open(beside, _drop.OPEN_FLAGS, 0o600), content)
    except OSError:
        _drop.remove(beside)
        raise
    return beside


def _first(policy: "Policy", made: str) -> "dict[str, Any]":
    """What a new state file holds in which nobody chose: as much as it has keys for."""
    keys, now = policy.keys, instant(time.time())
    said: "dict[str, Any]" = {"id": made, "created": now, "updated": now, "notice": False}
    if not policy.modes:
        said["enabled"] = True
        said["source"] = (policy.state or {}).get("default_source", "default-notice")
    if os.path.exists(policy.notice_file):
        said.update(notice=True, notice_at=now, notice_version=_NOTICE_VERSION)
    return {key: said[what] for what, key in keys.items() if what in said}


def _content(policy: "Policy", before: "bytes | None", changes: "dict[str, Any]") -> bytes:
    """The file's content with these changes; a value of None takes its key away."""
    if policy.state is not None and policy.state.get("format", "json") == "toml":
        from tallyd_client._flat_toml import replace

        text = before.decode("utf-8") if before is not None else ""
        return replace(text, changes).encode("utf-8")
    values = _state.parse_values(policy, before) if before is not None else {}
    for key, value in changes.items():
        if value is None and (_is_strict(policy) or key not in values):
            values.pop(key, None)
        else:
            values[key] = value
    import json

    line = (before or b"").partition(b"\n")[2]
    # As far in as its product has it.
    indent = len(line) - len(line.lstrip(b" ")) or 2
    return (json.dumps(values, indent=indent) + "\n").encode("ascii")


def _is_strict(policy: "Policy") -> bool:
    return policy.state is not None and bool(policy.state.get("strict", False))


def _keep_companion(policy: "Policy", said: "dict[str, Any]") -> None:
    file = policy.companion_file
    os.replace(_written_beside(file, _drop.to_json(said).encode("ascii") + b"\n"), file)


def _uuid() -> str:
    """A random UUID, version 4."""
    digits = "%032x" % (
        int.from_bytes(os.urandom(16), "big") & ~(0xF000 << 64) & ~(0xC << 60) | 4 << 76 | 8 << 60
    )
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
