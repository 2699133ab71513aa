"""A launchctl to test with: it keeps jobs as files, starts real processes, and refuses as launchd does.

Its directory is FAKE_LAUNCHD. In there: `calls`, a line of JSON for each call; `<domain>/<label>`, the
jobs that are loaded; `disabled`, a label on each line; and what a test puts there to have it refuse:
`no-gui` (nobody is at the screen), `as-io-error` (all is told as error 5), `eio` (so many bootstraps
are refused), `lingers` (so many looks a job outlives its bootout), `says-<verb>` (the code, and the
text, with which this verb is refused). It starts a job once, and does not start it again: how launchd
decides that is the daemon's exit code, shown elsewhere.
"""

from __future__ import annotations

import json
import os
import plistlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

_HOME = Path(os.environ["FAKE_LAUNCHD"])


def main(argv: list[str]) -> None:
    with (_HOME / "calls").open("a") as calls:
        calls.write(json.dumps(argv) + "\n")
    verb, *words = argv
    said = _HOME / f"says-{verb}"
    if said.exists():
        code, _, text = said.read_text().partition(" ")
        refuse(int(code), text.strip())
    {
        "bootstrap": bootstrap,
        "bootout": bootout,
        "kickstart": kickstart,
        "kill": kill,
        "print": show,
        "print-disabled": show_disabled,
        "enable": enable,
        "disable": disable,
    }[verb](*words)


def bootstrap(domain: str, file: str) -> None:
    label = Path(file).stem
    job = _HOME / domain / label
    if count_down("eio") or job.exists():
        refuse(5, "Bootstrap failed: 5: Input/output error")
    need(domain, "Bootstrap failed: 125: Domain does not support specified action", 125)
    about = os.stat(file)
    if about.st_mode & 0o022:
        refuse_plainly("Bootstrap failed", 122, "Path had bad ownership/permissions", file)
    if label in disabled():
        refuse_plainly("Bootstrap failed", 119, "Service is disabled", file)
    keys = plistlib.loads(Path(file).read_bytes())
    session = {"gui": "Aqua", "user": "Background"}[domain.partition("/")[0]]
    if keys.get("LimitLoadToSessionType", "Aqua") != session:
        refuse_plainly("Bootstrap failed", 134, "Service cannot load in requested session", file)
    job.parent.mkdir(parents=True, exist_ok=True)
    # launchd has read the file now, and does not look at it again.
    put(job, {"file": file, "keys": plistlib.dumps(keys).decode(), "runs": 0, "pid": 0})
    if keys.get("RunAtLoad") or keys.get("KeepAlive"):
        spawn(job)


def bootout(target: str) -> None:
    job = find(target, "Boot-out failed: 3: No such process", 3)
    state = get(job)
    if state["pid"] and lives(state["pid"]):
        os.kill(state["pid"], signal.SIGTERM)
    looks = _HOME / "lingers"
    put(job, {**state, "leaves_after": int(looks.read_text()) if looks.exists() else 0})
    sweep(job)


def kickstart(*words: str) -> None:
    job = find(words[-1], no_service(words[-1]), 113)
    pid = get(job)["pid"]
    if lives(pid):
        if "-k" not in words:
            refuse(37, "Could not kickstart service: 37: Operation already in progress")
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    spawn(job)


def kill(name: str, target: str) -> None:
    pid = get(find(target, no_service(target), 113))["pid"]
    if not lives(pid):
        refuse(3, "Could not signal service: 3: No such process")
    os.kill(pid, getattr(signal, name))


def show(target: str) -> None:
    domain = "/".join(target.split("/")[:2])
    need(
        domain,
        f"Bad request.\nCould not find domain for user {'gui' if 'gui' in domain else 'id'}: 501",
        112,
    )
    if target == domain:
        print(f"{domain} = {{\n\ttype = login\n}}")
        return
    job = find(target, no_service(target), 113)
    state = get(job)
    keys = plistlib.loads(state["keys"].encode())
    is_running = lives(state["pid"])
    lines = [
        f"{target} = {{",
        f"\tactive count = {int(is_running)}",
        f"\tpath = {state['file']}",
        "\ttype = LaunchAgent",
        f"\tstate = {'running' if is_running else 'not running'}",
        "",
        f"\tprogram = {keys['ProgramArguments'][0]}",
        "\targuments = {",
        *(f"\t\t{one}" for one in keys["ProgramArguments"]),
        "\t}",
        "",
        f"\truns = {state['runs']}",
        *([f"\tpid = {state['pid']}"] if is_running else []),
        f"\tlast exit code = {ended(state)}",
        "",
        "\tendpoints = {",
        '\t\t"com.example" = {',
        "\t\t\tstate = active",
        "\t\t\tpid = 1",
        "\t\t}",
        "\t}",
        "}",
    ]
    print("\n".join(lines))


