"""Measures what a start uses of the processor, and how long it waited for one, from `/proc`."""

import contextlib
import os
import time

from garrison.ipc.system import process_tree
from garrison.supervisor.lifecycle.start_slots import StartWork

PROCESSES_MOST, THREADS_MOST = 32, 64  # that are measured; a start with more is busy
NANOSECONDS = 1e9
SCHEDSTAT_BYTES = 128


def sample_start(pid: int) -> StartWork | None:
    """Return what a starting worker has used, with the processes below it.

    Returns None where the kernel keeps no such figures, or the process has ended.
    """
    own = _schedstat(f"/proc/{pid}")
    if own is None:
        return None
    used, waited, reads = 0.0, 0.0, False
    for one in _tree(pid):
        for thread in _threads(one):
            figures = _schedstat(f"/proc/{one}/task/{thread}")
            if figures is not None:
                used, waited = used + figures[0], waited + figures[1]
        reads = reads or process_tree.state(one) == "D"
    return StartWork(time.monotonic(), used, waited, own[1], reads)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        if len(found) >= PROCESSES_MOST:
            break
        found += [child for child in process_tree.children(one) if child not in found]
    return found[:PROCESSES_MOST]


def _threads(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(f"/proc/{pid}/task")[:THREADS_MOST]  # noqa: PTH208 (ten times a second)
    return []


def _schedstat(folder: str) -> tuple[float, float] | None:
    """Return the seconds on a processor, and those of waiting for one."""
    try:
        descriptor = os.open(f"{folder}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(descriptor, SCHEDSTAT_BYTES).split()
        finally:
            os.close(descriptor)
        return int(fields[0]) / NANOSECONDS, int(fields[1]) / NANOSECONDS
    except (OSError, ValueError, IndexError):
        return None
