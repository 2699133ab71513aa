"""One request, and what came back: the only module that imports httpx.

It guarantees that a request takes no longer than its timeout in total, that redirects are never
followed, that no cookie is kept and that only the status and Retry-After of an answer are read.
httpx and the TLS context are loaded at the first request, in a thread, so that a daemon with
nothing to send pays for neither and a signal is never kept waiting.
"""

from __future__ import annotations

import ssl
from functools import cache
from urllib.parse import urlsplit

from anyio import fail_after, to_thread

from tallyd import __version__
from tallyd.contract.frozen import Frozen
from tallyd.contract.policy_grammar import LOOPBACK
from tallyd.limits import RETRY_AFTER_MAX_S


class Answer(Frozen):
    """What the gateway said; `status` None means it said nothing, and `detail` why."""

    status: int | None
    detail: str
    retry_after_s: float = 0.0


async def prepare() -> None:
    """Load httpx and the system's trust store, if they are not yet: 50 ms that a thread spends."""
    await to_thread.run_sync(_load, abandon_on_cancel=True)


async def post(url: str, body: bytes, timeout_s: float) -> Answer:
    """Send `body` once and tell what came back; the lack of an answer is an Answer too.

    Proxy variables are honoured, except for an endpoint on this machine. `prepare` comes first.
    """
    return await _request("POST", url, timeout_s, body, {"content-type": "application/json"})


async def get(url: str, timeout_s: float) -> Answer:
    """Ask for `url` once, by the same rules as `post`, and read no more of the answer than it does."""
    return await _request("GET", url, timeout_s, None, {})


async def _request(
    method: str, url: str, timeout_s: float, body: bytes | None, headers: dict[str, str]
) -> Answer:
    import httpx  # noqa: PLC0415 - loaded by `prepare`

    headers |= {"user-agent": f"tallyd/{__version__}"}
    try:
        # httpx's own timeouts are per phase; this one is for all of it.
        with fail_after(timeout_s):
            async with (
                httpx.AsyncClient(
                    verify=_load(),
                    timeout=timeout_s,
                    follow_redirects=False,
                    trust_env=urlsplit(url).hostname not in LOOPBACK,
                ) as client,
                client.stream(method, url, content=body, headers=headers) as answer,
            ):
                return Answer(
                    answer.status_code,
                    str(answer.status_code),
                    _retry_after_s(answer.headers.get("retry-after", "")),
                )
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_s:g} s")
    # ImportError and ValueError: a proxy variable that httpx cannot use.
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ImportError, ValueError) as error:
        return Answer(None, f"no answer ({type(error).__name__})")


@cache
def _load() -> ssl.SSLContext:
    import httpx  # noqa: F401, PLC0415 - 10 MB that a daemon with nothing to send never pays

    # The system's trust store, so that a company's own certificates are honoured.
    return ssl.create_default_context()


def _retry_after_s(header: str) -> float:
    """The seconds form only; a date would need the gateway's clock to be ours."""
    return min(float(header), RETRY_AFTER_MAX_S) if header.isascii() and header.isdigit() else 0.0
