"""The host never pays: no output but one notice, no thread, file, socket or exception of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.hosts import (
    COSTLY,
    NOTICE_BEGINS,
    PYTHONS,
    Dropped,
    built,
    dropped,
    environ_of_host,
    files_below,
    program,
    python_of,
    run_host,
    spool_of,
    start_host,
)
from support.processes import CONTRACTS, STUB, wait_for
from support.tools import need

pytestmark = pytest.mark.slow

_ALL_OF_IT = """
search(); count("tool"); count("tool", ok=False); count([])
client.event("server_started", transport="stdio")
client.drain()
search()
"""


def test_nothing_is_on_stdout_and_the_notice_alone_on_stderr(home: Path):
    done = run_host(home, _ALL_OF_IT, "-W", "error", "-X", "dev")

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "", 1)
    assert done.stderr.startswith(NOTICE_BEGINS)
    assert Dropped(
        {"search": 2, "tool": 2}, {"tool": 1}, {"server_started": 1}, {"error": 1}
    ) == dropped(home)


@pytest.mark.parametrize("round_", range(3))
def test_of_many_hosts_that_start_together_one_shows_the_notice(home: Path, round_: int):
    """They wait at a gate until all are there, so that the claim is raced for."""
    code = 'search(); print("ready", flush=True); sys.stdin.read(); client.drain()'
    hosts = [start_host(home, code, stdin=subprocess.PIPE) for _ in range(20)]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
    for host in hosts:
        assert host.stdin is not None
        host.stdin.close()
        host.stdin = None
    ends = [(host.wait(30), *host.communicate()) for host in hosts]

    assert {(0, "")} == {(code, out) for code, out, _ in ends}
    assert "".join(err for _, _, err in ends).count(NOTICE_BEGINS) == 1
    assert len("".join(err for _, _, err in ends).splitlines()) == 1
    assert Dropped({"search": 20}) == dropped(home)


def test_a_notice_that_was_shown_between_look_and_claim_is_not_shown_again(home: Path):
    """The other host's claim became the mark just after this one looked for the mark."""
    code = f"""
shown = os.path.join(
    os.environ["TALLYD_HOME"], "state", "notices", "tallyd-demo", {built()["digest"][:16]!r}
)
def show_meanwhile(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".claim") and not os.path.exists(shown):
        os.close(os.open(shown, os.O_CREAT | os.O_WRONLY, 0o600))
sys.addaudithook(show_meanwhile)
search(); client.drain(); search(); client.drain()
print(os.listdir(os.path.dirname(shown)) == [os.path.basename(shown)])
"""
    done = run_host(home, code)

    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def test_there_is_no_thread_before_the_first_count_and_one_after(home: Path):
    code = """
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
search(); count("tool"); search()
other = client.counter("tool_calls", tool="other")
other()
counted = threads()
client.drain()
drained = threads()
print(before, counted, drained)
"""
    assert run_host(home, code).stdout == "1 2 2\n"


_OFF = {
    "DO_NOT_TRACK": {"DO_NOT_TRACK": "1"},
    "its variable": {"TALLYD_DEMO_TELEMETRY": "off"},
    "text nobody knows": {"TALLYD_DEMO_TELEMETRY": "disabled"},
}


