"""Purge: everything that tallyd keeps on this machine goes, except a "no".

What a user once forbade stays forbidden: choices live in the state directory, which goes, and a
product whose default is on would count again. So each stored "no" is written into the user's own
policy first. A product's own state file is that product's, and stays.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from tallyd import __version__, choices, lock, policy
from tallyd.contract.consent import Choice
from tallyd.contract.parse import PRODUCT_NAME
from tallyd.errors import AlreadyRunning, NotRegistered, refused
from tallyd.files import read_regular
from tallyd.limits import STATE_FILE_MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from tallyd.product import Surroundings


def plan(around: Surroundings) -> tuple[list[Path], list[str]]:
    """(what would go, what would stay, in words). Changes nothing."""
    paths = around.paths
    gone = [*paths.own_in_state, *([paths.contracts] if paths.contracts.exists() else [])]
    kept = [str(one) for one in (paths.settings_file, paths.user_policy) if one.exists()]
    if paths.state.is_dir():
        kept += [str(one) for one in sorted(paths.state.iterdir()) if one not in gone]
    refusing = _refused(around)
    forbids_all = any(
        one["all"] for one in policy.standing(paths, {}) if one["rule"] == "user policy"
    )
    if forbids_all:
        kept.append(f'the "no" to everything that {paths.user_policy} forbids')
    elif refusing:
        kept.append(f'the "no" to {", ".join(refusing)}, in {paths.user_policy}')
    return gone, kept


def carry_out(around: Surroundings, now: float) -> None:
    """Remove it all, at `now` (Unix s). Raises AlreadyRunning while somebody of ours runs, StateUnusable."""
    paths = around.paths
    holder = lock.current_holder(paths)
    if holder is not None:
        raise AlreadyRunning(
            f"tallyd runs ({holder.role}, process {holder.pid})", "end it first, then purge"
        )
    for product in _refused(around):
        policy.forbid(product, paths)
    # Only what is ours: a home that somebody named carelessly holds other things too.
    # The lock goes last, and is held until then: nobody begins anything in between.
    with lock.hold_lock(paths, lock.Holder(os.getpid(), "purge", __version__, now)):
        for place in (*paths.own_in_state, paths.contracts):
            if place != paths.lock:
                _remove(place)
        _remove(paths.lock)
    for empty in (paths.state, paths.config):
        with suppress(OSError):
            empty.rmdir()


def _remove(place: Path) -> None:
    """Remove a directory with all in it, or whatever else stands there; never what a link leads to."""
    try:
        if stat.S_ISDIR(os.lstat(place).st_mode):
            # Under another name first: tools go on to drop, and a directory that fills cannot be removed.
            aside = place.with_name(f".{place.name}.purged")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(place, aside)
            shutil.rmtree(aside)
        else:
            # A pipe, too, which would hold whoever opened it.
            os.unlink(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise refused(f"{place} cannot be removed", error) from error


def _refused(around: Surroundings) -> list[str]:
    """The products to which their user said no, where the word would go with the state."""
    found = set()
    for product in around.registry.products():
        try:
            contract = around.registry.get(product)
        except NotRegistered:
            continue
        choice = choices.read_choice(contract, around.paths, around.environ)
        if choice.stored.choice in (Choice.OFF, Choice.DAMAGED):
            found.add(product)
    for file in around.paths.choices.glob("*.json"):
        # Of products whose contract is not there (any more), only this file knows.
        if file.stem not in found and _says_no(file):
            found.add(file.stem)
    return sorted(one for one in found if re.fullmatch(PRODUCT_NAME, one, re.ASCII))


def _says_no(file: Path) -> bool:
    """Whether tallyd's own file of a choice says off, or nobody knows what it says."""
    try:
        said = json.loads(read_regular(file, STATE_FILE_MAX_BYTES) or b"")
        return bool(said.get("enabled") is False or said.get("mode") == "off")
    except (OSError, ValueError, AttributeError, RecursionError):
        return True
