"""What the service commands say: steps and a supervision, as words and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.supervisor.steps import Run, Write

if TYPE_CHECKING:
    from tallyd.supervisor.steps import Step
    from tallyd.supervisor.supervision import Supervision


def step_words(step: Step, *, will: bool) -> str:
    """What a step did, or would do."""
    match step:
        case Write():
            return f"{'would write' if will else 'wrote'} {step.path}"
        case Run():
            return f"{'would run' if will else 'ran'} {' '.join(step.command)}"
        case _:
            return f"{'would remove' if will else 'removed'} {step.path}"


def step_json(step: Step) -> dict[str, object]:
    """A step as `--json` prints it."""
    match step:
        case Write():
            return {"do": "write", "path": str(step.path)}
        case Run():
            return {"do": "run", "command": list(step.command)}
        case _:
            return {"do": "remove", "path": str(step.path)}


def supervision_json(seen: Supervision) -> dict[str, object]:
    """What `service status --json` prints."""
    found = seen.installed
    return {
        "schema_version": 1,
        "supervisor": seen.supervisor,
        "installed": found is not None,
        "file": str(found.file) if found else None,
        "command": list(found.command) if found else None,
        "mode": None if found is None else "on-demand" if found.is_on_demand else "resident",
        "sandbox": found.has_sandbox if found else None,
        "problem": (found.problem or None) if found else None,
        "enabled": seen.is_enabled,
        "state": seen.state,
        "detail": seen.detail,
        "waits": seen.waits,
        "pid": seen.pid,
        "restarts": seen.restarts,
        "result": seen.result or None,
        "says": seen.says or None,
        "drop_ins": list(seen.overridden),
    }


def supervision_text(seen: Supervision) -> list[str]:
    """What `service status` prints for people."""
    found = seen.installed
    if found is None:
        return [
            f'tallyd is not installed as a service ({seen.supervisor} is here): "tallyd service install"'
        ]
    state = f"runs, process {seen.pid}" if seen.state == "active" else seen.state
    if seen.waits and seen.state != "active":
        state = "waits for the next drop"
    failed = f" ({seen.result})" if seen.result not in ("", "success") else ""
    often = f", restarted {seen.restarts} time{'s' * (seen.restarts != 1)}" if seen.restarts else ""
    when = "when a tool drops counts" if found.is_on_demand else "at login"
    lines = [
        f"tallyd, by {seen.supervisor}: {state}{failed}{often}",
        f"  starts      {when if seen.is_enabled else 'never by itself (not enabled)'}",
        f"  file        {found.file}{'' if found.is_ours else ' (not written by tallyd)'}",
        f"  runs        {' '.join(found.command)}",
    ]
    if seen.says:
        lines.append(f"  says        {seen.says}")
    if seen.elsewhere:
        lines.append(f"  WRONG       your manager goes by {seen.elsewhere}, and not by that file")
    lines += [f"  drop-in     {one}" for one in seen.overridden]
    if found.problem:
        lines += [
            "",
            f"WRONG: {found.problem}",
            "  install tallyd again, then: tallyd service install",
        ]
    return lines
