"""The status as one screen for people: what this is, whether it is well, what it knows, how to end it.

The order is that of a person's questions: what is this, what is wrong and what to do, does it run, what
does each product know and where did it send it, what waits since when, and last how to turn it off.
One or two products have a block each, more a row each; of one that is asked for by name everything is
told. Pure: a report in (`status.gather`), lines out. Colour only repeats what the words say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallyd.ages import COLUMNS, HEADS
from tallyd.contract.days import unix_of
from tallyd.phrases import age, duration, some
from tallyd.product_text import (
    HANG,
    HEAD,
    block,
    labelled,
    needs_a_look,
    plain,
    row_of,
    since_then,
    told_at,
)
from tallyd.terminal import Line, Piece, Screen, typeset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Report = dict[str, Any]

ANYWHERE = Screen()
_WHAT = "It sends counts of tool use, unless you say off."
# With more products than these, a row each: two blocks and what surrounds them fill 24 lines.
_BLOCKS = 2
# Rows and problems that are always shown on a screen, however low it is.
_LEAST_ROWS, _LEAST_WRONG = 3, 3
# How a daemon was started, in words.
_WAYS = {"service": "as a service", "on demand": "on demand", "foreground": "in the foreground"}
_PLACES = {
    "spool": "spool (dropped)",
    "buckets": "buckets (counted)",
    "events": "events (single)",
    "outbox": "outbox (to send)",
    "quarantine": "quarantine (bad)",
}


def status_text(report: Report, screen: Screen = ANYWHERE, *, product: str = "") -> list[str]:
    """The report as it is written to `screen`; all about one product, where one is named."""
    above = typeset([*_head(report, screen), *_life(report)], screen)
    below = typeset([*_waiting(report), *_foot(report, product)], screen)
    room = None if screen.height is None else screen.height - len(above) - len(below) - 3
    told = typeset(_products(report, room, product), screen)
    return [*above, "", *told, *below]


def _head(report: Report, screen: Screen) -> list[Line]:
    """What this is and whether it is well; what is wrong comes right after, with what to do."""
    wrong = _wrong(report)
    words, style = {
        "well": ("all is well", "good"),
        "waits": ("waits for a tool to drop counts", "good"),
        "not_running": ("not running", "warn"),
        "not_set_up": ("not set up yet", "warn"),
        "off": ("off; nothing is counted or sent", "warn"),
    }.get(report["health"], ("", "bad"))
    if not words:
        count = len(wrong) + report["daemon"]["more_problems"]
        words = "1 thing is wrong" if count == 1 else f"{count} things are wrong"
    lines = [
        Line((Piece("tallyd", "strong"), Piece(": "), Piece(words, style), Piece(f". {_WHAT}")))
    ]
    most = len(wrong)
    if screen.height is not None:
        most = max(_LEAST_WRONG, (screen.height - 12) // 3)
    for what, why in wrong[:most]:
        lines += [
            Line(),
            Line((Piece("WRONG", "bad"), Piece(f": {what}")), 2),
            Line((Piece(f"  {why}"),), 2),
        ]
    more = len(wrong) - most if len(wrong) > most else 0
    if more:
        lines.append(plain(f"  and {some(more, 'more problem')}: tallyd status | less"))
    if report["daemon"]["more_problems"]:
        lines.append(plain(f"  and {some(report['daemon']['more_problems'], 'more problem')}"))
    if report["last_damage"]:
        lost = report["last_damage"]
        what = f": what a damaged database held until {lost['at']}, when a new one was begun"
        lines += [
            Line(),
            Line((Piece("LOST", "warn"), Piece(what)), 2),
            plain(f"  it is kept for a while in {lost['kept']}; nothing of it is sent", 2),
        ]
    return [*lines, Line()] if wrong or report["last_damage"] else lines


def _wrong(report: Report) -> list[tuple[str, str]]:
    """Everything that is wrong: with what, and what to do about it."""
    found = [(f"the {one['place']}{_of(one['product'])}", one["why"]) for one in report["problems"]]
    damaged = {name for name, one in report["products"].items() if one["problem"]}
    for one in report["daemon"]["problems"]:
        if one["duty"] == "contract" and one["product"] in damaged:
            # Seen from here as well, and told once.
            continue
        since = unix_of(one["since"])
        long = f", for {age(max(0.0, told_at(report) - since))}" if since is not None else ""
        often = f", {one['times']} times" if one["times"] > 1 else ""
        found.append((f"{one['duty']}{_of(one['product'])}{long}{often}", one["why"]))
    return found + [
        (f"the contract of {name} cannot be used, so it stands still", product["problem"])
        for name, product in report["products"].items()
        if product["problem"]
    ]


def _of(product: str) -> str:
    return f" of {product}" if product else ""


def _life(report: Report) -> list[Line]:
    """Whether something runs, and who keeps it running: one line each."""
    return [labelled("daemon", _daemon(report)), labelled("service", _service(report["service"]))]


def _service(service: Report) -> str:
    """Who keeps it running, or how to have it kept."""
    if not service["installed"] and service["stopped"]:
        return "none is installed, and no tool starts one, until: tallyd service start"
    if not service["installed"]:
        return "none is installed: tallyd service install"
    if service["stopped"]:
        return f"{service['supervisor']}, stopped until: tallyd service start"
    when = "when a tool drops counts" if service["mode"] == "on-demand" else "at each login"
    if service["unwatched"]:
        when += f", but for {', '.join(service['unwatched'])}: tallyd service install --on-demand"
    return f"{service['supervisor']} starts it {when}; to end that: tallyd service uninstall"


def _daemon(report: Report) -> str:
    daemon, stop = report["daemon"], report["last_stop"]
    if daemon["running"]:
        cost = ""
        if daemon["rss_bytes"] is not None:
            cost = f", {daemon['rss_bytes'] / 2**20:.0f} MiB, {daemon['cpu_seconds']:.2f} s CPU"
        way = _WAYS.get(daemon["way"], "running")
        return (
            f"{daemon['version']} {way}, up {duration(daemon['uptime_s'])};"
            f" process {daemon['pid']}{cost}"
        )
    told = ""
    # One that was killed came later, and is told of among what is wrong.
    if stop and not any(one["place"] == "daemon" for one in report["problems"]):
        when = since_then(stop["at"], report)
        told = f"; the last one ended {when} ({stop['reason']}) after {duration(stop['uptime_s'])}"
    service = report["service"]
    if report["health"] in ("not_set_up", "off") or service["mode"] == "on-demand":
        return f"not running{told}"
    start = "tallyd service start" if service["installed"] else "tallyd run"
    return f"not running{told}; to start it: {start}"


def _products(report: Report, room: int | None, product: str) -> list[Line]:
    """A block each, or a row each where they are many; then who has no contract."""
    found = {name: one for name, one in report["products"].items() if not one["problem"]}
    lines: list[Line] = []
    if len(found) <= _BLOCKS:
        for name, one in found.items():
            lines += [*block(name, one, report, is_whole=bool(product)), Line()]
    else:
        lines += [*_table(found, report, room), Line()]
    for name in report["unregistered"]:
        what = ': drops counts, but no contract is registered: "tallyd contract add FILE"'
        lines += [Line((Piece(name, "strong"), Piece(what)), 2), Line()]
    is_new = report["health"] != "wrong"
    if is_new and not report["products"] and not report["unregistered"]:
        lines += [
            plain(
                "No tool has registered itself yet. A tool that uses tallyd does so at its first"
            ),
            plain("use, and tells you before anything leaves. To see how it works: tallyd demo"),
            Line(),
        ]
    return lines


def _table(products: Mapping[str, Report], report: Report, room: int | None) -> list[Line]:
    """A row for each product, those that need a look first; on a screen as many as there is room for."""
    names = sorted(products, key=lambda name: (not needs_a_look(products[name]), name))
    shown = names
    if room is not None and len(names) + 2 > room:
        shown = names[: max(_LEAST_ROWS, room - 2)]
    rows = [list(HEAD)]
    rows += [row_of(name, products[name], report) for name in shown]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place == 2 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        style = "dim" if row is rows[0] else ""
        if style or not needs_a_look(products.get(row[0], {})):
            lines.append(Line((Piece("  ".join(cells), style),), is_row=True))
        else:
            lines.append(Line((Piece("  ".join(cells), "warn"),), is_row=True))
    if len(shown) < len(names):
        lines.append(plain(f"and {len(names) - len(shown)} more: tallyd status | less"))
    return lines


def _waiting(report: Report) -> list[Line]:
    """Age by place, over all products that are told of: what is young moves, what is old is stuck."""
    rows = []
    for place, label in _PLACES.items():
        found = [one["ages"][place] for one in report["products"].values() if one["ages"]]
        known = [one for one in found if one is not None]
        counts = [sum(one[column] for one in known) for column in COLUMNS]
        odd = [sum(one[column] for one in known) for column in ("in_future", "unknown")]
        if sum(counts) + sum(odd):
            oldest = [one["oldest_s"] for one in known if one["oldest_s"] is not None]
            rows.append((label, counts, odd, age(max(oldest)) if oldest else "?"))
    if not rows:
        return []
    is_odd = [any(row[2][place] for row in rows) for place in range(2)]
    odd_heads = [
        head for head, is_there in zip(("future", "unknown"), is_odd, strict=True) if is_there
    ]
    cells = [["waiting, by age", *HEADS, *odd_heads, "oldest"]]
    for label, counts, odd, oldest_age in rows:
        odd_cells = [count for count, is_there in zip(odd, is_odd, strict=True) if is_there]
        cells.append([label, *(str(one or "-") for one in [*counts, *odd_cells]), oldest_age])
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return [
        *(
            Line(
                (
                    Piece(row[0].ljust(widths[0]), "" if place else "dim"),
                    Piece(_numbers(row[1:], widths[1:]), "" if place else "dim"),
                ),
                is_row=True,
            )
            for place, row in enumerate(cells)
        ),
        Line(),
    ]


def _forbidden(report: Report) -> list[str]:
    """What policies forbid beside what the products' own lines say."""
    found = []
    for one in report["forbidden"]:
        if one["all"] and one["except"]:
            found.append(f"every product but {', '.join(one['except'])} ({one['rule']})")
        absent = [name for name in one["products"] if name not in report["products"]]
        if absent:
            names = ", ".join(absent)
            back = absent[0] if len(absent) == 1 else "PRODUCT"
            found.append(
                f"{names}, not registered here ({one['rule']}); to take it back: tallyd on {back}"
            )
    return found


def _numbers(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"  {cell.rjust(width)}" for cell, width in zip(cells, widths, strict=True))


def _foot(report: Report, product: str) -> list[Line]:
    """Where to look further, and last of all how to turn it off."""
    names = [name for name, one in report["products"].items() if not one["problem"]]
    one = product or (names[0] if len(names) == 1 else "PRODUCT")
    lines = [labelled("files", f"{report['state']}  {report['config']}")]
    lines += [labelled("forbidden", one) for one in _forbidden(report)]
    if names:
        more = "" if product else f"tallyd status {one}, "
        lines.append(labelled("look", f"{more}what would be sent: tallyd preview {one}"))
    is_off = names and all(report["products"][name]["consent"]["state"] == "off" for name in names)
    if report["all_off"]:
        off = f"everything is off ({report['all_off']}); on again: tallyd on --all"
    elif is_off:
        off = f"it is off; on again: tallyd on {one}"
    elif names:
        off = f"tallyd off {one}, or every tool for good: tallyd off --all"
    else:
        off = "tallyd off --all (every tool, those to come too)"
    lines.append(Line((Piece("turn off".ljust(HANG), "strong"), Piece(off)), HANG))
    return lines
