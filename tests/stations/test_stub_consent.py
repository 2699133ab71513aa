"""Consent in the stub: on every row of the vectors, and every stored choice, as the daemon decides."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.clock import DAY_S, NOON
from support.hosts import Dropped, built, dropped
from support.processes import CONTRACTS, ROOT
from tallyd.choices import read_choice
from tallyd.contract import parse_contract
from tallyd.contract.consent import resolve
from tallyd.contract.days import instant, unix_of
from tallyd.paths import Paths
from tallyd_client import Client
from tallyd_client._policy import Policy

NewClient = Callable[..., Client]

_MATRIX = json.loads((ROOT / "tests/vectors/consent_env_matrix.json").read_text())
_ID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"
_CHOSEN = instant(NOON - DAY_S)


@dataclass(frozen=True)
class Product:
    """A contract, where its choice is stored and which variable switches it."""

    name: str
    variable: str
    state: str

    @property
    def text(self) -> str:
        return (CONTRACTS / f"{self.name}.toml").read_text()


_PRODUCTS = [
    Product("tallyd-demo", "TALLYD_DEMO_TELEMETRY", "state/consent/tallyd-demo.json"),
    Product("codegraph", "CODEGRAPH_TELEMETRY", ".codegraph/telemetry.json"),
]

each_product = pytest.mark.parametrize("product", _PRODUCTS, ids=lambda product: product.name)


def decide(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    product: Product,
    environ: dict[str, str],
    text: str | None = None,
) -> tuple[bool, bool]:
    """Whether (daemon, stub) say on, with nothing but `environ` in the environment."""
    whole = {"TALLYD_HOME": str(home), "HOME": str(home), **environ}
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in whole.items():
        monkeypatch.setenv(name, value)
    said = (text or product.text).encode()
    contract = parse_contract(said, "contract.toml")
    stored = read_choice(contract, Paths.locate(whole), whole).stored
    stub = Policy(product.name, "1", built(text=said), {})
    return resolve(contract.consent, whole, stored).is_on, stub.consent().is_on


def store(home: Path, product: Product, content: bytes) -> Path:
    """Put a state file where the product has it."""
    file = home / product.state
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return file


def choice(**changes: Any) -> bytes:
    """A state file in which somebody chose; `changes` replace keys, None removes one."""
    whole = {
        "enabled": True,
        "machine_id": _ID,
        "consent_source": "cli",
        "first_run_notice_shown": True,
        "updated_at": _CHOSEN,
        **changes,
    }
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


@each_product
@pytest.mark.parametrize(
    ("value", "switches_off"),
    list(zip(_MATRIX["DO_NOT_TRACK"]["values"], _MATRIX["DO_NOT_TRACK"]["codegraph"], strict=True)),
)
def test_do_not_track_switches_off_what_the_vectors_say(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    product: Product,
    value: str,
    switches_off: bool,
):
    # " 0 " is where the reference code does not trim and we do: it is zero to whoever wrote it.
    is_on = value == " 0 " or not switches_off
    environ = {} if value == "unset" else {"DO_NOT_TRACK": value}

    assert (is_on, is_on) == decide(home, monkeypatch, product, environ)


@each_product
@pytest.mark.parametrize("value", ["1", "yes", "FALSE", " false ", "no", "off", " ", "disable"])
@pytest.mark.parametrize("rule", ["set", "any", "ignore"])
def test_do_not_track_follows_the_rule_of_the_contract(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, value: str, rule: str
):
    text = product.text.replace('do_not_track = "set"', f'do_not_track = "{rule}"')
    is_on = {
        "set": value.strip().lower() in ("", "0", "false"),
        "any": False,
        "ignore": True,
    }[rule]

    assert (is_on, is_on) == decide(home, monkeypatch, product, {"DO_NOT_TRACK": value}, text)


@each_product
@pytest.mark.parametrize(
    ("value", "said"),
    list(_MATRIX["product_variable"]["codegraph CODEGRAPH_TELEMETRY -> telemetry"].items()),
)
def test_the_products_variable_decides_what_the_vectors_say(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, value: str, said: str
):
    """ON in capitals is where the reference code takes text it does not know for yes; we do not."""
    is_on = said in ("next rule", "on")
    environ = {} if value == "unset" else {product.variable: value}

    assert (is_on, is_on) == decide(home, monkeypatch, product, environ)


@each_product
@pytest.mark.parametrize(
    ("value", "is_on"),
    [
        (None, True),
        ("", True),
        ("  ", True),
        *((one, True) for one in ("1", "true", "TRUE", " yes ", "on")),
        *((one, False) for one in ("0", "false", "FALSE", " 0 ", "no", "off", "Off")),
        *((one, False) for one in ("disabled", "n", "2", "tru", "on!", "\u00a01\u00a0x", "\u0660")),
    ],
)
def test_an_unknown_text_in_the_products_variable_means_off(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, value: str | None, is_on: bool
):
    environ = {} if value is None else {product.variable: value}

    assert (is_on, is_on) == decide(home, monkeypatch, product, environ)


@each_product
@pytest.mark.parametrize("rule", ["off", "tag"])
@pytest.mark.parametrize("value", [None, "", "0", "false", "FALSE", " 0 ", "1", "true", "yes"])
def test_continuous_integration_switches_off_where_the_contract_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, rule: str, value: str | None
):
    text = product.text.replace('ci = "tag"', f'ci = "{rule}"')
    is_ci = value is not None and value.strip().lower() not in ("", "0", "false")
    is_on = not (is_ci and rule == "off")
    environ = {} if value is None else {"CI": value}

    assert (is_on, is_on) == decide(home, monkeypatch, product, environ, text)


@each_product
@pytest.mark.parametrize("default", ["on", "off", "ask"])
@pytest.mark.parametrize("stored", [None, choice(), choice(enabled=False)])
@pytest.mark.parametrize("variable", [None, "1", "0"])
@pytest.mark.parametrize("do_not_track", [None, "1"])
def test_the_first_rule_that_says_something_decides(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    product: Product,
    default: str,
    stored: bytes | None,
    variable: str | None,
    do_not_track: str | None,
):
    text = product.text.replace('default = "on"', f'default = "{default}"')
    if stored is not None:
        store(home, product, stored)
    environ = {product.variable: variable, "DO_NOT_TRACK": do_not_track}
    given = {name: value for name, value in environ.items() if value is not None}
    said = (
        False if do_not_track else None,
        None if variable is None else variable == "1",
        None if stored is None else stored == choice(),
        default == "on",
    )
    is_on = next(one for one in said if one is not None)

    assert (is_on, is_on) == decide(home, monkeypatch, product, given, text)


_DAMAGE = {
    "nothing in it": b"",
    "white space": b" \n",
    "truncated": choice()[:40],
    "a list": b"[true]",
    "a text": b'"enabled"',
    "a number": b"1",
    "null": b"null",
    "more behind it": choice() + b"{}",
    "enabled is a text": choice(enabled="false"),
    "enabled is the text true": choice(enabled="true"),
    "enabled is one": choice(enabled=1),
    "enabled is zero": choice(enabled=0),
    "enabled is a list": choice(enabled=[]),
    "an id that is none": choice(machine_id="me"),
    "an id that is a number": choice(machine_id=7),
    "an id with a hyphen astray": choice(machine_id=_ID.replace("-", "", 1) + "-"),
    "an id that is not hexadecimal": choice(machine_id="g" + _ID[1:]),
    "over 64 KiB": choice(more="x" * 65536),
    "white space to over 64 KiB": choice() + b" " * 65536,
    "not UTF-8": choice(more="x").replace(b'"x"', b'"\xff"'),
    "white space that is not JSON's": "\u00a0".encode() + choice(),
    "a form feed": choice() + b"\f",
    "nested too deeply": b'{"enabled":true,"more":%s%s}' % (b"[" * 30000, b"]" * 30000),
    "a comment": b"// on\n" + choice(),
    "single quotes": b"{'enabled': true}",
    "a control character": choice(more="x").replace(b'"x"', b'"\x01"'),
    "Python's True": b'{"enabled": True}',
}
_CHOICES = {
    "on": (choice(), True),
    "off": (choice(enabled=False), False),
    "off without an id": (choice(enabled=False, machine_id=None), False),
    "off by default notice": (choice(enabled=False, consent_source="default-notice"), False),
    "default notice": (choice(consent_source="default-notice"), True),
    "nobody chose": (choice(enabled=None), True),
    "an empty object": (b"{}", True),
    "on without an id": (choice(machine_id=None), True),
    "on without a date": (choice(updated_at=None), True),
    "on with a date that is none": (choice(updated_at="yesterday"), True),
    "on with a date that is a number": (choice(updated_at=7), True),
    "on with a source that is a list": (choice(consent_source=[]), True),
    "on with keys of others": (choice(theme="dark", nested={"a": [1, None, 2.5]}), True),
    "on within white space": (b"\r\n\t " + choice() + b" \n", True),
    "on behind a byte order mark": (b"\xef\xbb\xbf" + choice(), True),
    "the key twice": (b'{"enabled":true,"enabled":false}', False),
    "not a number": (b'{"enabled":true,"more":NaN}', True),
    "an id in capitals": (choice(machine_id=_ID.upper()), True),
}


@each_product
@pytest.mark.parametrize("content", _DAMAGE.values(), ids=_DAMAGE)
def test_a_damaged_state_file_means_off_in_daemon_and_stub(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, content: bytes
):
    file = store(home, product, content)

    assert decide(home, monkeypatch, product, {}) == (False, False)
    assert content == file.read_bytes()


@each_product
@pytest.mark.parametrize(("content", "is_on"), _CHOICES.values(), ids=_CHOICES)
def test_a_stored_choice_is_the_same_to_daemon_and_stub(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, content: bytes, is_on: bool
):
    store(home, product, content)

    assert (is_on, is_on) == decide(home, monkeypatch, product, {})


@each_product
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_state_file_in_another_encoding_means_off_in_the_stub(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, encoding: str
):
    store(home, product, choice().decode().encode(encoding))

    assert not decide(home, monkeypatch, product, {})[1]


def a_link(file: Path) -> None:
    target = file.with_name("elsewhere.json")
    target.write_bytes(choice())
    file.symlink_to(target)


def a_broken_link(file: Path) -> None:
    file.symlink_to(file.with_name("nowhere"))


def a_directory_on_the_way(file: Path) -> None:
    file.parent.rmdir()
    file.parent.write_text("no directory")


@each_product
@pytest.mark.parametrize(
    "put", [a_link, a_broken_link, Path.mkdir, os.mkfifo, a_directory_on_the_way]
)
def test_what_is_no_plain_file_means_off_and_holds_nobody(
    home: Path, monkeypatch: pytest.MonkeyPatch, product: Product, put: Callable[[Path], object]
):
    """A pipe that nobody writes would hold whoever opens it to read."""
    file = home / product.state
    file.parent.mkdir(parents=True)
    put(file)

    assert decide(home, monkeypatch, product, {}) == (False, False)


@pytest.mark.parametrize(
    "updated",
    [
        "2026-11-20T12:00:00.000Z",
        "2026-11-20T12:00:00Z",
        "2026-11-20T12:00:00.123456+00:00",
        "2026-11-20T14:30:00+02:30",
        "2026-11-20T07:00:00.500-05:00",
        "2024-02-29T23:59:59.999Z",
        "2000-02-29T00:00:00Z",
        "2023-03-01T00:00:00+14:00",
        "1999-12-31T23:59:59-12:00",
    ],
)
def test_daemon_and_stub_read_the_same_instant_of_a_choice(
    home: Path, monkeypatch: pytest.MonkeyPatch, updated: str
):
    """Products write it their own way; what was counted before it may not leave."""
    product = _PRODUCTS[0]
    store(home, product, choice(updated_at=updated))
    decide(home, monkeypatch, product, {})
    since = Policy(product.name, "1", built(), {}).consent().since
    said = read_choice(
        parse_contract(product.text.encode(), ""), Paths.locate(os.environ), os.environ
    ).stored.effective_from

    assert said == updated
    assert since == unix_of(updated)


def test_a_choice_reaches_a_running_host_at_its_next_drain(new_client: NewClient, home: Path):
    """Off: what was counted goes nowhere. On again: only what a whole window was counted under it."""
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    search()
    file = store(home, _PRODUCTS[0], choice(enabled=False))
    client.drain()
    off = dropped(home)
    search()
    search()
    client.drain()
    file.write_bytes(choice())
    search()
    client.drain()
    search()
    client.drain()

    assert (Dropped(), Dropped(calls={"search": 1})) == (off, dropped(home))


def test_what_was_counted_before_somebody_chose_is_not_dropped(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing that began before consent may leave, so a drain's whole window must lie after it."""
    monkeypatch.setattr("tallyd_client.time.time", lambda: NOON)
    client = new_client()
    search = client.counter("tool_calls", tool="search")
    search()
    store(home, _PRODUCTS[0], choice(updated_at=instant(NOON + 10)))
    monkeypatch.setattr("tallyd_client.time.time", lambda: NOON + 30)
    client.drain()
    before = dropped(home)
    search()
    search()
    monkeypatch.setattr("tallyd_client.time.time", lambda: NOON + 60)
    client.drain()

    assert (Dropped(), Dropped(calls={"search": 2})) == (before, dropped(home))
