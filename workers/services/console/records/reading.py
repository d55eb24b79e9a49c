"""Has a program read a page of lines or events, within a deadline. Durations are seconds."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE

import msgspec

from garrison.ipc import OrderFailed
from garrison.ipc.record_pages import Answer, Question
from garrison.workers import Runtime

PROGRAM = (sys.executable, "-P", "-m", "garrison.ipc.record_reader")
PASSED_ON = ("PYTHONPATH", "VIRTUAL_ENV")  # by which the program finds garrison
AT_ONCE = 2  # programs; others wait
READ_S = 20.0
ANSWER_MOST = 16 << 20  # bytes
TOO_LONG = (
    f"this took longer than {READ_S:g} s and was ended: choose fewer services, a later time, "
    "or a simpler search"
)


class RecordReading:
    """Reads pages.

    Args:
        runtime: The service's: programs end with it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def page(self, question: Question) -> Answer:
        """Return a page.

        Raises:
            OrderFailed: It took too long, or the search is no regular expression.
        """
        try:
            async with asyncio.timeout(READ_S), self._slots:
                found = await self._answer(msgspec.msgpack.encode(question))
        except TimeoutError:
            raise OrderFailed("timed_out", TOO_LONG) from None
        if found.problem:
            raise OrderFailed("usage", found.problem)
        return found

    async def _answer(self, question: bytes) -> Answer:
        environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        child = await self._runtime.process(
            PROGRAM, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environ
        )
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(question)
            child.stdin.close()
            data = bytearray()
            while block := await child.stdout.read(1 << 16):
                data += block
                if len(data) > ANSWER_MOST:
                    raise OrderFailed("failed", "this page is too large: choose fewer services")
            return msgspec.msgpack.decode(data, type=Answer)
        except (OSError, msgspec.MsgspecError):
            text = "what was recorded could not be read: the program that reads it has ended"
            raise OrderFailed("failed", text) from None
        finally:
            await child.end(grace=0.0)