def show_disabled(domain: str) -> None:
    need(domain, "Could not find domain for user gui: 501", 112)
    lines = [f'\t\t"{label}" => disabled' for label in disabled()]
    print("\n".join(["", "\tdisabled services = {", *lines, '\t\t"com.example" => enabled', "\t}"]))


def enable(target: str) -> None:
    kept = disabled() - {target.rpartition("/")[2]}
    (_HOME / "disabled").write_text("".join(f"{one}\n" for one in kept))


def disable(target: str) -> None:
    kept = disabled() | {target.rpartition("/")[2]}
    (_HOME / "disabled").write_text("".join(f"{one}\n" for one in kept))


# --- jobs -----------------------------------------------------------------------------------------


def spawn(job: Path) -> None:
    """Start a job as launchd does: by its words alone, in a session of its own, nearly without a shell."""
    state = get(job)
    keys = plistlib.loads(state["keys"].encode())
    told = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "USER": "you"}
    code = job.with_name(f"{job.name}.code")
    code.unlink(missing_ok=True)
    try:
        opened = os.open(keys["StandardErrorPath"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        code.write_text("78")
        put(job, {**state, "runs": state["runs"] + 1, "pid": 0})
        return
    # The shell is who waits for it, as launchd is: the code of its end is in a file then.
    script = 'code=$1; shift; "$@" & echo $! >"$code.pid"; wait $!; echo $? >"$code"'
    subprocess.Popen(
        ["sh", "-c", script, "sh", str(code), *keys["ProgramArguments"]],
        env={**told, **keys.get("EnvironmentVariables", {})},
        cwd=keys.get("WorkingDirectory", "/"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=opened,
        start_new_session=True,
    )
    named = Path(f"{code}.pid")
    while not (named.exists() and named.read_text().endswith("\n")):
        time.sleep(0.01)
    put(job, {**state, "runs": state["runs"] + 1, "pid": int(named.read_text())})
    named.unlink()


def find(target: str, text: str, code: int) -> Path:
    job = _HOME / target
    sweep(job)
    if not job.is_file():
        refuse(code, text)
    return job


def sweep(job: Path) -> None:
    """Let a job go that was booted out, once it has ended and was looked at often enough."""
    if not job.is_file():
        return
    state = get(job)
    left = state.get("leaves_after")
    if left is None or lives(state["pid"]):
        return
    if left > 0:
        put(job, {**state, "leaves_after": left - 1})
    else:
        job.unlink()


def ended(state: dict[str, Any]) -> str:
    found = list(_HOME.glob(f"*/*/{Path(state['file']).stem}.code"))
    if not found or not found[0].read_text().strip():
        return "(never exited)"
    said = found[0].read_text().strip()
    return {"78": "78: EX_CONFIG"}.get(said, said)


def lives(pid: int) -> bool:
    """Whether a process is there; its shell takes away what is left of it."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def wait_for_end(pid: int) -> None:
    while lives(pid):
        time.sleep(0.01)


def get(job: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(job.read_text())
    return state


def put(job: Path, state: dict[str, Any]) -> None:
    beside = job.with_name(f".{job.name}.{os.getpid()}")
    beside.write_text(json.dumps(state))
    beside.replace(job)


# --- refusals -------------------------------------------------------------------------------------


def disabled() -> set[str]:
    file = _HOME / "disabled"
    return set(file.read_text().split()) if file.exists() else set()


def count_down(name: str) -> bool:
    file = _HOME / name
    left = int(file.read_text()) if file.exists() else 0
    if left:
        file.write_text(str(left - 1))
    return left > 0


def need(domain: str, text: str, code: int) -> None:
    if domain.startswith("gui/") and (_HOME / "no-gui").exists():
        refuse(code, text)


def no_service(target: str) -> str:
    domain, _, label = target.rpartition("/")
    return f'Could not find service "{label}" in domain for user {domain.split("/")[0]}: 501'


def refuse_plainly(what: str, code: int, text: str, file: str) -> NoReturn:
    """Newer systems name the file and the cause; others say "5: Input/output error" for all of it."""
    if (_HOME / "as-io-error").exists():
        refuse(
            5,
            f"{what}: 5: Input/output error\nTry re-running the command as root for richer errors.",
        )
    refuse(code, f"{file}: {text}\n{what}: {code}: {text}")


def refuse(code: int, text: str) -> NoReturn:
    print(text, file=sys.stderr)
    sys.exit(code)


main(sys.argv[1:])
