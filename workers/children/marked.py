"""Finds and ends what one child has started, whatever its session, group or parent.

This process is a subreaper: what a child leaves behind becomes a child of it. A process belongs to
a child if it is below this process and has the child's mark in its environment, or is in the
session that the child began.
"""

import asyncio
import signal
from pathlib import Path

from garrison.ipc.system import process_tree

from . import descendants

ROUNDS = 50  # of ending; each finds what was started meanwhile
ROUND_S = 0.02


def belonging(leader: int, mark: bytes) -> list[int]:
    """Return the pids of a child and of what it has started, without those that have ended.

    Args:
        leader: Pid of the process that was started, and of its session.
        mark: `NAME=value` in the environment of what it starts.
    """
    return [pid for pid in process_tree.below() if _belongs(pid, leader, mark)]


def signal_all(leader: int, mark: bytes, number: int) -> bool:
    """Signal a child and what it has started; return whether there is any."""
    found = belonging(leader, mark)
    descendants.signal_all(found, number)
    return bool(found)


async def kill_all(leader: int, mark: bytes) -> bool:
    """Kill a child and what it has started; return False if one of them cannot be ended."""
    for _ in range(ROUNDS):
        if not signal_all(leader, mark, signal.SIGKILL):
            return True
        await asyncio.sleep(ROUND_S)  # no event reports the end of a process that is no child
    return False


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
