"""Read a contract file: TOML text in, a Contract or a ContractError out.

It owns the grammar of contract-v1. It guarantees that an unknown key, a missing key or a value of
the wrong type is named with file, line and key. It opens no file: the caller hands over the bytes
and the name to use in messages. Parts of the language that this version does not know yet are
errors, never silently ignored.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

from tallyd.contract.digest import sha256
from tallyd.contract.errors import ContractError
from tallyd.contract.event_grammar import read_events
from tallyd.contract.field_grammar import read_fields
from tallyd.contract.model import Contract, Rollup
from tallyd.contract.policy_grammar import (
    read_consent,
    read_endpoint,
    read_identity,
    read_state,
)
from tallyd.contract.table import Table

if TYPE_CHECKING:
    from typing import Any

# A contract is read by people; the largest reference system needs 12 KiB.
CONTRACT_MAX_BYTES: Final = 64 * 1024
# The longest line of our contracts has under 200 characters.
LINE_MAX_CHARS: Final = 8 * 1024
# tomllib walks every part of a table's name for each key below it, and the square of a dotted key's:
# 9 s for 64 KiB below a header of 4,000 parts, 0.2 s below one of 64. Ours have up to 4.
KEY_MAX_PARTS: Final = 64

PRODUCT_NAME: Final = r"[a-z0-9][a-z0-9-]{0,31}"
# One part more than there may be, each a dot and a bare or quoted key: prose has spaces there.
_PART = r"""(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?:\.[ \t]*{_PART}[ \t]*){{{KEY_MAX_PARTS}}}")
_AT = re.compile(r"\(at [^()]*\)$")
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def parse_contract(text: bytes, file: str) -> Contract:
    """The contract that `text` says; `file` is only named in messages.

    Raises ContractError when it is not UTF-8, not TOML, over its caps, or not in the grammar.
    """
    source, values = read_toml(text, file)
    root = Table(file, source, (), values)
    if root.integer("contract", low=1, high=2**31) != 1:
        root.fail("contract", "is a version that this tallyd does not know", "write contract = 1")
    product = root.table("product", required=True)
    endpoint = read_endpoint(root.table("endpoint", required=True))
    policy = read_consent(root.table("consent", required=True))
    contract = Contract(
        product=product.matching("name", PRODUCT_NAME, "a product name"),
        title=product.text("title"),
        about=product.text("about", ""),
        schema_version=product.integer("schema_version", 1, low=0, high=99),
        details=product.text("details"),
        endpoint=endpoint,
        consent=policy,
        state=read_state(root.table("state"), policy) if "state" in values else None,
        identity=read_identity(root.table("identity"), endpoint, policy),
        envelope=read_fields(root.table("envelope"), is_envelope=True),
        events=read_events(root),
        never=_never(root.table("never")),
        digest=sha256(text),
        text=text,
    )
    _refuse_shared_names(root.table("envelope"), contract)
    product.finish()
    root.finish()
    return contract


def _refuse_shared_names(envelope: Table, contract: Contract) -> None:
    """In posthog-batch, envelope and event stand in one object: no name may be in both."""
    if contract.endpoint.protocol != "posthog-batch":
        return
    inner = {
        one.wire_name or name
        for event in contract.events.values()
        for name, one in event.fields.items()
    }
    inner |= {
        measure
        for event in contract.events.values()
        if isinstance(event, Rollup)
        for measure in event.measures
    }
    for name, one in contract.envelope.items():
        if (one.wire_name or name) in inner:
            envelope.fail(name, "is a field of an event too", "choose another name, or `as`")


def read_toml(text: bytes, file: str) -> tuple[str, dict[str, Any]]:
    """The text and the tables of a TOML file within a contract's caps. Raises ContractError."""
    if len(text) > CONTRACT_MAX_BYTES:
        raise ContractError(
            file, 0, "", f"is over {CONTRACT_MAX_BYTES // 1024} KiB", "a contract is a short file"
        )
    try:
        source = text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ContractError(file, line, "", "is not UTF-8", "save it as UTF-8") from None
    for number, one in enumerate(source.split("\n"), 1):
        if len(one) > LINE_MAX_CHARS:
            problem = f"is a line of over {LINE_MAX_CHARS // 1024} KiB"
            raise ContractError(file, number, "", problem, "break it into several")
        if one.count(".") >= KEY_MAX_PARTS and _LONG_KEY.search(one):
            problem = f"holds a key of over {KEY_MAX_PARTS} parts"
            raise ContractError(file, number, "", problem, "a contract nests four deep")
    try:
        return source, tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        line = int(at[1]) if at else source.rstrip().count("\n") + 1
        problem = f"is not TOML: {_AT.sub('', str(error)).strip()}"
        raise ContractError(file, line, "", problem) from None
    except RecursionError:
        problem = "is nested too deeply"
        raise ContractError(file, 0, "", problem, "a contract is a short file") from None
    except ValueError:
        # Python refuses to read what would take it long.
        problem = "holds a number of thousands of digits"
        raise ContractError(file, 0, "", problem, "write fewer") from None


def _never(table: Table) -> tuple[str, ...]:
    texts = table.texts("text", ())
    table.finish()
    return texts
