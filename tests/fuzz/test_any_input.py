"""What `make fuzz` does for as long as wanted, with inputs that hypothesis draws: good ones, bent.

A file that others may write must not be able to stop what reads it, nor be read in two ways.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.deltas import delta
from support.drawn import examples
from support.inline_contracts import EVERY_TYPE, parsed
from tallyd.delta import parse_delta
from tallyd.errors import Malformed

import fuzz.delta
import fuzz.intake
from fuzz.corpus import TARGETS, every_type, seeds, whole
from fuzz.delta_by_spec import Refused, read
from fuzz.mutations import bent, inputs
from fuzz.views import plain_delta


@pytest.fixture(autouse=True, scope="module")
def database() -> Iterator[None]:
    """The one of `fuzz.intake` stays open from input to input."""
    yield
    fuzz.intake.machine.end()


@pytest.mark.parametrize("target", TARGETS)
def test_every_good_input_keeps_every_promise(target: str):
    one_input = importlib.import_module(f"fuzz.{target}").one_input

    for data in seeds(target):
        one_input(data)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@examples(1800)
@given(data=st.data())
def test_any_input_keeps_every_promise(target: str, data: st.DataObject):
    """Only the documented errors; one reading by daemon and stub; nothing but listed names comes through."""
    importlib.import_module(f"fuzz.{target}").one_input(data.draw(inputs(target)))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["flat_toml", "policy", "state", "gateway_body"])
def test_a_good_input_bent_once_in_every_way_keeps_every_promise(target: str):
    """One by one, so that no run depends on luck for these."""
    one_input = importlib.import_module(f"fuzz.{target}").one_input

    for data in bent(seeds(target)[0], target):
        one_input(data)


@pytest.mark.slow
def test_a_whole_delta_bent_once_in_every_way_is_read_as_the_page_says():
    for data in bent(json.dumps(whole(), separators=(",", ":")).encode(), "delta"):
        fuzz.delta.same_to_both(data)


@pytest.mark.slow
def test_every_field_bent_once_in_every_way_is_of_its_type_or_gone():
    """No number that JSON has not, no text beyond ASCII."""
    contract = parsed(EVERY_TYPE)
    for data in bent(json.dumps(every_type(), separators=(",", ":")).encode(), "delta"):
        with suppress(Malformed):
            said = plain_delta(parse_delta(data, fuzz.delta.PRODUCT))
            fuzz.delta.check_screening(contract, said)


@pytest.mark.parametrize("data", seeds("delta"))
def test_the_good_deltas_are_deltas(data: bytes):
    """Else a reader that refuses everything would pass."""
    assert fuzz.delta.same_to_both(data) is not None


_GOOD = json.dumps(delta())


@pytest.mark.parametrize(
    "text",
    [
        _GOOD.replace('"v": 1', '"v": 1, "v": 1'),
        _GOOD.replace('"count": 1', '"count": 1, "c\\u006funt": 1'),
        _GOOD.replace('"count": 1', '"count": 1.0'),
        _GOOD.replace('"count": 1', '"count": true'),
        _GOOD.replace('"count": 1', '"count": 01'),
        _GOOD.replace('"count": 1', '"count": 9007199254740992'),
        _GOOD.replace('"count": 1', '"count": -1'),
        _GOOD.replace('"count": 1', '"count": NaN'),
        _GOOD.replace('"ci": false', '"ci": ' + "[" * 7 + "]" * 7),
        _GOOD.replace("search", "sea\trch"),
        _GOOD.replace("search", "\\ud8"),
        _GOOD.replace("2026-11-20", "2026-02-29"),
        _GOOD.replace("2026-11-20", "0000-11-20"),
        _GOOD + " 1",
        "\ufeff" + _GOOD,
        _GOOD.replace("[]", "[,]"),
        _GOOD.replace("}", ",}", 1),
    ],
)
def test_the_reader_made_of_the_page_refuses_what_the_page_refuses(text: str):
    with pytest.raises(Refused):
        read(text.encode(), "tallyd-demo")


def test_a_reader_that_keeps_the_last_of_two_equal_keys_is_caught(
    monkeypatch: pytest.MonkeyPatch,
):
    """As fast decoders do: the wrong reader that this must always find."""

    def lax(content: bytes, product: str) -> SimpleNamespace:
        said = json.loads(content)
        assert said["product"] == product
        nothing = {"lost": {}, "consent": None, "derived_id": None, "weight": 1}
        return SimpleNamespace(**{**said, **nothing})

    monkeypatch.setattr(fuzz.delta, "parse_delta", lax)
    fuzz.delta.same_to_both(_GOOD.encode())

    with pytest.raises(AssertionError, match=r"refuses it|read before decides"):
        fuzz.delta.same_to_both(_GOOD.replace('"count": 1', '"count": 9, "count": 1').encode())
