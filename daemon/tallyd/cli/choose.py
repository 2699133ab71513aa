"""The commands by which a user decides: `on`, `off`, `reset`, `choose`.

The choice is stored first, which stops hosts and daemon from then on; what waits is deleted next. The
user's own file is never changed without their asking, and a bare Enter never turns into a yes.
"""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

from tallyd import exits
from tallyd.cli import menu
from tallyd.cli.here import ask_daemon, locate, time_now
from tallyd.cli.output import print_lines, say
from tallyd.cli.service_room import start_what_ended
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import AlreadyRunning, BadRequest, NotRegistered, StateUnusable, TallydError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from tallyd.choices import ChoiceFile
    from tallyd.contract import Contract
    from tallyd.product import Surroundings

# How long `off` waits for a flush that holds the lock, and how often it looks.
_LOCK_PATIENCE_S, _LOOK_S = 60.0, 0.1


def off(arguments: argparse.Namespace) -> int:
    """Say no, for one product or for all of them, those still to come too."""
    from tallyd import choices, policy, reserve

    around = locate()
    products = _named(arguments, around)
    if products is None:
        return exits.USAGE
    if arguments.all:
        reserve.insist(around.paths, lambda: policy.forbid_all(around.paths))

    absent: list[str] = []

    def say_no(product: str) -> None:
        try:
            contract = around.registry.get(product)
        except NotRegistered as problem:
            # No contract says where its choice lies; a "no" is heard all the same.
            policy.forbid(product, around.paths)
            absent.append(product)
            say(f"note: {problem}; until then {around.paths.user_policy} forbids {product}")
            say(_did_you_mean(product, around.registry.products()))
        else:
            _tell_of_damage(
                choices.write_choice(
                    contract, around.paths, around.environ, mode="off", now=time_now()
                )
            )

    done, code = _each(
        products, lambda product: reserve.insist(around.paths, lambda: say_no(product))
    )
    # From here on nothing of it is merged or sent; what is left is to delete what waits.
    try:
        _forget(around, done)
    except TallydError:
        for product in done:
            say(f"{product} is off from now on; what waits is not deleted yet:")
        raise
    for product in done:
        _tell_of_this_shell(around, product, is_on=False)
    lines = [
        f"{one} is off, should it ever come; to take that back: tallyd on {one}"
        if one in absent
        else f"{one} is off: what was not sent and the id are deleted"
        for one in done
    ]
    if arguments.all:
        lines.append(f"every product is off, those still to come too ({around.paths.user_policy})")
    print_lines(lines)
    return code


def on(arguments: argparse.Namespace) -> int:
    """Say yes, for one product or for every registered one, under a new id each."""
    from tallyd import policy
    from tallyd.product import look_at

    around = locate()
    products = _named(arguments, around)
    if products is None:
        return exits.USAGE

    absent: list[str] = []

    def say_yes(product: str) -> None:
        try:
            contract = around.registry.get(product)
        except NotRegistered:
            if policy.bans_on(product, around.paths, {}).wishes:
                # What a "no" to a name that nobody registered left behind.
                policy.permit(product, around.paths)
                print_lines([f"{around.paths.user_policy} forbids {product} no more"])
                absent.append(product)
                return
            raise
        modes = contract.consent.modes
        mode = arguments.mode or ("anonymous" if "anonymous" in modes else "on")
        _store(contract, around, mode, arguments.user or "")

    done, code = _each(products, say_yes)
    if arguments.all and not code:
        # Last, for a yes that could not be stored must not lift what forbids.
        policy.permit_all(around.paths)
        if not done:
            print_lines(["nothing is forbidden any more; no product is registered yet"])
    for product in [one for one in done if one not in absent]:
        view = look_at(product, around, time_now())
        kinds = {"derived": "under the id that its hosts derive", "user": "under no lasting id"}
        new = f"under the new id {view.machine_id}"
        if view.consent.mode == "identified":
            new = f"under your id {view.machine_id}"
        under = new if view.machine_id else kinds.get(view.registered.identity.kind, "")
        what = view.consent.mode if view.consent.mode not in ("on", "off") else "on"
        print_lines(
            [
                f"{product} is {what}, {under}",
                f'what it may count: "tallyd contract docs {product}"; each body before it is sent:'
                f' "tallyd preview {product}"',
            ]
        )
        _tell_of_this_shell(around, product, is_on=True)
    if done:
        start_what_ended(around)
    return code


def reset(arguments: argparse.Namespace) -> int:
    """Begin anew under another id; the choice stays as it is."""
    from tallyd import choices, reserve

    around = locate()
    product = arguments.product
    contract = around.registry.get(product)
    reserve.insist(
        around.paths,
        lambda: choices.reset_id(contract, around.paths, around.environ, time_now()),
    )
    _forget(around, [product])
    ids = {
        "random": "what comes has another id",
        "derived": "its hosts derive the same id again",
        "user": "an id that you gave yourself stays, until you choose again",
    }
    print_lines(
        [f"{product} begins anew: what was not sent is deleted; {ids[contract.identity.kind]}"]
    )
    return 0


