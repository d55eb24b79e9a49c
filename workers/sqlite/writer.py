"""One thread that writes to one SQLite file, many operations in one commit.

The result of an operation arrives once its commit is on disk. Operations that arrive during a
commit share the next one, so none waits for others to arrive. The thread ends with its owner.
"""

import asyncio
import contextlib
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Operation = Callable[[sqlite3.Cursor], Any]

MAX_BATCH = 256  # operations in one commit
PATIENCE_S = 0.001  # how long patient operations wait for others


class JoiningOperation:
    """An operation that runs faster together with others of its class.

    It is no ABC: each operation is tested by isinstance, and an ABC takes long to answer.
    """

    __slots__ = ()

    def __call__(self, cursor: sqlite3.Cursor) -> Any:
        """Run alone."""
        raise NotImplementedError

    @classmethod
    def run_together(cls, cursor: sqlite3.Cursor, operations: Sequence[Any]) -> list[Any]:
        """Run several, as if one after the other; return the result of each. After an error they
        run again alone."""
        raise NotImplementedError


class WriteRequest(NamedTuple):
    """An operation that waits for the thread."""

    operation: Operation
    future: asyncio.Future[Any]
    size: int  # bytes that it adds; 0: never rejected
    callback: Callable[[Any], None] | None
    patient: bool = False  # it can wait a moment for others, to share their commit


Batch = list[WriteRequest]


class Pace:
    """How long patient operations wait for others. Pure; times are monotonic seconds.

    They wait while others follow each commit within `PATIENCE_S`, as where many post at once. What
    comes then shares its commit with them, and does not wait for theirs.
    """

    def __init__(self) -> None:
        self._committed_at = -math.inf  # the last time, with an operation that is not patient
        self._is_dense = False  # the next one came within `PATIENCE_S`

    def begun(self, is_patient: bool, now: float) -> None:
        """Note that a commit begins, with patient operations alone or with others."""
        if not is_patient or now >= self._committed_at + PATIENCE_S:
            self._is_dense = now < self._committed_at + PATIENCE_S

    def committed(self, is_patient: bool, now: float) -> None:
        """Note that it has ended."""
        if not is_patient:
            self._committed_at = now

    def wait_s(self, now: float) -> float:
        """Return how long patient operations wait now."""
        return max(self._committed_at + PATIENCE_S - now, 0.0) if self._is_dense else 0.0


