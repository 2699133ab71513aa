"""Portrait: one product as `status` tells it, from what the places hold. Changes nothing.

Every key is there whatever the product's state, and null where nothing is known (docs/status.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallyd import buckets, ledger, losses, outbox, spool
from tallyd.ages import Tally
from tallyd.contract.days import calendar_instant, unix_of
from tallyd.errors import NotRegistered
from tallyd.product import look_at

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from tallyd.ages import Ages
    from tallyd.product import ProductView, Surroundings

# Every key of a product.
_KEYS = (
    "problem",
    "consent",
    "choice_file",
    "machine_id",
    "identity",
    "contract",
    "endpoint",
    "may_leave",
    "notice_shown_at",
    "spool",
    "buckets",
    "events",
    "outbox",
    "ages",
    "last_attempt",
    "last_success",
    "last_verdict",
    "last_endpoint",
    "last_detail",
    "next_send",
    "lost",
    "stripped_fields",
)


def of_product(
    sql: sqlite3.Connection | None, name: str, around: Surroundings, now: float
) -> tuple[dict[str, Any], str]:
    """The product as `status --json` prints it, and what is wrong with its spool ("": nothing).

    `sql` is None where there is no database yet. Raises StateUnusable.
    """
    report: dict[str, Any] = dict.fromkeys(_KEYS)
    try:
        view = look_at(name, around, now)
    except NotRegistered as problem:
        return report | {"problem": str(problem)}, ""
    size = spool.measure(view.spool, now)
    report |= {
        "problem": None,
        "consent": {
            "state": view.consent.state,
            "mode": view.consent.mode,
            "decided_by": view.consent.decided_by,
            "says_off": list(view.consent.says_off),
            "effective_from": view.consent.effective_from,
        },
        "choice_file": str(view.choice_file),
        "machine_id": view.machine_id or None,
        "identity": view.registered.identity.kind,
        "contract": {
            "digest": view.registered.short_digest,
            "schema_version": view.registered.schema_version,
            "title": view.registered.title,
            # While a wider contract waits for its notice, only what both list is kept and sent.
            "in_force": view.pending is None,
            "waits_for": view.pending.reason if view.pending is not None else "",
        },
        "endpoint": view.endpoint,
        "may_leave": {
            "open": view.gate.is_open,
            "reason": view.gate.reason,
            "opens_at": calendar_instant(view.gate.opens_at),
        },
        "notice_shown_at": calendar_instant(view.notice_shown_at),
        "spool": {
            "files": size.files,
            "bytes": size.bytes,
            "quarantined": size.quarantined,
            "bad": str(view.spool.bad),
        },
        **_kept(sql, view),
    }
    days, instants, sealed = _waiting(sql, name)
    report["ages"] = {
        "spool": _told(size.waiting),
        # As old as their day: nobody kept the instant of a count.
        "buckets": _ages(((unix_of(f"{day}T00:00:00Z"), rows) for day, rows in days), now),
        "events": _ages(((unix_of(one), 1) for one in instants), now),
        "outbox": _ages(((one, 1) for one in sealed), now),
        "quarantine": _told(size.aside),
    }
    report["buckets"] = {"days": len(days), "rows": sum(rows for _, rows in days)}
    report["events"] = len(instants)
    return report, size.problem


def forget_database(report: dict[str, Any]) -> None:
    """Say of a product that nobody knows what the database holds: it cannot be read."""
    report |= dict.fromkeys(("buckets", "events", "outbox", "lost", "stripped_fields"))
    if report["ages"] is not None:
        report["ages"] |= dict.fromkeys(("buckets", "events", "outbox"))


def _waiting(
    sql: sqlite3.Connection | None, product: str
) -> tuple[list[tuple[str, int]], list[str], list[float | None]]:
    """(rows of buckets by day, instants of single events, instants of the batches' seals)."""
    if sql is None:
        return [], [], []
    return (
        list(buckets.rows_by_day(sql, product).items()),
        buckets.event_instants(sql, product),
        outbox.sealed_at(sql, product),
    )


def _ages(found: Iterable[tuple[float | None, int]], now: float) -> dict[str, Any]:
    tally = Tally(now)
    for at, times in found:
        tally.add(at, times)
    return tally.ages().as_json()


def _told(ages: Ages | None) -> dict[str, Any] | None:
    return None if ages is None else ages.as_json()


def _kept(sql: sqlite3.Connection | None, view: ProductView) -> dict[str, Any]:
    if sql is None:
        return {"outbox": {"batches": 0, "bytes": 0}, "lost": {}, "stripped_fields": 0}
    batches, size = outbox.size(sql, view.name)
    attempt = ledger.last(sql, view.name)
    success = ledger.last(sql, view.name, ledger.Verdict.DELIVERED)
    return {
        "outbox": {"batches": batches, "bytes": size},
        "last_attempt": calendar_instant(attempt.at if attempt else None),
        "last_success": calendar_instant(success.at if success else None),
        "last_verdict": attempt.verdict.name.lower() if attempt else None,
        "last_endpoint": attempt.endpoint if attempt else None,
        "last_detail": attempt.detail if attempt else None,
        "next_send": calendar_instant(ledger.next_send(sql, view.name)),
        "lost": losses.totals(sql, view.name),
        "stripped_fields": losses.stripped(sql, view.name),
    }
