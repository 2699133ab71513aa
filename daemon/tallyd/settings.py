"""What a user may set, in `config.toml`.

    [daemon]
    log_level = "info"          # debug | info | warning | error
    rescan_interval_s = 60      # 1 to 3600: how long a lost wake-up may delay a count
    watch = true                # false: no file watching at all, the timer alone
    idle_exit_s = 600           # 1 to 86400: when a daemon that a host started leaves again

Unknown keys are errors that name the file and the key. Absent means the defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyd.contract import ContractError
from tallyd.contract.frozen import Frozen
from tallyd.contract.parse import CONTRACT_MAX_BYTES, read_toml
from tallyd.contract.table import Table
from tallyd.errors import SettingsError
from tallyd.files import read_regular
from tallyd.limits import IDLE_EXIT_S, RESCAN_INTERVAL_S

if TYPE_CHECKING:
    from tallyd.paths import Paths


class Settings(Frozen):
    """The user's settings, validated."""

    log_level: str = "info"
    rescan_interval_s: float = RESCAN_INTERVAL_S
    watch: bool = True
    idle_exit_s: float = IDLE_EXIT_S


def read_settings(paths: Paths) -> Settings:
    """The settings in config.toml, or the defaults. Raises SettingsError naming file and key."""
    file = paths.settings_file
    try:
        content = read_regular(file, CONTRACT_MAX_BYTES, may_be_link=True)
        if content is None:
            return Settings()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error}", "mend or remove it") from None
    except ValueError as problem:
        raise SettingsError(f"{file} {problem}", "mend or remove it") from None
    try:
        source, values = read_toml(content, str(file))
        root = Table(str(file), source, (), values)
        daemon = root.table("daemon")
        settings = Settings(
            log_level=daemon.choice("log_level", "info", ("debug", "info", "warning", "error")),
            rescan_interval_s=daemon.integer(
                "rescan_interval_s", int(RESCAN_INTERVAL_S), low=1, high=3600
            ),
            watch=daemon.boolean("watch", default=True),
            idle_exit_s=daemon.integer("idle_exit_s", int(IDLE_EXIT_S), low=1, high=86400),
        )
        daemon.finish()
        root.finish()
    except ContractError as error:
        raise SettingsError(str(error)) from None
    return settings
