"""A batch: immutable bytes with a UUID, frozen by the seal and posted until a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Batch:
    """Immutable bytes with a UUID. `counted` is what is lost with it, `lost` what it reports lost."""

    batch_id: str
    product: str
    sealed_at: float
    body: bytes
    events: int
    counted: int
    lost: Mapping[str, int]
