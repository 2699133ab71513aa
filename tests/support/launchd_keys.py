"""The keys of launchd.plist(5) with their types: launchd itself ignores a wrong one in silence.

From the manual page of macOS 14, with those of older ones that are still read, and `SpawnConstraint`
from Apple's page on launch constraints. A type is a Python type, a tuple of alternatives, a set of
allowed words, `[type]` for an array, `{"Key": type}` for a dictionary of these keys, and `{...: type}`
for one of any keys.
"""

from __future__ import annotations

from typing import Any

_LIMITS = {
    "Core": int,
    "CPU": int,
    "Data": int,
    "FileSize": int,
    "MemoryLock": int,
    "NumberOfFiles": int,
    "NumberOfProcesses": int,
    "ResidentSetSize": int,
    "Stack": int,
}
_CALENDAR = {"Minute": int, "Hour": int, "Day": int, "Weekday": int, "Month": int}
_SESSION = {"Aqua", "Background", "LoginWindow", "StandardIO", "System"}
_SOCKET = {
    "SockType": {"stream", "dgram", "seqpacket"},
    "SockPassive": bool,
    "SockNodeName": str,
    "SockServiceName": (str, int),
    "SockFamily": {"IPv4", "IPv6", "IPv4v6", "Unix"},
    "SockProtocol": {"TCP", "UDP"},
    "SockPathName": str,
    "SecureSocketWithKey": str,
    "SockPathOwner": int,
    "SockPathGroup": int,
    "SockPathMode": int,
    "Bonjour": (bool, str, [str]),
    "MulticastGroup": str,
    "ReceivePacketInfo": bool,
}
KEYS: dict[str, Any] = {
    "Label": str,
    "Disabled": bool,
    "UserName": str,
    "GroupName": str,
    "inetdCompatibility": {"Wait": bool, "Instances": int},
    "LimitLoadToHosts": [str],
    "LimitLoadFromHosts": [str],
    "LimitLoadToSessionType": (_SESSION, [_SESSION]),
    "LimitLoadToHardware": {...: [str]},
    "LimitLoadFromHardware": {...: [str]},
    "Program": str,
    "BundleProgram": str,
    "ProgramArguments": [str],
    "EnableGlobbing": bool,
    "EnableTransactions": bool,
    "EnablePressuredExit": bool,
    "OnDemand": bool,
    "ServiceIPC": bool,
    "KeepAlive": (
        bool,
        {
            "SuccessfulExit": bool,
            "NetworkState": bool,
            "PathState": {...: bool},
            "OtherJobEnabled": {...: bool},
            "Crashed": bool,
            "AfterInitialDemand": bool,
        },
    ),
    "RunAtLoad": bool,
    "RootDirectory": str,
    "WorkingDirectory": str,
    "EnvironmentVariables": {...: str},
    "Umask": int,
    "TimeOut": int,
    "ExitTimeOut": int,
    "ThrottleInterval": int,
    "InitGroups": bool,
    "WatchPaths": [str],
    "QueueDirectories": [str],
    "StartOnMount": bool,
    "StartInterval": int,
    "StartCalendarInterval": (_CALENDAR, [_CALENDAR]),
    "StandardInPath": str,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "Debug": bool,
    "WaitForDebugger": bool,
    "SoftResourceLimits": _LIMITS,
    "HardResourceLimits": _LIMITS,
    "Nice": int,
    "ProcessType": {"Background", "Standard", "Adaptive", "Interactive"},
    "AbandonProcessGroup": bool,
    "LowPriorityIO": bool,
    "LowPriorityBackgroundIO": bool,
    "MaterializeDatalessFiles": bool,
    "LaunchOnlyOnce": bool,
    "MachServices": {...: (bool, {"ResetAtClose": bool, "HideUntilCheckIn": bool})},
    "Sockets": {...: (_SOCKET, [_SOCKET])},
    "LaunchEvents": {...: {...: {...: (str, int, bool, [str])}}},
    "HopefullyExitsFirst": bool,
    "HopefullyExitsLast": bool,
    "SessionCreate": bool,
    "LegacyTimers": bool,
    "AssociatedBundleIdentifiers": (str, [str]),
    "SpawnConstraint": {...: (str, int, bool)},
}


def wrong(found: Any, wanted: Any = KEYS, where: str = "") -> list[str]:
    """What in a property list is not as the manual has it: `path: why`, each."""
    if isinstance(wanted, tuple):
        tried = [wrong(found, one, where) for one in wanted]
        if [] in tried:
            return []
        # What is wrong inside says more than that it is not the other type.
        return next((said for said in tried if not said[0].startswith(f"{where}: ")), tried[0])
    if isinstance(wanted, set):
        return [] if found in wanted else [f"{where}: {found!r} is none of {sorted(wanted)}"]
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return [f"{where}: {type(found).__name__}, not an array"]
        return [said for one in found for said in wrong(one, wanted[0], f"{where}[]")]
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return [f"{where}: {type(found).__name__}, not a dictionary"]
        said = []
        for key, value in found.items():
            kind = wanted.get(key, wanted.get(...))
            inner = f"{where}.{key}".lstrip(".")
            said += [f"{inner}: no such key"] if kind is None else wrong(value, kind, inner)
        return said
    # Exactly: to Python a true is a 1, to launchd it is not.
    return (
        [] if type(found) is wanted else [f"{where}: {type(found).__name__}, not {wanted.__name__}"]
    )
