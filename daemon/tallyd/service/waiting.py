"""What waits for a daemon: by it one that leaves sees whether a host came at the last moment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tallyd import spool
from tallyd.errors import StateUnusable

if TYPE_CHECKING:
    from tallyd.product import Surroundings


def waiting(around: Surroundings) -> frozenset[str]:
    """The names of what waits in every spool, and each contract with its age. Changes nothing.

    A host drops first and registers its contract then: a file that could not be merged may be one
    that can be merged now.
    """
    found = set(spool.waiting_names(around.paths))
    try:
        for product in around.registry.products():
            about = os.stat(around.paths.contracts / f"{product}.toml")
            found.add(f"{product}.toml {about.st_mtime_ns}")
    except (StateUnusable, OSError):
        # What cannot be listed is no reason to stay.
        pass
    return frozenset(found)
