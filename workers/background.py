"""Background work of a service: tasks that run until it stops, and whose errors are crashes."""

import asyncio
import contextvars
import inspect
import logging
import math
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from garrison.ipc.call_context import ATTRIBUTION, CHAIN, DEADLINE
from garrison.ipc.messages import ENDED_ITSELF, PROCESS_DONE

from .children.children import Children
from .process_ended import ProcessEnded

log = logging.getLogger(__name__)

CANCEL_S = 2.0  # for cancelled tasks to end


class Ticks:
    """When a periodic call is due. What was missed while the loop stood still, or while the call
    took longer than its period, is one call; the next one comes a period after it.

    Args:
        seconds: The period; the first call is due after one.
        now: Monotonic seconds.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self._period, self.due = seconds, now + seconds

    def begin(self, now: float) -> None:
        """Note that the call begins now."""
        late = now - self.due > self._period / 10
        self.due = (now if late else self.due) + self._period  # one in time does not drift


class EssentialWorkEnded(Exception):
    """Work that the service cannot do without has ended without an order."""


class BackgroundFailure(Exception):
    """Background work of a service failed; `__cause__` is its error."""


class Background:
    """The background tasks of one service; they belong to the loop that is running.

    Args:
        warn: Shows a line in `status`, or with None removes it, by a key.
    """

    def __init__(self, warn: Callable[[str, str | None], None] = lambda key, text: None) -> None:
        self._warn = warn
        self.serving = False  # the service has started: work that begins now may be done soon
        self.ending = False  # the service stops: whatever ends now was ordered to
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._tasks: set[asyncio.Task[None]] = set()
        self.children = Children()
        self.failed: asyncio.Future[None] = self._loop.create_future()  # holds a BackgroundFailure
        self.finished = asyncio.Event()  # the service ended itself: SystemExit without an error
        self.finished_because = ENDED_ITSELF

    def spawn(
        self,
        work: Coroutine[Any, Any, Any],
        name: str | None = None,
        essential: bool | None = None,
    ) -> asyncio.Task[None]:
        """Start a task; see `Runtime.spawn`."""
        if not inspect.iscoroutine(work):
            raise TypeError(f"spawn takes a coroutine (call an async def function), not {work!r}")
        if threading.get_ident() != self._thread:
            work.close()
            raise RuntimeError(
                "spawn was called from a thread; a plain def method runs in one: use async def"
            )
        title = name or work.__qualname__
        context = contextvars.copy_context()
        context.run(DEADLINE.set, math.inf)  # the task outlives the call that started it
        context.run(CHAIN.set, ())
        context.run(ATTRIBUTION.set, None)  # nor is it a part of that call's answer
        lasting = not self.serving if essential is None else essential
        task = self._loop.create_task(self._run(work, title), name=title, context=context)
        self._tasks.add(task)
        self._warn(f"background {title}", None)  # it may have been started again
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: self._look_at_end(done, title, essential, lasting))
        task.add_done_callback(lambda _: work.close())  # it may be cancelled before its first step
        return task

    async def _run(self, work: Coroutine[Any, Any, Any], title: str) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except ProcessEnded as end:
            if end.status:
                self.fail(title, end)
            else:
                self.finished_because = PROCESS_DONE
                self.finished.set()
        except SystemExit as end:
            if end.code in {None, 0}:
                self.finished.set()
            else:
                self.fail(title, end)
        except BaseException as error:  # noqa: BLE001 (no task may fail unnoticed)
            self.fail(title, error)

    def _look_at_end(
        self, task: "asyncio.Task[None]", title: str, essential: bool | None, lasting: bool
    ) -> None:
        """Report work that ended although nothing stopped the service.

        Args:
            task: It has ended.
            title: Its name.
            essential: Whether the service cannot do without it; None: its author does not say.
            lasting: Whether it is expected to last: it is a mistake if it returns.
        """
        if self.ending or self.finished.is_set() or self.failed.done() or essential is False:
            return
        if not task.cancelled() and not lasting:
            return
        how = "was cancelled" if task.cancelled() else "returned"
        if essential:
            self.fail(title, EssentialWorkEnded(f"the essential work {title} {how}"))
            return
        log.warning("background.ended work=%s how=%r", title, how)
        self._warn(f"background {title}", f"its background work {title} {how}, and runs no longer")

    def fail(self, title: str, error: BaseException) -> None:
        """Let the service crash because of an error of its background work."""
        if self.failed.done():
            log.error("background.failed work=%s", title, exc_info=error)
            return
        failure = BackgroundFailure(f"background work {title} failed")
        failure.__cause__ = error
        self.failed.set_exception(failure)

    def held(self) -> tuple[tuple[str, bool], ...]:
        """Return the tasks that run: their names, and whether they were cancelled."""
        return tuple((task.get_name(), task.cancelling() > 0) for task in self._tasks)

    async def cancel(self) -> None:
        """Cancel all tasks, wait for their end, `CANCEL_S` at most, and end the processes."""
        self.ending = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_S)
        await self.children.close()
