"""The reader of contracts, and everything that is made of one that can be read."""

from __future__ import annotations

import json
from typing import Any

from tallyd.contract import Contract, ContractError, parse_contract
from tallyd.contract.build import built, render_python
from tallyd.contract.diff import compare, is_wider
from tallyd.contract.document import render_document
from tallyd.contract.intersect import intersect
from tallyd.contract.json_schema import schema_of
from tallyd.contract.lint import findings
from tallyd_client._load import constants_of

from fuzz.views import typed

_FILE = "fuzz.toml"


def one_input(data: bytes) -> None:
    """A contract or a ContractError that names a line there is; what is made of a contract can be made of all."""
    try:
        contract = parse_contract(data, _FILE)
    except ContractError as error:
        assert 0 <= error.line <= data.count(b"\n") + 1
        assert str(error).startswith(_FILE)
        assert len(str(error)) < 20_000, "a message is for people"
        return
    assert contract.text == data
    assert parse_contract(data, _FILE) == contract
    constants = built(contract)
    assert typed(constants) == typed(constants_of(data))
    module: dict[str, Any] = {}
    exec(render_python(contract, _FILE), module)
    assert typed(module["CONTRACT"]) == typed(constants)
    _is_whole(contract)


def _is_whole(contract: Contract) -> None:
    """No more than itself, no less: by comparison, in its page, its schema and what is remarked on it."""
    assert compare(contract, contract) == []
    shared = intersect(contract, contract)
    assert [*shared.events] == [*contract.events]
    assert not is_wider(compare(contract, shared))
    page = render_document(contract, _FILE)
    assert contract.title in page
    assert json.loads(json.dumps(schema_of(contract))) == schema_of(contract)
    for finding in findings(contract, _FILE, "2026-11-20"):
        assert str(finding)
