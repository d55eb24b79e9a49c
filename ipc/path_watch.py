"""Notices the end of a supervisor in another PID namespace, where its pid means nothing here."""

import asyncio
from collections.abc import Callable

from . import socket_paths

LOOK_S = 1.0  # between two looks


class PathWatch:
    """Looks from time to time whether a supervisor still listens.

    Args:
        loop: The loop of the session.
        on_end: Called once it does not.

    Attributes:
        path: Of its control socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self._loop, self._on_end = loop, on_end
        self._timer: asyncio.TimerHandle | None = None
        self.path = ""

    def start(self) -> None:
        """Look now, and again until it has ended or `stop` is called."""
        if socket_paths.has_supervisor(self.path):
            self._timer = self._loop.call_later(LOOK_S, self.start)
        else:
            self._on_end()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
