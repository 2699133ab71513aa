"""UTC days and instants as text: the arithmetic, never the reading of a clock.

It owns the two textual forms of time in the product: a day `YYYY-MM-DD` and an instant
`YYYY-MM-DDTHH:MM:SS.mmmZ`. Every function is pure; "now" is always an argument, in Unix seconds.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

# A figure stands for any; compiling two patterns would take longer than all that a command asks of them.
_FIGURES = str.maketrans("123456789", "000000000")


def day_of(unix_s: float) -> str:
    """The UTC day that holds the instant `unix_s`."""
    return datetime.fromtimestamp(unix_s, UTC).date().isoformat()


def is_day(text: object) -> bool:
    """Whether `text` is a calendar day in the form `YYYY-MM-DD`."""
    if not isinstance(text, str) or text.translate(_FIGURES) != "0000-00-00":
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def shift_day(day: str, days: int) -> str:
    """The day `days` after `day` (before it, when negative)."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def oldest_day(now: float, window_days: int) -> str:
    """The oldest day whose rollup, dated at noon, lies within the last `window_days` at `now`.

    A gateway looks at the rollup's instant, so a day kept until midnight would be refused there.
    """
    at = now - window_days * 86400
    day = day_of(at)
    noon = unix_of(rollup_instant(day))
    return shift_day(day, 1) if noon is not None and noon < at else day


def instant(unix_s: float) -> str:
    """`unix_s` as `YYYY-MM-DDTHH:MM:SS.mmmZ`, cut (not rounded) to the millisecond."""
    moment = datetime.fromtimestamp(unix_s, UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def calendar_instant(unix_s: float | None) -> str | None:
    """As `instant`; None where there is none, or one that no calendar has (others may write files)."""
    try:
        return None if unix_s is None else instant(unix_s)
    except (ValueError, OverflowError, OSError):
        return None


def is_instant(text: object) -> bool:
    """Whether `text` is an instant in exactly the form that `instant` writes."""
    if not isinstance(text, str) or text.translate(_FIGURES) != "0000-00-00T00:00:00.000Z":
        return False
    # Newer Pythons read 24:00 as the next midnight; `instant` never writes it.
    return text[11:13] != "24" and unix_of(text) is not None


def unix_of(text: object) -> float | None:
    """Unix seconds of an ISO 8601 instant with a zone; None when it is anything else.

    Of the forms that ISO 8601 has, those alone that the stub reads too: what one of them took for a
    date and the other for damage would be on for the one and off for the other.
    """
    if not isinstance(text, str) or len(text) > len("2026-01-01T00:00:00.000000+00:00"):
        return None
    if not _is_plain(text.translate(_FIGURES)):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def _is_plain(shape: str) -> bool:
    """Whether it is 0000-00-00T00:00, perhaps with seconds and a fraction of them, and a zone."""
    clock, zone = (shape[:-1], "+00:00") if shape[-1:] in ("Z", "z") else (shape[:-6], shape[-6:])
    seconds, fraction = clock[16:19], clock[19:]
    is_fraction = not fraction or (fraction[0] == "." and set(fraction[1:]) == {"0"})
    return (
        clock[:10] + clock[11:16] == "0000-00-0000:00"
        and clock[10:11] in ("T", " ")
        and seconds in ("", ":00")
        and (not fraction or bool(seconds))
        and is_fraction
        and zone[:1] in ("+", "-")
        and zone[1:] == "00:00"
    )


def rollup_instant(day: str) -> str:
    """The fixed instant that stands for a whole day on the wire: its noon."""
    return f"{day}T12:00:00.000Z"
