"""How people install tallyd: with uv, pipx and pip, in a home of its own, from an index that is a directory.

`Index` is what there is to be installed at one moment: wheels of the pinned dependencies, and the versions of
tallyd that were released by then. A `Machine` is a home with one of the tools; nothing of this shell's
environment gets there but what is named here, and no command of it reaches a network.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tallyd import __version__, store

from support.hosts import find_python
from support.processes import ROOT
from support.tools import lacking

TOOLS = ("uv", "pipx", "pip")
NEXT = "0.3.0"
_PREVIOUS = "0.1.0"
_ENVIRONMENT = ROOT / ".venv-install" / "bin"
_NEEDED = ("anyio", "httpx", "httpcore", "h11", "certifi", "idna", "psutil", "watchfiles")


def run(*command: str | Path, **how: object) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [str(one) for one in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **how,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return str(done.stdout)


def tool(name: str) -> Path:
    """A tool of requirements/install.txt. Without it the test is skipped, saying so; in CI it fails."""
    found = _ENVIRONMENT / name
    return (
        found if found.exists() else lacking(f'{name} is not in .venv-install; "make test" puts it')
    )


@cache
def base_python() -> Path:
    """A Python that is nobody's environment; one without the packages of ours, where there is one."""
    found = [find_python(f"3.{minor}") for minor in (13, 12, 11)]
    candidates = [sys._base_executable, *(one for one in found if one is not None)]
    look = (
        "import importlib.util as u, os, sysconfig\n"
        "managed = os.path.exists(sysconfig.get_path('stdlib') + '/EXTERNALLY-MANAGED')\n"
        "print(managed, u.find_spec('pip') is None, sum(u.find_spec(m) is not None for m in NAMES))"
    ).replace("NAMES", repr(_NEEDED))
    return Path(min(candidates, key=lambda one: run(one, "-s", "-c", look)))


# --- what there is to install ----------------------------------------------------------------------


@dataclass(frozen=True)
class Wheels:
    """The wheels of the pinned dependencies, and of each version of both distributions."""

    pinned: Path
    present: Path
    next: Path


def make_wheels(into: Path) -> Wheels:
    """Fetch the pinned dependencies, and build the sources as they are and a next version of them."""
    made = Wheels(into / "pinned", into / __version__, into / NEXT)
    # pipx gets itself a pip of its own.
    pins = (ROOT / "requirements" / "install.txt").read_text()
    (into / "pip.txt").write_text(re.findall(r"^pip==(?:.*\\\n)*.*\n", pins, re.MULTILINE)[0])
    for requirements in (ROOT / "requirements" / "runtime.txt", into / "pip.txt"):
        fetch = ("download", "--quiet", "--require-hashes", "--only-binary", ":all:")
        run(sys.executable, "-m", "pip", *fetch, "-r", requirements, "-d", made.pinned)
    _build(ROOT, made.present)
    sources = into / "sources"
    sources.mkdir()
    for name in ("daemon", "ingest", "client_stub"):
        shutil.copytree(
            ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources / name)
    _make_next(sources)
    _build(sources, made.next)
    return made


def make_previous(into: Path) -> Path:
    """The wheels of the version before, from the commit that was the last to say so.

    Without the history the test is skipped, saying so; in CI it fails.
    """
    sources, wheels = into / "sources", into / _PREVIOUS
    sources.mkdir(parents=True)
    archive = into / "sources.tar"
    with archive.open("wb") as file:
        subprocess.run(
            ["git", "-C", str(ROOT), "archive", _last_commit_of(_PREVIOUS)], stdout=file, check=True
        )
    run("tar", "-xf", archive, "-C", sources)
    _build(sources, wheels)
    return wheels