@pytest.mark.parametrize("off", _OFF.values(), ids=_OFF)
def test_off_means_no_thread_no_file_no_notice_and_no_socket(home: Path, off: dict[str, str]):
    strace = need("strace")
    trace = home.with_name(f"{home.name}.trace")
    command = [strace, "-f", "-e", "trace=network", "-o", str(trace), sys.executable]
    code = program(f'{_ALL_OF_IT}\nprint(len(os.listdir("/proc/self/task")))')
    done = subprocess.run(
        [*command, "-c", code],
        env=environ_of_host(home, **off),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert (done.stdout, done.stderr, list(home.iterdir())) == ("1\n", "", [])
    assert [line for line in trace.read_text().splitlines() if "+++" not in line] == []


def test_on_means_no_socket_either(home: Path):
    strace = need("strace")
    trace = home.with_name(f"{home.name}.trace")
    subprocess.run(
        [
            *(strace, "-f", "-e", "trace=network,fsync,fdatasync", "-o", str(trace)),
            *(sys.executable, "-c", program(_ALL_OF_IT)),
        ],
        env=environ_of_host(home),
        capture_output=True,
        check=True,
        timeout=120,
    )

    assert [line for line in trace.read_text().splitlines() if "+++" not in line] == []
    assert dropped(home).calls["search"] == 2


def test_no_signal_handler_is_set_and_no_signal_blocked(home: Path):
    """The system's own view: what is caught of the 31 plain signals, ignored and blocked."""
    before = """
import signal
def view():
    status = open("/proc/self/status").read().splitlines()
    masks = [line.split() for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    handlers = [signal.getsignal(one) for one in sorted(signal.valid_signals())]
    return [(name, int(mask, 16) & 0x7FFFFFFF) for name, mask in masks], handlers
was = view()
"""
    code = """
search(); count("tool"); client.drain(); client.close()
print(len(was[0]), view() == was)
"""
    assert run_host(home, code, before=before).stdout == "3 True\n"


_HOSTILE = r"""
import os, sys
from tallyd_client import Client, ask

class Hostile:
    def __fspath__(self): raise RuntimeError("no path")
    def __str__(self): raise RuntimeError("no text")
    def __repr__(self): raise RuntimeError("no text")
    def __bool__(self): raise RuntimeError("no truth")
    def __eq__(self, other): raise RuntimeError("no equality")
    def __hash__(self): raise RuntimeError("no hash")
    def __iter__(self): raise RuntimeError("no items")
    def __len__(self): raise RuntimeError("no length")

good = {contract!r}
folder = os.environ["TALLYD_HOME"]
def file(name, content):
    path = os.path.join(folder, name)
    with open(path, "wb") as opened:
        opened.write(content)
    return path
values = [None, True, 0, -1, 1.5, float("nan"), "", "x", "\ud800", "a/b", "x" * 100000, b"x",
          (), [], {{}}, set(), object, Hostile(), [Hostile()], {{"a": Hostile()}}, lambda: None]
def spoilt(*path):
    for value in values:
        whole = {{key: dict(one) if isinstance(one, dict) else one for key, one in good.items()}}
        table = whole
        for name in path[:-1]:
            table[name] = dict(table[name])
            table = table[name]
        table[path[-1]] = value
        yield whole
        del table[path[-1]]
        yield whole
contracts = values + [
    file("broken.toml", b"[product\nname="), file("latin.toml", b"# \xff"), file("empty.toml", b""),
    folder, os.path.join(folder, "absent.toml"), {{"product": "x"}},
    *spoilt("product"), *spoilt("product", "name"), *spoilt("digest"), *spoilt("text"),
    *spoilt("events"), *spoilt("events", "tool_calls"), *spoilt("events", "tool_calls", "kind"),
    *spoilt("events", "tool_calls", "dimensions"), *spoilt("events", "tool_calls", "measures"),
    *spoilt("events", "tool_calls", "dimensions", "tool"),
    *spoilt("events", "tool_calls", "dimensions", "tool", "type"),
    *spoilt("events", "tool_calls", "dimensions", "tool", "max"),
    *spoilt("consent"), *spoilt("consent", "env"), *spoilt("consent", "default"),
    *spoilt("consent", "notice"), *spoilt("consent", "off_command"), *spoilt("consent", "ci"),
    *spoilt("consent", "do_not_track"), *spoilt("state"), *spoilt("envelope"),
    *spoilt("consent", "modes"), *spoilt("consent", "terminal"), *spoilt("consent", "notice_when"),
    *spoilt("identity"), *spoilt("identity", "kind"), *spoilt("identity", "project"), *spoilt("off"),
    *spoilt("schema_version"), *spoilt("events", "tool_calls", "sample"),
    *spoilt("events", "tool_calls", "sample_as"), *spoilt("events", "tool_calls", "expires"),
    *spoilt("events", "server_started", "once"), *spoilt("events", "server_started", "expires"),
    *spoilt("envelope", "os"), *spoilt("envelope", "os", "type"), *spoilt("envelope", "os", "from"),
]
def use(client):
    for value in values:
        client.counter(value, tool="x")()
        client.counter("tool_calls", tool=value)()
        client.rollup(value, "tool")("x")
        client.rollup("tool_calls", value)("x")
        count = client.rollup("tool_calls", "tool")
        count(value); count(value, ok=value); count(); count("x", value)
        client.event(value)
        client.event("server_started", transport=value)
        client.register(value, value); client.register("tool", value)
        client.project(value)
        ask(client, stdin=value, stderr=value, again=True)
    client.problem
    client.drain(); client.drain(); client.close(); client.drain(); client.close()
for contract in contracts:
    use(Client("tallyd-demo", "1", contract=contract))
for value in values:
    use(Client(value, value, contract=good, envelope=value))
    use(Client(value, value, None, value))
    use(Client(contract=good, identity=value, off=value))
print("unhurt")
"""


def test_no_use_however_hostile_raises_anything(home: Path):
    code = _HOSTILE.format(contract=built())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environ_of_host(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert (done.stdout, done.returncode) == ("unhurt\n", 0), done.stderr
    assert "Traceback" not in done.stderr
    # And whatever it dropped is not refused by the reader.
    dropped(home)


def test_without_a_contract_a_client_counts_nothing_and_says_why(home: Path):
    code = """
from tallyd_client import Client
nowhere = Client("absent", "1")
nowhere.counter("tool_calls", tool="x")()
nowhere.drain()
print("absent.toml" in nowhere.problem, client.problem)
"""
    done = run_host(home, code)

    assert (done.stdout, done.stderr, list(home.iterdir())) == ("True None\n", "", [])


def test_a_registered_contract_is_found_by_the_products_name(home: Path):
    registered = home / "config/contracts/tallyd-demo.toml"
    registered.parent.mkdir(parents=True)
    registered.write_bytes((CONTRACTS / "tallyd-demo.toml").read_bytes())
    run_host(home, 'Client("tallyd-demo").counter("tool_calls", tool="x")()')

    assert Dropped({"x": 1}) == dropped(home)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HOME": ""},
        {"HOME": "relative"},
        {"HOME": "/dev/null"},
        {"HOME": "/proc/nowhere"},
        {"HOME": "/nowhere", "TALLYD_HOME": "/dev/null/x"},
    ],
    ids=str,
)
def test_a_home_that_is_unset_or_unusable_costs_the_host_nothing(
    home: Path, environ: dict[str, str]
):
    # On keeps what it counts: the directories cannot be made, so off and on look the same.
    off = {"DO_NOT_TRACK": "1"} if environ.get("HOME", "") == "" else {}
    done = run_host(home, _ALL_OF_IT, environ={"PYTHONPATH": str(STUB), **environ, **off}, cwd=home)

    assert (done.returncode, done.stdout, done.stderr, list(home.iterdir())) == (0, "", "", [])


