"""The command line as a table: each command with its words, its example and its arguments."""

from __future__ import annotations

from tallyd.usage.service_commands import SERVICE_COMMANDS
from tallyd.usage.words import (
    ALL,
    CHECK,
    CONTRACT,
    JSON,
    MAYBE_PRODUCT,
    OUTPUT,
    PRODUCT,
    SHELLS,
    Command,
    interval_s,
)

COMMANDS = (
    Command(
        "run",
        "run the daemon in the foreground until a signal",
        "tallyd run",
        {
            "--on-demand": {
                "action": "store_true",
                "help": "log to a file, outlive this shell, and leave after 10 idle minutes",
            },
            "--agent": {
                "action": "store_true",
                "help": "under launchd: end with 0 where starting again would not help",
            },
            "--log-file": {
                "metavar": "FILE",
                "help": "log there instead of to stderr, and keep it under 256 KiB",
            },
        },
    ),
    Command(
        "status",
        "say whether it is well, what it knows, where it went, how to end it",
        "tallyd status\n  tallyd status codegraph --watch",
        {
            "product": {**MAYBE_PRODUCT, "help": "all about this one"},
            "--json": {**JSON, "help": "print JSON, every key as docs/status.md says"},
            "--watch": {
                "metavar": "SECONDS",
                "nargs": "?",
                "type": interval_s,
                "const": 2.0,
                "help": "again and again, every 2 s or so many, until Ctrl-C",
            },
        },
    ),
    Command(
        "doctor",
        "look at everything around the daemon, and say what mends what is wrong",
        "tallyd doctor --online",
        {
            "--online": {
                "action": "store_true",
                "help": "ask the gateways too; without it no socket is opened",
            },
            "--json": JSON,
        },
    ),
    Command(
        "flush",
        "merge what was dropped and send what is due, now",
        "tallyd flush",
        {"--json": JSON},
    ),
    Command(
        "show",
        "print the buckets that are not sealed yet",
        "tallyd show codegraph",
        {"product": PRODUCT, "--json": JSON},
    ),
    Command(
        "preview",
        "print the exact body that would be sent next",
        "tallyd preview codegraph",
        {"product": PRODUCT, "--json": JSON},
    ),
    Command(
        "off",
        "stop counting and sending, and delete what was not sent and the id",
        "tallyd off codegraph",
        {"product": MAYBE_PRODUCT, "--all": {**ALL, "help": "every product, those to come too"}},
    ),
    Command(
        "on",
        "let a product count and send, under a new id",
        "tallyd on codegraph",
        {
            "product": MAYBE_PRODUCT,
            "--all": {**ALL, "help": "every registered product"},
            "--mode": {"help": "which way of being on, where a product knows several"},
            "--user": {"metavar": "ID", "help": "your id, for the mode that is identified"},
        },
    ),
    Command(
        "reset",
        "begin anew under another id, and delete what was not sent; the choice stays",
        "tallyd reset codegraph",
        {"product": PRODUCT},
    ),
    Command(
        "choose",
        "ask on the terminal what a product may do",
        "tallyd choose pipelex",
        {"product": PRODUCT},
    ),
    Command(
        "contract check",
        "find what a careful maintainer would mend in a contract",
        "tallyd contract check telemetry.toml",
        {"file": CONTRACT, "--json": JSON},
    ),
    Command(
        "contract docs",
        "render the page about a contract that a user reads",
        "tallyd contract docs telemetry.toml -o TELEMETRY.md",
        {"file": CONTRACT, "-o": OUTPUT, "--check": CHECK},
    ),
    Command(
        "contract diff",
        "say what a new version collects more or less",
        "tallyd contract diff old.toml new.toml",
        {
            "old": {**CONTRACT, "metavar": "OLD"},
            "new": {**CONTRACT, "metavar": "NEW"},
            "--json": JSON,
        },
    ),
    Command(
        "contract schema",
        "export the JSON Schema of what is sent",
        "tallyd contract schema telemetry.toml",
        {"file": CONTRACT, "-o": OUTPUT, "--check": CHECK},
    ),
    Command(
        "contract build",
        "write the constants that a host hands to the stub",
        "tallyd contract build telemetry.toml --python _telemetry.py",
        {
            "file": CONTRACT,
            "--python": {"metavar": "FILE", "help": "the Python module to write"},
            "--check": CHECK,
            "--off": {
                "action": "store_true",
                "help": "for packagers: counts nothing, and no setting overrides it",
            },
        },
    ),
    Command(
        "contract add",
        "register a product's contract",
        "tallyd contract add telemetry.toml",
        {"file": {"metavar": "FILE", "help": "the contract, a TOML file"}},
    ),
    Command(
        "contract list", "name the registered contracts", "tallyd contract list", {"--json": JSON}
    ),
    *SERVICE_COMMANDS,
    Command(
        "demo",
        "walk one counter from a real MCP server to a gateway's store",
        "tallyd demo",
        {"--keep": {"action": "store_true", "help": "keep the temporary home, and say where"}},
    ),
    Command(
        "completion",
        "print the file by which a shell completes commands, options and products",
        "tallyd completion bash > ~/.local/share/bash-completion/completions/tallyd",
        {"shell": {"metavar": "SHELL", "choices": SHELLS, "help": "bash, zsh or fish"}},
    ),
)
