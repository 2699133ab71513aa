"""One product in words: as a block, and as a row of a table; for `status_text`.

Pure: a product's part of the report in, lines out. Times are told from the report's own instant.
"""

from __future__ import annotations

from typing import Any

from tallyd.contract.days import unix_of
from tallyd.phrases import ago, some, until
from tallyd.terminal import Line, Piece

Report = dict[str, Any]

# Where what is said begins, after its label.
HANG = 13
_CELL_CHARS = 24
# Verdicts in words: what became of the batch.
_VERDICTS = {
    "delivered": "delivered",
    "refused": "refused",
    "try_later": "kept for later",
    "dropped": "dropped",
}
# Enough of an id to know it again.
_ID_CHARS = 13
HEAD = ("product", "is", "waiting", "last talk", "next")
# Why there may be no id to show, by the kind of identity.
_NO_ID = {
    "random": "no id yet",
    "derived": "each host derives its id",
    "user": "no id, unless you are identified",
}


def block(name: str, product: Report, report: Report, *, is_whole: bool) -> list[Line]:
    """One product: whether it is on and who decided, what it knows, what may leave, whom it talked to."""
    consent = product["consent"]
    is_on = consent["state"] == "on"
    others = [rule for rule in consent["says_off"] if rule != consent["decided_by"]]
    also = f"; also says off: {', '.join(others)}" if others and not is_on else ""
    since = consent["effective_from"] or ""
    since = f" since {since[:10] if unix_of(since) is not None else since}" if since else ""
    told = unix_of(product["notice_shown_at"])
    heard = f"; you were told {since_then(product['notice_shown_at'], report)}" if told else ""
    lines = [
        Line(
            (
                Piece(name, "strong"),
                Piece(": "),
                Piece(consent["mode"], "good" if is_on else "warn"),
                Piece(f", decided by {consent['decided_by']}{since}{also}{heard}"),
            ),
            2,
        ),
        labelled("  knows", _knows(product, is_whole=is_whole)),
        labelled("  may leave", _may_leave(product, report)),
        labelled("  last talk", *_last_talk(product, report)),
    ]
    lines += _notes(product)
    return [*lines, *_whole(product)] if is_whole else lines


def _knows(product: Report, *, is_whole: bool) -> str:
    """What waits on this machine, and under which id."""
    spool, kept, outbox = product["spool"], product["buckets"], product["outbox"]
    parts = []
    if kept is None:
        parts.append("unknown, for the database cannot be read")
    else:
        parts += (
            [f"{some(kept['rows'], 'row')} of {some(kept['days'], 'day')}"] if kept["rows"] else []
        )
        parts += [some(product["events"], "event")] if product["events"] else []
        parts += [f"{some(outbox['batches'], 'batch')} to send"] if outbox["batches"] else []
    if spool["files"] is None:
        parts.append("and what is in the spool is unknown")
    parts += [some(spool["files"], "new file")] if spool["files"] else []
    told = ", ".join(parts) or "nothing"
    return told if is_whole else f"{told}; {_id(product, _ID_CHARS)}"


def _id(product: Report, chars: int) -> str:
    """Under which id it is sent, by its first characters, or why there is none."""
    found = product["machine_id"] or ""
    shown = found if len(found) <= chars else f"{found[:chars]}…"
    return f"id {shown}" if shown else _NO_ID[product["identity"]]


def _may_leave(product: Report, report: Report) -> str:
    """Whether something may leave, to whom, and when that comes next."""
    gate, contract = product["may_leave"], product["contract"]
    host = _host(product["endpoint"])
    waits = "" if contract["in_force"] else f"; what is new in it waits: {contract['waits_for']}"
    if gate["open"]:
        return f"yes, to {host}; next: {_next(product, report)}{waits}"
    if gate["opens_at"]:
        when = _comes(gate["opens_at"], report)
        return f"not yet: {when} at the earliest, to {host}; until then nothing{waits}"
    to = f" (it would go to {host})" if product["consent"]["state"] == "on" else ""
    return f"no: {gate['reason']}{to}{waits}"


def _next(product: Report, report: Report) -> str:
    if not report["daemon"]["running"]:
        return "when tallyd runs"
    return _comes(product["next_send"], report) if product["next_send"] else "not planned"