def test_a_closed_stderr_costs_nothing_and_shows_nothing(home: Path):
    """The notice was not shown, so nothing may leave yet; but what is counted waits in the spool."""
    code = program(_ALL_OF_IT)
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code],
        env=environ_of_host(home),
        capture_output=True,
        check=False,
        timeout=120,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert dropped(home).calls["search"] == 2
    assert [one for one in files_below(home) if "notices" in one] == []


def test_a_stderr_that_nobody_reads_does_not_hold_the_exit(home: Path):
    """A full pipe holds whoever writes to it, for ever."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    full = 0
    for size in (65536, 1):
        try:
            while True:
                full += os.write(writing, b"x" * size)
        except BlockingIOError:
            continue
    os.set_blocking(writing, True)
    try:
        done = run_host(home, _ALL_OF_IT, stderr=writing)
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()

    assert (0, full) == (done.returncode, len(said))
    assert dropped(home).calls["search"] == 2
    assert [one for one in files_below(home) if "notices" in one] == []


def test_a_stderr_whose_reader_is_gone_does_not_change_the_exit(home: Path):
    """The write fails with a broken pipe; the notice was not shown, and the host never hears of it."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run_host(home, _ALL_OF_IT, stderr=writing)
    finally:
        os.close(writing)

    assert done.returncode == 0
    assert [one for one in files_below(home) if "notices" in one] == []


@pytest.mark.parametrize("stderr", ["None", "Stream()", "open(os.devnull)"])
def test_a_host_that_replaced_its_stderr_is_not_hurt(home: Path, stderr: str):
    kind = 'Stream = type("Stream", (), dict.fromkeys(["write", "flush"], lambda *_: None))'
    done = run_host(home, f"{kind}\nsys.stderr = {stderr}\n{_ALL_OF_IT}")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert dropped(home).calls["search"] == 2


_ENDS = {
    "by falling off the end": ("", 0, 5),
    "by sys.exit": ("sys.exit(3)", 3, 5),
    "by an exception": ('raise KeyError("host")', 1, 5),
    "by an exception in a thread": (
        "import threading; t = threading.Thread(target=lambda: 1/0); t.start(); t.join()",
        0,
        5,
    ),
    "by SystemExit in a signal handler": (
        "import signal; signal.signal(15, lambda *_: sys.exit(4)); os.kill(os.getpid(), 15)",
        4,
        5,
    ),
    "by os._exit": ("os._exit(5)", 5, 2),
    "by SIGKILL": ("os.kill(os.getpid(), 9)", -9, 2),
    "by SIGTERM": ("os.kill(os.getpid(), 15)", -15, 2),
    "by abort": ("os.abort()", -6, 2),
}


@pytest.mark.parametrize(("end", "code", "counted"), _ENDS.values(), ids=_ENDS)
def test_however_a_host_ends_it_loses_at_most_what_was_not_dropped(
    home: Path, end: str, code: int, counted: int
):
    done = run_host(
        home,
        f"""
import atexit
search(); search(); client.drain()
search(); search(); search()
{end}
""",
    )

    assert (code, Dropped({"search": counted})) == (done.returncode, dropped(home))


