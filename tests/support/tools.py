"""Programs that a test needs and a plain machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> str:
    """The path of `program`. Without it the test is skipped, saying so; in CI it fails."""
    found = shutil.which(program)
    if found is None:
        if os.environ.get("TALLYD_CI"):
            pytest.fail(f"{program} is missing, and CI installs it")
        pytest.skip(f"{program} is not installed")
    return found
