"""The processes that a service has started, and when each ends."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .child_process import ChildProcess, start_child

log = logging.getLogger(__name__)

MOST = 64  # processes of one service
LOOK_S = 1.0  # between looks for idle ones, at most


class Children:
    """All of one service.

    They end when their scope does: the call, or other task, that started them, or the service.
    """

    def __init__(self) -> None:
        self._running: set[ChildProcess] = set()
        self._starting = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(
        self,
        command: Sequence[str | Path],
        scope: Literal["call", "service"],
        idle: float | None,
        **options: Any,
    ) -> ChildProcess:
        """Start one; see `Runtime.process`."""
        words = tuple(map(str, command))
        if isinstance(command, str) or not words:
            raise TypeError(f"process takes a list of words, not {command!r}")
        if scope not in {"call", "service"}:
            raise ValueError(f'scope is "call" or "service", not {scope!r}')
        if self._closed:
            raise RuntimeError("the service stops: it starts no more processes")
        if len(self._running) + self._starting >= MOST:
            raise RuntimeError(f"the service has {MOST} processes: end one before starting another")
        self._starting += 1
        try:
            child = await start_child(words, secrets.token_hex(8), idle=idle, **options)
        finally:
            self._starting -= 1
        self._running.add(child)
        if self._closed:  # meanwhile
            await self._end(child)
            raise RuntimeError("the service stops: it starts no more processes")
        self._watch(child)
        task = asyncio.current_task()
        if scope == "call" and task is not None:
            task.add_done_callback(lambda _: self._end_soon(child))
        return child

    def _watch(self, child: ChildProcess) -> None:
        watch = asyncio.create_task(self._until_ended(child), name=f"process {child.pid}")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _until_ended(self, child: ChildProcess) -> None:
        """End what a process has left when it has ended, and itself when it is idle."""
        loop = asyncio.get_running_loop()
        ended = asyncio.create_task(child.wait())
        try:
            while not ended.done() and not child.is_idle(loop.time()):
                await asyncio.wait({ended}, timeout=LOOK_S if child.may_be_idle else None)
            if not ended.done():
                self._end_soon(child)
            elif child in self._running:
                self._running.discard(child)
                self._report(child, await child.end_rest())
        finally:
            ended.cancel()

    def _end_soon(self, child: ChildProcess) -> None:
        if child in self._running and not self._closed:
            task = asyncio.create_task(self._end(child), name=f"end of process {child.pid}")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _end(self, child: ChildProcess) -> None:
        if child in self._running:
            self._running.discard(child)
            self._report(child, await child.end())

    def _report(self, child: ChildProcess, gone: bool) -> None:
        if not gone:
            log.warning("process.left pid=%d: it cannot be ended", child.pid)

    async def close(self) -> None:
        """End all of them."""
        self._closed = True
        watches = [*self._watches]
        await asyncio.gather(*map(self._end, [*self._running]), *self._ending)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
