"""Whom counts are from: derived ids, kept random ones, and a project's hash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hosts import files_below, run_host, start_host, texts
from support.processes import ROOT
from support.tool import (
    BY_USER,
    DERIVED,
    MODES,
    MODES_STATE,
    NAME,
    OWN_STATE,
    PROJECT,
    put,
    tool,
)
from tallyd.contract.days import is_instant
from tallyd_client import Client, _identity

NewClient = Callable[..., Client]

_KTX = json.loads((ROOT / "tests/vectors/ktx_project_hash.json").read_text())
_DOT_AI = json.loads((ROOT / "tests/vectors/dotai_events.json").read_text())["instance_id"]
_KEPT = f"state/identity/{NAME}"
_LOCAL = re.compile(r"local_[0-9a-f]{16}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_OWN_PROJECT = (OWN_STATE, PROJECT)


def ids(home: Path) -> set[str]:
    return {text["id"] for text in texts(home, NAME)}


def count_with(new_client: NewClient, identity: Any) -> Client:
    client = new_client(tool(DERIVED), NAME, identity=identity)
    client.counter("used", what="a")()
    client.drain()
    return client


def test_a_derived_id_is_that_of_the_vectors_and_its_value_stays_in_memory(
    new_client: NewClient, home: Path
):
    uid = _DOT_AI["kube_system_uid"]
    client = count_with(new_client, uid)
    written = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())

    assert ids(home) == {_DOT_AI["distinctId"]}
    assert uid.encode() not in written
    assert (client._policy.identity_value, (home / _KEPT).exists()) == (None, False)


@pytest.mark.parametrize("identity", [None, "", 7, b"x"])
def test_without_a_value_a_random_id_is_kept_so_that_restarts_are_one_instance(
    new_client: NewClient, home: Path, identity: Any
):
    for _ in range(3):
        count_with(new_client, identity)

    (mine,) = ids(home)
    kept = home / _KEPT
    assert _LOCAL.fullmatch(mine)
    assert (f"{mine}\n", 0o600, 0o700) == (
        kept.read_text(),
        stat.S_IMODE(kept.stat().st_mode),
        stat.S_IMODE(kept.parent.stat().st_mode),
    )
    assert os.listdir(kept.parent) == [NAME]


def test_a_kept_id_that_the_daemon_removed_is_another_one_from_then_on(
    new_client: NewClient, home: Path
):
    """Whoever switches off and on again is somebody else to the receiver, also in a running host."""
    client = count_with(new_client, None)
    (home / _KEPT).unlink()
    client.counter("used", what="a")()
    client.drain()

    assert len(ids(home)) == 2


@pytest.mark.parametrize("content", [b"", b"local_12\n", b"cluster_" + b"0" * 16, b"\xff" * 22])
def test_a_kept_id_that_is_none_is_made_again(new_client: NewClient, home: Path, content: bytes):
    """A power cut may leave an empty file behind."""
    put(home / _KEPT, content)
    count_with(new_client, None)
    (mine,) = ids(home)

    assert (True, f"{mine}\n") == (bool(_LOCAL.fullmatch(mine)), (home / _KEPT).read_text())


def test_a_kept_id_is_never_written_through_a_link(new_client: NewClient, home: Path):
    other = put(home / "other", "mine")
    (home / _KEPT).parent.mkdir(parents=True)
    (home / _KEPT).symlink_to(other)
    count_with(new_client, None)

    assert other.read_text() == "mine"


def test_an_id_that_cannot_be_kept_keeps_the_counts_for_the_next_drop(
    new_client: NewClient, home: Path
):
    obstacle = put(home / "state/identity", "in the way")
    client = count_with(new_client, None)
    nothing = files_below(home)
    obstacle.unlink()
    client.drain()

    assert nothing == ["state/identity"]
    assert [text["counts"][0][2]["count"] for text in texts(home, NAME)] == [1]


def test_off_makes_no_id(new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    client = count_with(new_client, None)

    assert (client.project("/srv/x"), files_below(home)) == (None, [])


@pytest.mark.slow
def test_of_processes_that_make_an_id_at_once_all_have_one(home: Path):
    code = f"""
