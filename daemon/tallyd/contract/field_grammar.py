"""How a contract writes its fields: `name = { type = "…", … }`.

It owns the grammar of one field and the table from a type's name to its reader. A new type is one
class in `fields` and one reader here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tallyd.contract.fields import (
    LABEL_ALPHABET,
    MAX_INTEGER,
    TOKEN_ALPHABET,
    Boolean,
    Bucket,
    Enum,
    FieldType,
    Integer,
    List,
    Text,
)
from tallyd.contract.model import Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from tallyd.contract.table import Table

FIELD_NAME: Final = r"[A-Za-z][A-Za-z0-9_]{0,63}"

# What a stub knows of its own process, for envelope fields with `from = "runtime"`.
RUNTIME_FACTS: Final = ("os", "arch", "ci", "runtime", "runtime_version", "runtime_major")

# The request's own keys, next to which the envelope's fields stand (wire-v1).
REQUEST_KEYS: Final = frozenset(
    {"machine_id", "schema_version", "batch_id", "product", "contract", "sent_at", "lost", "events"}
)
_MAX_TEXT = 1000
_MAX_ITEMS = 128


def read_fields(table: Table, *, is_envelope: bool = False) -> dict[str, Field]:
    """The fields of one table, in the order of the file. Raises ContractError."""
    for name in REQUEST_KEYS & set(table.values) if is_envelope else ():
        table.fail(name, "is a key of the request itself", "choose another name")
    return {
        name: _field(name, one, is_envelope=is_envelope)
        for name, one in table.named_tables(name_pattern=FIELD_NAME, what="a field")
    }


def _field(name: str, table: Table, *, is_envelope: bool) -> Field:
    kind = table.choice("type", "", tuple(_READERS))
    if not kind:
        table.fail("type", "is missing", f"write one of {', '.join(_READERS)}")
    read = Field(
        type=_READERS[kind](table),
        # A wrong envelope field is stripped and never costs the counts (wire-v1), so all are optional.
        is_optional=is_envelope or table.boolean("optional", default=False),
        about=table.text("about", ""),
    )
    if is_envelope:
        _origin(name, table)
    table.finish()
    return read


def _origin(name: str, table: Table) -> None:
    """Where the stub takes an envelope field from: the host's own words, or a fact of the process."""
    origin = table.text("from", "host")
    fact = name if origin == "runtime" else origin.removeprefix("runtime.")
    if origin in ("host", "version"):
        return
    if not origin.startswith("runtime") or fact not in RUNTIME_FACTS:
        known = ", ".join(f'"runtime.{one}"' for one in RUNTIME_FACTS)
        table.fail(
            "from", f"{origin!r} is not known", f'write "host", "version", or one of {known}'
        )


def _enum(table: Table) -> FieldType:
    values = table.texts("values")
    if not values:
        table.fail("values", "is empty", "list the texts that are allowed")
    return Enum(values)


def _text(alphabet: frozenset[str], default_max: int) -> Callable[[Table], FieldType]:
    def read(table: Table) -> FieldType:
        return Text(
            alphabet=alphabet,
            max_length=table.integer("max", default_max, low=1, high=_MAX_TEXT),
            cut=table.boolean("cut", default=False),
        )

    return read


def _integer(table: Table) -> FieldType:
    low = table.integer("min", 0, low=-MAX_INTEGER, high=MAX_INTEGER)
    return Integer(low, table.integer("max", MAX_INTEGER, low=low, high=MAX_INTEGER))


def _boolean(_table: Table) -> FieldType:
    return Boolean()


def _bucket(table: Table) -> FieldType:
    edges, labels = table.integers("edges"), table.texts("labels")
    if list(edges) != sorted(set(edges)):
        table.fail("edges", "do not ascend", "write each edge once, smallest first")
    if len(labels) != len(edges) + 1:
        table.fail("labels", f"has {len(labels)} texts", f"{len(edges) + 1} buckets need a name")
    return Bucket(edges, labels)


def _list(table: Table) -> FieldType:
    of = table.choice("of", "token", ("token", "label", "enum"))
    return List(_READERS[of](table), table.integer("max_items", low=1, high=_MAX_ITEMS))


_READERS: Final[dict[str, Callable[[Table], FieldType]]] = {
    "enum": _enum,
    "token": _text(TOKEN_ALPHABET, 64),
    "label": _text(LABEL_ALPHABET, 64),
    "version": _text(TOKEN_ALPHABET, 32),
    "int": _integer,
    "boolean": _boolean,
    "bucket": _bucket,
    "list": _list,
}
