"""How many examples a property is tried with: a shortened number in the suite, all in `make thorough`."""

from __future__ import annotations

import os

from hypothesis import settings

IS_THOROUGH = bool(os.environ.get("TALLYD_THOROUGH"))


def examples(number: int) -> settings:
    """So many examples when there is time, a sixth of them (20 at least) in the suite."""
    return settings(max_examples=number if IS_THOROUGH else max(20, number // 6), deadline=None)
