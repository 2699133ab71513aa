"""Nothing that a user typed leaves: whatever a contract lists, whatever a host gives.

Each example is the whole way: a client counts what it is given and drops it, the daemon merges and
seals it, and what would be sent is held against the contract's schema and searched for every text
and number that was planted. So are all files of the home, by name and content: the spool before the
merge, the database and its log after it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support import deltas
from support.clock import DAY_S, NOON, FakeClock
from support.contracts import contracts, some
from support.drawn import examples
from support.hostile import KNOWN, Planted, numbers_not_for, registered_in, right, texts_not_for
from support.inline_contracts import parsed
from support.pipeline import Pipeline
from support.processes import CONTRACTS
from support.values import keeps
from support.values import values as kept_values
from tallyd import choices
from tallyd.contract import Contract
from tallyd.contract.build import built
from tallyd.contract.days import instant
from tallyd.contract.fields import (
    Boolean,
    Bucket,
    Enum,
    ErrorClass,
    FieldType,
    Hash,
    Integer,
    List,
    Names,
    Number,
    Record,
    Redacted,
    Text,
)
from tallyd.contract.json_schema import schema_of
from tallyd.contract.model import Field, Rollup
from tallyd_client import Client, _screen

# What the shell that runs the tests says must not decide, and switches that contracts draw.
_UNSAID = ("DO_NOT_TRACK", "CI", "TOOL_TELEMETRY", "TOOL_STATS", "TOOL_QUIET", "TALLYD_POLICY_FILE")
CASES = {file.stem: file.read_text(encoding="utf-8") for file in sorted(CONTRACTS.glob("*.toml"))}
# Of what is wrong for a field, one in so many is tried in one example.
_WRONG_EACH = 5
# So few that no delta is over its 64 KiB.
_STEPS_IN_A_DELTA = 20
_SWITCHES = ("TOOL_DETAILS", "TOOL_MORE", "KTX_TELEMETRY_ERROR_DETAIL")


@dataclass
class Step:
    """One call of a host's: `how` is the client's method."""

    how: str
    event: str
    values: dict[str, Any]
    ok: bool = True


@dataclass
class Run:
    """One host's life: its contract, what its client is made with, what it does, what is planted."""

    contract: Contract
    planted: Planted
    steps: list[Step]
    client: dict[str, Any] = field(default_factory=dict)
    at: float = NOON
    # Whether the switches of free text say yes, and the draw of this process for samples.
    is_detailed: bool = False
    drawn: float = 0.05
    mode: str | None = "on"
    # Whether it writes its deltas itself, and screens nothing.
    is_raw: bool = False


# --- what a host does ------------------------------------------------------------------------------


@st.composite
def runs(draw: Any, *, is_raw: bool = False) -> Run:
    """Any contract, and a host that does right by it, nearly so, or not at all."""
    contract = draw(contracts())
    planted = Planted()
    # Only hosts see the switches of free text; the daemon takes secrets out of what there is.
    is_detailed = is_raw or draw(st.booleans())
    modes = [one for one in contract.consent.modes if one != "off"]
    # Where it is on without anybody having chosen, the default is as good.
    mode = draw(some(*(modes or ["on"]), *([None] if contract.consent.default == "on" else [])))
    run = Run(contract, planted, [], is_detailed=is_detailed, mode=mode, is_raw=is_raw)
    run.at = draw(some(*[NOON] * 6, NOON + 60 * DAY_S, NOON + 300 * DAY_S))
    run.drawn = draw(some(0.05, 0.05, 0.05, 0.3, 0.7))
    envelope = draw(_given(contract.envelope, run, is_right=draw(st.booleans())))
    run.client = {
        "version": draw(some("1.0.0", "1.0.0", f"/home/{planted.text()}/1.0.0")),
        "envelope": {**envelope, **draw(_unlisted(planted))},
        "identity": draw(some(None, f"uid-{planted.text()}")),
    }
    for name in [*contract.events, *draw(st.lists(some(*contract.events), max_size=3))]:
        # Most are as they ought to be, so that something leaves for the others to hide in.
        is_right = draw(st.integers(0, 7)) < 7
        values = draw(_given(contract.events[name].fields, run, is_right=is_right))
        if not is_right or not draw(st.integers(0, 3)):
            values |= draw(_unlisted(planted))
        is_rollup = isinstance(contract.events[name], Rollup)
        how = draw(some("rollup", "counter")) if is_rollup else "event"
        run.steps.append(Step(how, name, values, ok=draw(st.booleans())))
        # The same again with one thing wrong, for each thing that can be: it takes the event with it, or
        # is taken out of it.
        first = draw(st.integers(0, _WRONG_EACH - 1))
        for key, one in contract.events[name].fields.items():
            for bad in _wrong(one, run)[first::_WRONG_EACH]:
                run.steps.append(Step(how, name, {**values, key: bad}))
    if draw(st.booleans()):
        odd = draw(some(f"/home/{planted.text()}", planted.text(), run.steps[0].event))
        run.steps.append(Step(draw(some("rollup", "counter", "event")), odd, {planted.text(): 1}))
    return run


