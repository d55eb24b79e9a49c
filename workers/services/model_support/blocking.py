"""Runs a library's blocking computations beside the loop: one at a time, each with a deadline.

A thread cannot be ended from outside. A computation checks a flag between its pieces. One that does
not, because its library hangs, ends the service, and a new process takes its place. Durations are
seconds.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from garrison.workers import ModelError, Runtime

T = TypeVar("T")
Stop = Callable[[], bool]  # whether the computation is to end, because its caller has left

GRACE_S = 10.0  # from the flag to the end of the computation


class Hangs(RuntimeError):
    """A computation did not end; the process is of no more use."""


class Bench:
    """One computation at a time.

    Args:
        runtime: The service's.
        what: What is computed, for messages: "a transcript".
        grace: From the flag to the computation's end.
    """

    def __init__(self, runtime: Runtime, what: str, grace: float = GRACE_S) -> None:
        self._runtime, self._what, self._grace = runtime, what, grace
        self._turn = asyncio.Lock()

    async def run(self, compute: Callable[[Stop], T], seconds: float) -> T:
        """Return what a function returns that runs in a thread.

        Args:
            compute: Called with a function that tells whether it is to end.
            seconds: For the wait for its turn and the computation.

        Raises:
            ModelError: It was not done in time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
                return await self._run(compute)
        except TimeoutError as error:
            text = f"{self._what} was not done within {seconds:g} s"
            raise ModelError("busy", text=text) from error

    async def _run(self, compute: Callable[[Stop], T]) -> T:
        stop, done = threading.Event(), asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda _: self._turn.release())
        threading.Thread(
            target=_compute, args=(compute, stop, done), name=self._what, daemon=True
        ).start()
        try:
            result: T = await asyncio.shield(done)
            return result
        finally:
            if not done.done():  # its caller has left
                stop.set()
                self._runtime.spawn(self._until_ended(done), self._what, essential=False)

    async def _until_ended(self, done: "asyncio.Future[Any]") -> None:
        await asyncio.wait({done}, timeout=self._grace)
        if not done.done():
            raise Hangs(
                f"{self._what} hangs: its computation did not end {self._grace:g} s after its "
                "deadline. The service starts again in a new process"
            )
        if not done.cancelled():
            done.exception()  # of no interest any more


def _compute(compute: Callable[[Stop], Any], stop: threading.Event, done: Any) -> None:
    """Run in the thread: compute, and hand the outcome to the loop."""
    result, error = None, None
    try:
        result = compute(stop.is_set)
    except BaseException as raised:  # noqa: BLE001
        # It is raised where it is awaited.
        error = raised

    def settle() -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    try:
        done.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: the service has ended
        return
