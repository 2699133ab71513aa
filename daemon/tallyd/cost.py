"""What the daemon costs: memory and CPU of a process that is known to be the one that holds a file open.

It loads psutil only where the system has no /proc as Linux has it: that takes 12 ms, reading three files of
/proc 0.1, and `tallyd status` is run in prompts.
"""

from __future__ import annotations

import os
import sys


def of_holder(pid: int, held_file: str) -> tuple[int | None, float | None]:
    """(bytes of memory, seconds of CPU) of a process, None where it does not hold `held_file` open.

    Its number may be another program's by now: somebody else locks a file that still tells of us.
    """
    if pid < 1:
        return None, None
    return (_by_proc if sys.platform == "linux" else _by_psutil)(pid, held_file)


def _by_proc(pid: int, held_file: str) -> tuple[int | None, float | None]:
    root = f"/proc/{pid}"
    try:
        if not _holds(root, os.stat(held_file)):
            return None, None
        with open(f"{root}/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        with open(f"{root}/stat", encoding="utf-8", errors="replace") as file:
            # The name of the program stands in brackets, and may hold spaces and brackets itself.
            fields = file.read().rpartition(")")[2].split()
    except (OSError, ValueError, IndexError):
        return None, None
    ticks = int(fields[11]) + int(fields[12])
    return pages * os.sysconf("SC_PAGE_SIZE"), round(ticks / os.sysconf("SC_CLK_TCK"), 3)


def _holds(root: str, held: os.stat_result) -> bool:
    """Whether one of the process's descriptors is that very file, whatever it is called by now."""
    with os.scandir(f"{root}/fd") as descriptors:
        for one in descriptors:
            try:
                if os.path.samestat(one.stat(), held):
                    return True
            except OSError:
                # Closed meanwhile.
                continue
    return False


def _by_psutil(pid: int, held_file: str) -> tuple[int | None, float | None]:
    import psutil  # noqa: PLC0415 - only where there is no /proc

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if os.path.realpath(held_file) not in {one.path for one in process.open_files()}:
                return None, None
            cpu = process.cpu_times()
            return process.memory_info().rss, round(cpu.user + cpu.system, 3)
    except (psutil.Error, OSError, OverflowError):
        return None, None
