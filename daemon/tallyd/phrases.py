"""Phrases: counts, lengths of time and tables in the words of a person. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Columns set apart by two spaces, numbers to the right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if cell.isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def some(count: int, noun: str) -> str:
    """`1 batch`, `2 batches`, `0 days`."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"


def duration(seconds: float) -> str:
    """Seconds as 3.2 s, 5 min, 3 h 20 min, 4 d 2 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def age(seconds: float) -> str:
    """Seconds in their largest unit: 12 s, 5 min, 3 h, 4 d; of a clock that was ahead: 3 h ahead."""
    size = abs(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if size >= length:
            told = f"{int(size // length)} {unit}"
            break
    else:
        told = f"{int(size)} s"
    return f"{told} ahead" if seconds <= -1 else told


def ago(seconds: float) -> str:
    """How long ago something was: 3 h ago."""
    return f"{age(seconds)} {'ago' if seconds > -1 else 'of this clock'}"


def until(seconds: float) -> str:
    """When something comes, so many seconds from now: in 2 h 51 min, or now."""
    return f"in {duration(int(seconds))}".replace(".0 s", " s") if seconds >= 1 else "now"
