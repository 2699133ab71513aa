"""Who decides whether a product may count and send, and since when.

One pure function resolves consent from the contract's policy, an environment and the stored
choice; another says whether something may leave right now. They own the order of the rules in
contract-v1. They guarantee that damage and unknown values never enable. They read nothing: the
caller brings environment, stored choice, notice and time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tallyd.contract.model import ConsentPolicy, Contract

_FALSE_WORDS = ("0", "false")


class Choice(Enum):
    """What a product's state file says."""

    NONE = "none"  # no file, or one in which nobody chose
    ON = "on"
    OFF = "off"
    DAMAGED = "damaged"  # there, but not to be trusted: it means off


@dataclass(frozen=True, slots=True)
class StoredChoice:
    """The stored choice: its value, since when (an instant), and what is wrong with its file."""

    choice: Choice
    effective_from: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Consent:
    """The decision.

    `decided_by` names the rule that decided, `says_off` every rule that says off, `effective_from`
    the instant of an explicit choice (nothing counted before it may leave).
    """

    is_on: bool
    decided_by: str
    says_off: tuple[str, ...]
    effective_from: str | None = None
    is_explicit: bool = False
    # Damage stops everything but deletes nothing: it may be a disk's passing fault, not a wish.
    is_wish: bool = True

    @property
    def state(self) -> str:
        """The decision in the words of `status`."""
        return "on" if self.is_on else "off"


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether something may leave now; if not, why not, and when it opens (Unix s), if time opens it."""

    is_open: bool
    reason: str = ""
    opens_at: float | None = None


def resolve(
    policy: ConsentPolicy,
    environ: Mapping[str, str],
    stored: StoredChoice,
    *,
    may_enable: bool = True,
) -> Consent:
    """Decide by the first rule that has something to say.

    `may_enable=False` is for the daemon: its environment is not the shell in which a user switched
    a variable on, so there a variable can only lower.
    """
    verdicts = [
        _do_not_track(policy, environ),
        *(_product_variable(policy, environ, index) for index in range(len(policy.env))),
        _ci(policy, environ),
        _stored(stored),
        (_DEFAULT, policy.default == "on"),
    ]
    if not may_enable:
        verdicts = [
            None if one is not None and one[1] and one[0] not in (_STORED, _DEFAULT) else one
            for one in verdicts
        ]
    spoken = [one for one in verdicts if one is not None]
    decided_by, is_on = spoken[0]
    explicit_on = is_on and decided_by == _STORED
    return Consent(
        is_on=is_on,
        decided_by=decided_by,
        says_off=tuple(rule for rule, says_on in spoken if not says_on),
        effective_from=stored.effective_from if decided_by.startswith(_STORED) else None,
        is_explicit=explicit_on,
        is_wish=stored.choice is not Choice.DAMAGED or not decided_by.startswith(_STORED),
    )


def may_leave(
    contract: Contract,
    consent: Consent,
    notice_shown_at: float | None,
    now: float,
    *,
    is_first_contract: bool = True,
) -> Gate:
    """Whether a byte of this product may leave at `now`.

    `notice_shown_at` is when the notice for *this* contract's digest was shown (Unix s), None when
    it was not. An explicit choice needs no notice for the contract under which it was made, the
    first one seen here; a later contract needs its own.
    """
    if not consent.is_on:
        return Gate(is_open=False, reason=f"consent is off ({consent.decided_by})")
    if consent.is_explicit and (is_first_contract or notice_shown_at is not None):
        return Gate(is_open=True)
    if notice_shown_at is None:
        return Gate(is_open=False, reason="the notice for this contract was not shown yet")
    # A notice from the future (the clock was set back) counts from now on the safe side: wait.
    opens_at = notice_shown_at + contract.consent.grace_s
    if now < opens_at:
        return Gate(
            is_open=False, reason="the grace since the notice has not passed", opens_at=opens_at
        )
    return Gate(is_open=True)


_STORED = "stored choice"
_DEFAULT = "default"
_Verdict = tuple[str, bool] | None


def _do_not_track(policy: ConsentPolicy, environ: Mapping[str, str]) -> _Verdict:
    value = environ.get("DO_NOT_TRACK", "")
    if policy.do_not_track == "ignore" or not value:
        return None
    if policy.do_not_track == "set":
        value = value.strip().lower()
        if not value or value in _FALSE_WORDS:
            return None
    return ("DO_NOT_TRACK", False)


def _product_variable(policy: ConsentPolicy, environ: Mapping[str, str], index: int) -> _Verdict:
    switch = policy.env[index]
    value = environ.get(switch.name, "").strip().lower()
    if not value:
        return None
    # Unknown text never enables: whoever writes TELEMETRY=disabled means it.
    return (switch.name, value in switch.on)


def _ci(policy: ConsentPolicy, environ: Mapping[str, str]) -> _Verdict:
    value = environ.get("CI", "").strip().lower()
    return ("CI", False) if policy.ci_disables and value and value not in _FALSE_WORDS else None


def _stored(stored: StoredChoice) -> _Verdict:
    match stored.choice:
        case Choice.ON:
            return (_STORED, True)
        case Choice.OFF:
            return (_STORED, False)
        case Choice.DAMAGED:
            return (f"{_STORED} ({stored.problem})", False)
        case Choice.NONE:
            return None
