"""Inputs that once broke a promise, each the smallest of its kind. They stay."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.deltas import delta
from support.pipeline import Pipeline
from tallyd import requests
from tallyd.errors import NotRegistered, SettingsError
from tallyd.settings import read_settings

_ID = b"c1b0f2d8-6a3e-4f27-8a44-0d9e6b5f1c72"
_DATE = b"2026-06-03T08:00:12.114Z"
_ON = b'\n%%\n{"choice":"on","updated_at":"' + _DATE + b'"}'
_DEEP = b"[" * 300 + b"]" * 300

_FOUND = {
    # After a "no" the file held `id = ""`, which reads as damage: off, but nothing was deleted.
    "a no in TOML with an id": ("state", b'fon = true\nid = "' + _ID + b'"\nsource = "cli"\n'),
    # The stub read a mode where the contract knows none, and called the file damaged.
    "a mode without modes": ("state", b'k{"mode":"anonymous","on":true}'),
    # Each of these the stub called damaged, the daemon on, or off.
    "a switch of the wrong type beside a mode": ("state", b'h{"mode":"anonymous","on":"no"}'),
    "a mode of no kind beside a switch": ("state", b'h{"mode":"x","on":false}'),
    "a source of the wrong type": ("state", b'e{"on":true,"source":5}'),
    # The daemon took the word beside the file where the file itself says nothing.
    "a choice beside an empty file": ("state", b"b{}" + _ON),
    "a choice beside a file without a mode": ("state", b"g" + _ON),
    # Without an id identified is anonymous; the choice keeps its date all the same.
    "identified as nobody": ("state", b'gtelemetry_mode = "identified"' + _ON.replace(b'"on"', b'"identified"')),
    # The daemon read more than UTF-8, and the last of two equal keys.
    "a choice beside in UTF-16": ("state", b'b{"on":true}\n%%\n' + _ON[4:].decode().encode("utf-16")),
    "a choice beside said twice": ("state", b'b{"on":true}' + _ON.replace(b'"choice"', b'"choice":"off","choice"')),
    # How deep `json` reads depends on who calls it; what was read could not be written again.
    "a state file of many levels": ("state", b'a{"enabled":true,"consent_source":"cli","x":' + _DEEP + b"}"),
    # `status` fell over the lock's text: another program's, or that of a future tallyd.
    "a lock of many levels": ("small_files", b"l" + b"[" * 4000),
    "a lock of an endless process": ("small_files", b'l{"pid":1e999,"role":"","version":"","started_at":0}'),
    "a lock from no calendar": ("small_files", b'l{"pid":1,"role":"","version":"","started_at":1e300}'),
    "a lock since never": ("small_files", b'l{"pid":1,"role":"","version":"","started_at":NaN}'),
    # A waiting `tallyd flush` fell over an answer that no daemon of ours gave.
    "an answer cut short": ("small_files", b'a{"sent":'),
    "an answer that is no text": ("small_files", b"a\x80"),
    # So did every command over a config.toml.
    "a setting of many levels": ("small_files", b"dx = " + b"[" * 5000),
    "a setting of many digits": ("small_files", b"dx = " + b"9" * 5000),
}  # fmt: skip


@pytest.mark.parametrize("name", _FOUND)
def test_what_once_broke_a_promise_keeps_it(name: str):
    target, data = _FOUND[name]

    importlib.import_module(f"fuzz.{target}").one_input(data)


def _a_request(pipeline: Pipeline, file: Path) -> object:
    return requests.to_forget(file)


def _an_answer(pipeline: Pipeline, file: Path) -> object:
    file.rename(file.with_name("a-request.answer"))
    return requests.wait(file.with_name("a-request"), 0.0, lambda: False)


def _a_setting(pipeline: Pipeline, file: Path) -> object:
    os.replace(file, pipeline.around.paths.settings_file)
    with pytest.raises(SettingsError, match="regular"):
        read_settings(pipeline.around.paths)
    return None


def _a_contract(pipeline: Pipeline, file: Path) -> object:
    os.replace(file, pipeline.around.paths.contracts / "tool.toml")
    with pytest.raises(NotRegistered, match="regular"):
        pipeline.around.registry.get("tool")
    return None


@pytest.mark.parametrize("look", [_a_request, _an_answer, _a_setting, _a_contract])
def test_a_pipe_where_a_file_belongs_holds_nobody(
    pipeline: Pipeline, home: Path, look: Callable[[Pipeline, Path], object]
):
    """Opening one waits for a writer: one look at it stopped the daemon, for every product."""
    os.mkfifo(home / "a-request")

    assert not look(pipeline, home / "a-request")

    pipeline.drop(delta())
    assert pipeline.intake().merged == 1


@pytest.mark.parametrize(
    ("look", "said"), [(_a_request, b'["tallyd-demo"]'), (_an_answer, b'{"sent": 1}')]
)
def test_a_request_of_megabytes_is_not_read(
    pipeline: Pipeline, home: Path, look: Callable[[Pipeline, Path], object], said: bytes
):
    (home / "a-request").write_bytes(said)
    assert look(pipeline, home / "a-request")
    (home / "a-request").write_bytes(said + b" " * 2_000_000)

    assert not look(pipeline, home / "a-request")
