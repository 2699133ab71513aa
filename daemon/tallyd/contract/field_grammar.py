"""How a contract writes its fields: `name = { type = "…", … }`.

It owns the grammar of one field and the table from a type's name to its reader. A new type is one
class in `fields` and one reader here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallyd.contract.days import is_day
from tallyd.contract.fields import (
    LABEL_ALPHABET,
    MAX_INTEGER,
    TOKEN_ALPHABET,
    UNKNOWN_NAME,
    Boolean,
    Bucket,
    Enum,
    ErrorClass,
    FieldType,
    Hash,
    Integer,
    List,
    Names,
    Number,
    Record,
    Redacted,
    Text,
    Uuid,
)
from tallyd.contract.model import Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallyd.contract.table import Table

FIELD_NAME: Final = r"[A-Za-z][A-Za-z0-9_]{0,63}"
# What a receiver of another make may call it; `$` begins PostHog's own, which stay ours to set.
WIRE_NAME: Final = r"[A-Za-z_][A-Za-z0-9_. -]{0,63}"
ENV_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,63}"

# What a stub knows of its own process, for envelope fields with `from = "runtime"`.
RUNTIME_FACTS: Final = ("os", "arch", "ci", "runtime", "runtime_version", "runtime_major")

# The request's own keys, next to which the envelope's fields stand (wire-v1).
REQUEST_KEYS: Final = frozenset(
    {"machine_id", "schema_version", "batch_id", "product", "contract", "sent_at", "lost", "events"}
)
_MAX_TEXT = 1000
_MAX_ITEMS = 128
# Text before a hash's digits, such as "cluster_".
_PREFIX = r"[a-z][a-z0-9_-]{0,31}"


def read_fields(table: Table, *, is_envelope: bool = False) -> dict[str, Field]:
    """The fields of one table, in the order of the file. Raises ContractError."""
    read = {
        name: read_field(name, one, is_envelope=is_envelope)
        for name, one in table.named_tables(name_pattern=FIELD_NAME, what="a field")
    }
    for name, one in read.items() if is_envelope else ():
        if name in REQUEST_KEYS or one.wire_name in REQUEST_KEYS:
            table.fail(name, "is a key of the request itself", "choose another name")
    return read


def read_field(name: str, table: Table, *, is_envelope: bool = False) -> Field:
    """One field. Raises ContractError."""
    read = Field(
        type=_type(table),
        # A wrong envelope field is stripped and never costs the counts (wire-v1), so all are optional.
        is_optional=is_envelope or table.boolean("optional", default=False),
        about=table.text("about", ""),
        expires=read_expiry(table),
        wire_name=read_wire_name(table),
        origin=_origin(name, table) if is_envelope else "",
    )
    if isinstance(read.type, Redacted) and not read.is_optional:
        table.fail("optional", "is missing", "free text is off by default: write optional = true")
    table.finish()
    return read


def read_expiry(table: Table) -> str:
    """The first day on which something is no longer collected, "" for never."""
    day = table.text("expires", "")
    if day and not is_day(day):
        table.fail("expires", f"{day!r} is not a day", 'write it like "2028-01-01"')
    return day


def read_wire_name(table: Table) -> str:
    """What something is called on the wire, "" for its own name."""
    return table.matching("as", WIRE_NAME, "a name on the wire") if "as" in table.values else ""


def _type(table: Table) -> FieldType:
    kind = table.choice("type", "", tuple(_READERS))
    if not kind:
        table.fail("type", "is missing", f"write one of {', '.join(_READERS)}")
    return _READERS[kind](table)


def _origin(name: str, table: Table) -> str:
    """Where the stub takes an envelope field from: the host's own words, or a fact of the process."""
    origin = table.text("from", "host")
    if origin in ("host", "version"):
        return origin
    fact = name if origin == "runtime" else origin.removeprefix("runtime.")
    if not origin.startswith("runtime") or fact not in RUNTIME_FACTS:
        known = ", ".join(f'"runtime.{one}"' for one in RUNTIME_FACTS)
        table.fail(
            "from", f"{origin!r} is not known", f'write "host", "version", or one of {known}'
        )
    return f"runtime.{fact}"


def _enum(table: Table) -> FieldType:
    values = table.texts("values")
    if not values:
        table.fail("values", "is empty", "list the texts that are allowed")
    return Enum(values)


