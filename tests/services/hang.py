"""A service that stops answering."""

import asyncio
import os
import signal
import threading
import time
from typing import Self

from garrison.workers import Plugin, Runtime, Service


class HangService(Service):
    """Hangs, and does not always listen to signals."""

    service_type = "hang"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        if runtime.get_setting("DEAF"):
            service.spawn(service._stay_deaf())
        return service

    async def _stay_deaf(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def echo(self, value: int) -> int:
        """Return the value."""
        return value

    async def sleep_in_the_loop(self) -> None:
        """Block the loop without using the processor."""
        time.sleep(600)  # noqa: ASYNC251 (what an author should not do)

    async def sleep_among_threads(self, number: int) -> None:
        """Block the loop of a process with many threads; only the one started first is busy."""
        never, begin = threading.Event(), threading.Event()

        def keep_busy() -> None:
            begin.wait()
            while not never.wait(0.01):  # else it would take a processor from other tests
                sum(range(100_000))

        threading.Thread(target=keep_busy, daemon=True).start()
        for _ in range(number):
            threading.Thread(target=never.wait, daemon=True).start()
        begin.set()  # not before: a busy thread slows the start of each other one
        time.sleep(600)  # noqa: ASYNC251

    async def spin_in_the_loop(self) -> None:
        """Block the loop, using all of it."""
        while True:
            pass

    async def never(self) -> None:
        """Hang without blocking anything."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if self.runtime.get_setting("DEAF"):
            await asyncio.Event().wait()


plugin = Plugin(name="hang", services=[HangService])
