"""Reports as text for people: data in, lines out. Prints nothing, reads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallyd.body import canonical
from tallyd.phrases import some, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tallyd.buckets import Row
    from tallyd.contract.diff import Change
    from tallyd.product import ProductView


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
            f"{some(done['merged'], 'delta')} merged",
            f"{some(done['sealed'], 'batch')} sealed",
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


def _words(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items()) or "no envelope"
