"""One truth table of consent, for the code of the daemon and that of the stub alike.

Every variable and value of the vectors, in every combination with a stored choice and a policy file.
"""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.processes import CONTRACTS, ROOT
from tallyd import policy
from tallyd.choices import read_choice
from tallyd.contract import Contract, parse_contract
from tallyd.contract.build import built
from tallyd.contract.consent import resolve
from tallyd.paths import Paths
from tallyd_client._policy import Policy

_MATRIX = json.loads((ROOT / "tests/vectors/consent_env_matrix.json").read_text())
_NAMES = ["codegraph", "ktx-v1", "ktx-v2", "dot-ai", "pipelex", "tallyd", "tallyd-demo"]
_UNSET = "unset"
_DO_NOT_TRACK = _MATRIX["DO_NOT_TRACK"]["values"]
# Every value that any product's variable, or CI, has in the vectors.
_WORDS = list(dict.fromkeys(word for one in _MATRIX["product_variable"].values() for word in one))
_CI = list(dict.fromkeys(word for one in _MATRIX["CI"].values() for word in one))
_ID = "5d0c7a16-2f0e-4c1b-9b58-7e41d2aa9f03"


def contract_of(name: str) -> Contract:
    file = CONTRACTS / f"{name}.toml"
    return parse_contract(file.read_bytes(), str(file))


def _stored_files(contract: Contract) -> dict[str, bytes | None]:
    """The state files of a product in which somebody chose, or that are damaged; None for no file."""
    state = contract.state
    if contract.consent.modes:
        made = {
            mode: f'telemetry_mode = "{mode}"\nuser_id = "u"\n' for mode in contract.consent.modes
        }
        return {
            "none": None,
            "damaged": b"telemetry_mode =",
            **{k: v.encode() for k, v in made.items()},
        }
    names = state.keys if state is not None else ("enabled", "machine_id", "consent_source")
    whole: dict[str, Any] = {}
    for name in names:
        known = {"enabled": True, "consent_source": "cli", "noticeShownVersion": 1}
        is_id = name in ("machine_id", "installId")
        whole[name] = _ID if is_id else known.get(name, "2026-01-01T00:00:00.000Z")
    if "first_run_notice_shown" in whole:
        whole["first_run_notice_shown"] = True
    return {
        "none": None,
        "damaged": b"{",
        "on": json.dumps(whole).encode(),
        "off": json.dumps({**whole, "enabled": False}).encode(),
    }


def _as_vectors_say(
    contract: Contract, environ: dict[str, str], stored: str, *, is_forbidden: bool
) -> str:
    """The decision in the words of docs/contracts.md, written out once more: first match wins."""
    policy_of = contract.consent
    words = {name: value.strip().lower() for name, value in environ.items()}
    if is_forbidden or words.get("DO_NOT_TRACK", "") not in ("", "0", "false"):
        return "off"
    chosen = stored if stored in policy_of.modes else "on"
    for switch in policy_of.env:
        if words.get(switch.name):
            is_on = words[switch.name] in switch.on
            plain = chosen if stored not in ("none", "off", "damaged") else "on"
            return ("anonymous" if policy_of.modes and plain == "on" else plain) if is_on else "off"
    if policy_of.ci_disables and words.get("CI", "") not in ("", "0", "false"):
        return "off"
    if policy_of.needs_terminal and not os.isatty(1):
        return "off"
    if stored in ("off", "damaged"):
        return "off"
    return chosen if stored != "none" else "on" if policy_of.default == "on" else "off"


@pytest.mark.slow
@pytest.mark.parametrize("name", _NAMES)
def test_daemon_and_stub_decide_alike_on_every_row(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
):
    contract = contract_of(name)
    variables = [switch.name for switch in contract.consent.env]
    base = {"TALLYD_HOME": str(home), "HOME": str(home)}
    for variable in ("DO_NOT_TRACK", "CI", "TALLYD_POLICY_FILE", *variables):
        monkeypatch.delenv(variable, raising=False)
    for key, value in base.items():
        monkeypatch.setenv(key, value)
    paths, stub = Paths.locate(base), Policy(None, "1", built(contract), {})
    file = read_choice(contract, paths, base).file
    wrong, decisions = [], set()
    for (stored, content), is_forbidden in product(_stored_files(contract).items(), (False, True)):
        for place, text in (
            (file, content),
            (paths.user_policy, b"off = true" if is_forbidden else None),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            if text is not None:
                place.write_bytes(text)
        for row in product(_DO_NOT_TRACK, _CI, *[_WORDS for _ in variables]):
            given = {
                variable: value
                for variable, value in zip(("DO_NOT_TRACK", "CI", *variables), row, strict=True)
                if value != _UNSET
            }
            environ = {**base, **given}
            bans = policy.bans_on(contract.product, paths, environ)
            ours = resolve(
                contract.consent,
                environ,
                read_choice(contract, paths, environ).stored,
                forbidden_by=bans.wishes,
                damaged_policies=bans.damaged,
                is_terminal=os.isatty(1),
            )
            for variable in ("DO_NOT_TRACK", "CI", *variables):
                os.environ.pop(variable, None)
            os.environ.update(given)
            theirs = stub.consent()
            wanted = _as_vectors_say(contract, given, stored, is_forbidden=is_forbidden)
            decisions.add(ours.mode)
            is_named = (ours.mode == "off") == (ours.decided_by in ours.says_off)
            if not (ours.mode == theirs.mode == wanted and is_named):
                wrong.append((given, stored, is_forbidden, ours.mode, theirs.mode, wanted))
    for variable in ("DO_NOT_TRACK", "CI", *variables):
        os.environ.pop(variable, None)

    assert wrong[:5] == []
    assert len(decisions) > 1 or name == "ktx-v1", "a table with one answer shows nothing"
