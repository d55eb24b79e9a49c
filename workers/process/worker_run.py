"""Runs one worker in its loop, from its connection to its exit code."""

from garrison.ipc.messages import Assignment

from .exit import CRASHED
from .preparation import Prepared
from .worker import Worker


class WorkerRun:
    """One worker from its connection to its exit code, also where its code calls `sys.exit`."""

    def __init__(self, assignment: Assignment, secrets: dict[str, str], prepared: Prepared) -> None:
        self._arguments = assignment, secrets, prepared
        self._worker: Worker | None = None

    async def main(self) -> int:
        """Run a service until its end; return the process's exit code."""
        self._worker = worker = Worker(*self._arguments)
        try:
            return await worker.run()
        finally:
            worker.close()

    async def exited(self, end: SystemExit | KeyboardInterrupt) -> int:
        """Report what a task raised that stops the loop; return the exit code.

        A code of `sys.exit` that is a number is the process's own; a text is the reason of a
        failure. A KeyboardInterrupt is no signal here: an author's code raised it.
        """
        if self._worker is None:
            return CRASHED
        if isinstance(end, KeyboardInterrupt):
            return await self._worker.fail(end)
        if end.code is None or isinstance(end.code, int):
            return end.code if isinstance(end.code, int) else 0
        return await self._worker.fail(end)
