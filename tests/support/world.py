"""The real pipeline of one home, as `support.model` knows it: hosts, daemon, gateway, and a kill.

Everything is real (stub, files, SQLite, HTTP on loopback) but for the clock, and for a gateway that
answers as it is told. A host is drained by hand: it has no thread of its own.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from tallyd import choices, notices
from tallyd.contract import parse_contract
from tallyd_client import Client
from tallyd_client._load import constants_of

from support.answering import Answering
from support.clock import FakeClock
from support.counted import Batch, Content, Decision, Facts, Key, Picture, Request, unix_of
from support.dying import Death, SteppingConnection, dying
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT, environ_of

PRODUCT = "tallyd-demo"
_WIDER = """
[events.prompts]
kind = "rollup"
about = "How often a prompt was asked for."
dimensions.tool = { type = "token", max = 64, cut = true, about = "The prompt's name." }
measures = ["count", "error_count"]
"""


def contract_texts(busy: str, unanswered: str) -> dict[str, bytes]:
    """A contract, and a wider one, of the demo's product."""
    text = DEMO_CONTRACT.read_text()
    for old, new in (
        ('grace = "0s"', 'grace = "1h"'),
        ('busy = "later"', f'busy = "{busy}"\nmax_age_days = 30\nmax_requests_per_minute = 6'),
        ('unanswered = "keep"', f'unanswered = "{unanswered}"'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return {"narrow": text.encode(), "wide": (text + _WIDER).encode()}


class World:
    """One home with its daemon, hosts and gateway; close it when done."""

    def __init__(self, gateway: Answering, busy: str, unanswered: str) -> None:
        self._ending = ExitStack()
        self.home = Path(tempfile.mkdtemp(prefix="tallyd-model-"))
        self._ending.callback(shutil.rmtree, self.home)
        self.clock = FakeClock()
        self.gateway = gateway
        self.busy, self.unanswered = busy, unanswered
        self.texts = contract_texts(busy, unanswered)
        self.contracts = {name: parse_contract(text, name) for name, text in self.texts.items()}
        self._built = {name: constants_of(text) for name, text in self.texts.items()}
        self._known: set[str] = set()
        gateway.begin()
        self._ending.enter_context(_environment(environ_of(self.home)))
        self._problems = _Problems()
        logging.getLogger("tallyd").addHandler(self._problems)
        self._ending.callback(logging.getLogger("tallyd").removeHandler, self._problems)
        self._daemon = self._ending.enter_context(ExitStack())
        self.start()

    def close(self) -> None:
        self._ending.close()

    # --- the daemon -------------------------------------------------------------------------------

    def start(self) -> None:
        """A daemon over this home; the one before is gone."""
        self._daemon.close()
        connect = sqlite3.connect

        def stepping(*arguments: Any, **more: Any) -> sqlite3.Connection:
            made: sqlite3.Connection = connect(*arguments, **more, factory=SteppingConnection)
            return made

        sqlite3.connect = stepping  # type: ignore[assignment]
        try:
            self.pipeline = self._daemon.enter_context(Pipeline.open(self.home, self.clock))
        finally:
            sqlite3.connect = connect
        self.pipeline.environ["TALLYD_DEMO_ENDPOINT"] = self.gateway.url

    def run(self, acts: list[Callable[[], object]], death: Death | None) -> bool:
        """Run these; True when a kill came before their end. The daemon is started again then."""
        with dying(self.home, death):
            for act in acts:
                act()
        self._problems.raise_any()
        if death is None or not death.is_dead:
            return False
        self.start()
        return True

    def tell(self, mode: str) -> None:
        """What `tallyd on` and `tallyd off` write, without the deletion that follows."""
        around = self.pipeline.around
        contract = around.registry.get(PRODUCT)
        now = self.clock.now()
        choices.write_choice(contract, around.paths, around.environ, mode=mode, now=now)
        if mode == "on":
            around.registry.agree(contract)

    def register(self, name: str, *, is_shown: bool) -> None:
        """`tallyd contract add`, and perhaps a notice that some host showed."""
        around = self.pipeline.around
        around.registry.add(self.contracts[name])
        if is_shown:
            notices.mark_shown(self.contracts[name], around.paths, self.clock.now())

    # --- hosts ------------------------------------------------------------------------------------

    def host(self, contract: str) -> Client:
        """A host with this contract, in this process."""
        with self.host_time():
            client = Client(PRODUCT, "1.0.0", contract=self._built[contract])
        # Drained by hand, so that no other thread drops anything.
        client._start_thread = lambda: None  # type: ignore[method-assign]
        self._ending.callback(setattr, client, "_is_closed", True)
        return client

    @contextmanager
    def host_time(self) -> Iterator[None]:
        """The clock of the hosts is this one's; what they print is thrown away."""
        real = time.time
        time.time = self.clock.now  # type: ignore[assignment]
        try:
            with redirect_stderr(io.StringIO()):
                yield
        finally:
            time.time = real

    # --- what there is ----------------------------------------------------------------------------

    def facts(self) -> Facts:
        """What the disk says of the user's word and of the contracts."""
        said = _json(self.home / "state" / "consent" / f"{PRODUCT}.json")
        is_chosen = said.get("enabled") is True
        since = said.get("updated_at") if is_chosen else None
        registered = self._which(self.home / "config" / "contracts" / f"{PRODUCT}.toml")
        assert registered is not None
        return Facts(
            now=self.clock.now(),
            is_on=said.get("enabled") is not False,
            decision=(since, said.get("machine_id")),
            registered=registered,
            shown={name: self._shown_at(name) for name in self.texts},
            busy=self.busy,
            unanswered=self.unanswered,
        )

    def new_names(self) -> list[str]:
        return self._listed("new")

    def dropped(self, name: str) -> bytes:
        """A file of the spool."""
        return (self.home / "state" / "spool" / PRODUCT / "new" / name).read_bytes()

    def picture(self) -> Picture:
        """Every place as it is, read by another connection."""
        sql = sqlite3.connect(self.home / "state" / "tallyd.db")
        try:
            kept: Content = Counter()
            for event, day, fields, dimensions, measure, value in sql.execute(
                "SELECT event, day, fields, dimensions, measure, value FROM bucket"
                " JOIN envelope ON envelope.id = envelope_id"
            ):
                version = json.loads(fields)["host_version"]
                kept[event, day, version, json.loads(dimensions)["tool"], measure] += value
            for event, ts, fields, properties in sql.execute(
                "SELECT event, ts, fields, properties FROM event"
                " JOIN envelope ON envelope.id = envelope_id"
            ):
                version = json.loads(fields)["host_version"]
                kept[event, ts, version, json.loads(properties)["transport"], ""] += 1
            lost = sql.execute(
                "SELECT cause, unsent, total FROM loss WHERE cause <> 'stripped_fields'"
            ).fetchall()
            waiting = [
                batch_of(row[0]) for row in sql.execute("SELECT body FROM outbox ORDER BY id")
            ]
            (names,) = sql.execute("SELECT count(*) FROM delta").fetchone()
            (requests,) = sql.execute("SELECT count(*) FROM ledger").fetchone()
            held = sql.execute("SELECT effective_from, machine_id FROM decision").fetchone()
        finally:
            sql.close()
        return Picture(
            new=self.new_names(),
            bad=sum(not name.endswith(".why") for name in self._listed("bad")),
            names=names,
            kept=kept,
            outbox=[(one.id, one.content, one.lost) for one in waiting],
            gateway=self._stored(),
            unsent=Counter({cause: unsent for cause, unsent, _ in lost}),
            totals=Counter({cause: total for cause, _, total in lost}),
            agreed=self._which(self.home / "state" / "agreed" / f"{PRODUCT}.toml"),
            held=held,
            requests=requests,
        )

    def news(self) -> tuple[list[Request], list[Batch]]:
        """What arrived since the last look, and every batch that is new: those that were sent first."""
        arrived = [Request(batch_of(body), answer, body) for body, answer in self.gateway.take()]
        sql = sqlite3.connect(self.home / "state" / "tallyd.db")
        try:
            rows = sql.execute("SELECT body FROM outbox ORDER BY id").fetchall()
        finally:
            sql.close()
        found = {one.batch.id: batch_of_copy(one.batch) for one in arrived}
        found |= {one.id: one for (body,) in rows if (one := batch_of(body)).id not in found}
        born = [one for one in found.values() if one.id not in self._known]
        self._known |= set(found)
        return arrived, born

    def _stored(self) -> dict[str, tuple[Content, Counter[str]]]:
        batches = [batch_of(body) for body in self.gateway.stored.values()]
        return {one.id: (one.content, one.lost) for one in batches}

    def _listed(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(self.home / "state" / "spool" / PRODUCT / directory))
        except FileNotFoundError:
            return []

    def _which(self, file: Path) -> str | None:
        text = file.read_bytes() if file.exists() else None
        return next((name for name, one in self.texts.items() if one == text), None)

    def _shown_at(self, name: str) -> float | None:
        digest = self.contracts[name].short_digest
        file = self.home / "state" / "notices" / PRODUCT / digest
        return unix_of(file.read_text().strip()) if file.exists() else None


def batch_of(body: bytes) -> Batch:
    """A body on the wire, as the model keeps it. It says under one envelope what it says."""
    said = json.loads(body)
    content: Content = Counter()
    for one in said["events"]:
        props, version = one["props"], said["host_version"]
        if "transport" in props:
            content[one["event"], one["ts"], version, props["transport"], ""] += 1
            continue
        for measure in ("count", "error_count"):
            key = (one["event"], one["ts"][:10], version, props["tool"], measure)
            content[key] += props[measure]
    lost = Counter(said.get("lost", {}))
    return Batch(said["batch_id"], content, lost, said["machine_id"], 0.0)


def understood(text: bytes) -> tuple[Content, Counter[str], Decision]:
    """What a delta says: its content, its losses, and the decision that its writer saw."""
    said = json.loads(text)
    version, content = said["envelope"]["host_version"], Counter[Key]()
    for event, dimensions, measures in said["counts"]:
        for measure, value in measures.items():
            content[event, said["day"], version, dimensions["tool"], measure] += value
    for event, ts, properties in said["events"]:
        content[event, ts, version, properties["transport"], ""] += 1
    stamp = (said["consent"]["since"], said["consent"]["id"])
    return content, Counter(said.get("lost", {})), stamp


def batch_of_copy(one: Batch) -> Batch:
    return Batch(one.id, Counter(one.content), Counter(one.lost), one.machine_id, one.expires)


class _Problems(logging.Handler):
    """Keeps what the daemon calls an error: `_isolated` survives it, a test must not."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # That the clock was set is news, and no fault.
        if "duty=clock" not in record.getMessage():
            self.said.append(self.format(record))

    def raise_any(self) -> None:
        assert self.said == []


@contextmanager
def _environment(environ: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _json(file: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
    return said
