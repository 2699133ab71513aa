"""A product's state file: the choice of its user, read by the daemon's rules.

It owns the reading of JSON and of instants in this package, without the modules that cost. It
guarantees that damage of every kind reads as off: what is cut short, of another type, too large, no
plain file, or, where a contract calls it strict, holds anything that the contract does not map.
Loaded when there is such a file.
"""

import os

from tallyd_client._policy import Stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._policy import Policy

_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")
_MAX_BYTES = 64 * 1024
_USER_MAX_CHARS = 256
_MAX_LEVELS = 64
# As the daemon: "2026-01-01T00:00:00.000000+00:00".
_MAX_INSTANT = 32
_FILE_TYPE, _REGULAR_FILE = 0o170000, 0o100000
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def read_stored(policy: "Policy", file: str) -> Stored:
    """The stored choice in `file`. Never raises: damage is an answer."""
    try:
        values = read_values(policy, file)
        return _left_behind(policy) if values is None else _understood(policy, values)
    except Exception:
        return Stored("damaged")


def read_values(policy: "Policy", file: str) -> "dict[str, Any] | None":
    """All that stands in the state file; None when there is none. Raises when it is damaged."""
    content = read_content(file)
    return None if content is None else checked_values(policy, content)


def checked_values(policy: "Policy", content: bytes) -> "dict[str, Any]":
    """The keys and values of the state file's content. Raises when any of it is damaged."""
    values = parse_values(policy, content)
    _check(policy, values)
    return values


def parse_values(policy: "Policy", content: bytes) -> "dict[str, Any]":
    """The keys and values as they stand in it. Raises when it is no such file."""
    text = content.decode("utf-8")
    # Editors put a byte order mark there, and the daemon reads on behind it.
    text = text[1:] if text[:1] == "\ufeff" else text
    if policy.state is not None and policy.state.get("format", "json") == "toml":
        from tallyd_client._flat_toml import read

        return read(text)
    values = read_json(text)
    if not isinstance(values, dict):
        raise TypeError("not an object")
    return values


def _check(policy: "Policy", values: "dict[str, Any]") -> None:
    """Raise when a value is not what its key holds."""
    is_strict = policy.state is not None and bool(policy.state.get("strict", False))
    keys = policy.keys
    if is_strict and not set(values).issubset(keys.values()):
        raise ValueError("a key that the contract does not map")
    if is_strict and not policy.modes and values.get(keys.get("enabled", "")) is None:
        raise ValueError("no choice")
    for what, key in keys.items():
        value = values.get(key)
        is_looked_at = is_strict or what in ("enabled", "mode", "id", "user")
        if is_looked_at and value is not None and not _is_good(what, value, policy):
            raise ValueError("%s is not as it should be" % key)


def _is_good(what: str, value: "Any", policy: "Policy") -> bool:
    if what in ("enabled", "notice"):
        return isinstance(value, bool)
    if what == "mode":
        return not policy.modes or (isinstance(value, str) and value in policy.modes)
    if what == "id":
        return is_uuid(value)
    if what == "user":
        return isinstance(value, str) and len(value) <= _USER_MAX_CHARS
    if what == "notice_version":
        return isinstance(value, int) and not isinstance(value, bool)
    if what in ("notice_at", "created", "updated"):
        return unix_of(value) is not None
    return isinstance(value, str)


def _left_behind(policy: "Policy") -> Stored:
    """What a product without its own file says: off, if it was off before it was to have one."""
    return Stored("off" if _companion(policy).get("enabled") is False else "none")


def _understood(policy: "Policy", values: "dict[str, Any]") -> Stored:
    keys = policy.keys
    said = {what: values.get(key) for what, key in keys.items()}
    mode = said.get("mode") if policy.modes else "on"
    found = Stored("none", mode or "on")
    found.id, found.user = said.get("id"), (said.get("user") or "").strip()
    if said.get("enabled") is False or mode == "off":
        found.choice = "off"
        return found
    if policy.modes:
        is_chosen = mode is not None
        if mode == "identified" and not found.user:
            # Never a blank id: without one it is the mode that needs none.
            found.mode = "anonymous"
    elif said.get("enabled") is None:
        return found
    else:
        default = (policy.state or {}).get("default_source", "default-notice")
        is_chosen = "source" in keys and said["source"] != default
    date = said.get("updated")
    if policy.needs_companion:
        kept = _companion(policy)
        # It counts only as long as it says what the product's own file says.
        if kept.get("choice") == (mode or "on"):
            is_chosen = is_chosen or not policy.modes
            date = kept.get("updated_at")
    if is_chosen:
        since = unix_of(date)
        found.choice = "on"
        if since is not None:
            found.said, found.since = date, since
    return found


