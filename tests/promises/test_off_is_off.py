"""Off is off: with consent off the daemon opens no socket, keeps nothing and sends nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.deltas import delta, drop
from support.processes import DEMO_CONTRACT, environ_of, show, status, tallyd, wait_for
from support.recorder import recording
from support.tools import need

# asyncio wakes itself through a pair of connected descriptors (socketpair) by sending one zero byte:
# there is no address in it, and it reaches nobody but the process itself.
_SELF_WAKE_UP = re.compile(r'sendto\(\d+, "\\0", 1, 0, NULL, 0\)')
_SOCKET = re.compile(r"\b(socket|connect|sendto|sendmsg|bind|listen)\(")

_RUN = (sys.executable, "-m", "tallyd", "run")
OFF = {
    "DO_NOT_TRACK": {"DO_NOT_TRACK": "1"},
    "the product's variable": {"TALLYD_DEMO_TELEMETRY": "off"},
    "an unknown word": {"TALLYD_DEMO_TELEMETRY": "disabled"},
    "the stored choice": {},
    "a damaged stored choice": {},
}


def _choose(home: Path, how: str) -> None:
    stored = {"the stored choice": '{"enabled": false}', "a damaged stored choice": "{"}.get(how)
    if stored is not None:
        (home / "state" / "consent").mkdir(parents=True)
        (home / "state" / "consent" / "tallyd-demo.json").write_text(stored)


@pytest.mark.slow
@pytest.mark.parametrize("how", OFF)
def test_a_daemon_with_consent_off_makes_no_socket_call(home, how):
    strace = need("strace")
    with recording() as recorder:
        tallyd(home, "contract", "add", str(DEMO_CONTRACT))
        earlier = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
        drop(home / "state", delta(day=earlier), at=time.time())
        _choose(home, how)
        environ = environ_of(home, TALLYD_DEMO_ENDPOINT=recorder.url, **OFF[how])
        trace, log = home / "trace", home / "daemon.log"
        with log.open("wb") as opened:
            traced = subprocess.Popen(
                [strace, "-f", "-e", "trace=network", "-o", str(trace), *_RUN],
                env=environ,
                stderr=opened,
            )
        wait_for(lambda: "action=daemon_started" in log.read_text())
        # A flush makes the daemon do everything it ever does.
        result = json.loads(tallyd(home, "flush", "--json"))["tallyd-demo"]
        traced.send_signal(signal.SIGTERM)
        subprocess.run(["kill", str(_child_of(traced.pid))], check=False)
        traced.wait(90)

        calls = [line for line in trace.read_text().splitlines() if _SOCKET.search(line)]
        assert (recorder.bodies, [one for one in calls if not _SELF_WAKE_UP.search(one)]) == (
            [],
            [],
        )
        assert (
            result["merged"],
            result["sealed"],
            result["blocked"].startswith("consent is off"),
        ) == (0, 0, True)
        product = status(home)["products"]["tallyd-demo"]
        assert (show(home), product["buckets"], product["machine_id"]) == (
            [],
            {"days": 0, "rows": 0},
            None,
        )


def _child_of(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
