"""The way to a gateway, step by step: name, connection, TLS, `/healthz`. Only with `--online`.

Each host has a thread of its own, which nobody waits for longer than DOCTOR_HOST_S: a name server or a
gateway that never answers cannot hold the command. Where a proxy is in between, name and connection
are the proxy's. Nothing of a product is sent, and only products whose consent is on are asked for.
"""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # no stub

import anyio

from tallyd import __version__, transport
from tallyd.contract.policy_grammar import LOOPBACK
from tallyd.doctor.finding import Finding, Level
from tallyd.doctor.network import endpoints, proxies, unusable, without_password
from tallyd.limits import DOCTOR_HOST_S, DOCTOR_ONLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from urllib.parse import SplitResult

    from tallyd.doctor.network import Endpoint
    from tallyd.doctor.scene import Scene

_ANSWER_MAX_BYTES = 4096
_SOON_DAYS = 14


def look_online(scene: Scene, say: Callable[[str], None]) -> Iterator[Finding]:
    """Every origin of a product whose consent is on, one after the other; `say` tells of progress."""
    deadline = time.monotonic() + DOCTOR_ONLINE_S
    places = endpoints(scene)
    if not places:
        what = "no product's consent is on: nobody was asked"
        yield Finding("online", Level.OK, what)
    for place in places:
        if time.monotonic() > deadline:
            what = f"{place.url} was not looked at: {DOCTOR_ONLINE_S:g} s are over"
            yield Finding("online", Level.NOTE, what, "tallyd doctor --online")
            continue
        say(f"asking {place.url} …")
        yield from _Look(place, scene).result(DOCTOR_HOST_S)


