"""The service files as they stand in systemd/ and launchd/: rendered for a user called "you".

python -m support.service_files        writes them
"""

from __future__ import annotations

from pathlib import Path

from tallyd.contract.frozen import replace
from tallyd.supervisor import agent, unit
from tallyd.supervisor.recipe import Recipe

from support.processes import ROOT

_HOME = Path("/home/you")
RECIPE = Recipe(
    command=("/home/you/.local/share/uv/tools/tallyd/bin/python", "-I", "-m", "tallyd"),
    environ=(),
    home=_HOME,
    config=_HOME / ".config" / "tallyd",
    state=_HOME / ".local" / "state" / "tallyd",
)
_MAC_HOME = Path("/Users/you")
MAC = replace(
    RECIPE,
    command=("/Users/you/.local/share/uv/tools/tallyd/bin/python", "-I", "-m", "tallyd"),
    home=_MAC_HOME,
    config=_MAC_HOME / ".config" / "tallyd",
    state=_MAC_HOME / ".local" / "state" / "tallyd",
)
ON_DEMAND = replace(RECIPE, is_on_demand=True, products=("codegraph",))


def samples() -> dict[Path, str]:
    """Each file of systemd/ and launchd/ with its text."""
    directory = ROOT / "systemd"
    found = {directory / name: text for name, text in unit.render(RECIPE).items()}
    found[ROOT / "launchd" / agent.FILE] = agent.render(MAC).decode()
    return found | {
        directory / "on-demand" / name: text for name, text in unit.render(ON_DEMAND).items()
    }


if __name__ == "__main__":
    for file, text in samples().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
