"""The commands about the service."""

from __future__ import annotations

from tallyd.usage.words import DRY_RUN, JSON, Command, count

SERVICE_COMMANDS = (
    Command(
        "service install",
        "run the daemon from now on, at each login, under systemd or launchd",
        "tallyd service install",
        {
            "--on-demand": {
                "action": "store_true",
                "help": "start it when a tool drops counts, and let it leave when it is idle",
            },
            "--no-start": {"action": "store_true", "help": "install it, and start nothing now"},
            "--dry-run": DRY_RUN,
            "--json": JSON,
        },
    ),
    Command(
        "service uninstall",
        "stop it and remove what install wrote; counts and choices stay",
        "tallyd service uninstall",
        {
            "--purge": {
                "action": "store_true",
                "help": 'remove what tallyd keeps too: counts, ids, contracts; a "no" is kept',
            },
            "--dry-run": DRY_RUN,
            "--json": JSON,
        },
    ),
    Command(
        "service start",
        "start the installed service",
        "tallyd service start",
        {"--dry-run": DRY_RUN, "--json": JSON},
    ),
    Command(
        "service stop",
        "stop it until the next login, and let no host start another meanwhile",
        "tallyd service stop",
        {"--dry-run": DRY_RUN, "--json": JSON},
    ),
    Command(
        "service restart",
        "stop it and start it",
        "tallyd service restart",
        {"--dry-run": DRY_RUN, "--json": JSON},
    ),
    Command(
        "service status",
        "say what is installed, and how it goes by its manager's word",
        "tallyd service status",
        {"--json": JSON},
    ),
    Command(
        "service logs",
        "show the daemon's log",
        "tallyd service logs --follow",
        {
            "-f": {
                "flags": ("--follow",),
                "action": "store_true",
                "dest": "follow",
                "help": "go on as lines come",
            },
            "-n": {
                "flags": ("--lines",),
                "dest": "lines",
                "metavar": "N",
                "type": count,
                "default": 100,
                "help": "the last N lines (100)",
            },
        },
    ),
    Command(
        "service print",
        "print the service files as install would write them",
        "tallyd service print",
        {
            "--on-demand": {"action": "store_true", "help": "those of the service on demand"},
            "--systemd": {"action": "store_true", "help": "systemd's, wherever this is"},
            "--launchd": {"action": "store_true", "help": "launchd's, wherever this is"},
            "--json": JSON,
        },
    ),
)