client = Client(contract={tool(DERIVED)!r})
client.counter("used", what="a")()
print("ready", flush=True); sys.stdin.read()
client.drain()
"""
    hosts = [start_host(home, code, stdin=-1) for _ in range(12)]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
    for host in hosts:
        assert host.stdin is not None
        host.stdin.close()
        host.stdin = None
    assert [(host.wait(30), host.communicate()[0]) for host in hosts] == [(0, "")] * 12

    assert (len(texts(home, NAME)), len(ids(home))) == (12, 1)
    assert os.listdir(home / "state/identity") == [NAME]


def own(home: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((home / ".tool/state.json").read_text())
    return said


def test_a_projects_hash_is_that_of_the_vectors(new_client: NewClient, home: Path):
    put(home / ".tool/state.json", {"on": True, "installId": _KTX["installId"]})
    client = new_client(tool(*_OWN_PROJECT), NAME)

    assert client.project(_KTX["projectDir_absolute"]) == _KTX["projectId"]
    assert client.project(_KTX["projectDir_absolute"] + "/") == _KTX["projectId"]
    assert client.project(Path(_KTX["projectDir_absolute"])) == _KTX["projectId"]
    assert client.project("/srv/demo/../demo/analytics-workspace") == _KTX["projectId"]


def test_a_projects_path_is_made_absolute_and_its_links_are_not_resolved(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    put(home / ".tool/state.json", {"on": True, "installId": _KTX["installId"]})
    (home / "real").mkdir()
    (home / "link").symlink_to("real")
    monkeypatch.chdir(home)
    client = new_client(tool(*_OWN_PROJECT), NAME)

    def hashed(path: Path) -> str:
        return hashlib.sha256(f"{_KTX['installId']}:{path}".encode()).hexdigest()

    assert client.project("link") == hashed(home / "link")
    assert client.project(".") == hashed(home)
    assert client.project("/") == hashed(Path("/"))
    assert client.project(os.fsencode(home)) == hashed(home)
    assert client.project("/srv/\udcff") is not None


def test_another_id_makes_another_hash(new_client: NewClient, home: Path):
    client = new_client(tool(*_OWN_PROJECT), NAME)
    found = []
    for mine in (_KTX["installId"], "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"):
        put(home / ".tool/state.json", {"on": True, "installId": mine})
        found.append(client.project("/srv/x"))

    assert found[0] != found[1]


def test_a_hash_that_needs_an_id_makes_it_as_the_product_would(new_client: NewClient, home: Path):
    client = new_client(tool(*_OWN_PROJECT), NAME)
    first = client.project("/srv/x")
    said, file = own(home), home / ".tool/state.json"

    assert _UUID.fullmatch(said["installId"])
    assert is_instant(said.pop("createdAt"))
    assert {"on": True, "installId": said["installId"]} == said
    assert (
        stat.S_IMODE(file.stat().st_mode),
        stat.S_IMODE(file.parent.stat().st_mode),
    ) == (0o600, 0o700)
    assert os.listdir(file.parent) == ["state.json"]
    assert first == client.project("/srv/x")
    assert first == hashlib.sha256(f"{said['installId']}:/srv/x".encode()).hexdigest()
    assert (client._policy.consent().mode, client._policy.stored().choice) == ("on", "none")


def test_in_tallyds_own_file_a_made_id_is_no_choice(new_client: NewClient, home: Path):
    client = new_client(tool(PROJECT), NAME)
    client.project("/srv/x")
    said = json.loads((home / "state/consent/tool.json").read_text())

    assert set(said) == {
        *("enabled", "machine_id", "consent_source", "first_run_notice_shown", "updated_at"),
    }
    assert (said["enabled"], said["consent_source"], said["first_run_notice_shown"]) == (
        True,
        "default-notice",
        False,
    )
    assert client._policy.stored().choice == "none"


def test_a_made_id_says_of_the_notice_what_is_so(new_client: NewClient, home: Path):
    client = new_client(tool(*_OWN_PROJECT), NAME)
    client.counter("used", what="a")()
    client.drain()
    client.project("/srv/x")
    said = own(home)

    assert (is_instant(said["noticeAt"]), said["noticeVersion"]) == (True, 1)


def test_an_id_is_added_to_a_file_that_is_there_and_all_else_stays(
    new_client: NewClient, home: Path
):
    put(home / ".tool/state.json", {"on": True, "theme": {"dark": [1, None, 2.5]}})
    client = new_client(tool(*_OWN_PROJECT), NAME)
    client.project("/srv/x")
    said = own(home)

    assert _UUID.fullmatch(said.pop("installId"))
    assert said == {"on": True, "theme": {"dark": [1, None, 2.5]}}


def test_an_id_is_added_to_a_file_in_toml_and_its_comments_stay(new_client: NewClient, home: Path):
    state = """
