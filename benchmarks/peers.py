"""What other libraries cost where they are installed: a count, an import, an exit on a bad network.

They live in an environment of their own (`make bench-peers`), and run with endpoints on loopback
alone: a port where nobody listens refuses, a port that is listened to and never answered swallows.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.inside.peer import PEERS
from benchmarks.measure import INSIDE, Peer, exit_s, made, median, progress, said_by

HOME = Path(__file__).resolve().parents[1] / ".venv-peers"
NOT_INSTALLED = "not installed (make bench-peers)"
# A library that has not let its process go by then is killed, and the table says "> 15 s".
_PATIENCE_S = 15.0


def measure(root: Path, *, quick: bool, python: Path | None = None) -> list[Peer]:
    """Every peer, or none when the environment is not there."""
    python = python or HOME / "bin" / "python"
    if not python.exists():
        return []
    versions = _versions(python)
    found = []
    for number, (name, (_, imported, _)) in enumerate(PEERS.items()):
        package = name.partition(",")[0]
        if package not in versions:
            continue
        progress(f"measuring {name}")
        peer = Peer(name, versions[package])
        home = made(root / f"peer-{number}")
        with _refusing() as url:
            said = said_by(
                *(str(python), "peer.py", name, "count", "2" if quick else "5", url, str(home)),
                environ=_environ(home),
            )
        floor = median(said["floor"])
        peer.count_f = median(said["ours_1"]) / floor
        peer.count_f_4 = median(said["ours_4"]) / floor
        peer.import_ms = _import_ms(python, imported, home, rounds=2 if quick else 7)
        for network, place in (("refuses", _refusing), ("swallows", _swallowing)):
            with place() as url:
                command = [str(python), str(INSIDE / "peer.py"), name, "exit", url, str(home)]
                taken, is_ended = exit_s(command, _environ(home), _PATIENCE_S)
            peer.exits[network] = taken
            if not is_ended:
                peer.at_least.append(network)
        found.append(peer)
    return found


def _versions(python: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(json.loads(said))


def _import_ms(python: Path, imported: str, home: Path, rounds: int) -> float:
    """Wall time of an import inside a process that imported nothing else yet; bytecode is there."""
    code = f"import time; began = time.perf_counter(); import {imported}; print(time.perf_counter() - began)"
    taken = []
    for _ in range(rounds + 1):
        done = subprocess.run(
            [python, "-c", code], env=_environ(home), capture_output=True, text=True, check=True
        )
        taken.append(float(done.stdout.split()[-1]) * 1000)
    return median(taken[1:])


def _environ(home: Path) -> dict[str, str]:
    """Nothing of this shell's: no proxy, no key, no other endpoint can be meant."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "NO_PROXY": "*"}


@contextmanager
def _refusing() -> Iterator[str]:
    """A port of loopback where nobody listens; held, so that nobody else takes it meanwhile."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{tcp.getsockname()[1]}"


@contextmanager
def _swallowing() -> Iterator[str]:
    """A port of loopback that takes connections and datagrams and never says a word."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(100)
        udp.bind(tcp.getsockname())
        yield f"http://127.0.0.1:{tcp.getsockname()[1]}"


def cheapest(peers: list[Peer], threads: int) -> str:
    """The peer whose count costs least, in words for the table."""
    costs = [
        (cost, one.name)
        for one in peers
        if (cost := one.count_f if threads == 1 else one.count_f_4) is not None
    ]
    return f"{min(costs)[1]} {min(costs)[0]:.1f}" if costs else NOT_INSTALLED


def quickest_import(peers: list[Peer]) -> str:
    costs = [
        (one.import_ms, one.name.partition(",")[0]) for one in peers if one.import_ms is not None
    ]
    return f"{min(costs)[1]} {min(costs)[0]:.0f} ms" if costs else NOT_INSTALLED


def exits_in_words(peers: list[Peer]) -> str:
    """The range over the peers that send from the process itself."""
    sending = [
        one for one in peers if one.exits and not one.name.startswith(("prometheus", "statsd"))
    ]
    if not sending:
        return NOT_INSTALLED
    found = []
    for network in ("refuses", "swallows"):
        taken = sorted(one.exits[network] for one in sending)
        more = "> " if any(network in one.at_least for one in sending) else ""
        found.append(f"{network} {taken[0]:.2f} to {more}{taken[-1]:.1f} s")
    return ", ".join(found)
