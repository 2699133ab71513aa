"""on, off, reset and choose, each as a person runs it: real commands, real terminals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.deltas import delta, drop
from support.processes import (
    CONTRACTS,
    DEMO_CONTRACT,
    daemon,
    environ_of,
    run,
    show,
    status,
    tallyd,
)

OTHER = DEMO_CONTRACT.read_text().replace('name = "tallyd-demo"', 'name = "other"', 1)


def _register(home: Path, *, other: bool = False) -> None:
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    if other:
        (home / "other.toml").write_text(OTHER)
        tallyd(home, "contract", "add", str(home / "other.toml"))


def _states(home: Path) -> dict[str, str]:
    return {
        name: one["consent"]["state"]
        for name, one in status(home)["products"].items()
        if not one["problem"]
    }


def _count(home: Path, product: str = "tallyd-demo") -> None:
    drop(
        home / "state",
        delta(product, day=time.strftime("%Y-%m-%d", time.gmtime())),
        product=product,
        at=time.time(),
    )
    tallyd(home, "flush")


def test_off_all_reaches_every_product_and_those_still_to_come(home):
    _register(home)
    _count(home)
    said = tallyd(home, "off", "--all")
    _register(home, other=True)

    assert "those still to come too" in said
    assert (_states(home), show(home)) == ({"tallyd-demo": "off", "other": "off"}, [])
    assert status(home)["products"]["other"]["consent"]["decided_by"] == "user policy"


def test_on_after_off_all_is_for_one_product_and_leaves_the_others_off(home):
    _register(home, other=True)
    tallyd(home, "off", "--all")
    tallyd(home, "on", "other")

    assert _states(home) == {"tallyd-demo": "off", "other": "on"}


def test_on_all_takes_back_off_all(home):
    _register(home, other=True)
    tallyd(home, "off", "--all")
    tallyd(home, "on", "--all")

    assert _states(home) == {"tallyd-demo": "on", "other": "on"}
    assert not (home / "config" / "policy.toml").exists()


@pytest.mark.parametrize("command", ["on", "off"])
@pytest.mark.parametrize("names", [[], ["tallyd-demo", "--all"]])
def test_one_product_or_all_must_be_named(home, command, names):
    done = run("tallyd", command, *names, environ=environ_of(home), check=False)

    assert (done.returncode, "--all" in done.stderr, done.stdout) == (64, True, "")


def test_one_product_that_cannot_be_used_stops_no_other(home):
    _register(home)
    (home / "config" / "contracts" / "broken.toml").write_text("contract = 2")
    done = run("tallyd", "off", "--all", environ=environ_of(home), check=False)

    assert (done.returncode, "broken" in done.stderr, _states(home)) == (
        0,
        True,
        {"tallyd-demo": "off"},
    )


@pytest.mark.parametrize("with_daemon", [False, True])
@pytest.mark.parametrize("damage", ["x = 1\n", None])
def test_a_no_is_heard_also_where_the_contract_is_damaged_or_was_never_there(
    home, with_daemon, damage
):
    _register(home)
    _count(home)
    registered = home / "config" / "contracts" / "tallyd-demo.toml"
    whole = registered.read_text()
    registered.unlink()
    if damage:
        registered.write_text(whole + damage)
    with daemon(home) if with_daemon else contextlib.nullcontext():
        drop(home / "state", at=time.time())
        done = run("tallyd", "off", "tallyd-demo", environ=environ_of(home))
    registered.write_text(whole)
    after = status(home)["products"]["tallyd-demo"]

    assert "policy.toml forbids tallyd-demo" in done.stderr
    assert "is off, should it ever come" in done.stdout
    assert (after["consent"]["decided_by"], show(home), after["spool"]["files"]) == (
        "user policy",
        [],
        0,
    )


def test_a_yes_that_fails_lifts_no_ban(home):
    _register(home)
    tallyd(home, "off", "--all")
    command = ("tallyd", "on", "--all", "--mode", "identified")
    done = run(*command, environ=environ_of(home), check=False)

    assert (done.returncode, "off = true" in (home / "config" / "policy.toml").read_text()) == (
        64,
        True,
    )


@pytest.mark.parametrize("name", ["../x", "A", "", "a b"])
def test_what_is_no_products_name_is_told(home, name):
    assert run("tallyd", "off", name, environ=environ_of(home), check=False).returncode == 64


@pytest.mark.parametrize("with_daemon", [False, True])
def test_reset_gives_another_id_deletes_what_was_not_sent_and_keeps_the_choice(home, with_daemon):
    _register(home)
    tallyd(home, "on", "tallyd-demo")
    before = status(home)["products"]["tallyd-demo"]["machine_id"]
    with daemon(home) if with_daemon else contextlib.nullcontext():
        _count(home)
        assert show(home) != []
        drop(home / "state", at=time.time())
        tallyd(home, "reset", "tallyd-demo")
        after = status(home)["products"]["tallyd-demo"]

    assert (show(home), after["consent"]["state"], after["spool"]["files"]) == ([], "on", 0)
    assert after["machine_id"] not in (before, None)


def test_reset_with_a_daemon_deletes_also_what_has_no_id_yet(home):
    """CodeGraph makes its id right before the first send, and no notice was shown yet."""
    tallyd(home, "contract", "add", str(CONTRACTS / "codegraph.toml"), DO_NOT_TRACK="1")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    counts = [["usage_rollup", {"kind": "mcp_tool", "name": "explore"}, {"count": 2}]]
    whole = delta("codegraph", day=today, counts=counts, envelope={})
    with daemon(home):
        drop(home / "state", whole, product="codegraph", at=time.time())
        tallyd(home, "flush")
        before = show(home, "codegraph")
        tallyd(home, "reset", "codegraph")
        after = status(home)["products"]["codegraph"]

    assert (len(before), show(home, "codegraph"), after["machine_id"]) == (1, [], None)


def test_a_yes_takes_the_contract_that_is_registered_then_as_a_whole(home):
    """What was new in it waits for nobody's notice any more."""
    codegraph = CONTRACTS / "codegraph.toml"
    tallyd(home, "contract", "add", str(codegraph))
    tallyd(home, "on", "codegraph")
    text = codegraph.read_text().replace('"cli_command"]', '"cli_command", "hook"]')
    (home / "wider.toml").write_text(text)
    tallyd(home, "contract", "add", str(home / "wider.toml"))
    waits = [status(home)["products"]["codegraph"]["contract"]["in_force"]]
    tallyd(home, "on", "codegraph")
    waits.append(status(home)["products"]["codegraph"]["contract"]["in_force"])

    assert waits == [False, True]


