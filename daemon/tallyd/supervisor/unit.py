"""The systemd user units, as text.

It owns every line of them, and the escaping that paths need there. What works without mounts comes
first and is always there; the mount sandbox needs user namespaces, which some systems forbid, and a
unit that asks for them there does not start. `PrivateUsers=yes` is spelled out: a user manager before
systemd 256 gives no mounts without it. `StateDirectory=` and `%S` are not used: before 254 they mean the
configuration directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tallyd import exits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tallyd.supervisor.recipe import Recipe

SERVICE, PATH, TIMER = "tallyd.service", "tallyd.path", "tallyd.timer"
# The first line of each file that we write, by which we know it again.
MARK = '# Written by "tallyd service install"; "tallyd service uninstall" removes it.'

_HEAD = f"""{MARK}
# What you want otherwise belongs into a drop-in, which outlives both: systemctl --user edit tallyd
"""

_LIMIT = """# What keeps failing is left alone until the next login, or until "tallyd service start".
StartLimitIntervalSec=900
StartLimitBurst=10
"""

_NO_LIMIT = """# Each drop may start it, and an end with 0 counts: a limit would fail the path unit for good. What fails is tried
# again at the next drop, and not before.
StartLimitIntervalSec=0
"""

_GUEST = """
# A guest on this machine: last in line for the processor, the disk and the memory.
Nice=10
IOSchedulingClass=idle
OOMScoreAdjust=500
MemoryHigh=128M
MemoryMax=256M
TasksMax=32
LimitCORE=0
UMask=0077
"""

_WITHOUT_MOUNTS = """
# What it gives up for good; none of this needs a namespace.
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""

_SANDBOX_HEAD = """
# What it sees: all of the system to read, your home to write, for that is where products keep their choices.
"""


_PRIVATE_TMP = "PrivateTmp=yes"


def sandbox(recipe: Recipe) -> list[str]:
    """The settings that need a namespace, the one that all others need first; each `Name=value`.

    A manager that refuses one (`recipe.left_out`) gets the others.
    """
    has_private_tmp = not recipe.is_below_tmp and _PRIVATE_TMP not in recipe.left_out
    writable = recipe.writable or (recipe.home,)
    if not has_private_tmp:
        # SQLite's temporary files go there.
        writable = (*writable, Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - made writable, not used
    inner = [
        one for one in writable if not any(one != o and one.is_relative_to(o) for o in writable)
    ]
    settings = [
        "PrivateUsers=yes",
        "ProtectSystem=strict",
        # The minus: what is not there yet cannot be mounted, and must not keep it from starting.
        f"ReadWritePaths={' '.join(_quoted(f'-{one}') for one in inner)}",
        *([_PRIVATE_TMP] if has_private_tmp else []),
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "CapabilityBoundingSet=",
    ]
    if settings[0] in recipe.left_out:
        return []
    return [one for one in settings if one not in recipe.left_out]


def render(recipe: Recipe) -> dict[str, str]:
    """Each unit's file name and text."""
    units = {SERVICE: _service(recipe)}
    if recipe.is_on_demand:
        units |= {PATH: _path(recipe), TIMER: _timer()}
    return units


def _service(recipe: Recipe) -> str:
    run = [*recipe.command, "run", *(["--on-demand"] if recipe.is_on_demand else [])]
    limit, restart = _NO_LIMIT, "no"
    if not recipe.is_on_demand:
        limit, restart = _LIMIT, "on-failure\nRestartSec=15"
    told = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in recipe.environ)
    text = f"""{_HEAD}
[Unit]
Description=tallyd, usage counts by the day as your tools' contracts allow (off is off)
{limit}
[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join([_quoted(run[0]), *(_word(one) for one in run[1:])])}
ExecReload=kill -HUP $MAINPID
WorkingDirectory=/
# In the journal it is called so, and not by its interpreter.
SyslogIdentifier=tallyd
{told}Restart={restart}
# Wrong usage, a setting is wrong: starting again would not mend it.
RestartPreventExitStatus={" ".join(str(code) for code in exits.NO_RESTART)}
# It was upgraded, and asks to be started again.
SuccessExitStatus={exits.REPLACED}
RestartForceExitStatus={exits.REPLACED}
# It is patted once a minute, and only while every duty goes on.
WatchdogSec=180
# An orderly stop takes a tenth of a second.
TimeoutStopSec=5
{_GUEST}{_WITHOUT_MOUNTS}"""
    mounts = sandbox(recipe)
    if mounts:
        text += _SANDBOX_HEAD + "".join(f"{one}\n" for one in mounts)
    if recipe.is_on_demand:
        return text
    # While you are logged in; nothing enables lingering.
    return f"{text}\n[Install]\nWantedBy=default.target\n"


def _path(recipe: Recipe) -> str:
    spool = recipe.state / "spool"
    watched = [spool, *(spool / product / "new" for product in recipe.products)]
    lines = "\n".join(f"PathChanged={_specifiers(str(one))}" for one in watched)
    return f"""{_HEAD}
[Unit]
Description=Starts tallyd when a tool dropped counts

[Path]
# Changed, not "not empty": a file that cannot be removed would start it again and again. Of a product
# that is not here the timer takes care, until "tallyd service install --on-demand" is run again.
{lines}

[Install]
WantedBy=default.target
"""


def _timer() -> str:
    return f"""{_HEAD}
[Unit]
Description=Starts tallyd four times a day, to send what is finished

[Timer]
OnCalendar=00/6:10
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=default.target
"""


def _word(text: str) -> str:
    """One word of a command line, but for the first, in which no variable is looked for."""
    return _quoted(text.replace("$", "$$"))


def _quoted(text: str) -> str:
    text = _specifiers(text)
    if not text or any(one in " \t\"'\\;" for one in text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def command_of(text: str) -> list[str]:
    """The words of the ExecStart of a unit that we rendered; none of another text."""
    for line in text.splitlines():
        if line.startswith("ExecStart="):
            program, *words = _words(line.partition("=")[2]) or [""]
            return [program, *(one.replace("$$", "$") for one in words)]
    return []


def watched_by(text: str) -> list[str]:
    """The directories that a path unit of ours watches."""
    lines = (line.partition("=") for line in text.splitlines())
    return [value.replace("%%", "%") for name, _, value in lines if name == "PathChanged"]


def environ_of(text: str) -> list[tuple[str, str]]:
    """What a unit of ours tells the daemon's environment: names and values."""
    told = (line for line in text.splitlines() if line.startswith("Environment="))
    pairs = (word.partition("=") for line in told for word in _words(line.partition("=")[2]))
    return [(name, value) for name, _, value in pairs]


def _words(line: str) -> list[str]:
    """Split as systemd.syntax(7) has it, as far as `_quoted` goes."""
    return list(_split(line))


def _split(line: str) -> Iterable[str]:
    word, is_quoted, is_escaped, is_begun = "", False, False, False
    for one in line:
        if is_escaped:
            word, is_escaped = word + one, False
        elif one == "\\" and is_quoted:
            is_escaped = True
        elif one == '"':
            is_quoted, is_begun = not is_quoted, True
        elif one == " " and not is_quoted:
            if word or is_begun:
                yield word.replace("%%", "%")
            word, is_begun = "", False
        else:
            word += one
    if word or is_begun:
        yield word.replace("%%", "%")