def _last_talk(product: Report, report: Report) -> tuple[str, str]:
    """When it last talked to whom, and what came of it; with the style of that."""
    if product["last_attempt"] is None:
        return "never", ""
    verdict = _VERDICTS[product["last_verdict"]]
    told = f"{since_then(product['last_attempt'], report)} to {_host(product['last_endpoint'])}: {verdict}"
    if product["last_verdict"] == "delivered":
        return told, ""
    success = product["last_success"]
    before = (
        f"; last delivered {since_then(success, report)}" if success else "; none was delivered yet"
    )
    why = f", {product['last_detail']}" if product["last_detail"] else ""
    return f"{told}{why}{before}", "warn"


def _notes(product: Report) -> list[Line]:
    """What a person should know and need not mend."""
    lines = []
    spool, lost = product["spool"], product["lost"] or {}
    if spool["quarantined"]:
        what = f"{some(spool['quarantined'], 'malformed file')} in {spool['bad']}"
        lines.append(labelled("  set aside", what, "warn"))
    if lost:
        what = ", ".join(f"{count} {cause}" for cause, count in lost.items())
        lines.append(labelled("  lost", what, "warn"))
    return lines


def _whole(product: Report) -> list[Line]:
    """The rest of what is known of one product."""
    contract = product["contract"]
    told = f"{contract['title']}: {contract['digest']}, schema {contract['schema_version']}"
    lines = [
        labelled("  sent under", _id(product, len(product["machine_id"] or ""))),
        labelled("  contract", told),
        labelled("  endpoint", product["endpoint"]),
        labelled("  choice in", product["choice_file"]),
    ]
    if product["stripped_fields"]:
        what = f"{some(product['stripped_fields'], 'field')} that the contract does not list"
        lines.append(labelled("  stripped", what))
    return lines


def needs_a_look(product: Report) -> bool:
    """Files were set aside, or the gateway does not take what is sent."""
    if not product:
        return False
    return bool(product["spool"]["quarantined"]) or product["last_verdict"] not in (
        None,
        "delivered",
    )


def row_of(name: str, product: Report, report: Report) -> list[str]:
    """Its cells, one for each of HEAD."""
    consent, kept = product["consent"], product["buckets"]
    waiting = "?"
    if kept is not None and product["spool"]["files"] is not None:
        held = product["spool"]["files"] + product["outbox"]["batches"]
        waiting = str(kept["rows"] + product["events"] + held)
    talk = "never"
    if product["last_attempt"] is not None:
        verdict = _VERDICTS[product["last_verdict"]]
        talk = f"{verdict} {since_then(product['last_attempt'], report)}"
    if product["spool"]["quarantined"]:
        talk = f"{talk}, {product['spool']['quarantined']} bad"
    comes = _next(product, report) if product["may_leave"]["open"] else "-"
    if not product["may_leave"]["open"] and consent["state"] == "on":
        comes = "not yet"
    return [name, _cut(f"{consent['mode']}: {consent['decided_by']}"), waiting, _cut(talk), comes]


def labelled(label: str, text: str, style: str = "") -> Line:
    """A line that begins with what it is about; what does not fit goes on below the text."""
    return Line((Piece(label.ljust(HANG), "dim"), Piece(text, style)), HANG)


def plain(text: str, hang: int = 0) -> Line:
    """A line of one piece."""
    return Line((Piece(text),), hang)


def since_then(at: str | None, report: Report) -> str:
    """How long ago an instant was."""
    unix_s = unix_of(at)
    return "at an unknown time" if unix_s is None else ago(told_at(report) - unix_s)


def _comes(at: str | None, report: Report) -> str:
    """When an instant comes."""
    unix_s = unix_of(at)
    return "at an unknown time" if unix_s is None else until(unix_s - told_at(report))


def _host(url: str | None) -> str:
    """To whom a URL leads: its host and port."""
    return (url or "?").partition("//")[2].partition("/")[0].rpartition("@")[2] or "?"


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_CHARS else f"{text[: _CELL_CHARS - 1]}…"


def told_at(report: Report) -> float:
    """The instant at which the report was made, Unix s."""
    return unix_of(report["at"]) or 0.0
