"""One product as the daemon sees it at one moment: contract, consent, id, and what may leave.

It reads what `registry`, `choices`, `notices` and `policy` hold and decides nothing itself: the
rules are in `tallyd.contract`. A view is made anew before every step that depends on consent, because
a user may have said no a moment ago.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from tallyd import choices, notices, policy
from tallyd.contract.consent import Consent, Gate, may_leave, notice_gate, resolve, stricter
from tallyd.contract.days import unix_of
from tallyd.contract.frozen import Frozen, replace
from tallyd.contract.policy_grammar import usable_url
from tallyd.decisions import Decision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tallyd.choices import ChoiceFile
    from tallyd.contract import Contract
    from tallyd.paths import Paths, SpoolDirs
    from tallyd.policy import Bans
    from tallyd.registry import Registry


class Surroundings(Frozen):
    """What every look at a product needs: where things lie, the contracts, the environment."""

    paths: Paths
    registry: Registry
    environ: Mapping[str, str]


class ProductView(Frozen):
    """One product now. `gate` says whether a byte of it may leave.

    `contract` is the one in force, by which everything is screened; `registered` is what its host
    brought. They differ while the registered one is wider and its notice (`pending`) has to be
    shown: then the one in force lists what both list. Once that is over, `earlier` is what was in force
    until `in_force_from` (Unix s): what was dropped before is screened by it, whenever it is merged.
    `machine_id` is None where there is none yet,
    and "" where the user's mode promises none.
    """

    contract: Contract
    registered: Contract
    is_agreed: bool
    pending: Gate | None
    earlier: Contract | None
    in_force_from: float
    consent: Consent
    gate: Gate
    machine_id: str | None
    notice_shown_at: float | None
    spool: SpoolDirs
    choice_file: Path
    notice_dir: Path
    endpoint: str

    def contract_at(self, dropped_at: float) -> Contract:
        """The contract that was in force when something was dropped (Unix s)."""
        if self.earlier is not None and dropped_at < self.in_force_from:
            return self.earlier
        return self.contract

    @property
    def name(self) -> str:
        """The product's name."""
        return self.contract.product

    @property
    def decision(self) -> Decision:
        """The decision under which it may count now."""
        return Decision(self.consent.effective_from, self.machine_id)

    @property
    def counts_from(self) -> float:
        """Nothing dropped before this instant (Unix s) may be merged: it predates the consent."""
        return unix_of(self.consent.effective_from) or 0.0


def look_at(product: str, around: Surroundings, now: float) -> ProductView:
    """The product as it stands. Raises NotRegistered when there is no usable contract."""
    paths, environ = around.paths, around.environ
    registered = around.registry.get(product)
    choice = choices.read_choice(registered, paths, environ)
    shown_at = notices.shown_at(registered, paths)
    consent = decide(registered, choice, around)
    agreement = around.registry.agreement(product)
    in_force, is_agreed, pending = registered, False, None
    earlier: Contract | None = None
    in_force_from = 0.0
    if agreement.contract is None:
        # An explicit choice stands for the contract that it was made under, the first one seen.
        is_agreed = consent.is_explicit and not agreement.is_damaged
    else:
        is_agreed = True
        if _is_wider(agreement.contract, registered):
            pending = notice_gate(registered.consent.grace_s, shown_at, now)
            if pending.is_open:
                pending = None
                earlier = _intersection(agreement.contract, registered)
                in_force_from = (shown_at or 0.0) + registered.consent.grace_s
            else:
                in_force = _intersection(agreement.contract, registered)
                # Its switches and its state file go on to count, as long as it is in force.
                stored = choices.read_choice(agreement.contract, paths, environ)
                consent = stricter(consent, decide(agreement.contract, stored, around))
    in_force = _with_key(in_force, environ)
    return ProductView(
        contract=in_force,
        registered=registered,
        is_agreed=is_agreed,
        pending=pending,
        earlier=earlier,
        in_force_from=in_force_from,
        consent=consent,
        gate=may_leave(consent, registered.consent.grace_s, shown_at, now, is_agreed=is_agreed),
        machine_id=_machine_id(registered, consent, choice),
        notice_shown_at=shown_at,
        spool=paths.spool(product),
        choice_file=choice.file,
        notice_dir=paths.notices(product),
        endpoint=_endpoint(in_force, environ),
    )


