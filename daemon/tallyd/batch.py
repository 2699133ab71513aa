"""A batch: immutable bytes with a UUID, frozen by the seal and posted until a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping


class Batch(Frozen):
    """Immutable bytes with a UUID.

    `machine_id` and `contract` (short digest) are those in the bytes; after `expires_at` (Unix s) a
    gateway would refuse its oldest day; `counted` is what is lost with it, `lost` what it reports.
    """

    batch_id: str
    product: str
    machine_id: str
    contract: str
    expires_at: float
    body: bytes
    events: int
    counted: int
    lost: Mapping[str, int]
