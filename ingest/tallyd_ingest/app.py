"""The answer table of docs/wire.md as an ASGI application.

It owns the order of the checks. It reads two headers, content-length and content-encoding, and no
other; it never looks at the client's address, and nothing here logs a request. A 204 means: what
the contract lists is on the disk.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, fail_after, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tallyd.contract.days import day_of

from tallyd_ingest.body import BadBody, TooLarge, decompress, read_batch
from tallyd_ingest.limits import BODY_MAX_BYTES, BODY_PATIENCE_S, RETRY_AFTER_S
from tallyd_ingest.metrics import Metrics
from tallyd_ingest.store import Store, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from tallyd.contract import Contract


def make_app(
    contracts: Mapping[str, Contract], store: Store, now: Callable[[], float]
) -> Starlette:
    """The gateway for these contracts; `now` gives Unix seconds."""
    metrics = Metrics()
    page = _page(contracts)
    one_writer = CapacityLimiter(1)

    async def root(_: Request) -> Response:
        return PlainTextResponse(page)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def show_metrics(_: Request) -> Response:
        return PlainTextResponse(metrics.render(now()), media_type="text/plain; version=0.0.4")

    async def take_events(request: Request) -> Response:
        told = request.headers.get("content-length", "")
        if not told.isascii() or not told.isdigit() or not told.strip("0"):
            return Response(status_code=411)
        length = int(told.lstrip("0")[:20])
        if length > BODY_MAX_BYTES:
            return Response(status_code=413)
        try:
            with fail_after(BODY_PATIENCE_S):
                content = await _read_body(request, length)
            encoding = request.headers.get("content-encoding", "").strip().lower()
            batch = read_batch(decompress(content, encoding), contracts, now())
        except TimeoutError:
            return Response(status_code=408)
        except TooLarge:
            return Response(status_code=413)
        except (BadBody, ClientDisconnect):
            return Response(status_code=400)
        if batch is None:
            metrics.dropped["unknown_product"] += 1
            metrics.totals["requests_accepted"] += 1
            return Response(status_code=204)
        try:
            is_new = await to_thread.run_sync(
                store.accept, batch, day_of(now()), limiter=one_writer
            )
        except StoreUnusable:
            metrics.totals["store_failures"] += 1
            return Response(status_code=503, headers={"retry-after": str(RETRY_AFTER_S)})
        metrics.totals["requests_accepted"] += 1
        if is_new:
            metrics.totals["events_accepted"] += len(batch.rollups) + len(batch.events)
            metrics.dropped.update(batch.dropped)
            metrics.last_success = now()
        else:
            metrics.totals["batches_deduplicated"] += 1
        return Response(status_code=204)

    app = Starlette(
        routes=[
            Route("/", root, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/metrics", show_metrics, methods=["GET"]),
            Route("/v1/events", take_events, methods=["POST"]),
        ]
    )
    # A redirect would read the host header and send it back; another path is 404.
    app.router.redirect_slashes = False
    return app


async def _read_body(request: Request, length: int) -> bytes:
    """The body, read no further than the cap. Raises TooLarge, or BadBody when it is not `length`.

    A chunked body is as long as it likes, whatever content-length stands beside it.
    """
    content = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > BODY_MAX_BYTES:
                raise TooLarge
    if len(content) != length:
        raise BadBody("content-length lies")
    return bytes(content)


def _page(contracts: Mapping[str, Contract]) -> str:
    lines = [
        "This is a tallyd gateway. It stores counts that tools send once a day, and only the fields",
        "that each tool's contract lists. It never reads, stores or forwards your address.",
        "",
    ]
    for contract in contracts.values():
        lines.append(f"{contract.title} ({contract.product}), contract {contract.short_digest}")
        lines += [f"  {name}: {event.about}" for name, event in contract.events.items()]
        off = dict.fromkeys((contract.consent.off_command, "DO_NOT_TRACK=1"))
        lines.append(f"  to turn it off: {' or '.join(off)}")
        if contract.details:
            lines.append(f"  details: {contract.details}")
        lines.append("")
    return "\n".join(lines)
