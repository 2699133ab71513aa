"""Values of the types that few contracts use, as a contract lets them be recorded.

It owns numbers, ids, hashes, error classes, maps of names, lists of objects, and the one free text
there is. It guarantees that free text is recorded only where its own switch says yes, and never
before it was redacted. Loaded where a contract has such a field.
"""

import os

from tallyd_client._fields import _MAX_INTEGER, _TOKEN, _UNKNOWN, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tallyd_client._fields import Known

_HEX = frozenset("0123456789abcdef")
_CAPITALS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_IDENTIFIER = _TOKEN - frozenset(".:+-")
_YES_WORDS = ("1", "true", "yes", "on")


def clean_rare(kind: str, spec: "dict[str, Any]", value: "Any", name: str, known: "Known") -> "Any":
    """As `_fields.clean`, for the types that it leaves. Raises KeyError for a type that is none."""
    if kind in ("list", "names"):
        return (_records if kind == "list" else _names)(spec, value, name, known)
    return _SIMPLE[kind](spec, value)


def _number(spec: "dict[str, Any]", value: "Any") -> "float | None":
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Neither bound lets infinity or not-a-number through.
    if not spec.get("min", 0) <= value <= spec.get("max", _MAX_INTEGER):
        return None
    return int(value) if isinstance(value, int) else float(value)


def _uuid(_: "dict[str, Any]", value: "Any") -> "str | None":
    if not isinstance(value, str):
        return None
    value = value.lower()
    is_good = [len(part) for part in value.split("-")] == [8, 4, 4, 4, 12]
    return value if is_good and _HEX.issuperset(value.replace("-", "")) else None


def _hash(spec: "dict[str, Any]", value: "Any") -> "str | None":
    prefix = spec.get("prefix", "")
    if not isinstance(value, str) or not value.startswith(prefix):
        return None
    digits = value[len(prefix) :]
    is_good = len(digits) == spec.get("length", 64) and _HEX.issuperset(digits)
    return "".join(value) if is_good else None


def _error_class(spec: "dict[str, Any]", value: "Any") -> "str | None":
    if isinstance(value, BaseException):
        value = type(value)
    if isinstance(value, type):
        value = value.__name__
    if not isinstance(value, str) or not 0 < len(value) <= spec.get("max", 80):
        return None
    return "".join(value) if value[0] in _CAPITALS and _IDENTIFIER.issuperset(value) else None


def _redacted(spec: "dict[str, Any]", value: "Any") -> "str | None":
    if not isinstance(value, str):
        return None
    if os.environ.get(spec["switch"], "").strip().lower() not in _YES_WORDS:
        return None
    from tallyd_client._redact import one_line

    return one_line(value, spec.get("max", 1000)) or None


def _names(
    spec: "dict[str, Any]", value: "Any", name: str, known: "Known"
) -> "dict[str, bool] | None":
    if isinstance(value, dict):
        value = [one for one, is_there in value.items() if is_there is True]
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return None
    of = dict(spec, type="enum" if "values" in spec else "token")
    kept: "dict[str, bool]" = {}
    for one in value:
        if len(kept) >= spec.get("max_items", 32):
            break
        good = clean(of, one, name, known)
        if good is not None and not (of.get("registered") and good == _UNKNOWN):
            kept[good] = True
    return kept


def _records(
    spec: "dict[str, Any]", value: "Any", _: str, known: "Known"
) -> "list[dict[str, Any]] | None":
    if not isinstance(value, (list, tuple)):
        return None
    good: "list[dict[str, Any]]" = []
    for item in value:
        if len(good) >= spec["max_items"]:
            break
        one = _record(spec["fields"], item, known)
        if one is not None:
            good.append(one)
    return good


def _record(fields: "dict[str, Any]", item: "Any", known: "Known") -> "dict[str, Any] | None":
    if not isinstance(item, dict):
        return None
    kept = {}
    for name, spec in fields.items():
        value = clean(spec, item[name], name, known) if name in item else None
        if value is not None:
            kept[name] = value
        elif not spec.get("optional"):
            return None
    return kept


_SIMPLE = {
    "number": _number,
    "uuid": _uuid,
    "hash": _hash,
    "error_class": _error_class,
    "redacted": _redacted,
}
