"""The steps of a pass that take several stations and places: seal what is finished, ask for a notice, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import choices, notices, reserve, retention, seal
from tallyd.product import keep_agreement

if TYPE_CHECKING:
    from tallyd.product import ProductView, Surroundings
    from tallyd.store import Store


def seal_finished(
    store: Store, around: Surroundings, view: ProductView, now: float, *, may_age: bool
) -> int:
    """Lose what is too old, freeze what is finished, keep the caps; returns how many batches.

    Where `now` cannot be believed (not `may_age`), what is too old by it keeps everything waiting: a
    batch expires with the oldest that is in it.
    """
    if may_age:
        retention.lose_old(store, view, now)
    elif retention.holds_old(store, view, now):
        return 0
    if not seal.is_due(store, view, now):
        return 0
    keep_agreement(view, around)
    machine_id = view.machine_id
    if view.contract.identity.kind == "random":
        machine_id = choices.ensure_id(view.registered, around.paths, around.environ, now)
    sealed = seal.freeze(store, view, machine_id or "", now)
    retention.keep_caps(store, view)
    return sealed


def ask_for_notice(store: Store, around: Surroundings, view: ProductView, now: float) -> None:
    """Ask the next host to show the notice where it does not do so by itself.

    That is for a wider contract (whoever chose once was asked, and is silent by default), and
    where a product's notice comes right before the first send, once there is something to send.
    """
    if not view.consent.is_on or view.notice_shown_at is not None:
        return
    is_before_send = not view.gate.is_open and view.registered.consent.notice_when == "before-send"
    if view.pending is not None or (is_before_send and seal.is_due(store, view, now)):
        notices.ask_for(view.registered, around.paths)


def forget(store: Store, around: Surroundings, view: ProductView) -> None:
    """Remove every unsent trace of a product that is off, its id and what its user agreed to."""
    retention.purge(store, view.name, around.paths)
    paths, environ = around.paths, around.environ
    reserve.insist(paths, lambda: choices.forget_id(view.registered, paths, environ))
    around.registry.forget_agreement(view.name)
