"""Who decides whether a product may count and send, and since when.

One pure function resolves consent from the contract's policy, an environment and the stored
choice; another says whether something may leave right now. They own the order of the rules in
contract-v1. They guarantee that damage and unknown values never enable. They read nothing: the
caller brings environment, stored choice, notice and time.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from tallyd.contract.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tallyd.contract.model import ConsentPolicy, Mode

_FALSE_WORDS = ("0", "false")


class Choice(Enum):
    """What a product's state file says."""

    NONE = "none"  # no file, or one in which nobody chose
    ON = "on"
    OFF = "off"
    DAMAGED = "damaged"  # there, but not to be trusted: it means off


class StoredChoice(Frozen):
    """The stored choice: its value, since when (an instant), and what is wrong with its file.

    `mode` says which way of being on was chosen, where a contract knows several.
    """

    choice: Choice
    effective_from: str | None = None
    problem: str = ""
    mode: Mode | Literal["on"] = "on"


class Consent(Frozen):
    """The decision.

    `mode` is "off", "on", or the way of being on; `decided_by` names the rule that decided,
    `says_off` every rule that says off, `effective_from` the instant of an explicit choice (nothing
    counted before it may leave).
    """

    mode: Mode | Literal["on"]
    decided_by: str
    says_off: tuple[str, ...]
    effective_from: str | None = None
    is_explicit: bool = False
    # Damage stops everything but deletes nothing: it may be a disk's passing fault, not a wish.
    is_wish: bool = True

    @property
    def is_on(self) -> bool:
        """Whether anything may be counted at all."""
        return self.mode != "off"

    @property
    def state(self) -> str:
        """The decision in the words of `status`."""
        return "on" if self.is_on else "off"


class Gate(Frozen):
    """Whether something may leave now; if not, why not, and when it opens (Unix s), if time opens it."""

    is_open: bool
    reason: str = ""
    opens_at: float | None = None


def resolve(
    policy: ConsentPolicy,
    environ: Mapping[str, str],
    stored: StoredChoice,
    *,
    forbidden_by: Sequence[str] = (),
    damaged_policies: Sequence[str] = (),
    is_terminal: bool | None = None,
    may_enable: bool = True,
) -> Consent:
    """Decide by the first rule that has something to say.

    `forbidden_by` names the policy files that forbid the product, `damaged_policies` those that
    cannot be understood and therefore do, too; `is_terminal` says whether a host's
    stdout is a terminal, None for a process to which that does not apply. `may_enable=False` is for
    the daemon: its environment is not the shell in which a user switched a variable on, so there a
    variable can only lower.
    """
    verdicts = [
        *((name, False) for name in (*forbidden_by, *damaged_policies)),
        _do_not_track(policy, environ),
        *(_product_variable(policy, environ, index) for index in range(len(policy.env))),
        _ci(policy, environ),
        ("no terminal", False) if policy.needs_terminal and is_terminal is False else None,
        _stored(stored),
        (_NOT_ASKED if policy.default == "ask" else _DEFAULT, policy.default == "on"),
    ]
    if not may_enable:
        verdicts = [
            None if one is not None and one[1] and one[0] not in (_STORED, _DEFAULT) else one
            for one in verdicts
        ]
    spoken = [one for one in verdicts if one is not None]
    decided_by, is_on = spoken[0]
    chosen = stored.choice is Choice.ON
    return Consent(
        # Switched on by a variable, nobody was asked in which way: the one that knows no person.
        mode=(stored.mode if chosen else "anonymous" if policy.modes else "on") if is_on else "off",
        decided_by=decided_by,
        says_off=tuple(rule for rule, says_on in spoken if not says_on),
        effective_from=stored.effective_from if decided_by.startswith(_STORED) else None,
        is_explicit=is_on and decided_by == _STORED,
        is_wish=decided_by not in damaged_policies
        and (stored.choice is not Choice.DAMAGED or not decided_by.startswith(_STORED)),
    )


def stricter(one: Consent, other: Consent) -> Consent:
    """The decision that says off, if either does: two contracts that are both in force."""
    return one if one.is_on <= other.is_on else other


def may_leave(
    consent: Consent, grace_s: float, notice_shown_at: float | None, now: float, *, is_agreed: bool
) -> Gate:
    """Whether a byte of this product may leave at `now`.

    `is_agreed`: the contract in force is one that was agreed to before, or that an explicit choice was
    made under. Otherwise its own notice must have been shown (`notice_shown_at`, Unix s, None when it
    was not) and `grace_s` have passed since.
    """
    if not consent.is_on:
        return Gate(is_open=False, reason=f"consent is off ({consent.decided_by})")
    return Gate(is_open=True) if is_agreed else notice_gate(grace_s, notice_shown_at, now)


def notice_gate(grace_s: float, notice_shown_at: float | None, now: float) -> Gate:
    """Whether a notice was shown and the grace since has passed."""
    if notice_shown_at is None:
        return Gate(is_open=False, reason="the notice for this contract was not shown yet")
    # A notice from the future (the clock was set back) counts from now on the safe side: wait.
    opens_at = notice_shown_at + grace_s
    if now < opens_at:
        return Gate(
            is_open=False, reason="the grace since the notice has not passed", opens_at=opens_at
        )
    return Gate(is_open=True)


_STORED = "stored choice"
_DEFAULT = "default"
_NOT_ASKED = "default (nobody was asked yet)"
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
