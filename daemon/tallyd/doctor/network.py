"""What a request would go through, by this shell's word: proxy variables, and the trust store. No socket."""

from __future__ import annotations

import os
import shlex
import ssl
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tallyd.contract.frozen import Frozen, replace
from tallyd.contract.policy_grammar import LOOPBACK, host_of
from tallyd.doctor.finding import Finding, Level
from tallyd.errors import TallydError
from tallyd.product import look_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tallyd.doctor.scene import Scene

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_NAMES = (*_PROXIES, "no_proxy")
_SOCKS = ("socks5", "socks5h")
_FOR_A_SERVICE = (
    'systemctl --user edit tallyd (under [Service]: Environment="{name}=…"),'
    " or ~/.config/environment.d/proxy.conf"
)


class Endpoint(Frozen):
    """A place that counts would be sent to, and the products that would."""

    url: str
    products: tuple[str, ...]

    @property
    def host(self) -> str:
        """Its host, in lower case."""
        return host_of(self.url)

    @property
    def whose(self) -> str:
        """The place and whose it is, the first three."""
        more = f" and {len(self.products) - 3} more" if len(self.products) > 3 else ""
        return f"{self.url}, for {', '.join(self.products[:3])}{more}"


def endpoints(scene: Scene) -> list[Endpoint]:
    """One for each origin of a product whose consent is on; of no other is anything asked.

    On by this shell and, where a daemon runs, by its environment too.
    """
    seen = [scene.around]
    if scene.service is not None:
        seen.append(replace(scene.around, environ=scene.service))
    found: dict[str, list[str]] = {}
    for name in scene.products:
        try:
            views = [look_at(name, around, scene.now) for around in seen]
        except TallydError:
            continue
        if all(view.consent.is_on for view in views):
            parts = urlsplit(views[0].endpoint)
            found.setdefault(f"{parts.scheme}://{parts.netloc}", []).append(name)
    return [Endpoint(url, tuple(names)) for url, names in found.items()]


def check_proxy(scene: Scene) -> Iterator[Finding]:
    """Each proxy variable of this shell: whether it can be used, and whether the daemon sees it too."""
    here = proxies(scene.around.environ)
    service = None if scene.service is None else proxies(scene.service)
    far = [one for one in endpoints(scene) if one.host not in LOOPBACK]
    if not any(here.values()):
        yield Finding("proxy", Level.OK, "no proxy variable is set in this shell")
    for name in _PROXIES:
        if here[name] and (problem := unusable(here[name])):
            what = f"{name} is {without_password(here[name])}: {problem}"
            fix = f'export {name}=http://HOST:PORT, or "unset {name}"'
            yield Finding("proxy", Level.PROBLEM if far else Level.WARNING, what, fix)
        elif here[name]:
            what = f"{name} is {without_password(here[name])}"
            yield Finding("proxy", Level.OK, what)
    if here["no_proxy"]:
        yield Finding("proxy", Level.OK, f"no_proxy is {here['no_proxy']}")
    for name in _NAMES:
        if service is not None and here[name] != service[name]:
            theirs = without_password(service[name]) or "not set"
            what = f"the running daemon does not see this shell's {name}: there it is {theirs}"
            level = Level.WARNING if far else Level.NOTE
            yield Finding("proxy", level, what, _FOR_A_SERVICE.format(name=name))
        elif service is None and here[name]:
            what = f"{name} is set in this shell; a service does not see it"
            yield Finding("proxy", Level.NOTE, what, _FOR_A_SERVICE.format(name=name))


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy variables by their small names, "" where one is not set; small letters win, as in httpx."""
    return {name: environ.get(name) or environ.get(name.upper(), "") for name in _NAMES}


def unusable(proxy: str) -> str:
    """Why a proxy cannot be used, in words; "" where it can."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"it is no address ({error})"
    if not host:
        return "it names no host"
    if parts.scheme in _SOCKS:
        lacks = find_spec("socksio") is None
        return "a SOCKS proxy needs the package socksio beside tallyd" if lacks else ""
    return (
        "" if parts.scheme in ("http", "https") else f"{parts.scheme}:// is no proxy that we know"
    )


def without_password(url: str) -> str:
    """A proxy's address without the words before its `@`, whatever they are."""
    before, at, host = url.rpartition("@")
    if not at:
        return url
    scheme, slashes, _ = before.partition("://")
    return f"{scheme if slashes else ''}{slashes}…@{host}"


def check_trust(scene: Scene) -> Iterator[Finding]:
    """The certificates that a gateway's is checked against."""
    is_broken = False
    for name, is_there in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", os.path.isdir)):
        value = scene.around.environ.get(name, "")
        if value and (problem := _unloadable(name, value, is_there=is_there(value))):
            is_broken = True
            what = f"{name} is {value}: {problem}"
            fix = f'name a file of PEM certificates, or "unset {name}"'
            if name == "SSL_CERT_DIR":
                fix = f"openssl rehash {shlex.quote(value)}, or: unset {name}"
            yield Finding("trust", Level.PROBLEM, what, fix)
        if value and scene.service is not None and scene.service.get(name, "") != value:
            what = f"the running daemon does not see this shell's {name}"
            yield Finding("trust", Level.WARNING, what, _FOR_A_SERVICE.format(name=name))
    count, directory = _default_store()
    if count or _hashed(directory):
        told = f"{count} authorities" if count else f"those in {directory}"
        yield Finding("trust", Level.OK, f"certificates are checked against {told}")
    elif not is_broken:
        what = "no certificate authority is trusted here: no gateway can be"
        fix = "install the system's (Debian, Fedora, Alpine: the package ca-certificates)"
        yield Finding("trust", Level.PROBLEM, what, fix)


def _unloadable(name: str, value: str, *, is_there: bool) -> str:
    if not is_there:
        return "nothing of that kind is there"
    if name == "SSL_CERT_DIR":
        return "" if _hashed(value) else "no certificate in it has the name that OpenSSL looks for"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(value)
    except (ssl.SSLError, OSError) as error:
        return f"it does not load ({error.strerror or error})"
    return ""


def _default_store() -> tuple[int, str]:
    """(authorities that are loaded, the directory in which OpenSSL finds others by name)."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    return context.cert_store_stats()["x509_ca"], paths.capath or ""


def _hashed(directory: str) -> bool:
    """Whether a directory holds a certificate as OpenSSL looks for it: `5ed36f99.0`."""
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    return any(len(one) > 9 and one[8] == "." and one[9:].isdigit() for one in names)
