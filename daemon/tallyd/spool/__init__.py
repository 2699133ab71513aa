"""The spool: files in and out of `new/`, `tmp/` and `bad/`, never their meaning.

It owns the three directories of each product (docs/spool.md lists every state and transition):
`arrivals` is what waits to be merged, `quarantine` what was set aside, `directories` the rest.
"""

from __future__ import annotations

from tallyd.spool.arrivals import NewEntry, NewFiles, list_new
from tallyd.spool.directories import (
    SpoolSize,
    measure,
    prepare,
    products_with_spool,
    purge,
    sweep_tmp,
    trap,
    waiting_names,
)
from tallyd.spool.quarantine import quarantine, trim_quarantine

__all__ = [
    "NewEntry",
    "NewFiles",
    "SpoolSize",
    "list_new",
    "measure",
    "prepare",
    "products_with_spool",
    "purge",
    "quarantine",
    "sweep_tmp",
    "trap",
    "trim_quarantine",
    "waiting_names",
]