def _last_commit_of(version: str) -> str:
    """The newest commit whose pyproject.toml says `version`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        lacking("there is no history to find the previous version in")
    changes = run("git", "-C", ROOT, "log", "--format=%H", "--", "pyproject.toml").split()
    said = f'version = "{version}"\n'
    # What changed the version has the wanted commit before it.
    for newer in ("HEAD", *(f"{one}^" for one in changes)):
        asked = ["git", "-C", str(ROOT), "show", f"{newer}:pyproject.toml"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode == 0 and said in done.stdout:
            return newer
    return lacking(f"the history does not reach back to {version}")


def _build(sources: Path, into: Path) -> None:
    for project in (sources, sources / "client_stub" / "python"):
        run(
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
            *("--outdir", into, project),
        )


def _make_next(sources: Path) -> None:
    """Turn copied sources into a later version, whose database an earlier one cannot know."""
    present = f'"{__version__}"'
    for name in (
        "pyproject.toml",
        "client_stub/python/pyproject.toml",
        "client_stub/python/tallyd_client/__init__.py",
        "client_stub/python/tallyd_client/_drop.py",
        "daemon/tallyd/__init__.py",
    ):
        _change(sources / name, present, f'"{NEXT}"')
    file = sources / "daemon" / "tallyd" / "store.py"
    raised = store.SCHEMA_VERSION + 1
    _change(file, f"SCHEMA_VERSION = {store.SCHEMA_VERSION}\n", f"SCHEMA_VERSION = {raised}\n")
    step = (
        '    """Bring the schema to SCHEMA_VERSION: numbered steps, forward only."""\n'
        "    with store.transaction() as sql:\n"
    )
    begun = f"        if {store.SCHEMA_VERSION} == _version(sql, store._file):\n"
    _change(
        file,
        step,
        f'{step}{begun}            sql.execute("CREATE TABLE of_the_next (one TEXT) STRICT")\n'
        f'            sql.execute("PRAGMA user_version = {raised}")\n',
    )


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new))


# --- where it is installed -------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """The home of somebody who installs with one of TOOLS; the index may gain versions."""

    home: Path
    tool: str
    index: Path
    python: Path

    @classmethod
    def of(cls, place: Path, tool_name: str, pinned: Path, *released: Path) -> Machine:
        """A new home below `place`, and an index of the dependencies and what is released so far."""
        made = cls(place / "home", tool_name, place / "index", base_python())
        for one in (made.home, made.index):
            one.mkdir(parents=True)
        made.release(pinned, *released)
        return made

    def release(self, *wheels: Path) -> None:
        """Let the index have these wheels too."""
        for directory in wheels:
            for wheel in directory.glob("*.whl"):
                (self.index / wheel.name).symlink_to(wheel)

    @property
    def state(self) -> Path:
        """The state directory, by the XDG rule."""
        return self.home / ".local" / "state" / "tallyd"

    def environ(self, **more: str) -> dict[str, str]:
        """The environment of a shell of this home."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self.home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "UV_OFFLINE": "1",
            "UV_NO_INDEX": "1",
            "UV_NO_CONFIG": "1",
            "UV_FIND_LINKS": str(self.index),
            "UV_PYTHON": str(self.python),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "PIPX_DEFAULT_PYTHON": str(self.python),
            # As somebody has it who got pipx from their system.
            "PIPX_DEFAULT_BACKEND": "pip",
            **more,
        }

    def install(self, version: str = "") -> None:
        """What somebody types who wants tallyd, or just this version of it."""
        wanted = f"tallyd=={version}" if version else "tallyd"
        if self.tool == "uv":
            self._by(tool("uv"), "tool", "install", wanted)
        elif self.tool == "pipx":
            self._by(tool("pipx"), "install", *(["--force"] if version else []), wanted)
        else:
            self._by(*self._pip(), "install", "--user", *self._managed(), wanted)

    def upgrade(self) -> None:
        """What somebody types who wants the newest."""
        if self.tool == "uv":
            self._by(tool("uv"), "tool", "upgrade", "tallyd")
        elif self.tool == "pipx":
            self._by(tool("pipx"), "upgrade", "tallyd")
        else:
            self._by(*self._pip(), "install", "--user", "--upgrade", *self._managed(), "tallyd")

    def _by(self, *command: str | Path) -> None:
        run(*command, env=self.environ(), cwd=self.home)

    def _pip(self) -> tuple[str | Path, ...]:
        return (self.python, "-m", "pip")

    def _managed(self) -> list[str]:
        """Where the system keeps its Python to itself, one has to insist (PEP 668)."""
        return ["--break-system-packages"] if is_managed(self.python) else []

    def tallyd(
        self, *arguments: str, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the installed command to its end."""
        done = subprocess.run(
            [str(self.home / ".local" / "bin" / "tallyd"), *arguments],
            env=self.environ(**more),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check:
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done

    @property
    def version(self) -> str:
        """What the installed command says that it is."""
        return self.tallyd("--version").stdout.split()[1]


def is_managed(python: Path) -> bool:
    """Whether the system keeps this Python to itself."""
    look = "import os, sysconfig as s; print(os.path.exists(s.get_path('stdlib') + '/EXTERNALLY-MANAGED'))"
    return run(python, "-c", look).strip() == "True"


def stub_environment(into: Path, wheels: Path) -> Path:
    """A host's own environment with that version of the stub and nothing else; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", into)
    python = into / "bin" / "python"
    place = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (wheel,) = wheels.glob("tallyd_client-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(place)
    found = run(python, "-I", "-c", "import tallyd_client as t; print(t.__version__, t.__file__)")
    assert re.match(rf"{re.escape(wheels.name)} {re.escape(place)}", found), found
    return python