def decide(
    contract: Contract, choice: ChoiceFile, around: Surroundings, *, may_enable: bool = False
) -> Consent:
    """The decision for a product, given its stored choice.

    `may_enable` is for a person's shell, whose variables count for the hosts started there; the
    daemon's can only lower.
    """
    bans = policy.bans_on(contract.product, around.paths, around.environ)
    return _resolve(contract, choice, around, bans, may_enable=may_enable)


def _resolve(
    contract: Contract,
    choice: ChoiceFile,
    around: Surroundings,
    bans: Bans,
    *,
    may_enable: bool = False,
) -> Consent:
    return resolve(
        contract.consent,
        around.environ,
        choice.stored,
        forbidden_by=bans.wishes,
        damaged_policies=bans.damaged,
        may_enable=may_enable,
    )


def still_stands(view: ProductView, around: Surroundings) -> bool:
    """Whether the decision of a view is the one that stands now; reads the state file last of all."""
    bans = policy.bans_on(view.name, around.paths, around.environ)
    choice = choices.read_choice(view.registered, around.paths, around.environ)
    consent = _resolve(view.registered, choice, around, bans)
    seen = (view.consent.mode, view.decision)
    machine_id = _machine_id(view.registered, consent, choice)
    return seen == (consent.mode, Decision(consent.effective_from, machine_id))


def keep_agreement(
    view: ProductView, around: Surroundings, *, is_spool_empty: bool = False
) -> None:
    """Write down that the registered contract is in force, once it is. Raises StateUnusable.

    Where another one was in force until a moment ago, not before all that was dropped then is merged.
    """
    if not (view.consent.is_on and view.gate.is_open and view.pending is None):
        return
    if view.earlier is not None and not is_spool_empty:
        return
    agreed = around.registry.agreement(view.name).contract
    if agreed is None or agreed.digest != view.registered.digest:
        around.registry.agree(view.registered)


def _machine_id(contract: Contract, consent: Consent, choice: ChoiceFile) -> str | None:
    match contract.identity.kind:
        case "random":
            return choice.machine_id
        case "derived":
            # Each delta brings its own.
            return None
        case _:
            return choice.user if consent.mode == "identified" else ""


def _endpoint(contract: Contract, environ: Mapping[str, str]) -> str:
    override = environ.get(contract.endpoint.override_env or "", "")
    url = override if override and usable_url(override) else contract.endpoint.url
    return f"{url.rstrip('/')}/batch/" if contract.endpoint.protocol == "posthog-batch" else url


def _with_key(contract: Contract, environ: Mapping[str, str]) -> Contract:
    """The contract with the project key that the environment names, if it names one."""
    key = environ.get(contract.endpoint.key_env or "", "")
    if not key:
        return contract
    return replace(contract, endpoint=replace(contract.endpoint, key=key))


def _is_wider(old: Contract, new: Contract) -> bool:
    return old.digest != new.digest and _compared(_ByDigest(old), _ByDigest(new))[0]


def _intersection(old: Contract, new: Contract) -> Contract:
    return _compared(_ByDigest(old), _ByDigest(new))[1]


class _ByDigest(Frozen):
    """A contract that is told from another by its digest alone."""

    contract: Contract

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByDigest) and self.contract.digest == other.contract.digest

    def __hash__(self) -> int:
        return hash(self.contract.digest)


# A view is made before every step, and few products are ever between two contracts.
@lru_cache(maxsize=64)
def _compared(old: _ByDigest, new: _ByDigest) -> tuple[bool, Contract]:
    # Loaded for a product between two contracts, which `status` seldom sees.
    from tallyd.contract.diff import compare, is_wider  # noqa: PLC0415
    from tallyd.contract.intersect import intersect  # noqa: PLC0415

    return is_wider(compare(old.contract, new.contract)), intersect(old.contract, new.contract)
