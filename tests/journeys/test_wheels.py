"""Both distributions, built and installed into a clean environment from their wheels."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.processes import ROOT, environ_of
from tallyd import __version__

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two wheels, built from the sources as they are."""
    out = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, ROOT / "client_stub" / "python"):
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(project))
    return {file.name.split("-")[0]: file for file in out.glob("*.whl")}


def _run(*command: str, **environ: str) -> str:
    done = subprocess.run(
        command,
        env=environ or None,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_daemon_installed_from_its_wheel_says_something_useful(wheels, tmp_path):
    _run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    bin_ = tmp_path / "venv" / "bin"
    _run(
        str(bin_ / "python"), "-m", "pip", "install", "--quiet", "--require-hashes",
        "-r", str(ROOT / "requirements" / "runtime.txt"),
    )  # fmt: skip
    _run(
        str(bin_ / "python"), "-m", "pip", "install", "--quiet", "--no-deps", str(wheels["tallyd"])
    )
    environ = environ_of(tmp_path / "home")

    status = subprocess.run(
        [str(bin_ / "tallyd"), "status"], env=environ, capture_output=True, text=True, check=False
    )
    assert (status.returncode, status.stderr, "tallyd demo" in status.stdout) == (4, "", True)

    contract = str(ROOT / "contracts" / "codegraph.toml")
    assert "registered codegraph" in _run(
        str(bin_ / "tallyd"), "contract", "add", contract, **environ
    )
    assert "0 deltas merged" in _run(str(bin_ / "tallyd"), "flush", **environ)

    # The gateway and the demo are extras: without them each says what to install.
    for command in (
        ["tallyd", "demo"],
        ["tallyd-ingest", "serve", "--contract", contract, "--db", "x"],
    ):
        done = subprocess.run(
            [str(bin_ / command[0]), *command[1:]],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "pip install" in done.stdout + done.stderr) == (69, True), (
            done.stderr
        )


def test_the_wheels_hold_what_they_should_and_nothing_else(wheels):
    tops = {
        name: sorted({one.split("/")[0] for one in zipfile.ZipFile(file).namelist()})
        for name, file in wheels.items()
    }

    assert tops == {
        "tallyd": [
            "tallyd",
            f"tallyd-{__version__}.data",
            f"tallyd-{__version__}.dist-info",
            "tallyd_ingest",
        ],
        "tallyd_client": ["tallyd_client", f"tallyd_client-{__version__}.dist-info"],
    }


def test_the_wheel_puts_completions_and_the_manual_page_where_shells_and_man_look(wheels):
    shared = f"tallyd-{__version__}.data/data/share/"
    with zipfile.ZipFile(wheels["tallyd"]) as wheel:
        found = {
            name.removeprefix(shared): wheel.read(name)
            for name in wheel.namelist()
            if name.startswith(shared)
        }
        own = {
            name.rpartition("/")[2]: wheel.read(name)
            for name in wheel.namelist()
            if name.startswith("tallyd/shell/")
        }

    assert found == {
        "bash-completion/completions/tallyd": own["tallyd.bash"],
        "zsh/site-functions/_tallyd": own["_tallyd"],
        "fish/vendor_completions.d/tallyd.fish": own["tallyd.fish"],
        "man/man1/tallyd.1": own["tallyd.1"],
    }


def test_the_stub_needs_nothing(wheels):
    (metadata,) = (
        zipfile.ZipFile(wheels["tallyd_client"]).read(name).decode()
        for name in zipfile.ZipFile(wheels["tallyd_client"]).namelist()
        if name.endswith("METADATA")
    )

    assert ("Requires-Dist" in metadata, "Requires-Python: >=3.9" in metadata) == (False, True)