[state]
file = "~/.tool/state.toml"
format = "toml"
keys = { enabled = "on", id = "installId" }
"""
    put(home / ".tool/state.toml", "# mine\non = true # yes\n")
    client = new_client(tool(state, PROJECT), NAME)
    hashed = client.project("/srv/x")
    mine = client._policy.stored().id
    (home / ".tool/state.toml").unlink()
    again = client.project("/srv/x")

    assert hashed == hashlib.sha256(f"{mine}:/srv/x".encode()).hexdigest()
    assert again != hashed
    assert (
        f'on = true\ninstallId = "{client._policy.stored().id}"\n'
        == (home / ".tool/state.toml").read_text()
    )


@pytest.mark.parametrize(
    ("more", "how"),
    [
        ((OWN_STATE,), {}),
        ((OWN_STATE, PROJECT), {"consent": 'default = "ask"'}),
        ((OWN_STATE.replace('id = "installId", ', ""), PROJECT), {}),
        ((MODES_STATE, BY_USER + '\nproject = "sha256(id:path)"'), {"consent": MODES}),
    ],
    ids=["not in the contract", "off", "no place for an id", "nobody identified"],
)
def test_where_there_is_no_hash_there_is_none_and_no_file(
    new_client: NewClient, home: Path, more: tuple[str, ...], how: dict[str, str]
):
    client = new_client(tool(*more, **how), NAME)

    assert (client.project("/srv/x"), files_below(home)) == (None, [])


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"on": true, "installId": "me"}'])
def test_a_damaged_file_gets_no_id_not_even_where_a_variable_says_on(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
):
    file = put(home / ".tool/state.json", damage)
    monkeypatch.setenv("TOOL_TELEMETRY", "1")
    client = new_client(tool(*_OWN_PROJECT), NAME)

    assert (client.project("/srv/x"), damage) == (None, file.read_bytes())


@pytest.mark.parametrize("bad", [None, 7, [], "a\0b", object()])
def test_what_is_no_path_has_no_hash(new_client: NewClient, home: Path, bad: Any):
    client = new_client(tool(*_OWN_PROJECT), NAME)
    client.project("/srv/x")

    assert client.project(bad) is None or bad == "a\0b"


def test_an_id_that_cannot_be_written_down_means_off_for_this_run(
    new_client: NewClient, home: Path
):
    put(home / ".tool", "in the way")
    client = new_client(tool(*_OWN_PROJECT, consent='default = "on"'), NAME)
    # The directory on the way is a file: that is damage, and off before anything is tried.
    damaged = client.project("/srv/x")
    (home / ".tool").unlink()
    (home / ".tool").symlink_to("/proc/1/nowhere")
    unwritable = client.project("/srv/x")
    (home / ".tool").unlink()
    client.counter("used", what="a")()
    client.drain()

    assert (damaged, unwritable, client._is_off, files_below(home)) == (None, None, True, [])


@pytest.mark.slow
def test_of_processes_that_need_an_id_at_once_all_have_one(home: Path):
    code = f"""
client = Client(contract={tool(*_OWN_PROJECT)!r})
print("ready", flush=True); sys.stdin.read()
print(client.project("/srv/x"))
"""
    hosts = [start_host(home, code, stdin=-1) for _ in range(12)]
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
    for host in hosts:
        assert host.stdin is not None
        host.stdin.close()
        host.stdin = None
    said = {(host.wait(30), *host.communicate()) for host in hosts}

    mine = own(home)["installId"]
    assert said == {(0, hashlib.sha256(f"{mine}:/srv/x".encode()).hexdigest() + "\n", "")}
    assert os.listdir(home / ".tool") == ["state.json"]


def test_a_disk_without_links_still_makes_one_id(
    new_client: NewClient, home: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr("tallyd_client._storing.os.link", refuse)
    client = new_client(tool(*_OWN_PROJECT), NAME)
    first = client.project("/srv/x")

    assert first is not None
    assert (first, ["state.json"]) == (client.project("/srv/x"), os.listdir(home / ".tool"))


def test_the_hash_is_made_without_hashlib(home: Path):
    """It costs more than all of the stub; the C modules below it do not."""
    code = f"""
client = Client(contract={tool(DERIVED, PROJECT.replace("[identity]", ""))!r}, identity="x")
client.counter("used", what="a")()
client.drain()
print("hashlib" in sys.modules, client.project("/srv/x") is not None)
"""
    assert run_host(home, code, "-S").stdout == "False True\n"


def test_every_python_has_the_same_sha256():
    assert _identity.sha256_of(b"x") == hashlib.sha256(b"x").hexdigest()


@pytest.mark.slow
def test_a_handler_that_asks_while_its_own_thread_is_asking_waits_a_moment_only(
    new_client: NewClient, home: Path
):
    """A signal may come in the middle of a look; whoever holds the lock then is below the handler."""
    client = new_client(tool(*_OWN_PROJECT), NAME)
    with client._looking:
        hashed = client.project("/srv/x")
        client.counter("used", what="a")()
    client.drain()

    assert (hashed is not None, len(texts(home, NAME))) == (True, 1)
