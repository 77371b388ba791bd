"""Who holds the lock on a directory, as far as the system tells: for messages, never for decisions.

An open directory enters; words leave: process, host, since when, whether it is stopped. Read from
/proc; where that doesn't tell (another container, another system), it says so. Locks nothing.
"""

import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

PROC = Path("/proc")
COMMAND_SHOWN = 60
"""So many characters of a process's command line are shown."""


def describe(descriptor: int) -> str:
    """Who holds an flock on this directory, and whether for reading only: one phrase."""
    owners = _owners(descriptor)
    if not owners:
        return (
            f"by a process that can't be seen from here on host {socket.gethostname()} (another "
            "container?)"
        )
    return " and ".join(
        _process(pid) + ("" if mode == "WRITE" else ", which only reads") for pid, mode in owners
    )


def _owners(descriptor: int) -> list[tuple[int, str]]:
    """The processes that /proc/locks names, and how they lock; who waits for a lock has an arrow."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = (PROC / "locks").read_text().splitlines()
    except OSError:
        return []
    found = [line.split() for line in lines]
    owners = {
        (int(words[4]), words[3])
        for words in found
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == device and words[4].isdigit()
    }
    return sorted((pid, mode) for pid, mode in owners if pid)


def _process(pid: int) -> str:
    host = socket.gethostname()
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        # A lock belongs to whoever has the open file: a child may have inherited it.
        return f"by what process {pid} on host {host}, which has ended, left behind"
    command = " ".join(word for word in words if word)
    shown = f"{command[:COMMAND_SHOWN]}…" if len(command) > COMMAND_SHOWN else command
    stopped = "; it is stopped (SIGSTOP, a debugger)" if fields[0] in "Tt" else ""
    since = _started(int(fields[19]))
    return f"by process {pid} on host {host}, started {since} ({_printable(shown)}){stopped}"


def _started(ticks: int) -> str:
    """When a process began, from clock ticks after the system's start."""
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(time.time() - ago, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _printable(text: str) -> str:
    """Another's command line can hold anything."""
    return "".join(one if one.isprintable() else "?" for one in text)
