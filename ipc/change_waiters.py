"""Wakes what waits for the next change of a service."""

import asyncio


class ChangeWaiters:
    """All waits of one process.

    Args:
        loop: The loop that they belong to.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def next_change(self, name: str) -> "asyncio.Future[None]":
        """Return a future that is done at a service's next change; cancel it when not needed."""
        changed: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((name, changed))
        changed.add_done_callback(self._forget)
        return changed

    def wake(self, name: str = "") -> None:
        """Wake what waits for a service; without a NAME, all."""
        for awaited, changed in self._waiting:
            if name in {"", awaited} and not changed.done():
                changed.set_result(None)

    def _forget(self, changed: "asyncio.Future[None]") -> None:
        self._waiting = [pair for pair in self._waiting if pair[1] is not changed]