class WriterThread:
    """The thread, and the operations that wait for it.

    Args:
        name: The thread's name.
        commit: Runs a batch in a transaction; returns each operation's result or error, once they
            are on disk. What it raises ends the thread and is the result of `failed`.
        close: Closes the file when everything is written.
    """

    def __init__(
        self, name: str, commit: Callable[[Batch], list[Any]], close: Callable[[], None]
    ) -> None:
        self._commit, self._close = commit, close
        self._pending: deque[WriteRequest] = deque()
        self._new: Batch = []  # of this iteration of the event loop; used by its thread alone
        self._wakeup = threading.Condition()
        self._pace = Pace()
        self.closing = False
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; results are delivered on the loop."""
        self._loop = loop
        self.failed: asyncio.Future[None] = loop.create_future()
        self._thread.start()

    def __len__(self) -> int:
        """Return the number of operations that wait."""
        return len(self._pending) + len(self._new)

    @property
    def is_alive(self) -> bool:
        """Return True while the thread runs."""
        return self._thread.is_alive()

    def execute(
        self,
        operation: Callable[[sqlite3.Cursor], T],
        size: int = 0,
        callback: Callable[[T], None] | None = None,
        patient: bool = False,
    ) -> asyncio.Future[T]:
        """Run an operation; the future has its result once that is on disk.

        While the thread closes, nothing is accepted and the future has no result: the task that
        waits for it is cancelled with the service.

        Args:
            operation: Takes a cursor. It may run again after a rollback.
            size: Bytes that it adds; 0 is never rejected.
            callback: Called with the result, in the order of the operations, even if the future
                was cancelled.
            patient: It can wait for `PATIENCE_S` to share the commit of others.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self.closing:
            return future
        if not self._new:
            self._loop.call_soon(self._submit)  # once for all requests of this loop iteration
        self._new.append(WriteRequest(operation, future, size, callback, patient))
        return future

    def begin_close(self) -> None:
        """Accept no further operations; pending ones are still written."""
        self.closing = True
        self._submit()

    def wait_closed(self) -> None:
        """Block until everything is written and the file is closed; call `begin_close` first."""
        self._thread.join()

    # --- for `commit`, in the thread ----------------------------------------------------------

    def resolve_early(self, batch: Batch, outcome: Exception) -> None:
        """Reject a part of the batch before the rest is written."""
        self._loop.call_soon_threadsafe(_resolve, batch, [outcome] * len(batch))

    def wait_and_reject(self, seconds: float, outcome: Exception) -> None:
        """Wait, unless the thread closes; then reject what arrived meanwhile and adds bytes."""
        with self._wakeup:
            self._wakeup.wait_for(lambda: self.closing, seconds)
            rejected = [request for request in self._pending if request.size]
            self._pending = deque(request for request in self._pending if not request.size)
        self.resolve_early(rejected, outcome)

    # --- the thread ---------------------------------------------------------------------------

    def _submit(self) -> None:
        with self._wakeup:
            self._pending.extend(self._new)
            self._new.clear()
            self._wakeup.notify()

    def _write(self) -> None:
        try:
            while batch := self._next_batch():
                is_patient = all(request.patient for request in batch)
                self._pace.begun(is_patient, time.monotonic())
                outcomes = self._commit(batch)
                self._pace.committed(is_patient, time.monotonic())
                self._loop.call_soon_threadsafe(_resolve, batch, outcomes)
            self._close()
        except BaseException as error:  # noqa: BLE001 (the service crashes with it)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _is_urgent(self) -> bool:
        return self.closing or not all(request.patient for request in self._pending)

    def _next_batch(self) -> Batch:
        with self._wakeup:
            while not self._pending and not self.closing:
                self._wakeup.wait()
            if wait_s := self._pace.wait_s(time.monotonic()):
                self._wakeup.wait_for(self._is_urgent, wait_s)
            count = min(len(self._pending), MAX_BATCH)
            return [self._pending.popleft() for _ in range(count)]


def run_transaction(
    db: sqlite3.Connection,
    operations: Sequence[Operation],
    is_own_error: Callable[[BaseException], bool],
) -> list[Any]:
    """Return each operation's result, or the error that it raised; all others are on disk.

    Args:
        db: The file.
        operations: They run again without the ones that failed.
        is_own_error: Whether an error comes from one operation and not from the file.

    Raises:
        BaseException: Another error; nothing was written.
    """
    failed: dict[int, Exception] = {}
    cursor = db.cursor()
    steps = _steps(operations)
    while True:
        cursor.execute("BEGIN IMMEDIATE")
        index, outcomes = -1, list[Any]()
        try:
            for index, step in enumerate(steps):
                outcomes += [failed[index]] if index in failed else _run_step(cursor, step)
            index = -1
            cursor.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
            if index < 0 or not (isinstance(error, Exception) and is_own_error(error)):
                raise
            if len(steps) < len(operations):  # find out which it was
                steps = [[one] for one in operations]
            else:
                failed[index] = error
        else:
            return outcomes


def _steps(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Return the operations in their order, those that follow each other and join as one step."""
    steps: list[list[Operation]] = []
    for operation in operations:
        last = steps[-1][0] if steps else None
        if type(operation) is type(last) and isinstance(operation, JoiningOperation):
            steps[-1].append(operation)
        else:
            steps.append([operation])
    return steps


def _run_step(cursor: sqlite3.Cursor, step: list[Operation]) -> list[Any]:
    first = step[0]
    if len(step) > 1 and isinstance(first, JoiningOperation):
        return first.run_together(cursor, step)
    return [first(cursor)]


def is_statement_error(error: BaseException) -> bool:
    """Return True if an error comes from one operation: its statement, or its own code."""
    if isinstance(error, sqlite3.DatabaseError):
        name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
        return name.startswith(("SQLITE_ERROR", "SQLITE_TOOBIG", "SQLITE_CONSTRAINT"))
    return isinstance(error, Exception)


def _resolve(batch: Batch, outcomes: list[Any]) -> None:
    for request, outcome in zip(batch, outcomes, strict=True):
        is_error = isinstance(outcome, Exception)
        if request.callback is not None and not is_error:
            request.callback(outcome)
        if request.future.done():  # cancelled, or rejected earlier
            continue
        if is_error:
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)
