"""Marks of what is told once per machine: `state/once/<product>/<event>`, made exclusively.

Of many processes one makes the mark, and tells. It is removed again when what it stood for could
not be dropped; a kill in between costs the event, which is then never told: at most once. Loaded
when there is such an event to tell.
"""

import os

from tallyd_client import _drop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tallyd_client._policy import Policy


def take(policy: "Policy", event: str) -> "str | None":
    """The mark's path when this process may tell; None when it was told. Raises OSError, and ValueError for a name that is none."""
    if not event.isidentifier():
        raise ValueError("%r is no event's name" % (event,))
    marker = os.path.join(policy.state_dir, "once", policy.product, event)
    _drop.make_directory(os.path.dirname(marker))
    try:
        os.close(os.open(marker, _drop.OPEN_FLAGS, 0o600))
    except FileExistsError:
        return None
    return marker


def release(marker: str) -> None:
    """Take the mark away: it was not told after all."""
    _drop.remove(marker)
