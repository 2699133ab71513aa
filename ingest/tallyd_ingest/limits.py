"""Every cap of the gateway, with unit and derivation."""

from __future__ import annotations

from typing import Final

# wire-v1: a request is at most 64 KiB, before and after decompression, and 100 events.
BODY_MAX_BYTES: Final = 64 * 1024
EVENTS_MAX: Final = 100
# wire-v1: what lies further back or ahead has no day we can trust.
WINDOW_BACK_S: Final = 30 * 86400
WINDOW_AHEAD_S: Final = 600
# A daemon keeps an unanswered batch at most 30 days; its id is remembered a little longer.
BATCH_ID_DAYS: Final = 32
# A client that trickles its body holds a connection this long, in seconds.
BODY_PATIENCE_S: Final = 10.0
# What a client is told to wait when the store refuses, in seconds.
RETRY_AFTER_S: Final = 300
