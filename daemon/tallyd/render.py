"""Reports as text for people: data in, lines out. Prints nothing, reads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallyd.body import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tallyd.buckets import Row
    from tallyd.contract.diff import Change
    from tallyd.product import ProductView

Report = dict[str, Any]

# Why there may be no id to show, by the kind of identity.
_NO_ID = {
    "random": "none yet",
    "derived": "each host derives it",
    "user": "none, unless you are identified",
}


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


def row_json(row: Row) -> dict[str, object]:
    """A bucket as `show --json` prints it."""
    return {
        "day": row.day,
        "event": row.event,
        "envelope": row.envelope,
        "dimensions": row.dimensions,
        "measures": row.measures,
    }


def buckets_table(rows: Sequence[Row]) -> list[str]:
    """Buckets as a table: one column per dimension and measure, the envelope where it differs."""
    measures = sorted({name for row in rows for name in row.measures})
    dimensions = sorted({name for row in rows for name in row.dimensions})
    envelopes = list(dict.fromkeys(canonical(row.envelope) for row in rows))
    lines = table(
        ["day", "event", *dimensions, *measures],
        (
            [
                row.day,
                row.event,
                *(row.dimensions.get(name, "-") for name in dimensions),
                *(row.measures.get(name, "-") for name in measures),
            ]
            for row in rows
        ),
    )
    if len(envelopes) == 1:
        return [*lines, f"each from {_words(rows[0].envelope)}"]
    return lines


def status_text(report: Report) -> list[str]:
    """The status for people, one block per product."""
    daemon = report["daemon"]
    if daemon["running"]:
        cost = ""
        if daemon["rss_bytes"] is not None:
            cost = f", {daemon['rss_bytes'] / 2**20:.0f} MiB, {daemon['cpu_seconds']:.2f} s CPU"
        lines = [
            f"tallyd {daemon['version']} is running: process {daemon['pid']},"
            f" up {duration(daemon['uptime_s'])}{cost}"
        ]
    else:
        stop = report["last_stop"]
        told = (
            f" (last stop: {stop['reason']}, {stop['at']}, up {duration(stop['uptime_s'])})"
            if stop
            else ""
        )
        lines = [f"tallyd is not running{told}"]
    lines += [f"state   {report['state']}", f"config  {report['config']}"]
    for one in report["problems"]:
        whose = f" of {one['product']}" if one["product"] else ""
        lines += ["", f"WRONG: the {one['place']}{whose}", f"  {one['why']}"]
    if report["last_damage"]:
        lost = report["last_damage"]
        lines += [
            "",
            f"LOST: what a damaged database held until {lost['at']}, when a new one was begun",
            f"  it is kept for a while in {lost['kept']}; nothing of it is sent",
        ]
    lines += _problems_text(daemon["problems"], daemon["more_problems"])
    for name, product in report["products"].items():
        lines += ["", *_product_text(name, product)]
    for name in report["unregistered"]:
        lines += [
            "",
            f'{name}: drops counts, but no contract is registered ("tallyd contract add FILE")',
        ]
    if not report["products"] and not report["unregistered"]:
        lines += [
            "",
            "No product is set up yet. A tool that uses tallyd registers itself at its first use;",
            'by hand: "tallyd contract add FILE". To see it at work: "tallyd demo".',
        ]
    return lines


def _problems_text(problems: Sequence[Report], more: int) -> list[str]:
    """What is wrong now, each with what to do about it."""
    lines = []
    for one in problems:
        whose = f" of {one['product']}" if one["product"] else ""
        often = f", {one['times']} times" if one["times"] > 1 else ""
        lines += [
            "",
            f"WRONG: {one['duty']}{whose}, since {one['since']}{often}",
            f"  {one['why']}",
        ]
    return [*lines, f"  and {_some(more, 'more problem')}"] if more else lines


def flush_text(result: Mapping[str, Any]) -> list[str]:
    """What a flush did, one line per product."""
    if not result:
        return ['Nothing to flush: no product is set up ("tallyd contract add FILE").']
    lines = []
    for name, done in result.items():
        if "merged" not in done:
            lines.append(f"{name}: {done['problem']}")
            continue
        parts = [
            f"{_some(done['merged'], 'delta')} merged",
            f"{_some(done['sealed'], 'batch')} sealed",
        ]
        parts += [
            f"{done[key]} {word}"
            for key, word in (
                ("delivered", "delivered"),
                ("refused", "refused"),
                ("dropped", "dropped unanswered"),
                ("later", "kept for later"),
                ("quarantined", "set aside as malformed"),
            )
            if done[key]
        ]
        why = done["problem"] or done["blocked"] or ("" if done["delivered"] else done["detail"])
        lines.append(f"{name}: {', '.join(parts)}{f' ({why})' if why else ''}")
    return lines


def diff_json(
    changes: Sequence[Change], *, needs_notice: bool, is_raised: bool
) -> dict[str, object]:
    """What `contract diff --json` prints."""
    return {
        "needs_notice": needs_notice,
        "schema_version_raised": is_raised,
        "changes": [
            {"kind": one.kind.name.lower(), "place": one.place, "words": one.words}
            for one in changes
        ],
    }


def diff_text(changes: Sequence[Change], *, needs_notice: bool) -> list[str]:
    """What a new version of a contract collects more or less, in words."""
    heads = {"MORE": "collects more:", "LESS": "collects less:", "OTHER": "changes otherwise:"}
    lines = []
    for kind, head in heads.items():
        found = [one.words for one in changes if one.kind.name == kind]
        lines += [head, *(f"  {words}" for words in found)] if found else []
    if not lines:
        return ["both collect the same"]
    if needs_notice:
        return [*lines, "until its notice was shown, only what both list is kept and sent"]
    return [*lines, "it takes effect at once"]


def contract_json(view: ProductView) -> dict[str, object]:
    """One registered contract as `contract list --json` prints it."""
    return {
        "product": view.name,
        "title": view.registered.title,
        "digest": view.registered.short_digest,
        "schema_version": view.registered.schema_version,
        "events": len(view.registered.events),
        "endpoint": view.endpoint,
        "consent": view.consent.state,
        "waits_for_notice": view.pending is not None,
        "problem": None,
    }


def contracts_text(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The registered contracts, one line each."""
    if not found:
        return ['No contract is registered ("tallyd contract add FILE").']
    good = [one for one in found if not one["problem"]]
    lines = table(
        ["product", "schema", "digest", "events", "consent", "endpoint"],
        (
            [
                one["product"],
                one["schema_version"],
                one["digest"],
                one["events"],
                one["consent"],
                one["endpoint"],
            ]
            for one in good
        ),
    )
    return [
        *(lines if good else []),
        *(f"{one['product']}: {one['problem']}" for one in found if one["problem"]),
    ]


