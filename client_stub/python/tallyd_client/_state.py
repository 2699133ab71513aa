"""A product's state file: the choice of its user, read by the daemon's rules.

It owns the reading of JSON and of instants in this package, without the modules that cost. It
guarantees that damage of every kind reads as off. Loaded when there is such a file.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEX = frozenset("0123456789abcdefABCDEF")
_MAX_BYTES = 64 * 1024
_KEYS = {
    "enabled": "enabled",
    "id": "machine_id",
    "source": "consent_source",
    "updated": "updated_at",
}


def stored_choice(file: str, state: "dict[str, Any]") -> "tuple[bool, float] | None":
    """(choice, Unix time since) of `file`, by the contract's table `state`; None: nobody chose."""
    keys = dict(_KEYS, **state.get("keys", {}))
    try:
        values = read_object(file)
    except Exception:
        return False, 0.0
    if values is None:
        return None
    enabled = values.get(keys["enabled"])
    # Damage: the daemon would take neither the choice nor the id for one.
    if not isinstance(enabled, (bool, type(None))) or not _may_be_id(values.get(keys["id"])):
        return False, 0.0
    if enabled is False:
        return False, 0.0
    if enabled is None or values.get(keys["source"]) == state.get(
        "default_source", "default-notice"
    ):
        return None
    return True, _unix_of(values.get(keys["updated"]))


def read_object(file: str) -> "dict[str, Any] | None":
    """The JSON object in `file`; None when there is no file. Raises on anything else."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(file, flags)
    except FileNotFoundError:
        return None
    try:
        content = os.read(descriptor, _MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise ValueError("too large")
    text = content.decode("utf-8")
    # Editors put a byte order mark there, and the daemon reads on behind it.
    values = read_json(text[1:] if text[:1] == "\ufeff" else text)
    if not isinstance(values, dict):
        raise TypeError("not an object")
    return values


class _Scanning:
    """What json.JSONDecoder tells its scanner."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def read_json(text: str) -> "Any":
    """The value in `text`. Raises on anything else, and on what stands behind it."""
    try:
        # The scanner that `json` is made of, without the 8 ms of importing it.
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)

    # JSON's own white space and no other: what the daemon calls damage is damage here.
    text = text.strip(" \t\n\r")
    value, end = make_scanner(_Scanning())(text, 0)  # type: ignore[arg-type]  # any object will do
    if end != len(text):
        raise ValueError("more than one value")
    return value


def _may_be_id(value: "Any") -> bool:
    """Whether a state file may hold `value` as its id: none yet, or a UUID."""
    if value is None:
        return True
    return (
        isinstance(value, str)
        and [len(part) for part in value.split("-")] == [8, 4, 4, 4, 12]
        and _HEX.issuperset(value.replace("-", ""))
    )


def _unix_of(text: "Any") -> float:
    """Unix seconds of `2026-11-20T12:00:00.000Z`, or with a zone like +01:00; 0 for anything else."""
    try:
        clock, zone = (text[:-1], "+00:00") if text[-1] in "Zz" else (text[:-6], text[-6:])
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        seconds = int(clock[11:13]) * 3600.0 + int(clock[14:16]) * 60.0 + float(clock[17:])
        offset = int(zone[1:3]) * 3600.0 + int(zone[4:6]) * 60.0
        if zone[0] not in "+-" or zone[3] != ":" or not 1 <= month <= 12:
            return 0.0
        # Days since 1970 by the calendar whose year begins in March: leap days come last.
        year -= month < 3
        days = 365 * year + year // 4 - year // 100 + year // 400
        days += (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
        return days * 86400.0 + seconds - (offset if zone[0] == "+" else -offset)
    except Exception:
        return 0.0
