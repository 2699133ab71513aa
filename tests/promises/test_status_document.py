"""docs/status.md is the report of `tallyd status --json`: every key, in every state, with its type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clock import NOON
from support.deltas import delta
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT, ROOT, daemon, environ_of, run, tallyd
from tallyd import ledger, lock, outbox, policy
from tallyd.contract.days import is_instant
from tallyd.status import SCHEMA_VERSION, gather
from tallyd.troubles import Problem

_PAGE = (ROOT / "docs" / "status.md").read_text()
_DOCUMENTED = dict(re.findall(r"^\| `(\S+)` \| ([a-z ]+?) \|", _PAGE, re.MULTILINE))
_TYPES: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "boolean": lambda value: type(value) is bool,
    "string": lambda value: type(value) is str,
    "path": lambda value: type(value) is str and Path(value).is_absolute(),
    "instant": is_instant,
    "object": lambda value: type(value) is dict,
    "map": lambda value: type(value) is dict,
    "list": lambda value: type(value) is list,
    "list of strings": lambda value: all(type(one) is str for one in value),
    "null": lambda value: value is None,
}


def _walk(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Everything in a report, under the path that the page gives it."""
    if path:
        yield _on_page(path), value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from _walk(inner, (*path[:-1], f"{path[-1]}[]"))


def _on_page(path: tuple[str, ...]) -> str:
    """Names of products, causes and (for what each place holds) places stand there as `*`."""
    parts = list(path)
    if parts[0] == "products" and len(parts) > 1:
        parts[1] = "*"
        if parts[2:3] == ["lost"] or (parts[2:3] == ["ages"] and len(parts) > 4):
            parts[3:4] = ["*"] * len(parts[3:4])
    return ".".join(parts)


def _never_set_up(home: Path) -> Iterator[dict[str, Any]]:
    yield json.loads(tallyd(home, "status", "--json", check=False))


def _running(home: Path) -> Iterator[dict[str, Any]]:
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    with daemon(home):
        yield json.loads(tallyd(home, "status", "--json"))


def _off(home: Path) -> Iterator[dict[str, Any]]:
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    tallyd(home, "off", "tallyd-demo")
    yield json.loads(tallyd(home, "status", "--json", check=False))


def _damaged(home: Path) -> Iterator[dict[str, Any]]:
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "config/contracts/broken.toml").write_text("contract = 2\n")
    (home / "state" / "tallyd.db").write_bytes(b"no database at all" * 100)
    yield json.loads(tallyd(home, "status", "--json", check=False))
    # Set aside, begun anew, and what an earlier end left.
    tallyd(home, "flush", check=False)
    yield json.loads(tallyd(home, "status", "--json", check=False))


def _one_of_many(home: Path) -> Iterator[dict[str, Any]]:
    tallyd(home, "contract", "add", str(DEMO_CONTRACT))
    (home / "state/spool/stranger").mkdir(parents=True)
    done = run("tallyd", "status", "tallyd-demo", "--json", environ=environ_of(home), check=False)
    yield json.loads(done.stdout)


def _busy(pipeline: Pipeline) -> dict[str, Any]:
    """Everything in every place, a batch that was refused, and a daemon that has a problem."""
    pipeline.drop(delta(lost={"cap": 2}, day="2026-11-19", events=[_STARTED]))
    pipeline.drop(b"{")
    pipeline.intake()
    pipeline.seal()
    pipeline.drop(delta(events=[_STARTED]))
    pipeline.intake()
    pipeline.drop()
    with pipeline.store.transaction() as sql:
        batch = outbox.oldest(sql, "tallyd-demo")
        assert batch is not None
        refused = ledger.Verdict.REFUSED
        url = "https://example.org/v1/events"
        ledger.record(sql, batch, at=NOON, endpoint=url, verdict=refused, detail="HTTP 400")
    policy.forbid("absent", pipeline.around.paths)
    holder = lock.Holder(1, "daemon", "0.1.0", NOON)
    with lock.hold_lock(pipeline.around.paths, holder) as held:
        held.post([Problem("intake", "tallyd-demo", "it fails", NOON, 2)])
        return gather(pipeline.around, NOON)[0]


_STARTED = ["server_started", "2026-11-20T11:59:00.000Z", {"transport": "stdio"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "reports", [_never_set_up, _running, _off, _damaged, _one_of_many], ids=lambda one: one.__name__
)
def test_every_key_of_a_report_is_on_the_page_with_its_type(home, reports):
    for report in reports(home):
        assert _differences(report) == []
        assert report["schema_version"] == SCHEMA_VERSION == 1


def test_every_key_on_the_page_is_in_a_report_of_a_busy_machine(pipeline: Pipeline):
    """So that a key that is removed or renamed fails, and so does one that nobody wrote down."""
    report = _busy(pipeline)
    found = {path for path, _ in _walk(report)}
    # What only a machine that had bad luck tells of.
    found |= {f"last_{rest}" for rest in ("stop.at", "stop.reason", "stop.uptime_s")}
    found |= {"last_damage.at", "last_damage.kept", *(f"problems[].{one}" for one in _SYMPTOM)}

    assert (_differences(report), set(_DOCUMENTED) - found - set(_NODES)) == ([], set())


_SYMPTOM = ("place", "product", "why")
_MAPS = ("products", "products.*.lost")
_NODES = ("products.*", "daemon.problems[]", "problems[]", "forbidden[]")


def _differences(report: dict[str, Any]) -> list[str]:
    """What the page does not say of this report, and what it says and the report does not hold."""
    found = []
    for path, value in (("", report), *_walk(report)):
        types = _DOCUMENTED.get(path, "").split(" or ")
        # The nodes of the tree that are names, or entries of a list, have no row of their own.
        if path and path not in _NODES and not any(_TYPES[one](value) for one in types if one):
            found.append(f"{path} is {value!r}; the page says {types}")
        above = re.sub(r"\.ages\.\w+$", ".ages.*", path)
        keys = {one.rpartition(".")[2] for one in _DOCUMENTED if one.rpartition(".")[0] == above}
        keys -= {"*"}
        if isinstance(value, dict) and path not in _MAPS and set(value) != keys:
            found.append(f"{path or 'the report'} differs in {sorted(set(value) ^ keys)}")
    return found