@st.composite
def _given(draw: Any, listed: dict[str, Field], run: Run, *, is_right: bool) -> dict[str, Any]:
    """Values for what is listed. `is_right`: what is needed is right, only what is optional may not be."""
    values = {}
    for name, one in listed.items():
        if one.is_optional and not draw(st.integers(0, 3)):
            continue
        if draw(st.booleans()) if one.is_optional or not is_right else False:
            values[name] = draw(st.sampled_from(_wrong(one, run)))
        else:
            values[name] = draw(_right(one.type, run))
    return values


def _right(of: FieldType, run: Run) -> st.SearchStrategy[Any]:
    if run.is_raw:
        return kept_values(of).filter(lambda one: keeps(of, one))
    return right(of, run.planted)


def _wrong(one: Field, run: Run) -> list[Any]:
    """All that a field of this type must not let through, and what is odd besides."""
    planted = run.planted
    texts = texts_not_for(one.type, planted.text, is_allowed=run.is_detailed)
    odd = [None, True, -1, 2**70, float("nan"), float("inf"), "", "x" * 1200, [], {}, "\ud800"]
    wrong = [*texts, *numbers_not_for(one.type, planted), *odd]
    if run.is_raw:
        wrong = [bad for bad in wrong if _is_json(bad) and not _is_a_name(one.type, bad)]
    return wrong


def _unlisted(planted: Planted) -> st.SearchStrategy[dict[str, Any]]:
    """Fields that no contract lists, whatever they are called."""
    names = some("unlisted", "path", "message", "$set", "distinct_id", planted.text())
    values = some(planted.text(), f"/home/{planted.text()}", planted.whole(), [planted.text()])
    return st.dictionaries(names, values, max_size=2)


# --- the whole way ---------------------------------------------------------------------------------


@dataclass
class Left:
    """What a run left behind: the bodies that would be sent, and every file with its content."""

    bodies: list[bytes]
    files: dict[str, bytes]


def go(run: Run) -> Left:
    """Take a run all the way."""
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as environ:
        # Whatever tells of where the home lies, tells of whose it is.
        home = Path(temporary, run.planted.text())
        home.mkdir()
        for name in (*_UNSAID, *_SWITCHES):
            environ.delenv(name, raising=False)
        for name in _SWITCHES if run.is_detailed else ():
            environ.setenv(name, "yes")
        environ.setenv("TALLYD_HOME", str(home))
        environ.setenv("HOME", str(home))
        environ.setattr("tallyd_client.time.time", lambda: run.at)
        environ.setattr(_screen, "_DRAWN", {os.getpid(): run.drawn})
        files: dict[str, bytes] = {}
        with Pipeline.open(home, FakeClock(run.at)) as pipeline:
            contract = pipeline.register(run.contract.product, text=run.contract.text)
            _choose(pipeline, run)
            if run.is_raw:
                for first in range(0, len(run.steps), _STEPS_IN_A_DELTA):
                    whole = _delta(run, run.steps[first : first + _STEPS_IN_A_DELTA])
                    deltas.drop(pipeline.state, whole, product=contract.product, at=run.at)
            else:
                _count(run)
            _keep_files(home, "dropped", files)
            quarantined = pipeline.intake(contract.product).quarantined
            assert quarantined == 0
            _keep_files(home, "merged", files)
            pipeline.clock.pass_s(DAY_S)
            pipeline.seal(contract.product)
            _keep_files(home, "sealed", files)
            bodies = pipeline.read(_bodies)
        return Left(bodies, files)


def _choose(pipeline: Pipeline, run: Run) -> None:
    if run.mode is not None:
        choices.write_choice(
            *(run.contract, pipeline.around.paths, pipeline.environ),
            mode=run.mode,
            now=run.at - DAY_S,
            user="an-id",
        )


def _count(run: Run) -> None:
    """What the host does."""
    client = Client(run.contract.product, contract=built(run.contract), **run.client)
    assert client.problem is None
    for name in registered_in(
        run.contract.envelope, *(one.fields for one in run.contract.events.values())
    ):
        client.register(name, KNOWN)
    with _terminal():
        hashed = client.project(f"/home/{run.planted.text()}/project")
        for place, step in enumerate(run.steps, 1):
            if "project" in step.values:
                step.values["project"] = hashed
            if step.how == "event":
                client.event(step.event, **step.values)
            elif step.how == "counter":
                client.counter(step.event, **step.values)()
            else:
                client.rollup(step.event, *step.values)(*step.values.values(), ok=step.ok)
            if place % 200 == 0:
                client.drain()
        client.close()


