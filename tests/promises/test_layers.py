"""The layers of docs/architecture.md are the imports of the code, and imports point down only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from support.processes import ROOT

_DAEMON = ROOT / "daemon" / "tallyd"
_ROW = re.compile(r"^\| (\w+) \| ((?:`\w+` ?)+)\|", re.MULTILINE)

# Who alone may import or call what: the seams at which a library or the time comes in.
_ALONE = {
    "sqlite3.connect": {"store"},
    "watchfiles": {"wakeups"},
    "httpx": {"transport"},
    "psutil": {"cost", "mounts", "doctor"},
    "time.time": {"clock"},
    "print": {"cli"},
}


def _layers() -> list[set[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    return [set(re.findall(r"`(\w+)`", modules)) for _, modules in _ROW.findall(text)]


def _imports(file: Path) -> set[str]:
    """The modules of `tallyd` that a file imports, wherever in it, by their first name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "tallyd":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tallyd."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tallyd.")
            }
    return found - {"__version__"}


def _modules() -> dict[str, list[Path]]:
    """Each module of the daemon with its files; a package counts as one."""
    found: dict[str, list[Path]] = {}
    for file in sorted(_DAEMON.rglob("*.py")):
        name = file.relative_to(_DAEMON).parts[0].removesuffix(".py")
        found.setdefault(name, []).append(file)
    del found["__init__"]
    return found


def test_every_module_stands_in_exactly_one_layer():
    named = [name for layer in _layers() for name in layer]

    assert sorted(named) == sorted(_modules())


def test_imports_point_down_only_and_neighbours_never_import_one_another():
    layers = _layers()
    depth = {name: place for place, layer in enumerate(layers) for name in layer}
    wrong = [
        f"{name} imports {other}"
        for name, files in _modules().items()
        for file in files
        for other in _imports(file) - {name}
        if depth[other] <= depth[name]
    ]

    assert wrong == []


def test_the_gateway_imports_the_contract_and_nothing_else_of_the_daemon():
    found = {file.name: _imports(file) for file in (ROOT / "ingest").rglob("*.py")}

    assert {name: one for name, one in found.items() if one - {"contract"}} == {}


def test_the_stub_imports_nothing_of_ours_and_nothing_of_ours_imports_the_stub():
    stub = {file.name: _imports(file) for file in (ROOT / "client_stub").rglob("*.py")}
    users = [
        file.relative_to(ROOT).as_posix()
        for top in ("daemon", "ingest")
        for file in (ROOT / top).rglob("*.py")
        if re.search(r"^\s*(import|from) tallyd_client", file.read_text(), re.MULTILINE)
    ]

    # demo/host.py is a host: a program of its own that the daemon never imports.
    assert ({name: one for name, one in stub.items() if one}, users) == (
        {},
        ["daemon/tallyd/demo/host.py"],
    )


def test_each_seam_is_one_module():
    for what, allowed in _ALONE.items():
        pattern = (
            rf"\b{re.escape(what)}\("
            if "." in what or what == "print"
            else rf"^\s*(?:import|from) {what}\b"
        )
        users = {
            name
            for name, files in _modules().items()
            for file in files
            if re.search(pattern, re.sub(r'"""[\s\S]*?"""|#.*', "", file.read_text()), re.MULTILINE)
        }
        # A type-checking import of httpx stands in the same module.
        assert users == allowed, what


def test_no_room_has_outgrown_its_purpose():
    long = {
        file.relative_to(ROOT).as_posix(): lines
        for top in ("daemon", "ingest", "client_stub")
        for file in (ROOT / top).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 330
    }

    assert long == {}
