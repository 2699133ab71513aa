"""What the stub and the daemon each have of the same is the same, byte for byte, and alone."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
import tallyd
import tallyd_client
from support.processes import ROOT
from tallyd_client._drop import STUB_VERSION

_PAIRS = [("_redact.py", "contract/redact.py"), ("_flat_toml.py", "flat_toml.py")]

each_pair = pytest.mark.parametrize(("stubs", "daemons"), _PAIRS)


@each_pair
def test_both_copies_are_equal(stubs: str, daemons: str):
    """Neither may import the other; an edit of one is copied to the other."""
    stub = ROOT / "client_stub" / "python" / "tallyd_client" / stubs

    assert stub.read_bytes() == (ROOT / "daemon" / "tallyd" / daemons).read_bytes()


@each_pair
def test_a_copy_is_of_python_3_9_and_of_the_standard_library(stubs: str, daemons: str):
    tree = ast.parse((ROOT / "daemon" / "tallyd" / daemons).read_text(), feature_version=(3, 9))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        )
    }

    assert imported <= {"re", "urllib.parse", "collections.abc"}
    assert "re" not in imported or stubs == "_redact.py"


def test_one_version_stands_wherever_a_version_does():
    """Both distributions are released together, and what a delta says of its writer is the stub's own."""
    newest = re.search(r"^## (\d+\.\d+\.\d+) - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    said = {"CHANGELOG.md": newest[1], "tallyd": tallyd.__version__, "_drop": STUB_VERSION}
    said["tallyd_client"] = tallyd_client.__version__
    for file in ("pyproject.toml", "client_stub/python/pyproject.toml"):
        said[file] = tomllib.loads((ROOT / file).read_text())["project"]["version"]

    assert said == dict.fromkeys(said, tallyd.__version__)
