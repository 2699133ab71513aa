"""Values as a contract lets them be recorded: the types that most contracts use.

It owns the alphabets of wire-v1 and the cutting of names that others choose. `clean` gives a value
of a plain type, or None when it may not be recorded. The types that few contracts use are in
`_rare`, loaded where one is met.

A name is refused, never mended, when it may be a path, an address or several lines: whatever holds
a control character, a backslash or `://`; in a token any slash or `@`; in a label a word that begins
with `/` or `~/`, or with a drive's letter. Cut from `/home/alice`, `homealice` would say who she is.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Known = dict[str, frozenset[str]]

_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:+-")
_LABEL = _TOKEN | frozenset("/@() ")
_TEXT_TYPES = {"token": (_TOKEN, 64), "version": (_TOKEN, 32), "label": (_LABEL, 64)}
# Control characters and the two line breaks beyond them.
_CONTROLS = frozenset(map(chr, (*range(32), *range(127, 160), 0x2028, 0x2029)))
_MAX_INTEGER = 2**53 - 1
# Of a name of megabytes nobody waits for the end.
_LOOK = 1024
# Stands for a name that the host never registered.
_UNKNOWN = "_unknown"


def clean(
    spec: "dict[str, Any]", value: "Any", name: str = "", known: "Known | None" = None
) -> "Any":
    """`value` as the field `name` may hold it, of a plain type; None when it may not.

    `known` holds the names that the host registered, by field.
    """
    kind = spec["type"]
    if kind in _TEXT_TYPES:
        return _text(spec, value, name, known or {})
    if kind == "enum":
        return _same(spec["values"], value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "list" and spec.get("of", "token") != "record":
        return _list(spec, value, name, known or {})
    if kind in ("int", "bucket"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return _same(spec["labels"], value) if kind == "bucket" else None
        if kind == "bucket":
            # The number stays here; only its bucket's name goes on. Lower edges are inclusive.
            place = sum(1 for edge in spec["edges"] if value >= edge)
            return spec["labels"][place] if value == value else None  # noqa: PLR0124 - not a number
        if not isinstance(value, int):
            return None
        is_within = spec.get("min", 0) <= value <= spec.get("max", _MAX_INTEGER)
        return int(value) if is_within else None
    from tallyd_client._rare import clean_rare

    return clean_rare(kind, spec, value, name, known or {})


def clean_fields(
    listed: "dict[str, Any]",
    given: "dict[str, Any]",
    day: str,
    known: "Known",
    rate_field: str = "",
) -> "dict[str, Any]":
    """The listed fields of `given`, cleaned. Raises when a required one is missing or bad.

    What has expired on `day` is left out; `rate_field` is not the host's to give.
    """
    kept = {}
    for name, spec in listed.items():
        if name == rate_field or has_expired(spec, day):
            continue
        value = clean(spec, given[name], name, known) if name in given else None
        if value is not None:
            kept[name] = value
        elif not spec.get("optional"):
            raise ValueError("%s is missing or not as listed" % name)
    return kept


def has_expired(listed: "dict[str, Any]", day: str) -> bool:
    """Whether something is no longer collected on `day`, of the form 2026-11-20."""
    expires = listed.get("expires", "")
    return bool(expires) and day >= expires


def _text(spec: "dict[str, Any]", value: "Any", name: str, known: "Known") -> "str | None":
    if not isinstance(value, str):
        return None
    alphabet, longest = _TEXT_TYPES[spec["type"]]
    longest = spec.get("max", longest)
    if spec.get("registered") and value not in known.get(name, ()):
        return _UNKNOWN
    if not spec.get("cut"):
        good = len(value) <= longest and alphabet.issuperset(value) and not _may_be_place(value)
        return "".join(value) or None if good else None
    # Names that others choose are cut to their alphabet and length.
    value = value[:_LOOK]
    if _may_be_place(value) or (alphabet is _TOKEN and ("/" in value or "@" in value)):
        return None
    return "".join([one for one in value if one in alphabet])[:longest] or None


def _may_be_place(text: str) -> bool:
    """Whether it is more than a name: where something is, or several lines."""
    if not _CONTROLS.isdisjoint(text) or "\\" in text or "://" in text:
        return True
    return "/" in text and any(
        # A slash that stands alone parts two names.
        (one[:1] == "/" and len(one) > 1) or one[:2] == "~/" or (one[1:3] == ":/" and len(one) > 3)
        for one in text.replace("(", " ").replace(")", " ").split(" ")
    )


def _list(spec: "dict[str, Any]", value: "Any", name: str, known: "Known") -> "list[Any] | None":
    if not isinstance(value, (list, tuple)):
        return None
    of = dict(spec, type=spec.get("of", "token"))
    good: "list[Any]" = []
    for item in value:
        if len(good) >= spec["max_items"]:
            break
        one = clean(of, item, name, known)
        # A list tells what was there, and `_unknown` is nothing.
        if one is not None and not (of.get("registered") and one == _UNKNOWN):
            good.append(one)
    return good


def _same(listed: "list[str]", value: "Any") -> "str | None":
    """The listed text that equals `value`: the contract's own, never the one that was given."""
    return listed[listed.index(value)] if isinstance(value, str) and value in listed else None