def _companion(policy: "Policy") -> "dict[str, Any]":
    try:
        return read_object(policy.companion_file) or {}
    except Exception:
        return {}


def read_object(file: str) -> "dict[str, Any] | None":
    """The JSON object in `file`; None when there is no file. Raises on anything else."""
    content = read_content(file)
    if content is None:
        return None
    text = content.decode("utf-8")
    values = read_json(text[1:] if text[:1] == "\ufeff" else text)
    if not isinstance(values, dict):
        raise TypeError("not an object")
    return values


def read_content(file: str, *, follows_links: bool = False) -> "bytes | None":
    """The bytes of a plain file that is small; None when there is no file. Raises on anything else.

    A pipe that nobody writes holds nobody.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    if not follows_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if os.name == "nt" and os.path.islink(file):
            raise ValueError("a link")
    try:
        descriptor = os.open(file, flags)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(descriptor).st_mode & _FILE_TYPE != _REGULAR_FILE:
            raise ValueError("not a plain file")
        content = os.read(descriptor, _MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_BYTES:
        raise ValueError("too large")
    return content


def _unique(pairs: "list[tuple[str, Any]]") -> "dict[str, Any]":
    values = dict(pairs)
    if len(values) != len(pairs):
        # A "no" may stand first and a "yes" after it: nobody knows which was meant.
        raise ValueError("a key stands twice")
    return values


class _Scanning:
    """What json.JSONDecoder tells its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_unique)
    parse_float, parse_int, parse_constant = float, int, float


def read_json(text: str) -> "Any":
    """The value in `text`. Raises on anything else, and on what stands behind it."""
    try:
        # The scanner that `json` is made of, without the 8 ms of importing it.
        from _json import make_scanner
    except ImportError:
        import json

        value = json.loads(text, object_pairs_hook=_unique)
    else:
        # JSON's own white space and no other: what the daemon calls damage is damage here.
        text = text.strip(" \t\n\r")
        value, end = make_scanner(_Scanning())(text, 0)  # type: ignore[arg-type]  # any object will do
        if end != len(text):
            raise ValueError("more than one value")
    # How deep the scanner goes depends on the Python; the daemon has another.
    if text.count("[") + text.count("{") > _MAX_LEVELS and _is_deeper(value, _MAX_LEVELS):
        raise ValueError("nested too deeply")
    return value


def _is_deeper(value: "Any", levels: int) -> bool:
    """Whether `value` nests deeper than `levels`; no deeper than that is looked at."""
    if isinstance(value, (dict, list)):
        inner = value.values() if isinstance(value, dict) else value
        return levels == 0 or any(_is_deeper(one, levels - 1) for one in inner)
    return False


def is_uuid(value: "Any") -> bool:
    """Whether `value` is the text of a UUID, in any case."""
    return (
        isinstance(value, str)
        and [len(part) for part in value.split("-")] == [8, 4, 4, 4, 12]
        and _HEX.issuperset(value.replace("-", ""))
    )


def unix_of(text: "Any") -> "float | None":
    """Unix seconds of `2026-11-20T12:00:00.000Z`, or with a zone like +01:00; None for anything else."""
    try:
        clock, zone = (text[:-1], "+00:00") if text[-1] in "Zz" else (text[:-6], text[-6:])
        # Digits of ASCII at their places, and nothing else; seconds and their fraction may be left out.
        shape = "".join(["0" if one in _DIGITS else one for one in clock])
        seconds, fraction = shape[16:19], shape[19:]
        if len(text) > _MAX_INSTANT or shape[:10] + shape[11:16] != "0000-00-0000:00":
            return None
        if shape[10] not in "T " or seconds not in ("", ":00") or (fraction and not seconds):
            return None
        if fraction.strip("0") not in ("", ".") or fraction == "." or fraction[:1] not in ("", "."):
            return None
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        hour, minute = int(clock[11:13]), int(clock[14:16])
        second = float(clock[17:] or 0)
        ahead, behind = int(zone[1:3]), int(zone[4:6])
        is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        days_of_month = 28 if month == 2 and not is_leap else _MONTH_DAYS[month - 1]
        if not (year >= 1 <= month and 1 <= day <= days_of_month and hour < 24 and minute < 60):
            return None
        if second >= 60 or zone[0] not in "+-" or zone[3] != ":" or ahead > 23 or behind > 59:
            return None
        # Days since 1970 by the calendar whose year begins in March: leap days come last.
        year -= month < 3
        days = 365 * year + year // 4 - year // 100 + year // 400
        days += (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
        offset = ahead * 3600.0 + behind * 60.0
        at = days * 86400.0 + hour * 3600.0 + minute * 60.0 + second
        return at - offset if zone[0] == "+" else at + offset
    except Exception:
        return None
