"""Who decides for each product, and where this shell, the stored choice and the daemon disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd import choices, policy, settings, spool
from tallyd.contract.consent import Choice
from tallyd.contract.frozen import replace
from tallyd.doctor.finding import Finding, Level
from tallyd.errors import NotRegistered, SettingsError
from tallyd.product import decide, look_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tallyd.contract import Contract
    from tallyd.contract.consent import Consent
    from tallyd.doctor.scene import Scene
    from tallyd.product import ProductView


def check(scene: Scene) -> Iterator[Finding]:
    """The settings, every policy file, every product."""
    yield from _settings(scene)
    yield from _policies(scene)
    names = scene.around.registry.products()
    dropping = spool.products_with_spool(scene.around.paths)
    for name in sorted(set(dropping) - set(names)):
        what = f"{name} drops counts, and no contract is registered for it"
        yield Finding("consent", Level.WARNING, what, "tallyd contract add FILE")
    if not names:
        yield Finding("consent", Level.NOTE, "no product is set up yet", "tallyd contract add FILE")
    for name in names:
        yield from _product(scene, name)


def _settings(scene: Scene) -> Iterator[Finding]:
    try:
        settings.read_settings(scene.around.paths)
    except SettingsError as problem:
        yield Finding("settings", Level.PROBLEM, problem.what, problem.hint or "mend that line")


def _policies(scene: Scene) -> Iterator[Finding]:
    # What a policy file says of a product that nobody named tells whether it can be understood.
    for said in policy.bans_on("", scene.around.paths, scene.around.environ).damaged:
        fix = "mend it, or remove it: until then it forbids every product"
        yield Finding("consent", Level.PROBLEM, f"a policy file is damaged: {said}", fix)


def _product(scene: Scene, name: str) -> Iterator[Finding]:
    try:
        view = look_at(name, scene.around, scene.now)
    except NotRegistered as problem:
        yield Finding("consent", Level.PROBLEM, f"{name}: {problem.what}", problem.hint)
        return
    contract = view.registered
    choice = choices.read_choice(contract, scene.around.paths, scene.around.environ)
    if choice.stored.choice is Choice.DAMAGED:
        what = f"{name}: {choice.file} is damaged ({choice.stored.problem}), and so it is off"
        fix = f'mend it, or choose again: "tallyd off {name}" or "tallyd on {name}"'
        yield Finding("consent", Level.PROBLEM, what, fix)
        return
    yield from _disagreement(scene, contract, view)


def _disagreement(scene: Scene, contract: Contract, view: ProductView) -> Iterator[Finding]:
    """This shell beside what holds without it: the daemon's environment, or the stored choice alone."""
    name = contract.product
    here = _decided(scene, contract, scene.around.environ, may_enable=True)
    there = _decided(scene, contract, scene.service or {}, may_enable=False)
    told = f"{name} is {there.state}, decided by {there.decided_by}"
    if here.is_on == there.is_on:
        level, what = Level.OK, told
        if there.is_on and view.gate.reason:
            level, what = Level.NOTE, f"{told}; nothing leaves yet: {view.gate.reason}"
        yield Finding("consent", level, what)
        return
    whom = "the running daemon" if scene.service is not None else "a service"
    if there.is_on:
        # Where no daemon is seen to say on, whoever counts reads this shell, as far as we know.
        level = Level.NOTE if scene.service is None else Level.WARNING
        what = (
            f"{told}; this shell says off ({here.decided_by}), which {whom} does not see:"
            " tools started elsewhere go on to count, and it sends"
        )
        yield Finding("consent", level, what, f"tallyd off {name}")
        return
    what = (
        f"{told}; this shell says on ({here.decided_by}), which holds for tools started in it"
        " alone: what they drop is not merged"
    )
    yield Finding("consent", Level.WARNING, what, f"tallyd on {name}")


def _decided(
    scene: Scene, contract: Contract, environ: Mapping[str, str], *, may_enable: bool
) -> Consent:
    around = scene.around
    choice = choices.read_choice(contract, around.paths, around.environ)
    return decide(contract, choice, replace(around, environ=environ), may_enable=may_enable)
