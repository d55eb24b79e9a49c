"""Which tasks run at the same time in one process: others side by side, a suspect alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """The tasks that run in one service's process.

    A task that may have ended the process runs alone, so that the next end shows whether it was
    this one. Those that come after it wait until it has ended.
    """

    def __init__(self) -> None:
        self.running: set[str] = set()  # ids
        self._death = (0, frozenset[str]())  # the last lost incarnation, and what ran in it
        self._alone = False  # a suspect runs
        self._suspects = 0  # that wait
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def take(self, task_id: str, alone: bool) -> AsyncIterator[None]:
        """Run a task in the block, once it may."""
        self._suspects += alone
        try:
            while not self._may_run(alone):
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._suspects -= alone
            self._changed.set()
        self.running.add(task_id)
        self._alone = alone
        try:
            yield
        finally:
            self.running.discard(task_id)
            self._alone = False
            self._changed.set()

    def ended_alone(self, task_id: str, generation: int) -> bool:
        """Return whether a task was the only one in an incarnation that ended; called in its turn.

        Args:
            task_id: One that ran in it.
            generation: The incarnation's.
        """
        if self._death[0] != generation or task_id not in self._death[1]:
            self._death = generation, frozenset(self.running)
        return self._death[1] == {task_id}

    def _may_run(self, alone: bool) -> bool:
        if alone:
            return not self.running
        return not self._alone and not self._suspects
