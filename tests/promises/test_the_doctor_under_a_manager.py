"""The doctor beside a real user service, as an ordinary user: what it reads of it is what is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from support.managed import QUICK, Manager, user_manager
from support.processes import DEMO_CONTRACT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture
def service() -> Iterator[Manager]:
    with user_manager() as made:
        made.tallyd("contract", "add", str(DEMO_CONTRACT))
        made.drop_in(QUICK)
        made.tallyd("service", "install")
        yield made


def _doctor(manager: Manager, **environ: str) -> tuple[int, list[dict[str, str]]]:
    code, out, err = manager.ask_tallyd("doctor", "--json", **environ)
    assert err == ""
    return code, json.loads(out)["findings"]


def _of(findings: list[dict[str, str]], check: str) -> list[tuple[str, str]]:
    return [(one["level"], one["what"]) for one in findings if one["check"] == check]


def _wrong(findings: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(one["what"], one["fix"]) for one in findings if one["level"] in ("warning", "problem")]


def test_a_service_that_is_well_has_nothing_to_mend_and_says_what_holds_it_down(service):
    service.count_once()
    code, findings = _doctor(service)

    unit = f"{service.units}/tallyd.service"
    told = dict.fromkeys(what for _, what in _of(findings, "service"))
    assert (code, _wrong(findings)) == (0, [])
    assert f"systemd starts it by {unit}" in told
    (held,) = (one for one in told if one.startswith("the running daemon: "))
    # Whether it has the mount sandbox, this machine decides; the unit says which of the two it is.
    has_sandbox = "ProtectSystem=" in (service.units / "tallyd.service").read_text()
    assert held == "the running daemon: system calls are filtered, it can gain no rights" + (
        ", it has mounts of its own" if has_sandbox else ""
    )


def test_the_sandboxed_daemon_watches_its_spool(service):
    """Its mounts are its own, most of them read-only: the spool is not."""
    service.count_once()
    wait_for(lambda: "action=watching" in service.log)

    told = [line.partition("action=watching ")[2] for line in service.log.splitlines()]
    assert [one.split(" ")[0] for one in told if one] == ["way=watch"]
    wait_for(lambda: service.counted(flush=False) == 1)


def test_a_shells_no_that_the_service_does_not_see_is_told(service):
    code, findings = _doctor(service, DO_NOT_TRACK="1")

    assert (code, [fix for _, fix in _wrong(findings)]) == (1, ["tallyd off tallyd-demo"])
    assert "which the running daemon does not see" in _wrong(findings)[0][0]


def test_a_stopped_service_is_a_note_and_a_program_that_went_is_to_install_again(service):
    service.tallyd("service", "stop")
    stopped_code, stopped = _doctor(service)
    file = service.units / "tallyd.service"
    text = file.read_text()
    file.write_text(text.replace("ExecStart=/", "ExecStart=/nowhere/"))
    os.chown(file, service.uid, service.uid)
    gone_code, gone = _doctor(service)

    assert (stopped_code, _wrong(stopped)) == (0, [])
    assert ("note", 'the service was stopped, by "tallyd service stop"') in _of(stopped, "service")
    assert (gone_code, [fix for _, fix in _wrong(gone)]) == (1, ["tallyd service install"])
