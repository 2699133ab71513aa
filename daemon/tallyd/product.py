"""One product as the daemon sees it at one moment: contract, consent, id, and what may leave.

It reads what `registry` and `choices` hold and decides nothing itself: the rules are in
`tallyd.contract.consent`. A view is made anew before every step that depends on consent, because a
user may have said no a moment ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyd import choices
from tallyd.contract.consent import Consent, Gate, may_leave, resolve
from tallyd.contract.days import unix_of
from tallyd.contract.policy_grammar import usable_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.contract import Contract
    from tallyd.paths import Paths, SpoolDirs
    from tallyd.registry import Registry


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every look at a product needs: where things lie, the contracts, the environment."""

    paths: Paths
    registry: Registry
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProductView:
    """One product now. `gate` says whether a byte of it may leave."""

    contract: Contract
    consent: Consent
    gate: Gate
    machine_id: str | None
    notice_shown_at: float | None
    spool: SpoolDirs
    choice_file: Path
    notice_dir: Path
    endpoint: str

    @property
    def name(self) -> str:
        """The product's name."""
        return self.contract.product

    @property
    def counts_from(self) -> float:
        """Nothing dropped before this instant (Unix s) may be merged: it predates the consent."""
        return unix_of(self.consent.effective_from) or 0.0


def look_at(product: str, around: Surroundings, now: float) -> ProductView:
    """The product as it stands. Raises NotRegistered when there is no usable contract."""
    contract = around.registry.get(product)
    choice = choices.read_choice(contract, around.paths, around.environ)
    consent = resolve(contract.consent, around.environ, choice.stored, may_enable=False)
    shown_at = choices.notice_shown_at(contract, around.paths)
    return ProductView(
        contract=contract,
        consent=consent,
        gate=may_leave(
            contract,
            consent,
            shown_at,
            now,
            is_first_contract=not choices.any_notice_shown(contract, around.paths),
        ),
        machine_id=choice.machine_id,
        notice_shown_at=shown_at,
        spool=around.paths.spool(product),
        choice_file=choice.file,
        notice_dir=around.paths.notices(product),
        endpoint=_endpoint(contract, around.environ),
    )


def _endpoint(contract: Contract, environ: Mapping[str, str]) -> str:
    override = environ.get(contract.endpoint.override_env or "", "")
    return override if override and usable_url(override) else contract.endpoint.url
