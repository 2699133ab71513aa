"""What a request's body says, before any protocol gives it bytes.

Pure data, in the contract's own names. `canonical` is the one text of small objects, so that equal
fields have equal text wherever they are kept.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Stands for an id that is made only when a batch is frozen: a preview must not make one.
NIL_UUID = "00000000-0000-0000-0000-000000000000"


class WireEvent(Frozen):
    """One event of a body; `counted` is what is lost when it is lost, `uuid` its own, if it has one."""

    event: str
    ts: str
    props: Mapping[str, object]
    counted: int = 1
    uuid: str = ""


class Body(Frozen):
    """One envelope and its events. `machine_id` is "" where the user's mode promises no id."""

    machine_id: str
    batch_id: str
    sent_at: str
    envelope: Mapping[str, object]
    events: Sequence[WireEvent]
    lost: Mapping[str, int]


def canonical(fields: Mapping[str, object]) -> str:
    """The one text for these fields: keys sorted, no spaces, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))
