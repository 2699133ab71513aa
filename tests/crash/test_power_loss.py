"""What a power cut could break, checked from the system calls of a real flush (docs/spool.md, "Power loss")."""

from __future__ import annotations

import pytest
from crash import order
from crash.lab import Lab
from crash.wrong import UNTIL_A_POWER_CUT
from support.tools import need


@pytest.mark.slow
@pytest.mark.parametrize("features", [(), ("an outbox", "known files"), ("two products",)])
def test_nothing_goes_before_what_stands_for_it_is_synced(lab: Lab, features: tuple[str, ...]):
    need("strace")
    events = order.taken_down(lab, lab.scenario(3, features), "")

    assert order.faults(events) == []
    # It was a whole flush: files went, a batch left.
    acts = {(one.act, "/new/" in one.file) for one in events}
    assert acts >= {("unlink", True), ("open", True), ("send", False), ("sync", False)}


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [*UNTIL_A_POWER_CUT, "files_first"])
def test_a_missing_or_late_sync_is_caught(lab: Lab, wrong: str):
    """No kill can tell these: the page cache outlives a process."""
    need("strace")

    assert order.faults(order.taken_down(lab, lab.scenario(3, ()), wrong)) != []
