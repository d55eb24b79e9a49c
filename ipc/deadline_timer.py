"""One timer for the deadlines of all calls of a process. Times are monotonic seconds."""

import asyncio
from collections.abc import Callable

from .calls import Calls


class DeadlineTimer:
    """Ends calls at their deadlines.

    Args:
        loop: The loop that the calls belong to.
        calls: The calls.
        now: Returns the time.

    Attributes:
        due_at: When it looks next.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, calls: Calls, now: Callable[[], float]
    ) -> None:
        self._loop, self._calls, self._now = loop, calls, now
        self.due_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def schedule(self) -> None:
        """Set it to the next deadline, unless it is due before that."""
        at = self._calls.next_deadline
        if at < self.due_at:
            self.close()
            self.due_at = at
            self._timer = self._loop.call_later(max(at - self._now(), 0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self.due_at = None, float("inf")
        self._calls.due(self._now())
        self.schedule()

    def close(self) -> None:
        """Stop it."""
        if self._timer is not None:
            self._timer.cancel()
