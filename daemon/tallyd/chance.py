"""Chance: ids and jitter from the system's random bytes.

`uuid` and `random` load platform detection, hashes and number theory: 0.4 MiB and 5 ms that neither an
idle daemon nor `status` has a use for.
"""

from __future__ import annotations

import os


def random_uuid() -> str:
    """A UUID of version 4, in lower case."""
    bits = int.from_bytes(os.urandom(16), "big")
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def between(low: float, high: float) -> float:
    """A number between two, any as likely as another; no secret may hang on it."""
    return low + (high - low) * int.from_bytes(os.urandom(6), "big") / 2**48
