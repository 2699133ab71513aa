"""The way to a gateway, with real gateways, proxies and certificates on loopback, and what goes wrong on it."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.doctor import doctor, of, register, wrong
from support.far import authority, listening, proxying, speaking_tls
from support.processes import daemon, environ_of, gateway, run
from support.recorder import recording
from support.tools import need
from tallyd.doctor.network import Endpoint
from tallyd.doctor.online import _Look, proxy_for
from tallyd.doctor.scene import Scene
from tallyd.paths import Paths
from tallyd.product import Surroundings
from tallyd.registry import Registry

pytestmark = pytest.mark.slow
_FAR = "https://gateway.example/v1/events"


def _online(home: Path, **more: str) -> tuple[int, list[tuple[str, str, str]]]:
    code, findings = doctor(home, "--online", **more)
    return code, of(findings, "online")


def test_a_real_gateway_that_is_well_answers_for_each_step(home):
    register(home)
    with gateway(home) as url:
        code, told = _online(home, TALLYD_DEMO_ENDPOINT=f"{url}/v1/events")

    port = url.rpartition(":")[2]
    assert (code, told) == (
        0,
        [
            ("ok", f"{url}: 127.0.0.1, port {port}, connected", ""),
            ("ok", f"{url}/healthz answers 200", ""),
        ],
    )


def test_two_products_of_one_gateway_are_one_question_and_progress_is_on_stderr(home):
    asked = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with listening(answer) as port:
        url = f"http://127.0.0.1:{port}"
        register(home, "one", f"{url}/a")
        register(home, "two", f"{url}/b?c")
        done = run("tallyd", "doctor", "--online", environ=environ_of(home))

    # The look at the connection itself sends nothing.
    assert [one.split(b"\r\n")[0] for one in asked if one] == [b"GET /healthz HTTP/1.1"]
    assert (done.stderr, "asking" in done.stdout) == (f"asking {url} …\n", False)


@pytest.mark.parametrize("how", ["this shell", "stored", "damaged", "the daemon"])
def test_a_product_whose_consent_is_off_is_never_contacted(home, how):
    came = threading.Event()
    with listening(lambda _: came.set()) as port:
        register(home, url=f"http://127.0.0.1:{port}/v1/events")
        stored = {"stored": '{"enabled": false}', "damaged": "{"}.get(how)
        if stored:
            (home / "state/consent").mkdir(parents=True)
            (home / "state/consent/tallyd-demo.json").write_text(stored)
        if how == "the daemon":
            with daemon(home, DO_NOT_TRACK="1"):
                _, told = _online(home)
        else:
            _, told = _online(home, **({"DO_NOT_TRACK": "1"} if how == "this shell" else {}))

    assert (came.is_set(), told) == (
        False,
        [("ok", "no product's consent is on: nobody was asked", "")],
    )


def test_without_online_nobody_is_asked(home):
    came = threading.Event()
    with listening(lambda _: came.set()) as port:
        register(home, url=f"http://127.0.0.1:{port}/v1/events")
        _, findings = doctor(home)

    assert (came.is_set(), of(findings, "online")) == (False, [])


@pytest.mark.parametrize(
    ("status", "level", "says"),
    [
        (503, "problem", "answers 503"),
        (404, "note", "answers 404: it can be reached, and does not say how it is"),
        (302, "note", "answers 302: it can be reached, and does not say how it is"),
    ],
)
def test_what_healthz_answers_is_told_and_no_redirect_is_followed(home, status, level, says):
    with recording() as elsewhere:
        said = f"HTTP/1.1 {status} X\r\nlocation: {elsewhere.url}\r\ncontent-length: 0\r\n\r\n"

        def answer(connection: socket.socket) -> None:
            if connection.recv(4096):
                connection.sendall(said.encode())

        with listening(answer) as port:
            register(home, url=f"http://127.0.0.1:{port}/v1/events")
            code, told = _online(home)

    assert (code, told[-1][0], told[-1][1]) == (
        1 if level == "problem" else 0,
        level,
        f"http://127.0.0.1:{port}/healthz {says}",
    )
    assert elsewhere.paths == []


# --- TLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "level", "fix"),
    [(90, "ok", ""), (3, "note", "tell the product's maintainer to renew it")],
)
def test_a_trusted_certificate_is_told_with_who_signed_it_and_how_long_it_lasts(
    home, days, level, fix
):
    ca = authority(home / "ca.pem")
    now = datetime.now(UTC)
    ends = now + timedelta(days, hours=1)
    with speaking_tls(ca.issue_cert("localhost", not_before=now, not_after=ends)) as port:
        register(home, url=f"https://localhost:{port}/v1/events")
        code, told = _online(home, SSL_CERT_FILE=str(home / "ca.pem"))

    url = f"https://localhost:{port}"
    assert (code, told[1:]) == (
        0,
        [
            (level, f"{url}: TLS by A test, for {days} more days", fix),
            ("ok", f"{url}/healthz answers 200", ""),
        ],
    )


@pytest.mark.parametrize(
    ("how", "says", "fix"),
    [
        (
            "expired",
            "certificate has expired",
            "look at this clock first; then tell localhost's owner",
        ),
        (
            "not yet",
            "certificate is not yet valid",
            "look at this clock: the certificate is not valid yet",
        ),
        (
            "another name",
            "Hostname mismatch",
            "look at the endpoint's name; localhost's owner gave it",
        ),
        (
            "unknown",
            "unable to get local issuer certificate",
            "behind a proxy that looks into TLS: export",
        ),
    ],
)
def test_a_certificate_that_is_refused_is_told_with_why_and_who_mends_it(home, how, says, fix):
    ca = authority(home / "ca.pem")
    now = datetime.now(UTC)
    begins = now + timedelta(1) if how == "not yet" else now - timedelta(9)
    ends = now - timedelta(1) if how == "expired" else now + timedelta(90)
    name = "other.example" if how == "another name" else "localhost"
    trusted = authority(home / "other.pem") if how == "unknown" else None
    file = home / ("other.pem" if trusted else "ca.pem")
    with speaking_tls(ca.issue_cert(name, not_before=begins, not_after=ends)) as port:
        register(home, url=f"https://localhost:{port}/v1/events")
        code, told = _online(home, SSL_CERT_FILE=str(file))

    level, what, mend = told[-1]
    assert (code, level, len(told)) == (1, "problem", 2)
    assert what.startswith(
        f"https://localhost:{port}, for tallyd-demo: the certificate of localhost is refused: "
    )
    assert says in what
    assert mend.startswith(fix)


def test_who_answers_without_tls_is_told(home):
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 Log in to the hotel\r\n\r\n")

    with listening(answer) as port:
        register(home, url=f"https://localhost:{port}/v1/events")
        _, told = _online(home)

    assert (told[-1][0], "localhost speaks no TLS (" in told[-1][1]) == ("problem", True)


# --- names, connections, silence --------------------------------------------------------------------


def test_a_port_where_nobody_listens_is_told(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    register(home, url=f"http://127.0.0.1:{port}/v1/events")

    code, told = _online(home)

    assert (code, told) == (
        1,
        [
            (
                "problem",
                f"http://127.0.0.1:{port}, for tallyd-demo: 127.0.0.1 (127.0.0.1) takes no connection on {port}"
                " (Connection refused)",
                "a firewall, a proxy that is needed, or a gateway that is down",
            )
        ],
    )


def test_a_name_without_an_address_is_told(home):
    """Without a network: no name server of anybody's is asked."""
    register(home, url=_FAR)
    done = subprocess.run(
        [need("unshare"), "-U", "-r", "-n", sys.executable, "-m", "tallyd", "doctor", "--online"],
        env=environ_of(home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, "asking https://gateway.example …\n")
    assert (
        "WRONG: online: https://gateway.example, for tallyd-demo: gateway.example has no address ("
        in done.stdout
    )
    assert 'look at the name server; try "getent hosts gateway.example"' in done.stdout


_SILENT_NAME_SERVER = """
import fcntl, socket, struct, sys, time
from tallyd.doctor.network import Endpoint
from tallyd.doctor.online import _Look
from tallyd.doctor.scene import Scene
from tallyd.paths import Paths
from tallyd.product import Surroundings
from tallyd.registry import Registry
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(server, 0x8914, struct.pack("16sh14x", b"lo", 65))  # SIOCSIFFLAGS: up, running
server.bind(("127.0.0.1", 53))
paths = Paths.locate({"TALLYD_HOME": "/nowhere"})
scene = Scene(Surroundings(paths, Registry(paths), {}), 0.0, None, None)
for one in _Look(Endpoint("https://gateway.example", ("x",)), scene).result(1.0):
    print(one.what, flush=True)
print(server.recv(4096)[12:].split(b"\\0")[0])
from tallyd.cli.output import leave
leave(0)
"""


def test_a_name_server_that_never_answers_cannot_hold_the_command(home):
    (home / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    script = f'mount --bind {home}/resolv.conf /etc/resolv.conf && exec "$@"'
    done = subprocess.run(
        [
            *(need("unshare"), "-U", "-r", "-m", "-n", "sh", "-c", script, "sh"),
            sys.executable,
            "-c",
            _SILENT_NAME_SERVER,
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == (
        "https://gateway.example, for x: no answer within 1 s, while looking up gateway.example\n"
        "b'\\x07gateway\\x07example'\n",
        "",
    )


@pytest.mark.parametrize(
    ("url", "while_"),
    [("http", "waiting for {url}/healthz"), ("https", "speaking TLS with 127.0.0.1")],
)
def test_a_port_that_swallows_connections_cannot_hold_the_command(home, url, while_):
    over = threading.Event()
    with listening(lambda _: over.wait(30)) as port:
        url = f"{url}://127.0.0.1:{port}"
        found = _look(home, url).result(0.5)
        over.set()

    assert [(one.level.value, one.what) for one in found if one.level.is_to_mend] == [
        ("problem", f"{url}, for x: no answer within 0.5 s, while {while_.format(url=url)}")
    ]


def test_a_host_that_drips_cannot_hold_the_command_either(home):
    """Each single byte comes in time: a limit per read would never be met."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        while not over.wait(0.05):
            connection.sendall(b"H")

    with listening(answer) as port:
        found = _look(home, f"http://127.0.0.1:{port}").result(0.7)
        over.set()

    assert [one.level.value for one in found] == ["ok", "problem"]


def _look(home: Path, url: str) -> _Look:
    paths = Paths.locate({"TALLYD_HOME": str(home)})
    scene = Scene(Surroundings(paths, Registry(paths), {}), time.time(), None, None)
    return _Look(Endpoint(url, ("x",)), scene)


# --- proxies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (b"403 Forbidden", "it says 403 Forbidden"),
        (b"407 Proxy Authentication Required", "it says 407 Proxy"),
        (b"", "it says nothing"),
    ],
)
def test_a_proxy_that_refuses_is_told_and_its_password_is_not(home, verdict, says):
    register(home, url=_FAR)
    with proxying(verdict) as (port, asked):
        code, told = _online(home, https_proxy=f"http://ann:s3cret%21@127.0.0.1:{port}")

    level, what, fix = told[-1]
    assert (code, level, fix) == (
        1,
        "problem",
        "let its administrator permit that host, or name it in NO_PROXY",
    )
    assert "the proxy 127.0.0.1 gives no tunnel to gateway.example:443: " in what
    assert says in what
    assert "s3cret" not in repr(told)
    assert b"CONNECT gateway.example:443 HTTP/1.1" in asked[0]
    assert base64.b64encode(b"ann:s3cret!") in asked[0]


def test_through_a_proxy_the_certificate_is_the_gateways_and_its_health_too(home):
    ca = authority(home / "ca.pem")
    register(home, url=_FAR)
    with (
        speaking_tls(ca.issue_cert("gateway.example")) as far,
        proxying(b"200 Connection established", far) as (port, asked),
    ):
        code, told = _online(
            home, HTTPS_PROXY=f"127.0.0.1:{port}", SSL_CERT_FILE=str(home / "ca.pem")
        )

    assert (code, [one[0] for one in told], len(asked)) == (0, ["ok"] * 3, 2)
    assert told[0][1].endswith(f"127.0.0.1, port {port}, connected by the proxy 127.0.0.1")
    assert told[1][1].startswith("https://gateway.example: TLS by A test, for ")
    assert told[2][1] == "https://gateway.example/healthz answers 200"


def test_a_proxy_that_is_down_is_told(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    register(home, url=_FAR)

    _, told = _online(home, all_proxy=f"http://ann:s3cret@127.0.0.1:{port}")

    assert told[-1][1] == (
        f"https://gateway.example, for tallyd-demo: the proxy 127.0.0.1 (127.0.0.1) takes no connection on {port}"
        " (Connection refused)"
    )


def test_a_proxy_that_cannot_be_used_is_told_before_anything_is_asked(home):
    register(home, url=_FAR)

    _, told = _online(home, https_proxy="socks5://ann:s3cret@127.0.0.1:9")

    assert told == [
        (
            "problem",
            "https://gateway.example, for tallyd-demo: the proxy socks5://…@127.0.0.1:9 cannot be used: a SOCKS"
            " proxy needs the package socksio beside tallyd",
            "mend or unset the proxy variable",
        )
    ]


def test_an_endpoint_on_this_machine_is_asked_directly_whatever_the_proxy(home):
    register(home)
    with gateway(home) as url, proxying(b"403 Forbidden") as (port, asked):
        proxy = f"http://127.0.0.1:{port}"
        _, findings = doctor(
            home,
            "--online",
            TALLYD_DEMO_ENDPOINT=f"{url}/v1/events",
            http_proxy=proxy,
            all_proxy=proxy,
        )

    assert (wrong(findings), asked) == ([], [])


@pytest.mark.parametrize(
    ("no_proxy", "goes_through"),
    [
        ("", True),
        ("other.example", True),
        ("gateway.example", False),
        ("example", False),
        (".example", False),
        ("*", False),
    ],
)
def test_no_proxy_is_honoured(no_proxy, goes_through):
    from urllib.parse import urlsplit

    environ = {"https_proxy": "http://proxy:1", "NO_PROXY": no_proxy}

    assert bool(proxy_for(urlsplit("https://gateway.example"), environ)) is goes_through
