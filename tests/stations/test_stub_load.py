"""A contract's TOML in the stub is what `tallyd contract build` makes of it, for every contract."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.hosts import Dropped, dropped
from support.processes import CONTRACTS, DEMO_CONTRACT
from support.tool import (
    BY_USER,
    DERIVED,
    MODES,
    MODES_STATE,
    OWN_STATE,
    PROJECT,
    contract_text,
)
from tallyd.contract import parse_contract
from tallyd_client import Client
from tallyd_client._load import constants_of

_ALL_TYPES = """
[fields]
outcome = { type = "enum", values = ["ok", "error"], about = "How it ended." }
[groups]
project = { type = "hash", as = "workspace" }
[events.all]
kind = "event"
as = "all of it"
expires = "2031-01-01"
sample = 0.25
sample_as = "rate"
uses = ["outcome"]
groups = ["project"]
properties.a = { type = "token", max = 64, cut = false, about = "x" }
properties.b = { type = "label", max = 24, cut = true, registered = true, as = "b c", optional = true }
properties.c = { type = "version", max = 32, optional = false }
properties.d = { type = "int", min = 0, max = 9007199254740991 }
properties.e = { type = "int", min = -5, max = 5 }
properties.f = { type = "number", min = 0, max = 0.5 }
properties.g = { type = "bucket", edges = [1, 2], labels = ["a", "b", "c"] }
properties.h = { type = "list", of = "token", max = 64, max_items = 4 }
properties.i = { type = "list", of = "record", max_items = 4, fields = { x = { type = "token", about = "y", max = 64, optional = false }, y = { type = "boolean", optional = true } } }
properties.j = { type = "names", max_items = 32, max = 64 }
properties.k = { type = "names", values = ["a"], max_items = 3 }
properties.l = { type = "uuid" }
properties.m = { type = "hash", length = 64 }
properties.n = { type = "hash", length = 16, prefix = "cluster_" }
properties.o = { type = "error_class", max = 80 }
properties.p = { type = "redacted", max = 1000, switch = "TOOL_DETAIL", optional = true }
properties.q = { type = "list", of = "version", max_items = 1 }
properties.r = { type = "list", of = "bucket", edges = [1], labels = ["a", "b"], max_items = 1 }
[events.used]
kind = "rollup"
sample = 1
uses = ["outcome"]
measures = ["count", { name = "errors", max = 1000 }]
[events.once]
kind = "event"
once = "machine"
"""
_TEXTS = {
    **{one.stem: one.read_bytes() for one in sorted(CONTRACTS.glob("*.toml"))},
    "own state": contract_text(OWN_STATE, PROJECT),
    "modes": contract_text(MODES_STATE, BY_USER, consent=MODES),
    "derived": contract_text(DERIVED),
    "strict": contract_text(OWN_STATE.replace("[state]", "[state]\nstrict = true")),
    "all types": contract_text(
        events=_ALL_TYPES,
        consent='ci = "off"\nterminal = "required"\ndo_not_track = "any"\ngrace = "0s"',
        envelope='os = { type = "token", from = "runtime", expires = "2030-01-01" }',
    ),
}


@pytest.mark.parametrize("name", _TEXTS)
def test_a_path_gives_the_same_constants_as_a_build(name: str):
    build = pytest.importorskip("tallyd.contract.build")
    text = _TEXTS[name]

    assert build.built(parse_contract(text, name)) == constants_of(text)


def test_a_host_may_give_the_path_of_its_contract(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TALLYD_HOME", str(home))
    for contract in (DEMO_CONTRACT, str(DEMO_CONTRACT)):
        client = Client(contract=contract)
        client.counter("tool_calls", tool="search")()
        client.close()

    assert Dropped({"search": 2}) == dropped(home)
