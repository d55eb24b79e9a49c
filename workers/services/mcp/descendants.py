"""Finds and ends what one server has started, whatever its session, group or parent.

This process is a subreaper: what a server leaves behind becomes a child of it. A process belongs to
a server if it is below this process and has the server's mark in its environment, or is in the
session that the server began.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

ROUNDS = 50  # of ending; each finds what was started meanwhile
ROUND_S = 0.02


def belonging(leader: int, mark: bytes) -> list[int]:
    """Return the pids of a server's processes, without those that have ended.

    Args:
        leader: Pid of the process that was started, and of its session.
        mark: `NAME=value` in the environment of what it starts.
    """
    return [pid for pid in _below(os.getpid()) if _belongs(pid, leader, mark)]


def signal_all(leader: int, mark: bytes, number: int) -> bool:
    """Signal a server's processes; return whether there are any."""
    found = belonging(leader, mark)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(found)


async def kill_all(leader: int, mark: bytes) -> bool:
    """Kill a server's processes, until none is left; return False if one cannot be ended."""
    for _ in range(ROUNDS):
        if not signal_all(leader, mark, signal.SIGKILL):
            return True
        await asyncio.sleep(ROUND_S)  # no event reports the end of a process that is no child
    return False


def _below(pid: int) -> list[int]:
    found = _children(pid)
    for one in found:  # grows
        found += _children(one)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/children").read_text()
                found += map(int, text.split())
    return found


def _belongs(pid: int, leader: int, mark: bytes) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in {"Z", "X"}:
            return False
        if int(fields[3]) == leader:  # its session
            return True
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, IndexError, ValueError):  # it has ended, or is another user's
        return False
