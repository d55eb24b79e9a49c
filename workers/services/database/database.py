"""`Database`: reads, and writes in batches; it waits for a server that is away.

Durations are seconds.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from garrison.ipc import Busy, RetryLater

from .engine import Engine, Operation, UncertainCommit
from .failures import AGAIN_MOST, Failure, failure_of

T = TypeVar("T")
log = logging.getLogger(__name__)

BATCH_MOST = 256  # operations of one transaction
PENDING_MOST = 10_000  # operations that wait
ANSWER_S = 0.25  # before a caller's deadline, for an error to reach it
FIRST_S, LONGEST_S = 0.05, 2.0  # between attempts to reach a server


class DatabaseUnavailable(RetryLater):
    """The database cannot be reached now, or did not answer in time: what was to be written may be
    written or not. Writing it again is safe where it has an id."""


class Pending(NamedTuple):
    """A write that waits."""

    operation: Operation[Any]
    future: asyncio.Future[Any]


class Database:
    """The one place through which everything is read and written.

    Args:
        engine: SQLite or PostgreSQL.
        wait: Seconds that a call waits for a server that is away, at most.
        time_left: Returns the seconds until the deadline of the call that runs.
        on_outage: Called with what is wrong, and with None once it is over.
    """

    def __init__(
        self,
        engine: Engine,
        wait: float,
        time_left: Callable[[], float],
        on_outage: Callable[[str | None], None],
    ) -> None:
        self.engine = engine
        self._wait, self._time_left, self._on_outage = wait, time_left, on_outage
        self._pending: deque[Pending] = deque()
        self._wakeup = asyncio.Event()
        self._closing = False
        self._written = asyncio.Event()  # everything is, and nothing more will be
        self._reads = set[asyncio.Future[Any]]()
        self._back = asyncio.Event()  # a lost server answers again
        self.outage: str | None = None  # what is wrong with the server now
        self.writes = 0  # operations that are on disk

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that changes nothing, outside of a transaction.

        Raises:
            DatabaseUnavailable: The server is away.
            TimeoutError: It took longer than `statement_timeout`.
        """

        async def attempt() -> T:
            return await self.engine.read(operation)

        task = asyncio.ensure_future(self._until_reached(attempt))
        task.add_done_callback(self._reads.discard)
        self._reads.add(task)
        try:
            async with self._in_time():
                return await asyncio.shield(task)
        finally:
            if not task.done():  # ended on its own: closing a connection that hangs takes seconds
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                task.cancel()

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation in a transaction, together with those of others; it is on disk then.

        The operation may run again after a rollback.

        Raises:
            DatabaseUnavailable: The server is away.
            Busy: Too many wait, or the disk is full.
            TimeoutError: It took longer than `statement_timeout`.
        """
        if len(self._pending) >= PENDING_MOST:
            raise Busy(f"{PENDING_MOST} writes wait for {self.engine.name} already")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(Pending(operation, future))
        self._wakeup.set()
        try:
            async with self._in_time():
                return await future
        finally:
            future.cancel()  # one that has not begun is left out

    async def run(self) -> None:
        """Write what waits, until `close`."""
        try:
            while not (self._closing and not self._pending):
                if not self._pending:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                    continue
                count = min(len(self._pending), BATCH_MOST)
                await self._write([self._pending.popleft() for _ in range(count)])
        finally:
            self._written.set()

    async def close(self, timeout: float) -> None:
        """Write what waits, then close the connections; call it while `run` runs.

        Args:
            timeout: Seconds for what waits.
        """
        self._closing = True
        self._wakeup.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._written.wait()
        await self.engine.close()

    async def probe(self) -> None:
        """Note whether the server answers, also while there are no calls."""
        try:
            await self.engine.read(lambda connection: connection.exec_driver_sql("SELECT 1").all())
        except Exception as error:
            if failure_of(error) not in {Failure.LOST, Failure.REFUSED}:
                raise
            self._note(error)
        else:
            self._note(None)

    async def migrate(self) -> None:
        """Bring the tables up to date; the driver's errors are raised as they are."""
        await self.engine.migrate()

    # --- parts of these ---------------------------------------------------------------------

    async def _write(self, batch: list[Pending]) -> None:
        live: list[Pending] = []
        uncertain: UncertainCommit | None = None

        async def attempt() -> list[Any]:
            nonlocal uncertain
            if uncertain is not None:
                if await self.engine.committed(uncertain.transaction):
                    return uncertain.outcomes
                uncertain = None
            live[:] = [one for one in batch if not one.future.done()]  # whose callers still wait
            try:
                return await self.engine.write([one.operation for one in live]) if live else []
            except UncertainCommit as error:
                uncertain = error
                raise

        try:
            outcomes = await self._until_reached(attempt)
        except Exception as error:  # noqa: BLE001 (the callers get it)
            outcomes = [error] * len(live)
        for one, outcome in zip(live, outcomes, strict=True):
            if one.future.done():  # its caller is gone
                continue
            if isinstance(outcome, Exception):
                one.future.set_exception(outcome)
            else:
                self.writes += 1
                one.future.set_result(outcome)

    async def _until_reached(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeat an attempt while the server is away; the caller's deadline ends that."""
        conflicts, delay = 0, FIRST_S
        while True:
            try:
                result = await attempt()
            except Exception as error:
                failure = failure_of(error)
                if failure is Failure.AGAIN and conflicts < AGAIN_MOST:
                    conflicts += 1
                    await asyncio.sleep(0.005 * 2**conflicts)
                    continue
                if failure not in {Failure.LOST, Failure.REFUSED}:
                    raise self._explained(error, failure) from error
                self._note(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._back.wait()
                delay = min(delay * 2, LONGEST_S)
            else:
                self._note(None)
                return result

    def _explained(self, error: Exception, failure: Failure) -> Exception:
        cause = getattr(error, "orig", None) or error
        if failure is Failure.FULL:
            return Busy(f"there is no room on the disk of {self.engine.name}: free some", 60.0)
        if failure is Failure.SLOW:
            return TimeoutError(f"{self.engine.name} took longer than statement_timeout: {cause}")
        return error

    def _note(self, error: Exception | None) -> None:
        if error is None:
            if self.outage is not None:
                self.outage = None
                self._back.set()
                log.info("database.back database=%s", self.engine.name)
                self._on_outage(None)
            return
        cause = getattr(error, "orig", None) or error
        text = f"{self.engine.name} cannot be reached: {cause or type(cause).__name__}"
        self._back.clear()
        if self.outage is None:
            log.warning("database.lost database=%s error=%s", self.engine.name, cause)
        if text != self.outage:
            self.outage = text
            self._on_outage(text)

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """End with a clear error before the caller's deadline does."""
        left = max(min(self._time_left(), self._wait), 0.0)
        limit = left - min(ANSWER_S, left / 4)
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                yield
        except TimeoutError as error:
            if not timeout.expired():
                raise
            problem = self.outage or f"{self.engine.name} gave no answer within {limit:.1f} s"
            raise DatabaseUnavailable(LONGEST_S, problem) from error
