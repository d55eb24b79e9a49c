"""The leases of the tasks that run: renewed while they do, and what a lost one cancels."""

import asyncio
import contextlib
import logging

from garrison.ipc import CallError
from garrison.workers import Task

from .store import Store

log = logging.getLogger(__name__)

RENEWALS = 3  # in the time of a lease
MARGIN = 0.1  # of a lease: before its end, a run is cancelled


class Held:
    """A claimed task, and the lease that it is held by.

    Args:
        task: As it was claimed.
        store: Where it is kept.
        until: When its lease ends, in the loop's time.
    """

    def __init__(self, task: Task, store: Store, until: float) -> None:
        self.task, self.store, self.until = task, store, until
        self.is_lost = False  # another runner may have it
        self.pause = ""  # why it is to be paused after its run
        self.work: asyncio.Task[None] | None = None

    def lose(self, reason: str) -> None:
        """Cancel the run: another runner may begin one."""
        if not self.is_lost:
            self.is_lost = True
            log.warning("task.lost task=%s name=%s %s", self.task.id, self.task.name, reason)
            if self.work is not None:
                self.work.cancel()


class Leases:
    """The tasks that this runner holds, by agent and id.

    Args:
        seconds: How long a lease lasts without a renewal.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.held: dict[tuple[str, str], Held] = {}

    def get(self, agent: str, task_id: str) -> Held | None:
        """Return a task that this runner holds, or None."""
        return self.held.get((agent, task_id))

    def add(self, held: Held) -> None:
        """Hold a task from now on."""
        self.held[held.store.agent, held.task.id] = held

    def remove(self, held: Held) -> None:
        """Hold a task no longer."""
        key = held.store.agent, held.task.id
        if self.held.get(key) is held:
            del self.held[key]

    async def renew_forever(self) -> None:
        """Renew the leases, each several times while it lasts."""
        while True:
            await asyncio.sleep(self.seconds / RENEWALS)
            await asyncio.gather(*(self._renew(one) for one in list(self.held.values())))

    async def _renew(self, held: Held) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        left = held.until - began - MARGIN * self.seconds
        renewed: bool | None = None
        with contextlib.suppress(CallError, TimeoutError):
            async with asyncio.timeout(min(max(left, 0), self.seconds / RENEWALS)):
                renewed = await held.store.renew(held.task, self.seconds)
        key = held.store.agent, held.task.id
        if self.held.get(key) is not held:  # settled meanwhile
            return
        if renewed:
            held.until = began + self.seconds
        elif renewed is False:
            held.lose("another runner has it, or it was deleted")
        elif loop.time() >= held.until - 2 * MARGIN * self.seconds:
            held.lose(f"its lease could not be renewed: {held.store.name} does not answer")
