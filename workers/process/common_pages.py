"""Drops a worker's copies of common pages while it is idle, a few in each turn of its loop."""

import asyncio
import contextlib
import resource
from collections.abc import Iterator

from garrison.ipc.system import shared_heap

from .copy_schedule import CopySchedule


class CommonPages:
    """Drops copies of pages that the processes of one template have in common.

    Args:
        loop: The worker's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._schedule = loop, CopySchedule()
        self._steps: Iterator[int] | None = None  # of a search that is under way

    def beat(self) -> None:
        """Begin a search if one is due; called with each heartbeat of a running service."""
        if not shared_heap.is_shared() or self._steps is not None:
            return
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        if self._schedule.is_due(faults, self._loop.time()):
            self._steps = shared_heap.drop_copies()
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        with contextlib.suppress(OSError):  # a user's process may be forbidden to look at itself
            if self._steps is not None and next(self._steps, None) is not None:
                self._loop.call_soon(self._step)
                return
        self._steps = None
