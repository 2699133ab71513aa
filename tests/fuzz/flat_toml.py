"""The reader and editor of flat TOML, the daemon's and the stub's, beside tomllib."""

from __future__ import annotations

import tomllib

from support.flat_files import by_tomllib, typed
from tallyd import flat_toml
from tallyd_client import _flat_toml

_EDITS: dict[str, str | bool | int | None] = {"off": True, "a": 'x\n"y"', "b": None, "new": -7}


def one_input(data: bytes) -> None:
    """What is read, tomllib reads to the same; an edit changes what it names and nothing else."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # Half a character may come from elsewhere: it must be refused, not written on.
        text = data.decode("utf-8", "surrogateescape")
    try:
        values = flat_toml.read(text)
    except ValueError as refused:
        _refuses_too(text, str(refused))
        return
    assert typed(_flat_toml.read(text)) == typed(values)
    assert by_tomllib(text) == typed(values)
    assert flat_toml.replace(text, {}) == text
    _edit(text, values)


def _edit(text: str, values: dict[str, object]) -> None:
    try:
        edited = flat_toml.replace(text, _EDITS)
    except ValueError:
        # The only reason there is: a name that is a table's.
        tables = {
            key
            for key, one in tomllib.loads(text.removeprefix("\ufeff")).items()
            if isinstance(one, dict)
        }
        assert tables & set(_EDITS)
        return
    wanted = {key: one for key, one in values.items() if key not in _EDITS}
    wanted |= {key: one for key, one in _EDITS.items() if one is not None}
    assert typed(flat_toml.read(edited)) == typed(wanted)
    assert by_tomllib(edited) == typed(wanted)


def _refuses_too(text: str, why: str) -> None:
    assert why.startswith("line ")
    assert 1 <= int(why[5 : why.index(":")]) <= text.count("\n") + 1
    try:
        _flat_toml.read(text)
    except ValueError as refused:
        assert str(refused) == why
        return
    raise AssertionError("the stub reads what the daemon refuses")
