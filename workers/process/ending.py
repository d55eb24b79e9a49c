"""The end of an incarnation: how it is to end, and what it waits for. Durations are seconds."""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from garrison.ipc.messages import Held, Token, held_words
from garrison.workers.background import Background

from .dispatch import Dispatch
from .tracebacks import format_task

log = logging.getLogger(__name__)

LOG_HELD_S = 1.0  # of a drain: then the log says what it waits for
HELD_MOST = 16  # calls and tasks that are named


class Ending(msgspec.Struct, frozen=True):
    """How an incarnation is to end."""

    grace: float
    reason: str  # for the supervisor
    words: str  # for callers whose calls are cut short
    calls: float | None = None  # longest time for running calls; None: their share of the grace


class EndReport:
    """Tells what the end of an incarnation waits for.

    Args:
        dispatch: Has the running calls.
        background: Has the background tasks.
        name_of: Returns the NAME of an incarnation, or ''.
    """

    def __init__(
        self, dispatch: Dispatch, background: Background, name_of: Callable[[Token], str]
    ) -> None:
        self._dispatch, self._background, self._name_of = dispatch, background, name_of
        self._loop = asyncio.get_running_loop()
        self._cancelled = ""  # the phase whose work was cancelled, and has not ended yet
        self._stopping_since: float | None = None  # while the service's own `stop` runs
        self._ending = False

    def begin(self, cancelled: str = "") -> None:
        """Note that the end has begun.

        Args:
            cancelled: "init" or "start", if that was cancelled for it.
        """
        self._ending, self._cancelled = True, cancelled

    def stop_begins(self) -> None:
        """Note that the service's own `stop` is called."""
        self._stopping_since = self._loop.time()

    def stop_ended(self) -> None:
        """Note that the service's own `stop` has ended."""
        self._stopping_since = None

    def held(self) -> tuple[Held, ...]:
        """Return what the end waits for; nothing before it has begun."""
        if not self._ending:
            return ()
        held = self._dispatch.held()
        if self._cancelled:
            held += (Held("task", self._cancelled, cancelled=True),)
        if self._stopping_since is not None:
            held += (Held("stop", "stop", age_s=self._loop.time() - self._stopping_since),)
        tasks = self._background.held()
        held += tuple(Held("task", name, cancelled=True) for name, over in tasks if over)
        return held[:HELD_MOST]

    def log_held(self) -> None:
        """Log what the end waits for."""
        words = [held_words(one, self._name_of(one.source)) for one in self.held()]
        if words:
            log.warning("drain.held_up by=%s", "; ".join(words))

    def log_resisting(self) -> None:
        """Log the tasks that were cancelled and did not end: the end of the process ends them."""
        resisting = [
            task
            for task in asyncio.all_tasks(self._loop)
            if task.cancelling()
            and not task.done()
            and task is not asyncio.current_task(self._loop)
        ]
        for task in resisting[:HELD_MOST]:
            where = format_task(task) or f"task {task.get_name()}"
            log.error("task.resists: it was cancelled and did not end\n%s", where.rstrip())
