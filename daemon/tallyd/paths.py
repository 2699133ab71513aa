"""Where everything lies on disk: one type that knows the layout.

The rule of product.md, which the stub shares through tests/vectors/paths.json: `TALLYD_HOME` when
absolute holds `config/` and `state/`; otherwise the XDG rule on every system, relative values
ignored. Nothing here touches the disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tallyd.contract.frozen import Frozen
from tallyd.errors import StateUnusable

if TYPE_CHECKING:
    from collections.abc import Mapping


_MACHINE_POLICY = Path("/etc/tallyd/policy.toml")


class SpoolDirs(Frozen):
    """The three directories of one product's spool."""

    tmp: Path
    new: Path
    bad: Path


class Paths(Frozen):
    """The layout below the configuration and the state directory."""

    config: Path
    state: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> Paths:
        """The paths that `environ` means. Raises StateUnusable when there is no home at all."""
        home = environ.get("TALLYD_HOME", "")
        if os.path.isabs(home):
            return cls(Path(home, "config"), Path(home, "state"))
        return cls(
            xdg_directory(environ, "XDG_CONFIG_HOME", ".config") / "tallyd",
            xdg_directory(environ, "XDG_STATE_HOME", os.path.join(".local", "state")) / "tallyd",
        )

    @property
    def settings_file(self) -> Path:
        """The user's config.toml."""
        return self.config / "config.toml"

    @property
    def contracts(self) -> Path:
        """The directory of registered contracts, `<product>.toml` each."""
        return self.config / "contracts"

    @property
    def database(self) -> Path:
        """Buckets, outbox, ledger."""
        return self.state / "tallyd.db"

    @property
    def reserve(self) -> Path:
        """Room on the disk that is given up when it is full."""
        return self.state / "reserve"

    @property
    def own_in_state(self) -> list[Path]:
        """Everything of ours in the state directory that is there: what a purge removes."""
        named = [
            *(self.spools, self.lock, self.reserve, self.flush_requests, self.choices),
            *(self.agreements, self.program, self.handover, self.starting, self.stopped),
            *(self.state / name for name in ("once", "identity", "notices")),
        ]
        # With what SQLite and a full log have beside, and databases that were set aside.
        beside = [
            *(
                self.state / f"{self.database.name}{end}"
                for end in ("", "-wal", "-shm", "-journal")
            ),
            *self.state.glob(f"{self.database.name}.damaged-*"),
            *(self.state / f"{self.log.name}{end}" for end in ("", ".1")),
            # What a kill left of a file that was being written, or of a purge.
            *self.state.glob(".*.tmp"),
            *self.state.glob(".*.purged"),
        ]
        return [one for one in (*named, *beside) if os.path.lexists(one)]

    @property
    def lock(self) -> Path:
        """Locked while a daemon or a flush lives; its modification time is the last heartbeat."""
        return self.state / "daemon.lock"

    @property
    def program(self) -> Path:
        """The newest tallyd that ran here on demand, and how it is started."""
        return self.state / "program.json"

    @property
    def handover(self) -> Path:
        """The version of a newer tallyd that a host asks for."""
        return self.state / "handover"

    @property
    def starting(self) -> Path:
        """Made exclusively by the host that starts a daemon, gone once one runs."""
        return self.state / "starting"

    @property
    def stopped(self) -> Path:
        """There after "tallyd service stop": no host starts a daemon meanwhile."""
        return self.state / "stopped"

    @property
    def log(self) -> Path:
        """Where a daemon logs that a host started: it has no console."""
        return self.state / "daemon.log"

    @property
    def flush_requests(self) -> Path:
        """Hint files by which `tallyd flush` asks a running daemon."""
        return self.state / "flush"

    @property
    def spools(self) -> Path:
        """One directory per product below it."""
        return self.state / "spool"

    def spool(self, product: str) -> SpoolDirs:
        """The spool of one product."""
        root = self.spools / product
        return SpoolDirs(root / "tmp", root / "new", root / "bad")

    @property
    def choices(self) -> Path:
        """State files of products whose contract names none of their own, `<product>.json` each."""
        return self.state / "consent"

    def choice(self, product: str) -> Path:
        """Tallyd's own file of a product's choice, or what it keeps beside the product's own."""
        return self.choices / f"{product}.json"

    @property
    def user_policy(self) -> Path:
        """The user's own policy file."""
        return self.config / "policy.toml"

    def policies(self, environ: Mapping[str, str]) -> list[tuple[str, Path]]:
        """Every policy file with the name of its rule, the highest first."""
        found = [("machine policy", _machine_policy(environ))]
        if named := environ.get("TALLYD_POLICY_FILE", ""):
            found.append(("policy file", Path(named)))
        return [*found, ("user policy", self.user_policy)]

    @property
    def agreements(self) -> Path:
        """The texts of the contracts in force, `<product>.toml` each."""
        return self.state / "agreed"

    def agreed(self, product: str) -> Path:
        """The text of the contract in force."""
        return self.agreements / f"{product}.toml"

    def once(self, product: str) -> Path:
        """One empty file per event that a host has told once for this machine."""
        return self.state / "once" / product

    def identity(self, product: str) -> Path:
        """The random stand-in for an id that a host could not derive."""
        return self.state / "identity" / product

    def notices(self, product: str) -> Path:
        """One file per version of the contract whose notice was shown, named by its short digest."""
        return self.state / "notices" / product


def _machine_policy(environ: Mapping[str, str]) -> Path:
    if os.name == "nt":
        return Path(environ.get("PROGRAMDATA", "C:\\ProgramData"), "tallyd", "policy.toml")
    return _MACHINE_POLICY


def expand_home(path: str, environ: Mapping[str, str]) -> Path:
    """`path` with a leading `~/` replaced by the user's home. Raises StateUnusable without one."""
    return home_of(environ) / path[2:] if path.startswith("~/") else Path(path)


def xdg_directory(environ: Mapping[str, str], name: str, default: str) -> Path:
    """The base directory that a variable of XDG's names, or `default` below the home. Raises StateUnusable."""
    value = environ.get(name, "")
    return Path(value) if os.path.isabs(value) else home_of(environ) / default


def home_of(environ: Mapping[str, str]) -> Path:
    """The user's home. Raises StateUnusable without one."""
    home = environ.get("HOME" if os.name != "nt" else "USERPROFILE", "") or _home_of_account()
    if not os.path.isabs(home):
        raise StateUnusable(
            "there is no home directory", "set HOME, or TALLYD_HOME to an absolute path"
        )
    return Path(home)


def _home_of_account() -> str:
    """The home by the system's list of accounts; "" where there is none. An empty HOME is not the root."""
    if os.name == "nt":
        return os.path.expanduser("~")
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""
