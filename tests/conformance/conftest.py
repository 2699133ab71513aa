"""Machines for the rows of the acceptance table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import NewMachine, machines


@pytest.fixture
def new_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewMachine]:
    """Makes machines with one of our contracts."""
    with machines(home, monkeypatch) as make:
        yield make
