"""Programs that a test needs and a plain machine may lack."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def need(program: str) -> str:
    """The path of `program`. Without it the test is skipped, saying so; in CI it fails."""
    return shutil.which(program) or lacking(f"{program} is not installed")


def lacking(what: str) -> NoReturn:
    """Skip the test, saying what it lacks; in CI, which has everything, it fails."""
    if os.environ.get("TALLYD_CI"):
        pytest.fail(f"{what}, and CI has it")
    pytest.skip(what)