@pytest.mark.parametrize("version", PYTHONS)
def test_a_host_that_counts_last_of_all_ends_without_a_crash(home: Path, version: str):
    """Up to Python 3.10 an interpreter that ends while a thread of ours begins reads freed memory."""
    code = """
import atexit
search()
late = client.counter("tool_calls", tool="late")
late_client = Client("tallyd-demo", "1", contract=contract)
atexit.register(late_client.counter("tool_calls", tool="at exit"))
"""
    before = "import atexit\natexit.register(lambda: late())\n"
    run = {"python": python_of(version), "before": before}
    ends = [run_host(home, code, "-X", "dev", **run).returncode for _ in range(15)]

    assert ends == [0] * 15
    assert dropped(home) == Dropped({"search": 15, "atexit": 15})


def test_what_a_host_counts_while_it_exits_is_dropped(home: Path):
    """Handlers run in the reverse order of registration, so the host's later ones come first."""
    run_host(
        home,
        """
import atexit
atexit.register(search)
atexit.register(count, "tool")
""",
    )

    assert Dropped({"search": 1, "tool": 1}) == dropped(home)


def test_a_host_killed_at_any_file_operation_leaves_no_half_file_in_new(home: Path):
    """Each run is killed one operation later than the one before, until one ends by itself."""
    code = """
seen = 0
at = {at}
def kill(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.listdir"):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), 9)
for turn in range(50):
    count("tool%d" % turn)
sys.addaudithook(kill)
client.drain()
os._exit(0)
"""
    ends: list[int] = []
    whole = Dropped({f"tool{turn}": 1 for turn in range(50)})
    found = []
    while 0 not in ends:
        there = home / str(len(ends))
        there.mkdir()
        ends.append(run_host(there, code.format(at=len(ends) + 1)).returncode)
        found.append(dropped(there))

    assert len(ends) > 8
    assert [-signal.SIGKILL] * (len(ends) - 1) == ends[:-1]
    assert all(one in (Dropped(), whole) for one in found)
    assert [Dropped(), whole] == [found[0], found[-1]]


@pytest.mark.parametrize("version", PYTHONS)
def test_importing_the_stub_imports_nothing_that_costs(version: str):
    """json, typing and their kind take longer than all of the stub."""
    code = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(STUB)!r})
import tallyd_client
print(sorted(set(sys.modules).intersection({COSTLY!r})))
print(sorted(name for name in set(sys.modules) - before if name.startswith("tallyd")))
"""
    done = subprocess.run(
        [python_of(version), "-I", "-S", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    own = ["tallyd_client", *(f"tallyd_client.{one}" for one in ("_cells", "_policy"))]

    assert (f"[]\n{own}\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize("version", PYTHONS)
def test_a_host_that_counts_and_exits_imports_nothing_that_costs_either(home: Path, version: str):
    """`select` is for the notice, which one process of a machine shows."""
    run_host(home, "search()")
    (home / "state/consent").mkdir()
    (home / "state/consent/tallyd-demo.json").write_text('{"enabled": true}')
    code = f"""
def tell():
    print(sorted(set(sys.modules).intersection({COSTLY!r})))
search(); count("tool")
client.drain()
tell()
"""
    done = subprocess.run(
        [python_of(version), "-S", "-c", program(code)],
        env=environ_of_host(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_drain_that_cannot_finish_does_not_hold_the_exit(home: Path):
    """A disk that hangs holds the thread that drains; the exit waits for it a moment and goes."""
    code = """
import threading
never = threading.Event()
is_hanging = threading.Event()
def hang(event, arguments):
    if event == "os.rename" and threading.current_thread() is not threading.main_thread():
        is_hanging.set()
        never.wait()
sys.addaudithook(hang)
search()
threading.Thread(target=client.drain, daemon=True).start()
is_hanging.wait()
"""
    assert run_host(home, code).returncode == 0
    assert Dropped() == dropped(home)


def test_a_running_host_is_seen_without_its_help(home: Path):
    """Two processes write into one spool at once; neither waits for the other."""
    code = 'print("ready", flush=True)\nfor _ in range(200):\n    search()\n    client.drain()\n'
    hosts = [start_host(home, code) for _ in range(2)]
    new = spool_of(home).new
    wait_for(lambda: new.is_dir() and os.listdir(new))
    ends = [(host.wait(30), host.communicate()[0]) for host in hosts]

    assert ([(0, "ready\n")] * 2, Dropped({"search": 400})) == (ends, dropped(home))
