"""Waits until a command runs: by a line of its output, a port, a notice, or after a moment.

Durations are seconds.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from .child import Child

LIVED_S = 0.5  # without a condition: most commands that cannot run have ended by then
CONNECT_S = 1.0  # one attempt at a port
BETWEEN_S = 0.05  # two attempts
LINE_BYTES = 64 * 1024  # of an unfinished line that is searched
LOOPBACK = ("127.0.0.1", "::1")


class LineWatch:
    """Searches the lines of an output for a text.

    Args:
        text: What a line has to have.
    """

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._line = b""
        self.found = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Search a piece of the output, and the unfinished line before it."""
        if self.found.is_set():
            return
        lines = (self._line + data).split(b"\n")
        self._line = lines[-1][-LINE_BYTES:]
        if any(self._text in line for line in lines):
            self.found.set()
            self._line = b""


async def accepts(port: int) -> bool:
    """Return True if something accepts connections at a port of this machine."""
    for host in LOOPBACK:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return True
    return False


async def until_accepts(port: int) -> None:
    """Return once something accepts connections at a port of this machine."""
    while not await accepts(port):  # noqa: ASYNC110
        await asyncio.sleep(BETWEEN_S)  # no event reports that another process listens


def patience(start_timeout: float) -> float:
    """Return how long a command may take: less than the supervisor waits for the whole start, so
    that the reason is given here, in words."""
    return max(start_timeout / 2, min(start_timeout * 0.9, start_timeout - 1.0))


def condition(
    kind: str, value: str, child: Child, notified: asyncio.Event
) -> Callable[[], Awaitable[object]]:
    """Return what to await until the command is ready.

    Args:
        kind: "line", "port", "notify", or "" without a condition.
        value: The text or the port.
        child: The command.
        notified: Set once it has reported that it is ready.
    """
    if kind == "line":
        watch = LineWatch(value)
        child.on_output = watch.feed
        return watch.found.wait
    if kind == "port":
        return lambda: until_accepts(int(value))
    if kind == "notify":
        return notified.wait
    return lambda: asyncio.sleep(LIVED_S)


def missing(kind: str, value: str) -> str:
    """Return what a command that is not ready has not done, in words."""
    return {
        "line": f"it has written no line with {value!r}",
        "port": f"it accepts no connections at port {value}",
        "notify": "it has not sent READY=1 to $NOTIFY_SOCKET",
    }.get(kind, "it has not run long enough")
