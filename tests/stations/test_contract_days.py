"""Days and instants: two forms of text, read strictly and written exactly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clock import NOON, TODAY
from tallyd.contract.days import (
    day_of,
    instant,
    is_day,
    is_instant,
    oldest_day,
    rollup_instant,
    shift_day,
    unix_of,
)

MIDNIGHT = NOON - 43200


@pytest.mark.parametrize(
    ("unix_s", "day"),
    [
        (0, "1970-01-01"),
        (MIDNIGHT - 0.001, "2026-11-19"),
        (MIDNIGHT, TODAY),
        (MIDNIGHT + 86399.999, TODAY),
        (MIDNIGHT + 86400, "2026-11-21"),
        (951782400, "2000-02-29"),
        (-62135596800, "0001-01-01"),
        (253402300799, "9999-12-31"),
    ],
)
def test_a_day_begins_at_midnight_utc(unix_s: float, day: str):
    assert day == day_of(unix_s)


def test_a_day_is_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch):
    import time

    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert (TODAY, f"{TODAY}T12:00:00.000Z", NOON) == (
            day_of(NOON),
            instant(NOON),
            unix_of(f"{TODAY}T12:00:00.000Z"),
        )
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("2026-11-20", True),
        ("2024-02-29", True),
        ("0001-01-01", True),
        ("2026-02-29", False),
        ("2026-13-01", False),
        ("2026-00-10", False),
        ("0000-01-01", False),
        ("2026-1-2", False),
        ("20261120", False),
        ("2026-W47-5", False),
        ("2026-11-20\n", False),
        (" 2026-11-20", False),
        ("2026-11-20T00:00:00Z", False),
        ("\N{FULLWIDTH DIGIT TWO}026-11-20", False),
        ("+2026-11-20", False),
        ("", False),
        (None, False),
        (20261120, False),
        (b"2026-11-20", False),
    ],
)
def test_a_day_is_read_in_one_form_only(text: object, is_good: bool):
    assert is_good == is_day(text)


@pytest.mark.parametrize(
    ("day", "days", "shifted"),
    [
        ("2026-11-20", 0, "2026-11-20"),
        ("2026-11-20", 1, "2026-11-21"),
        ("2026-11-20", -30, "2026-10-21"),
        ("2024-02-28", 1, "2024-02-29"),
        ("2026-12-31", 1, "2027-01-01"),
        ("1000-01-01", -1, "0999-12-31"),
    ],
)
def test_days_are_shifted_over_months_and_years(day: str, days: int, shifted: str):
    assert shifted == shift_day(day, days)


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (NOON, "2026-11-20T12:00:00.000Z"),
        (NOON + 0.0009, "2026-11-20T12:00:00.000Z"),
        (NOON + 0.412, "2026-11-20T12:00:00.412Z"),
        (NOON + 0.9995, "2026-11-20T12:00:00.999Z"),
        (-62135596800, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_an_instant_is_cut_to_the_millisecond(unix_s: float, text: str):
    """Rounded, the last half millisecond of a day would lie in the next."""
    assert text == instant(unix_s)


@pytest.mark.parametrize(
    ("text", "unix_s", "is_exact"),
    [
        ("2026-11-20T12:00:00.000Z", NOON, True),
        ("2026-11-20T12:00:00Z", NOON, False),
        ("2026-11-20T12:00:00.000+00:00", NOON, False),
        ("2026-11-20T14:00:00+02:00", NOON, False),
        ("2026-11-20 12:00:00Z", NOON, False),
        ("2026-11-20T12:00:00.000000+00:00", NOON, False),
        ("2026-11-20T12:00:00", None, False),
        ("2026-11-20T12:00:00.000", None, False),
        ("2026-11-20", None, False),
        ("2026-11-20T12:00:60.000Z", None, False),
        ("2026-02-30T12:00:00.000Z", None, False),
        ("0000-01-01T00:00:00.000Z", None, False),
        ("2026-11-20T12:00:00.000Z\n", None, False),
        ("2026-11-20T12:00:00.000Z" + "0" * 100, None, False),
        ("\ud800", None, False),
        ("", None, False),
        (None, None, False),
        (NOON, None, False),
        (["2026-11-20T12:00:00Z"], None, False),
    ],
)
def test_an_instant_is_read_with_its_zone_and_is_exact_in_one_form_only(
    text: object, unix_s: float | None, is_exact: bool
):
    assert (unix_s, is_exact) == (unix_of(text), is_instant(text))


def test_an_hour_of_24_is_no_exact_instant():
    """Newer Pythons read it as the next midnight: a day that its text does not name."""
    assert not is_instant("2026-11-20T24:00:00.000Z")


def test_a_whole_day_stands_at_its_noon():
    assert (f"{TODAY}T12:00:00.000Z", NOON) == (
        rollup_instant(TODAY),
        unix_of(rollup_instant(TODAY)),
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=-8_500_000_000_000, max_value=8_500_000_000_000))
def test_what_instant_writes_is_read_back_and_lies_in_its_day(unix_ms: int):
    """From 1700 to 2239: beyond, a float of seconds no longer tells the milliseconds apart."""
    text = instant(unix_ms / 1000)

    again = unix_of(text)
    assert again is not None
    assert (True, text, text[:10], True) == (
        is_instant(text),
        instant(again),
        day_of(unix_ms / 1000),
        is_day(text[:10]),
    )


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=34)
    | st.from_regex(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)")
)
def test_no_text_makes_the_readers_fail(text: str):
    read = unix_of(text)

    assert (read is None or isinstance(read, float), is_day(text) in (True, False)) == (True, True)
    assert is_instant(text) in (True, False)


def test_the_oldest_day_is_the_one_whose_noon_is_within_the_window():
    noon = unix_of("2026-11-20T12:00:00.000Z")
    assert noon is not None

    assert [oldest_day(noon + off, 30) for off in (-1, 0, 1, 43199, 43200, 43201)] == [
        *["2026-10-21"] * 2,
        *["2026-10-22"] * 4,
    ]
