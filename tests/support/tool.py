"""A small product whose contract each test words for itself, in the contract's own language."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tallyd.contract import parse_contract
from tallyd_client._load import constants_of

NAME = "tool"
NOTICE = "tool counts what you do"
USED = """
[events.used]
kind = "rollup"
dimensions.what = { type = "token", cut = true }
measures = ["count", "error_count"]
"""
# A state file of its own, in which there is no place for a date nor for who chose.
OWN_STATE = """
[state]
file = "~/.tool/state.json"
keys = { enabled = "on", id = "installId", notice_at = "noticeAt", notice_version = "noticeVersion", created = "createdAt" }
"""
MODES_STATE = """
[state]
file = "~/.tool/state.toml"
format = "toml"
keys = { mode = "telemetry_mode", user = "user_id" }
"""
MODES = 'default = "ask"\nmodes = ["off", "anonymous", "identified"]'
BY_USER = '[identity]\nkind = "user"'
DERIVED = """
[identity]
kind = "derived"
prefix = "cluster_"
fallback_prefix = "local_"
length = 16
"""
PROJECT = '[identity]\nproject = "sha256(id:path)"'


def contract_text(
    *more: str, consent: str = 'default = "on"', envelope: str = "", events: str = USED
) -> bytes:
    """The TOML of a contract; `more` are tables such as [state] and [identity]."""
    # Every event says what it is about; here it is about itself.
    events = re.sub(r'(?m)^(kind = "(?:rollup|event)")$', r'\1\nabout = "x"', events)
    text = f"""
contract = 1
[product]
name = "tool"
title = "Tool"
schema_version = 3
details = "https://tool.example/telemetry"
[endpoint]
url = "https://tool.example"
protocol = "posthog-batch"
key = "phc_tool"
[consent]
notice = "{NOTICE}: {{off_command}} turns it off"
off_command = "tool off"
env = [{{ name = "TOOL_TELEMETRY", off = ["0"], on = ["1"] }}]
{consent}
[envelope]
{envelope}
{chr(10).join(more)}
{events}
"""
    parse_contract(text.encode(), "tool.toml")
    return text.encode()


def tool(*more: str, **how: str) -> dict[str, Any]:
    """The same, built."""
    return constants_of(contract_text(*more, **how))


def put(file: Path, content: str | bytes | dict[str, Any]) -> Path:
    """A file with this content, and the directories above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        content = json.dumps(content)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file
