"""Every reader of a file keeps the file's cap before it reads, not after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.deltas import drop
from support.pipeline import Pipeline
from support.processes import DEMO_CONTRACT
from support.tool import put, tool
from support.work import peak_bytes
from tallyd import choices, lock, notices, policy, requests
from tallyd.contract import parse_contract
from tallyd.errors import NotRegistered, SettingsError
from tallyd.registry import Registry
from tallyd.settings import read_settings
from tallyd_client._forbidden import forbids
from tallyd_client._policy import Policy

_DEMO = parse_contract(DEMO_CONTRACT.read_bytes(), "demo.toml")
_HUGE = 256 * 1024 * 1024


def _of_state(pipeline: Pipeline, file: Path) -> bool:
    paths, environ = pipeline.around.paths, pipeline.environ
    file.parent.mkdir(parents=True, exist_ok=True)
    return choices.read_choice(_DEMO, paths, environ).stored.choice.value == "damaged"


def _of_delta(pipeline: Pipeline, file: Path) -> bool:
    drop(pipeline.state, b"")
    (new,) = (pipeline.state / "spool" / "tallyd-demo" / "new").iterdir()
    file.rename(new)
    return pipeline.intake().quarantined == 1


def _of_settings(pipeline: Pipeline, file: Path) -> bool:
    with pytest.raises(SettingsError, match="over 64 KiB"):
        read_settings(pipeline.around.paths)
    return True


def _of_contract(pipeline: Pipeline, file: Path) -> bool:
    with pytest.raises(NotRegistered, match="over 64 KiB"):
        Registry(pipeline.around.paths).get("tool")
    return True


def _of_lock(pipeline: Pipeline, file: Path) -> bool:
    with file.open("r+b") as held:
        lock._take(held)
        holder = lock.current_holder(pipeline.around.paths)
    return holder is not None and holder.role == "unknown"


_READERS: dict[str, tuple[str, Callable[[Pipeline, Path], bool]]] = {
    "a delta": ("a-delta", _of_delta),
    "a state file": ("state/consent/tallyd-demo.json", _of_state),
    "a state file in the stub": (
        "state/consent/tool.json",
        lambda pipeline, file: Policy(None, "1", tool(), {}).stored().choice == "damaged",
    ),
    "a policy file": (
        "config/policy.toml",
        lambda pipeline, file: bool(
            policy.bans_on("tool", pipeline.around.paths, pipeline.environ).damaged
        ),
    ),
    "a policy file in the stub": (
        "config/policy.toml",
        lambda pipeline, file: forbids(str(file), "tool"),
    ),
    "a notice": (
        f"state/notices/tallyd-demo/{_DEMO.short_digest}",
        lambda pipeline, file: notices.shown_at(_DEMO, pipeline.around.paths) is None,
    ),
    "settings": ("config/config.toml", _of_settings),
    "a contract": ("config/contracts/tool.toml", _of_contract),
    "an agreement": (
        "state/agreed/tool.toml",
        lambda pipeline, file: Registry(pipeline.around.paths).agreement("tool").is_damaged,
    ),
    "a request": (
        "state/flush/a-request",
        lambda pipeline, file: requests.to_forget(file) == [],
    ),
    "an answer": (
        "state/flush/a-request.answer",
        lambda pipeline, file: (
            requests.wait(file.with_name("a-request"), 0.0, lambda: False) is None
        ),
    ),
    "a lock": ("state/daemon.lock", _of_lock),
}


@pytest.mark.parametrize("name", _READERS)
def test_a_file_over_its_cap_is_not_read_whole(
    pipeline: Pipeline, home: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """A quarter of a gigabyte, that takes no room on disk: whoever reads it whole holds it whole."""
    monkeypatch.setenv("TALLYD_HOME", str(home))
    monkeypatch.setenv("HOME", str(home))
    place, is_refused = _READERS[name]
    with put(home / place, b"{").open("r+b") as opened:
        opened.truncate(_HUGE)
    answers: list[bool] = []

    held = peak_bytes(lambda: answers.append(is_refused(pipeline, home / place)))

    assert answers == [True]
    assert held < 4 * 1024 * 1024