def test_reset_of_a_product_that_is_off_leaves_it_off_without_an_id(home):
    _register(home)
    tallyd(home, "off", "tallyd-demo")
    tallyd(home, "reset", "tallyd-demo")
    after = status(home)["products"]["tallyd-demo"]

    assert (after["consent"]["state"], after["machine_id"]) == ("off", None)


def _choose(home: Path, product: str, *answers: str, **more: str) -> tuple[int, str]:
    """Run `tallyd choose` on a terminal of its own and type; ends with end-of-file."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tallyd", "choose", product],
        env=environ_of(home, **more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, "".join(f"{one}\n" for one in answers).encode() + b"\x04")
    screen = b""
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 4096):
            screen += piece
    code = process.wait(60)
    os.close(ours)
    return code, screen.decode()


PIPELEX = CONTRACTS / "pipelex.toml"


def _consent(home: Path, product: str) -> tuple[str, str]:
    found = status(home)["products"][product]
    return found["consent"]["mode"], found["consent"]["decided_by"]


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        (["1"], ("off", "stored choice")),
        (["2"], ("anonymous", "stored choice")),
        (["anonymous"], ("anonymous", "stored choice")),
        (["3", "user-41"], ("identified", "stored choice")),
        # No id is no yes to the mode that needs none.
        (["3", ""], ("off", "default (nobody was asked yet)")),
        (["3"], ("off", "default (nobody was asked yet)")),
        (["what?", "2"], ("anonymous", "stored choice")),
        ([""], ("off", "default (nobody was asked yet)")),
        (["q"], ("off", "default (nobody was asked yet)")),
        ([], ("off", "default (nobody was asked yet)")),
        (["y", "yes", "ok"], ("off", "default (nobody was asked yet)")),
    ],
)
def test_only_a_clear_answer_is_one(home, answers, wanted):
    """A bare Enter, the end of the input and what is not on the menu change nothing."""
    tallyd(home, "contract", "add", str(PIPELEX))
    code, _ = _choose(home, "pipelex", *answers)

    assert (0, wanted) == (code, _consent(home, "pipelex"))


def test_a_product_without_modes_is_asked_for_on_or_off(home):
    _register(home)
    code, screen = _choose(home, "tallyd-demo", "1")

    assert (
        code,
        _consent(home, "tallyd-demo"),
        "[1] off" in screen and "[2] on" in screen and "[3]" not in screen,
    ) == (0, ("off", "stored choice"), True)


def test_without_a_terminal_nobody_is_asked(home):
    _register(home)
    done = run("tallyd", "choose", "tallyd-demo", environ=environ_of(home), check=False)

    assert (
        done.returncode,
        '"tallyd off tallyd-demo"' in done.stderr,
        _consent(home, "tallyd-demo"),
    ) == (64, True, ("on", "default"))


def test_identified_needs_an_id_and_an_unknown_mode_is_told(home):
    tallyd(home, "contract", "add", str(PIPELEX))
    codes = [
        run("tallyd", "on", "pipelex", *more, environ=environ_of(home), check=False).returncode
        for more in (["--mode", "identified"], ["--mode", "loud"])
    ]

    assert (codes, _consent(home, "pipelex")[0]) == ([64, 64], "off")


def test_a_choice_keeps_what_else_stands_in_the_products_own_file(home):
    tallyd(home, "contract", "add", str(PIPELEX))
    file = home / ".pipelex" / "telemetry.toml"
    file.parent.mkdir()
    before = '# mine\ntelemetry_mode = "off"  # for now\nhost = "https://posthog.example.invalid"\nredact = [\n  "prompt",\n]\nuser_id = ""\n'
    file.write_text(before)
    tallyd(home, "on", "pipelex", "--mode", "identified", "--user", "user-41")

    assert file.read_text() == before.replace(
        'telemetry_mode = "off"', 'telemetry_mode = "identified"'
    ).replace('user_id = ""', 'user_id = "user-41"')
    assert file.stat().st_mode & 0o777 == 0o600
    assert (
        json.loads(tallyd(home, "status", "--json", check=False))["products"]["pipelex"][
            "machine_id"
        ]
        == "user-41"
    )


def test_a_no_to_a_slip_of_the_pen_says_what_was_meant_and_is_seen_and_taken_back(home):
    _register(home)
    said = run("tallyd", "off", "tallyd-dmo", environ=environ_of(home))
    seen = tallyd(home, "status", check=False)
    told = status(home)["forbidden"]
    back = run("tallyd", "on", "tallyd-dmo", environ=environ_of(home))

    assert "did you mean tallyd-demo?" in said.stderr
    assert said.stdout == (
        "tallyd-dmo is off, should it ever come; to take that back: tallyd on tallyd-dmo\n"
    )
    assert "tallyd-dmo, not registered here (user policy)" in seen
    assert told == [{"rule": "user policy", "all": False, "except": [], "products": ["tallyd-dmo"]}]
    assert (back.stdout, status(home)["forbidden"]) == (
        f"{home / 'config' / 'policy.toml'} forbids tallyd-dmo no more\n",
        [],
    )


def test_a_no_to_all_but_one_is_seen_in_the_status(home):
    _register(home)
    tallyd(home, "off", "--all")
    tallyd(home, "on", "tallyd-demo")

    assert "every product but tallyd-demo (user policy)" in tallyd(home, "status", check=False)