class _Failed(Exception):
    """A step did not succeed: what, and what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class _Look:
    """One host, looked at in a thread that ends with the process at the latest."""

    def __init__(self, place: Endpoint, scene: Scene) -> None:
        self._place, self._now = place, scene.now
        self._parts = urlsplit(place.url)
        self._proxy = proxy_for(self._parts, scene.around.environ)
        self._step = "beginning"
        self._found: list[Finding] = []

    def result(self, limit_s: float) -> list[Finding]:
        """What was found within `limit_s`."""
        self._deadline = time.monotonic() + limit_s
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        thread.join(limit_s)
        found = list(self._found)
        if thread.is_alive():
            what = f"{self._place.whose}: no answer within {limit_s:g} s, while {self._step}"
            fix = "look at the network and its proxy; what is not sent waits"
            found.append(Finding("online", Level.PROBLEM, what, fix))
        return found

    def _look(self) -> None:
        try:
            self._walk()
        except _Failed as failed:
            self._add(Level.PROBLEM, f"{self._place.whose}: {failed}", failed.fix)
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding
            what = f"{self._place.whose}: could not look while {self._step}: {_words(error)}"
            self._add(Level.PROBLEM, what, "try again")

    def _add(self, level: Level, what: str, fix: str = "") -> None:
        self._found.append(Finding("online", level, what, fix))

    def _walk(self) -> None:
        if self._proxy and (problem := unusable(self._proxy)):
            what = f"the proxy {without_password(self._proxy)} cannot be used: {problem}"
            raise _Failed(what, "mend or unset the proxy variable")
        if urlsplit(self._proxy).scheme in ("", "http"):
            # Through a proxy that is itself behind TLS, or SOCKS, the last step says all there is.
            with self._connection() as connection:
                if self._parts.scheme == "https":
                    self._handshake(connection)
        self._ask()

    def _connection(self) -> socket.socket:
        """A connection to the host, or through a proxy's tunnel to it."""
        through = urlsplit(self._proxy) if self._proxy else self._parts
        host, port = through.hostname or "", through.port or _port(through)
        whose = f"the proxy {host}" if self._proxy else host
        self._step = f"looking up {whose}"
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            fix = f'look at the name server; try "getent hosts {host}"'
            raise _Failed(f"{whose} has no address ({_words(error)})", fix) from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        self._step = f"connecting to {whose} ({', '.join(addresses)}), port {port}"
        try:
            connection = socket.create_connection((host, port), self._left_s())
        except OSError as error:
            what = f"{whose} ({', '.join(addresses)}) takes no connection on {port}"
            fix = "a firewall, a proxy that is needed, or a gateway that is down"
            raise _Failed(f"{what} ({_words(error)})", fix) from None
        told = f" by the proxy {host}" if self._proxy else ""
        self._add(
            Level.OK, f"{self._place.url}: {', '.join(addresses)}, port {port}, connected{told}"
        )
        if self._proxy and self._parts.scheme == "https":
            self._tunnel(connection, through)
        return connection

    def _tunnel(self, connection: socket.socket, proxy: SplitResult) -> None:
        self._step = f"asking the proxy {proxy.hostname} for a tunnel"
        host = self._parts.hostname or ""
        target = f"{f'[{host}]' if ':' in host else host}:{self._parts.port or 443}"
        lines = [
            f"CONNECT {target} HTTP/1.1",
            f"host: {target}",
            f"user-agent: tallyd/{__version__}",
        ]
        if proxy.username is not None:
            secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            lines.append(f"proxy-authorization: Basic {base64.b64encode(secret).decode('ascii')}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        said = b""
        while b"\r\n\r\n" not in said and len(said) < _ANSWER_MAX_BYTES:
            connection.settimeout(self._left_s())
            piece = connection.recv(_ANSWER_MAX_BYTES)
            if not piece:
                break
            said += piece
        words = said.partition(b"\r\n")[0].decode("ascii", "replace").split(" ", 2)
        if len(words) < 2 or not words[1].startswith("2"):
            answer = " ".join(words[1:]) or "nothing"
            what = f"the proxy {proxy.hostname} gives no tunnel to {target}: it says {answer}"
            fix = "let its administrator permit that host, or name it in NO_PROXY"
            raise _Failed(what, fix)

    def _handshake(self, connection: socket.socket) -> None:
        host = self._parts.hostname or ""
        self._step = f"speaking TLS with {host}"
        connection.settimeout(self._left_s())
        try:
            with ssl.create_default_context().wrap_socket(
                connection, server_hostname=host
            ) as wrapped:
                certificate = wrapped.getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            what = f"the certificate of {host} is refused: {error.verify_message}"
            raise _Failed(what, _mend(error.verify_code, host)) from None
        except (ssl.SSLError, OSError, UnicodeError) as error:
            fix = "look whether something in between (a proxy, a portal) answers in its place"
            raise _Failed(f"{host} speaks no TLS ({_words(error)})", fix) from None
        days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - self._now) / 86400
        told = f"TLS by {_issuer(certificate)}, for {days:.0f} more days"
        if days < _SOON_DAYS:
            fix = "tell the product's maintainer to renew it"
            self._add(Level.NOTE, f"{self._place.url}: {told}", fix)
        else:
            self._add(Level.OK, f"{self._place.url}: {told}")

    def _ask(self) -> None:
        url = f"{self._place.url}/healthz"
        self._step = f"waiting for {url}"
        left_s = self._left_s()

        async def ask() -> transport.Answer:
            await transport.prepare()
            return await transport.get(url, left_s)

        answer = anyio.run(ask)
        said = f"{url} answers {answer.detail}"
        if answer.status is None:
            fix = "look at the network and its proxy; what is not sent waits"
            raise _Failed(f"/healthz: {answer.detail}", fix)
        if answer.status == 200:
            self._add(Level.OK, said)
        elif answer.status >= 500:
            fix = "the gateway is not well: tell the product's maintainer; what is not sent waits"
            self._add(Level.PROBLEM, said, fix)
        else:
            # A gateway of another make need not know that path.
            what = f"{said}: it can be reached, and does not say how it is"
            self._add(Level.NOTE, what)

    def _left_s(self) -> float:
        return max(0.1, self._deadline - time.monotonic())


def proxy_for(parts: SplitResult, environ: Mapping[str, str]) -> str:
    """The proxy that a request to this place goes through, by `environ`; "" where it goes directly."""
    host = parts.hostname or ""
    here = proxies(environ)
    if host in LOOPBACK or proxy_bypass_environment(parts.netloc, {"no": here["no_proxy"]}):
        return ""
    proxy = here[f"{parts.scheme}_proxy"] or here["all_proxy"]
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _port(parts: SplitResult) -> int:
    return 443 if parts.scheme == "https" else 80


def _mend(code: int, host: str) -> str:
    match code:
        case 10:
            return f"look at this clock first; then tell {host}'s owner to renew it"
        case 9:
            return "look at this clock: the certificate is not valid yet"
        case 62:
            return f"look at the endpoint's name; {host}'s owner gave it a certificate of another"
        case 2 | 18 | 19 | 20 | 21:
            return (
                "behind a proxy that looks into TLS: export SSL_CERT_FILE=/path/of/its/ca.pem;"
                " else do not trust it"
            )
        case _:
            return f"tell {host}'s owner"


def _issuer(certificate: Mapping[str, object]) -> str:
    """Who signed it, by organisation or name."""
    named = {key: value for one in certificate.get("issuer", ()) for key, value in one}  # type: ignore[attr-defined]
    return str(
        named.get("organizationName") or named.get("commonName") or "an authority without a name"
    )


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", "") or error) or type(error).__name__
