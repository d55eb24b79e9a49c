"""The processes below one, whatever their session, group or parent: who they are, their signals.

A worker is a subreaper: what its children leave behind becomes a child of it.
"""

import asyncio
from collections.abc import Container, Iterable

from garrison.ipc.system import process_tree

LOOK_S = 0.02


def below(pid: int, without: Container[int] = ()) -> list[int]:
    """Return the pids of a process's descendants that have not ended.

    Args:
        pid: The process.
        without: Pids that are left out, with their descendants.
    """
    return [one for one in process_tree.below(without, pid) if process_tree.is_alive(one)]


def is_below(pid: int, ancestor: int) -> bool:
    """Return True if a process is a descendant of another one."""
    return pid in process_tree.below(of=ancestor)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Signal processes, of which some may have ended."""
    for pid in pids:
        process_tree.signal_one(pid, number)


async def wait_gone(pid: int, without: Container[int], seconds: float) -> list[int]:
    """Wait until a process has no descendants, that long at most; return those that it has."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (left := below(pid, without)) and loop.time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)  # no event reports the end of a process that is no child
    return left