def _delta(run: Run, steps: list[Step]) -> dict[str, Any]:
    """What a writer of another make, that screens nothing, drops of the same."""
    identity = run.contract.identity
    whole: dict[str, Any] = {
        "envelope": {**run.client["envelope"], run.planted.text(): run.planted.text()},
        "day": instant(run.at)[:10],
        "counts": [],
        "events": [],
    }
    for step in steps:
        listed = run.contract.events.get(step.event)
        if isinstance(listed, Rollup):
            whole["counts"].append([step.event, step.values, dict.fromkeys(listed.measures, 3)])
        else:
            whole["events"].append([step.event, instant(run.at), step.values])
    if identity.kind == "derived":
        whole["id"] = identity.prefix + "0" * identity.length
    return deltas.delta(run.contract.product, **whole)


def _is_json(value: Any) -> bool:
    try:
        return bool(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return False


def _is_a_name(of: FieldType, value: Any) -> bool:
    """Whether the daemon has to take it for a name: only hosts know which of them nobody typed."""
    match of:
        case Text():
            return isinstance(value, str) and of.alphabet.issuperset(value[: of.max_length])
        case List():
            return isinstance(value, list | tuple) and any(_is_a_name(of.of, one) for one in value)
        case Names():
            is_map = isinstance(value, dict)
            return is_map and any(_is_a_name(of.of, one) for one in value)
        case Record():
            return isinstance(value, dict) and any(
                _is_a_name(one, value.get(name)) for name, one in of.fields.items()
            )
        case _:
            return False


@contextmanager
def _terminal() -> Iterator[None]:
    """Standard output is a terminal: some contracts want one."""
    ours, theirs = os.openpty()
    before = os.dup(1)
    os.dup2(theirs, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        for one in (ours, theirs, before):
            os.close(one)


def _keep_files(home: Path, when: str, files: dict[str, bytes]) -> None:
    """Every file below the home as it is now; its name counts as content."""
    for one in home.rglob("*"):
        if one.is_file():
            name = str(one.relative_to(home))
            files[f"{name}, {when}"] = name.encode() + b"\n" + one.read_bytes()


def _bodies(sql: sqlite3.Connection) -> list[bytes]:
    return [bytes(one) for (one,) in sql.execute("SELECT body FROM outbox ORDER BY id")]


def check(run: Run, left: Left) -> None:
    """What is promised of every run."""
    validator = Draft202012Validator(schema_of(run.contract))
    for body in left.bodies:
        assert list(validator.iter_errors(json.loads(body))) == []
        assert run.planted.found_in(body) == []
    found = {name: run.planted.found_in(content) for name, content in left.files.items()}
    # What another writer wrote, it wrote; from the database on it is ours.
    ours = [name for name in found if not run.is_raw or not name.startswith("state/spool")]
    assert {name: found[name] for name in ours if found[name]} == {}


@pytest.mark.slow
@pytest.mark.parametrize("is_raw", [False, True], ids=["the stub", "a writer that screens nothing"])
def test_whatever_a_host_gives_only_what_its_contract_lists_leaves(is_raw: bool):
    seen: Counter[str] = Counter()

    @settings(examples(180 if is_raw else 360), suppress_health_check=list(HealthCheck))
    @given(runs(is_raw=is_raw))
    def every(run: Run) -> None:
        left = go(run)
        event("something leaves" if left.bodies else "nothing leaves")
        seen.update(["all", *(["left"] if left.bodies else [])])
        check(run, left)

    every()
    # It would hold of a product from which nothing ever leaves.
    assert seen["left"] > seen["all"] / 3


def test_what_a_contract_lets_a_host_say_is_found_wherever_it_may_be():
    """A token that nobody registers is the host's own text: the search above does find what there is."""
    run = Run(parsed(CASES["tallyd-demo"]), Planted(), [], {"version": "1.0.0"})
    run.steps = [Step("counter", "tool_calls", {"tool": run.planted.text()})]
    left = go(run)

    found = {name for name, content in left.files.items() if run.planted.found_in(content)}
    places = {name.split("/")[1].replace("-wal", "").split("-")[0] for name in found}
    stages = {name.split(", ")[1] for name in found if "tallyd.db" in name}
    assert ({"spool", "tallyd.db, sealed"} <= places, stages) == (True, {"merged", "sealed"})
    assert [bool(run.planted.found_in(body)) for body in left.bodies] == [True]


# --- the contracts of real systems ----------------------------------------------------------------

_USER, _HOST, _HOME = getpass.getuser(), socket.gethostname(), str(Path.home())
_PATH = re.compile(r"(?<!/)/(home|Users|srv|tmp|root|etc|var)\b|\\\\|\b[A-Za-z]:/|~/")
_CREDENTIALS = re.compile(r"://[^/\s\"]*:(?!\[redacted\])[^/\s\"]*@")


def _plain(of: FieldType, planted: Planted) -> Any:
    """One good value, without anything that is searched for."""
    match of:
        case Enum():
            return of.values[0]
        case Bucket():
            return planted.number(of.edges[0])
        case Text():
            return KNOWN[0] if of.registered else "1.2"
        case Integer() | Number():
            return 3
        case Boolean():
            return True
        case Hash():
            return of.prefix + "0" * of.length
        case ErrorClass():
            return OSError(2, f"could not open {planted.text()}", f"{_HOME}/{planted.text()}")
        case Redacted():
            return "it broke"
        case List():
            return [_plain(of.of, planted)]
        case Names():
            return {"verbose": True, "config": f"{_HOME}/{planted.text()}"}
        case Record():
            return {name: _plain(one, planted) for name, one in of.fields.items()}
    raise AssertionError(of)


@pytest.mark.parametrize("event_name", parsed(CASES["ktx-v2"]).events)
def test_free_text_of_another_writer_is_redacted_before_it_is_kept(event_name: str):
    contract = parsed(CASES["ktx-v2"])
    run = Run(contract, Planted(), [], {"envelope": {}}, is_detailed=True, is_raw=True)
    listed = contract.events[event_name].fields
    good = {
        key: _plain(one.type, run.planted)
        for key, one in listed.items()
        if not isinstance(one.type, ErrorClass | Bucket | Names) and not one.is_optional
    }
    good |= {key: {} for key, one in listed.items() if isinstance(one.type, Names)}
    for key, one in listed.items():
        if isinstance(one.type, Redacted):
            texts = texts_not_for(one.type, run.planted.text, is_allowed=True)
            said = [text for text in texts if isinstance(text, str)]
            run.steps += [Step("event", event_name, {**good, key: text}) for text in said]
    left = go(run)
    check(run, left)

    body = b"".join(left.bodies)
    assert (b"[redacted]" in body, b"[path]" in body) == (bool(run.steps), bool(run.steps))


def _hostile(of: FieldType, planted: Planted) -> list[Any]:
    """What never leaves, of this very machine as well."""
    machine: list[Any] = [
        f"{_HOME}/x",
        f"{_HOME}/.ssh/id_ed25519",
        str(Path.cwd()),
        f"https://user:{planted.text()}@{_HOST}/x",
        f"\\\\{planted.text()}\\{planted.text()}",
    ]
    if isinstance(of, Redacted):
        # The host and the user of an address stay; it is the secret between them that goes.
        machine[3] = machine[3].replace(_HOST, "db.example")
    if not isinstance(of, Text | List | Names | Redacted):
        machine += [_USER.lower(), _HOST.lower(), f"{_USER}@{_HOST}"]
    if isinstance(of, List | Names):
        machine = [[one] for one in machine]
    return [*texts_not_for(of, planted.text, is_allowed=True), *machine]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_body_of_a_real_system_holds_a_path_an_address_or_a_name_of_this_machine(name: str):
    """Every listed event, with each of its fields given everything that must not leave."""
    contract = parsed(CASES[name])
    run = Run(contract, Planted(), [], is_detailed=True)
    modes = contract.consent.modes
    run.mode = modes[1] if modes else "on"
    envelope = {key: _plain(one.type, run.planted) for key, one in contract.envelope.items()}
    run.client = {"version": "1.2", "envelope": envelope, "identity": run.planted.text()}
    # Of what is told once, the last good one is told: the others are not good.
    for event_name, listed in contract.events.items():
        how = "rollup" if isinstance(listed, Rollup) else "event"
        good = {key: _plain(one.type, run.planted) for key, one in listed.fields.items()}
        for key, one in listed.fields.items():
            for bad in _hostile(one.type, run.planted):
                run.steps.append(Step(how, event_name, {**good, key: bad}))
        run.steps.append(Step(how, event_name, {**good, run.planted.text(): run.planted.text()}))
    left = go(run)
    check(run, left)

    body = b"".join(left.bodies).decode()
    told = {listed.wire_name or key for key, listed in contract.events.items()}
    assert [one for one in told if f'"event":"{one}"' not in body] == []
    found = [*_PATH.finditer(body), *_CREDENTIALS.finditer(body)]
    assert [body[max(0, one.start() - 40) : one.end() + 20] for one in found] == []
    # A secret in a free text was an address's before it was taken out.
    assert "@" not in body.replace("[redacted]@", "")
    words = {_USER, _HOST, _HOME} - set(re.findall(r"[\w./-]+", CASES[name]))
    assert [one for one in words if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", body)] == []
