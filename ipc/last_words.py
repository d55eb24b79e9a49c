"""The last message of a process to its supervisor, repeated to each next one until it is
acknowledged. Durations are seconds."""

import asyncio
from collections.abc import Callable

from .messages import Upward


class LastWords:
    """What a process reports of its own end.

    A supervisor that is killed takes along what it had not read yet, so the next one is sent it
    again.

    Args:
        loop: The loop of the session.
        send: Sends a message to the supervisor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Callable[[Upward], None]) -> None:
        self._loop, self._send = loop, send
        self._message: Upward | None = None
        self._acknowledged = False
        self._news: asyncio.Future[None] = loop.create_future()

    async def report(self, message: Upward, patience: Callable[[], float]) -> bool:
        """Send a message; return whether it was acknowledged.

        Args:
            message: The message.
            patience: Returns how long to wait for that. It is called anew when the supervisor has
                ended, and when another one was sent the message.
        """
        self._message = message
        self._send(message)
        while not self._acknowledged:
            if self._news.done():
                self._news = self._loop.create_future()  # for all who wait
            if not (await asyncio.wait({self._news}, timeout=patience()))[0]:
                return False
        return True

    def acknowledged(self) -> None:
        """Take note that the supervisor has the message."""
        self._acknowledged = True
        self.supervisor_changed()

    def repeat(self) -> None:
        """Send the message again, if there is one: this supervisor may not have it."""
        if self._message is not None:
            self._send(self._message)
            self.supervisor_changed()

    def supervisor_changed(self) -> None:
        """Take note that the supervisor has ended."""
        if not self._news.done():
            self._news.set_result(None)
