"""One laboratory for all tests of kills: its warm process takes a second to load."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from crash.lab import Lab, laboratory


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A laboratory; Linux alone has the means to hold and to watch a process that is about to be killed."""
    if sys.platform != "linux":
        pytest.skip("kills need Linux (prctl, pidfd)")
    with laboratory() as made:
        yield made
