"""Threads for plain methods: which run, which wait for a thread, and what holds the threads.

One method takes three quarters of the threads at most, so that one that hangs leaves some for the
others. A call that finds no thread waits; it is refused, naming what holds the threads, shortly
before its deadline, or at once where every call that it could wait for was given up by its caller
and runs on regardless. Durations are seconds.
"""

import asyncio
import contextvars
import functools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from garrison.ipc.errors import CallError, Overloaded
from garrison.ipc.messages import ThreadUse

THREADS = 16  # by default
ANSWER_S = 0.5  # at most: what is left of a deadline when a waiting call is refused


class Refusal(Exception):
    """A call is not run; `error` is its caller's."""

    def __init__(self, error: CallError) -> None:
        self.error = error
        super().__init__(str(error))


class _Held:
    """A thread that a call holds."""

    __slots__ = ("given_up", "method", "since")

    def __init__(self, method: str, since: float) -> None:
        self.method, self.since = method, since
        self.given_up = False  # its caller waits no longer, but the method goes on


class MethodThreads:
    """The threads of one service's plain methods. It belongs to the running loop.

    Args:
        service: NAME of the service.
        most: Number of threads.
    """

    def __init__(self, service: str, most: int = THREADS) -> None:
        self._service, self._most = service, most
        self._most_of_one = max(most - most // 4, 1)
        self._loop = asyncio.get_running_loop()
        self._held: set[_Held] = set()
        self._reserved = 0  # slots of calls that were let in and have not begun
        self._of: Counter[str] = Counter()  # both, by method
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @functools.cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Return the threads; a service may have no plain method, or none that is called."""
        return ThreadPoolExecutor(self._most, thread_name_prefix="method")

    @property
    def use(self) -> ThreadUse:
        """Return how many threads there are, run, are stuck, and how many calls wait for one."""
        stuck = sum(held.given_up for held in self._held)
        waiting = sum(map(len, self._waiting.values()))
        return ThreadUse(self._most, len(self._held) + self._reserved, stuck, waiting)

    @property
    def problem(self) -> str:
        """Return what holds the threads if all are held, or some are stuck; '' otherwise."""
        use = self.use
        if use.busy < use.most and not use.stuck:
            return ""
        return f"{use.busy} of {use.most} threads for plain methods are held: {self._holders()}"

    async def run(self, method: str, timeout: float, work: Callable[[], Any]) -> Any:
        """Run a plain method in a thread; return its result.

        Args:
            method: Its name.
            timeout: What is left of the call's deadline.
            work: Runs it.

        Raises:
            Refusal: No thread was free for it.
            BaseException: What it raised.
        """
        if self._has_room(method):
            self._of[method] += 1
        else:
            await self._wait(method, timeout)
        held = _Held(method, self._loop.time())
        self._held.add(held)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pool.submit(self._in_thread, contextvars.copy_context(), held, future, work)
        try:
            return await future
        except asyncio.CancelledError:
            if held in self._held:
                held.given_up = True
                self._refuse_hopeless()
            raise

    def _in_thread(
        self,
        context: contextvars.Context,
        held: _Held,
        future: "asyncio.Future[Any]",
        work: Callable[[], Any],
    ) -> None:
        result: Any = None
        failure: BaseException | None = None
        try:
            result = context.run(work)
        except StopIteration as error:  # a future cannot hold it
            failure = RuntimeError("the method raised StopIteration")
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 (it is raised where the method is awaited)
            failure = error
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended, held, future, result, failure)

    def _ended(
        self,
        held: _Held,
        future: "asyncio.Future[Any]",
        result: Any,
        failure: BaseException | None,
    ) -> None:
        self._held.discard(held)
        self._free(held.method)
        if future.done():
            return
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(result)

    # --- waiting for a thread ---------------------------------------------------------------

    def _has_room(self, method: str) -> bool:
        used = len(self._held) + self._reserved
        return used < self._most and self._of[method] < self._most_of_one

    async def _wait(self, method: str, timeout: float) -> None:
        """Wait for a thread; it is counted for the method when this returns."""
        if self._is_hopeless(method):
            raise self._refusal(method)
        admitted: asyncio.Future[None] = self._loop.create_future()
        queue = self._waiting.setdefault(method, deque())
        queue.append(admitted)
        late = self._loop.call_later(
            timeout - min(ANSWER_S, timeout / 10), self._refuse, method, admitted
        )
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled() and admitted.exception() is None:
                self._reserved -= 1  # a thread became free in the same turn
                self._free(method)
            elif admitted in queue:
                queue.remove(admitted)
            raise
        finally:
            late.cancel()
            if not queue and self._waiting.get(method) is queue:
                del self._waiting[method]
        self._reserved -= 1

    def _free(self, method: str) -> None:
        """Count one thread less for a method, and let the calls in that now have one."""
        self._of[method] -= 1
        if not self._of[method]:
            del self._of[method]
        for name, queue in list(self._waiting.items()):
            while queue and self._has_room(name):
                admitted = queue.popleft()
                if not admitted.done():
                    self._of[name] += 1
                    self._reserved += 1
                    admitted.set_result(None)

    def _refuse(self, method: str, admitted: "asyncio.Future[None]") -> None:
        if not admitted.done():
            self._waiting[method].remove(admitted)
            admitted.set_exception(self._refusal(method))

    def _refuse_hopeless(self) -> None:
        for method, queue in list(self._waiting.items()):
            if self._is_hopeless(method):
                for admitted in list(queue):
                    self._refuse(method, admitted)

    def _is_hopeless(self, method: str) -> bool:
        """Return True if all that a call of a method could wait for is stuck."""
        every = len(self._held) >= self._most and all(held.given_up for held in self._held)
        own = [held for held in self._held if held.method == method]
        return every or (len(own) >= self._most_of_one and all(held.given_up for held in own))

    def _refusal(self, method: str) -> Refusal:
        detail = (
            f"no thread is free for it. {len(self._held)} of {self._most} threads are held: "
            f"{self._holders()}. Give these methods a timeout of their own, or raise `threads`"
        )
        return Refusal(Overloaded(self._service, method, detail))

    def _holders(self) -> str:
        return ", ".join(self._holder_lines())

    def _holder_lines(self) -> Iterator[str]:
        now = self._loop.time()
        counts = Counter(held.method for held in self._held)
        for method, count in counts.most_common():
            own = [held for held in self._held if held.method == method]
            age = now - min(held.since for held in own)
            stuck = sum(held.given_up for held in own)
            given_up = f", {stuck} given up by the caller" if stuck else ""
            yield f"{method} ×{count} (the oldest for {age:.1f} s{given_up})"
