"""The readers of state files, the daemon's and the stub's: one decision for the same bytes.

An input is a letter that picks a contract, the state file, and behind a line `%%` what stands in
tallyd's own file beside it.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from support.tool import (
    BY_USER,
    DERIVED,
    MODES,
    MODES_STATE,
    OWN_STATE,
    contract_text,
)
from tallyd import choices
from tallyd.choices import ChoiceFile, read_choice
from tallyd.contract import Contract, parse_contract
from tallyd.contract.consent import Choice
from tallyd.paths import Paths, expand_home
from tallyd.product import Surroundings, _machine_id, decide
from tallyd.registry import Registry
from tallyd.state_file import changed, keys_of, read_values
from tallyd_client._load import constants_of
from tallyd_client._policy import Policy

from fuzz.scratch import home, living_in, parts, put
from fuzz.views import typed

_NOW = 1795176000.0
_ON = 'default = "on"'
_ALL = (
    'enabled = "on", id = "id", source = "source", notice = "told", notice_at = "toldAt", '
    'notice_version = "toldVersion", created = "created", updated = "updated"'
)


def _state(keys: str, *more: str) -> str:
    where = "~/.tool/state.toml" if 'format = "toml"' in more else "~/.tool/state.json"
    lines = ["[state]", f'file = "{where}"', *more, f"keys = {{ {keys} }}"]
    return "\n".join(lines)


# Every letter a contract: with a file of its own or without, strict or not, JSON or TOML, with modes or not.
_TEXTS: dict[str, bytes] = {
    "a": contract_text(consent=_ON),
    "b": contract_text(OWN_STATE, consent=_ON),
    "c": contract_text(OWN_STATE.replace("[state]", "[state]\nstrict = true"), consent=_ON),
    "d": contract_text(_state(_ALL)),
    "e": contract_text(_state(_ALL, "strict = true"), consent=_ON),
    "f": contract_text(_state(_ALL, 'format = "toml"'), consent=_ON),
    "g": contract_text(MODES_STATE, BY_USER, consent=MODES),
    "h": contract_text(_state(f'mode = "mode", user = "user", {_ALL}'), BY_USER, consent=MODES),
    "i": contract_text(BY_USER, consent=MODES),
    "j": contract_text(_state('mode = "mode", enabled = "on", id = "id"', "strict = true"),
                       consent='default = "ask"\nmodes = ["off", "anonymous"]'),
    "k": contract_text(_state('mode = "mode", enabled = "on"'), consent=_ON),
    "l": contract_text(DERIVED, consent=_ON),
    "m": contract_text(_state('enabled = "on", user = "user", source = "source"'), consent=_ON),
    "n": contract_text(
        _state('enabled = "on", source = "source"', 'default_source = "auto"', 'format = "toml"'),
        consent='default = "ask"',
    ),
}  # fmt: skip


@cache
def _contracts() -> dict[str, tuple[Contract, dict[str, Any]]]:
    return {
        letter: (parse_contract(text, "tool.toml"), constants_of(text))
        for letter, text in _TEXTS.items()
    }


def one_input(data: bytes) -> None:
    """Daemon and stub decide alike; what was read is kept; and whatever stood there, a "no" can be said."""
    letter = chr(data[0]) if data else "a"
    contract, constants = _contracts().get(letter, _contracts()["a"])
    content, beside = parts(data[1:])
    place = home("state")
    with living_in(place) as environ:
        paths = Paths.locate(environ)
        keys = keys_of(contract)
        file = expand_home(keys.path, environ) if keys.path else paths.choice("tool")
        if file != paths.choice("tool"):
            put(paths.choice("tool"), beside)
        put(file, content)
        choice = read_choice(contract, paths, environ)
        same_to_both(contract, constants, choice, paths, environ)
        if choice.stored.choice is not Choice.DAMAGED and choice.content is not None:
            kept = read_values(changed(choice.content, {}, keys), keys)
            assert typed(kept) == typed(choice.values)
        say_no(contract, constants, paths, environ)
        _clear(place)


def same_to_both(
    contract: Contract,
    constants: dict[str, Any],
    choice: ChoiceFile,
    paths: Paths,
    environ: dict[str, str],
) -> None:
    """What stands there, the decision that follows, and under which decision a delta is counted."""
    stub = Policy(None, "1", constants, {})
    stub._has_terminal = True
    stored, theirs = choice.stored, stub.stored()
    assert stored.choice.value == theirs.choice, (stored, theirs.choice)
    if stored.choice is Choice.ON:
        assert (stored.mode, stored.effective_from) == (theirs.mode, theirs.said), stored
    around = Surroundings(paths, Registry(paths), environ)
    consent = decide(contract, choice, around)
    decision = stub.consent()
    assert consent.mode == decision.mode
    if consent.is_on:
        machine_id = _machine_id(contract, consent, choice)
        assert (consent.effective_from, machine_id) == (decision.said, decision.id)
        assert consent.is_explicit == decision.is_explicit


def say_no(
    contract: Contract, constants: dict[str, Any], paths: Paths, environ: dict[str, str]
) -> None:
    """A "no" is written whatever stood there, and both read it."""
    said = choices.write_choice(contract, paths, environ, mode="off", now=_NOW)
    assert said.stored.choice is Choice.OFF
    assert Policy(None, "1", constants, {}).stored().choice == "off"


def _clear(place: Path) -> None:
    for directory in (place / ".tool", place / "state" / "consent"):
        if directory.is_dir():
            for entry in os.scandir(directory):
                os.unlink(entry.path)