def _text(alphabet: frozenset[str], default_max: int) -> Callable[[Table], FieldType]:
    def read(table: Table) -> FieldType:
        registered = table.boolean("registered", default=False)
        # What stands for a name that nobody registered has to fit.
        low = len(UNKNOWN_NAME) if registered else 1
        return Text(
            alphabet=alphabet,
            max_length=table.integer("max", default_max, low=low, high=_MAX_TEXT),
            cut=table.boolean("cut", default=False),
            registered=registered,
        )

    return read


def _integer(table: Table) -> FieldType:
    low = table.integer("min", 0, low=-MAX_INTEGER, high=MAX_INTEGER)
    return Integer(low, table.integer("max", MAX_INTEGER, low=low, high=MAX_INTEGER))


def _number(table: Table) -> FieldType:
    low = table.number("min", 0, low=-MAX_INTEGER, high=MAX_INTEGER)
    return Number(low, table.number("max", MAX_INTEGER, low=low, high=MAX_INTEGER))


def _boolean(_table: Table) -> FieldType:
    return Boolean()


def _bucket(table: Table) -> FieldType:
    edges, labels = table.integers("edges"), table.texts("labels")
    if list(edges) != sorted(set(edges)):
        table.fail("edges", "do not ascend", "write each edge once, smallest first")
    if len(labels) != len(edges) + 1:
        table.fail("labels", f"has {len(labels)} texts", f"{len(edges) + 1} buckets need a name")
    return Bucket(edges, labels)


def _uuid(_table: Table) -> FieldType:
    return Uuid()


def _hash(table: Table) -> FieldType:
    prefix = ""
    if "prefix" in table.values:
        prefix = table.matching("prefix", _PREFIX, "the beginning of a hash")
    # Under 8 digits one could try every input; over 64 SHA-256 has none.
    return Hash(table.integer("length", 64, low=8, high=64), prefix)


def _error_class(table: Table) -> FieldType:
    return ErrorClass(table.integer("max", 80, low=1, high=80))


def _redacted(table: Table) -> FieldType:
    return Redacted(
        max_length=table.integer("max", _MAX_TEXT, low=1, high=_MAX_TEXT),
        # Free text is never on by itself: it needs a yes of its own.
        switch=table.matching("switch", ENV_NAME, "a variable's name"),
    )


def _list(table: Table) -> FieldType:
    of = table.choice("of", "token", (*_ITEM_READERS, "record"))
    item = _record(table) if of == "record" else _ITEM_READERS[of](table)
    return List(item, table.integer("max_items", low=1, high=_MAX_ITEMS))


def _record(table: Table) -> FieldType:
    """The type of a list's items that are flat objects of simple fields."""
    types: dict[str, FieldType] = {}
    optional = set()
    inner = table.table("fields", required=True)
    for name, one in inner.named_tables(name_pattern=FIELD_NAME, what="a field"):
        kind = one.choice("type", "", tuple(_ITEM_READERS))
        if not kind:
            one.fail("type", "is missing", f"write one of {', '.join(_ITEM_READERS)}")
        types[name] = _ITEM_READERS[kind](one)
        if one.boolean("optional", default=False):
            optional.add(name)
        one.text("about", "")
        one.finish()
    if not types:
        table.fail("fields", "is empty", "list the fields of one item")
    return Record(types, frozenset(optional))


def _names(table: Table) -> FieldType:
    name = _READERS["enum" if "values" in table.values else "token"](table)
    return Names(name, table.integer("max_items", 32, low=1, high=_MAX_ITEMS))


# What an item of a list may be, and a field of a record.
_ITEM_READERS: Final[dict[str, Callable[[Table], FieldType]]] = {
    "enum": _enum,
    "token": _text(TOKEN_ALPHABET, 64),
    "label": _text(LABEL_ALPHABET, 64),
    "version": _text(TOKEN_ALPHABET, 32),
    "int": _integer,
    "boolean": _boolean,
    "bucket": _bucket,
}

_READERS: Final[dict[str, Callable[[Table], FieldType]]] = {
    **_ITEM_READERS,
    "number": _number,
    "uuid": _uuid,
    "hash": _hash,
    "error_class": _error_class,
    "redacted": _redacted,
    "list": _list,
    "names": _names,
}
