"""A contract as constants for a host: what the stub takes, so that it never parses TOML.

It owns the shape of these constants and the Python module that holds them. Field specs are the
author's own TOML tables with shared definitions resolved, less the texts for people and every key
without which the field reads the same; so a new key of the grammar is carried over by itself. The
module is ASCII, runs on Python 3.9 and is the same for the same contract. It writes no file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tallyd.contract.errors import ContractError
from tallyd.contract.event_grammar import resolve_tables
from tallyd.contract.field_grammar import read_field
from tallyd.contract.model import Rollup
from tallyd.contract.policy_grammar import STATE_KEYS
from tallyd.contract.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tallyd.contract.model import (
        ConsentPolicy,
        Contract,
        Event,
        Field,
        Identity,
        StateFile,
    )

_LINE_MAX_CHARS: Final = 100
_INDENT: Final = "    "
# Keys that a spec always keeps, and keys that only people and the wire read.
_KEPT: Final = ("type",)
_DROPPED: Final = ("about", "as")


def built(contract: Contract, *, is_off: bool = False) -> dict[str, object]:
    """The contract as plain literals; `is_off` is a packager's "off" that no setting overrides."""
    values = tomllib.loads(contract.text.decode("utf-8"))
    tables = resolve_tables(values)
    whole: dict[str, object] = {
        "product": {"name": contract.product, "details": contract.details},
        "digest": contract.digest,
        "text": contract.text.decode("utf-8"),
        "schema_version": contract.schema_version,
        "consent": _consent(contract.consent),
        "state": None if contract.state is None else _state(contract.state),
        "identity": _identity(contract.identity),
        "envelope": {
            name: {**_spec(name, table, is_envelope=True), "from": contract.envelope[name].origin}
            for name, table in values.get("envelope", {}).items()
        },
        "events": {name: _event(one, tables[name]) for name, one in contract.events.items()},
    }
    return {**whole, "off": True} if is_off else whole


def render_python(contract: Contract, source_name: str, *, is_off: bool = False) -> str:
    """The text of a Python module whose CONTRACT is `built(contract)`."""
    option = " --off" if is_off else ""
    # As a literal's inside, so that no name of a file can end the docstring.
    source = ascii(source_name)[1:-1].replace('"', '\\"')
    constants = "".join(_literal(built(contract, is_off=is_off), "", len("CONTRACT = ")))
    return (
        f'"""The telemetry contract of {contract.product}, as constants.\n\n'
        f'Built from {source} by "tallyd contract build{option}".\n'
        'Do not edit: change the contract and build again.\n"""\n\n'
        f"# fmt: off\nCONTRACT = {constants}\n"
    )


def _consent(policy: ConsentPolicy) -> dict[str, object]:
    return {
        "default": policy.default,
        "do_not_track": policy.do_not_track,
        "env": [
            {"name": one.name, "off": sorted(one.off), "on": sorted(one.on)} for one in policy.env
        ],
        "ci": "off" if policy.ci_disables else "tag",
        "terminal": "required" if policy.needs_terminal else "any",
        "modes": list(policy.modes),
        "notice": policy.notice,
        "notice_when": policy.notice_when,
        "off_command": policy.off_command,
    }


def _state(state: StateFile) -> dict[str, object]:
    return {
        "file": state.path,
        "format": state.format,
        "strict": state.is_strict,
        "keys": {key: name for key in STATE_KEYS if (name := getattr(state, key))},
        "default_source": state.default_source,
    }


def _identity(identity: Identity) -> dict[str, object]:
    return {
        "kind": identity.kind,
        "prefix": identity.prefix,
        "fallback_prefix": identity.fallback_prefix,
        "length": identity.length,
        "project": identity.has_project,
    }


def _event(event: Event, table: Mapping[str, Any]) -> dict[str, object]:
    own = "dimensions" if isinstance(event, Rollup) else "properties"
    constants: dict[str, object] = {
        "kind": table["kind"],
        own: {name: _spec(name, table[own][name]) for name in event.fields},
    }
    if isinstance(event, Rollup):
        constants["measures"] = list(event.measures)
    elif event.once:
        constants["once"] = event.once
    if event.expires:
        constants["expires"] = event.expires
    if event.sampling is not None:
        constants |= {"sample": event.sampling.rate, "sample_as": event.sampling.field}
    return constants


def _spec(name: str, table: Mapping[str, Any], *, is_envelope: bool = False) -> dict[str, Any]:
    """The field's table without what it means the same without."""
    spec = {key: value for key, value in table.items() if key not in _DROPPED}
    wanted = _read(name, spec, is_envelope=is_envelope)
    for key in [key for key in spec if key not in _KEPT]:
        less = {one: value for one, value in spec.items() if one != key}
        if _read(name, less, is_envelope=is_envelope) == wanted:
            spec = less
    if "fields" in spec:
        spec["fields"] = {one: _spec(one, inner) for one, inner in spec["fields"].items()}
    return {key: spec[key] for key in sorted(spec, key=lambda key: key not in _KEPT)}


def _read(name: str, table: Mapping[str, Any], *, is_envelope: bool) -> Field | None:
    """The field that `table` says, None when it is none."""
    try:
        return read_field(name, Table("", "", (), table), is_envelope=is_envelope)
    except ContractError:
        return None


# --- Python text ----------------------------------------------------------------------------------


def _literal(value: object, indent: str, before: int) -> Iterator[str]:
    """`value` as Python source that begins after `before` characters of a line."""
    flat = _flat(value)
    # One more for the comma that follows.
    if "\n" not in flat and before + len(flat) + 1 <= _LINE_MAX_CHARS:
        yield flat
        return
    inner = indent + _INDENT
    if isinstance(value, Mapping):
        named = ((f"{_quoted(str(key))}: ", one) for key, one in value.items())
        yield from _lines("{", named, "}", indent)
    elif isinstance(value, list):
        yield from _lines("[", (("", one) for one in value), "]", indent)
    elif isinstance(value, str):
        yield "(\n"
        for piece in _pieces(value, _LINE_MAX_CHARS - len(inner)):
            yield f"{inner}{piece}\n"
        yield f"{indent})"
    else:
        yield flat


def _lines(begin: str, items: Iterable[tuple[str, object]], end: str, indent: str) -> Iterator[str]:
    inner = indent + _INDENT
    yield f"{begin}\n"
    for key, one in items:
        yield f"{inner}{key}"
        yield from _literal(one, inner, len(inner) + len(key))
        yield ",\n"
    yield f"{indent}{end}"


def _flat(value: object) -> str:
    """`value` on one line."""
    if isinstance(value, Mapping):
        return (
            f"{{{', '.join(f'{_quoted(str(key))}: {_flat(one)}' for key, one in value.items())}}}"
        )
    if isinstance(value, list):
        return f"[{', '.join(_flat(one) for one in value)}]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """`text` as an ASCII literal, in double quotes where that needs no more escapes."""
    literal = ascii(text)
    is_plain = literal[0] == "'" and '"' not in literal and "\\'" not in literal
    return f'"{literal[1:-1]}"' if is_plain else literal


def _pieces(text: str, width: int) -> Iterator[str]:
    """Literals that follow one another to `text`: one a line of it, more where that is long."""
    for line in text.splitlines(keepends=True):
        rest = line
        while rest:
            length = len(rest)
            while len(_quoted(rest[:length])) > width:
                # An escape takes up to ten characters for one: come down by what is too much.
                length -= max(1, (len(_quoted(rest[:length])) - width) // 10)
            yield _quoted(rest[:length])
            rest = rest[length:]