def choose(arguments: argparse.Namespace) -> int:
    """Ask, on a terminal, which of the product's modes it is to be."""
    around = locate()
    contract = around.registry.get(arguments.product)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        say(
            f'tallyd: nobody to ask here; say "tallyd on {contract.product}" or'
            f' "tallyd off {contract.product}"'
        )
        return exits.USAGE
    mode, user = menu.ask(contract)
    if mode is None:
        say("Nothing was chosen, and nothing has changed.")
        return 0
    _store(contract, around, mode, user)
    if mode == "off":
        _forget(around, [contract.product])
    print_lines([f"{contract.product}: {mode} ({menu.MODE_TEXTS[mode]})"])
    _tell_of_this_shell(around, contract.product, is_on=mode != "off")
    return 0


def _store(contract: Contract, around: Surroundings, mode: str, user: str) -> None:
    """Write the choice down; whoever says yes, says it to the contract that is registered now."""
    from tallyd import choices, policy, reserve

    modes = contract.consent.modes or ("off", "on")
    if mode not in modes:
        raise BadRequest(f"{contract.product} knows no {mode!r}", f"choose: {', '.join(modes)}")
    if mode == "identified" and not user:
        raise BadRequest("identified needs an id", "give it with --user")

    def write() -> ChoiceFile:
        return choices.write_choice(
            contract, around.paths, around.environ, mode=mode, now=time_now(), user=user
        )

    _tell_of_damage(reserve.insist(around.paths, write) if mode == "off" else write())
    if mode == "off":
        return
    policy.permit(contract.product, around.paths)
    around.registry.agree(contract)


def _tell_of_damage(choice: ChoiceFile) -> None:
    if choice.kept is not None:
        say(
            f"note: {choice.file} was damaged; what stood there, maybe an id too, is in {choice.kept}"
        )


def _named(arguments: argparse.Namespace, around: Surroundings) -> list[str] | None:
    """The products that a command line names; None, with a word of why, when it names none."""
    if bool(arguments.product) == arguments.all:
        say("tallyd: name one product, or say --all")
        return None
    if arguments.all:
        return around.registry.products()
    if re.fullmatch(PRODUCT_NAME, arguments.product, re.ASCII) is None:
        say(f"tallyd: {arguments.product!r} is no product's name; it must match {PRODUCT_NAME}")
        return None
    return [arguments.product]


def _each(products: list[str], act: Callable[[str], None]) -> tuple[list[str], int]:
    """Do `act` for each product; one that cannot be used stops no other. (those done, exit code)."""
    done, code = [], 0
    for product in products:
        try:
            act(product)
            done.append(product)
        except TallydError as error:
            if len(products) == 1:
                raise
            say(f"tallyd: {product}: {error}")
            code = exits.STATE
    return done, code


def _forget(around: Surroundings, products: list[str]) -> None:
    """Delete what waits of these products, here or by the daemon that runs."""
    from tallyd import lock
    from tallyd.clock import SystemClock
    from tallyd.service import once

    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while products:
        try:
            if lock.is_daemon_running(around.paths):
                told = ask_daemon(around, products)
                kept = {one: told.get(one, {}).get("not_deleted") for one in products}
                for product in filter(kept.get, products):
                    raise StateUnusable(f"{product} is not deleted yet: {kept[product]}")
            else:
                once.forget(around, SystemClock(), products)
        except AlreadyRunning:
            # A flush holds the lock, or a daemon came or went this moment.
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_S)
        else:
            return


def _did_you_mean(product: str, known: list[str]) -> str:
    """For a name that nobody registered: the one that was meant, or all there are."""
    from difflib import get_close_matches

    close = get_close_matches(product, known, 1)
    if close:
        return f'note: did you mean {close[0]}? That one is as it was: "tallyd off {close[0]}"'
    return f"note: registered here: {', '.join(known) or 'none'}"


def _tell_of_this_shell(around: Surroundings, product: str, *, is_on: bool) -> None:
    """Say where this shell, or a policy, disagrees with what is stored now."""
    from tallyd import choices
    from tallyd.product import decide

    try:
        contract = around.registry.get(product)
    except NotRegistered:
        return
    choice = choices.read_choice(contract, around.paths, around.environ)
    here = decide(contract, choice, around, may_enable=True)
    if here.is_on != is_on:
        say(
            f"note: {here.decided_by} says {here.state} in this shell, and decides before the stored"
            f" choice of {product}"
        )
