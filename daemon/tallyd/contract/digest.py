"""Digests, without loading OpenSSL for them.

`hashlib` loads it at import, 2.5 ms and 3 MiB that `tallyd status` has no other use for. CPython's own
implementations are the ones that hashlib falls back to; where they are not, hashlib is taken.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import _Hash

    blake2b: Callable[..., _Hash]


def _first_of(name: str, *modules: str) -> Callable[..., _Hash]:
    for module in modules:
        try:
            found: Callable[..., _Hash] = getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
        return found
    raise ImportError(name)


# 3.12 and newer, 3.11, any other.
_sha256 = _first_of("sha256", "_sha2", "_sha256", "hashlib")
blake2b = _first_of("blake2b", "_blake2", "hashlib")


def sha256(content: bytes) -> str:
    """The SHA-256 of `content`, in hex."""
    return _sha256(content).hexdigest()