def _some(count: int, noun: str) -> str:
    """`1 batch`, `2 batches`, `0 days`."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"


def duration(seconds: float) -> str:
    """Seconds in the words of a person: 3.2 s, 5 min, 3 h 20 min, 4 d 2 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _product_text(name: str, product: Report) -> list[str]:
    if product["problem"]:
        return [f"{name}: its contract cannot be used", f"  {product['problem']}"]
    consent, spool, kept = product["consent"], product["spool"], product["buckets"]
    others = [rule for rule in consent["says_off"] if rule != consent["decided_by"]]
    says_off = f"; also says off: {', '.join(others)}" if others else ""
    since = f" since {consent['effective_from']}" if consent["effective_from"] else ""
    gate = product["may_leave"]
    opens = f" (opens {gate['opens_at']})" if gate["opens_at"] else ""
    lost = ", ".join(f"{count} {cause}" for cause, count in product["lost"].items())
    attempt = f" (last answer: {product['last_verdict']}, {product['last_attempt']})"
    contract = product["contract"]
    waits = "" if contract["in_force"] else f"; what is new in it waits: {contract['waits_for']}"
    lines = [
        f"{name}: {consent['mode']}, decided by {consent['decided_by']}{since}{says_off}",
        f"  choice      {product['choice_file']}",
        f"  machine id  {product['machine_id'] or _NO_ID[product['identity']]}",
        f"  contract    {contract['digest']}, schema {contract['schema_version']}{waits}",
        f"  endpoint    {product['endpoint']}",
        f"  may leave   {'yes' if gate['open'] else 'no: ' + gate['reason'] + opens}",
        f"  waiting     {_some(spool['files'], 'delta')} in the spool, {_some(kept['rows'], 'bucket')} of"
        f" {_some(kept['days'], 'day')}, {_some(product['events'], 'event')}, {_some(product['outbox']['batches'], 'batch')} in the outbox",
        f"  last sent   {product['last_success'] or 'never'}{attempt if product['last_attempt'] else ''}",
        f"  next        {product['next_send'] or 'not planned'}",
    ]
    if spool["quarantined"]:
        lines.append(f"  set aside   {spool['quarantined']} malformed files in {spool['bad']}")
    if product["stripped_fields"]:
        lines.append(
            f"  stripped    {product['stripped_fields']} fields that the contract does not list"
        )
    if lost:
        lines.append(f"  lost        {lost}")
    return lines


def _words(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items()) or "no envelope"
