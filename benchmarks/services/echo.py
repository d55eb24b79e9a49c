"""The service that is called."""

import os
from typing import Any

from garrison.ipc.messages import encode
from garrison.ipc.stream_link import StreamLink
from garrison.workers import Plugin, Service

BATCHED = StreamLink.send


def alone(link: StreamLink, peer: bytes, message: Any) -> None:
    """Send a message at once, whatever else this turn will send to the same peer."""
    link._post(peer, [encode([message])])


class Echo(Service):
    """Gives back what it is given."""

    service_type = "echo"

    async def echo(self, text: str) -> str:
        """Return the text."""
        return text

    async def value(self, value: Any) -> Any:
        """Return the value."""
        return value

    async def same(self, data: bytes) -> bytes:
        """Return the bytes."""
        return data

    async def batch(self, batched: bool) -> None:
        """Send what a turn of this worker's loop queues as one message, or each by itself."""
        StreamLink.send = BATCHED if batched else alone  # type: ignore[assignment, method-assign]

    async def pid(self) -> int:
        """Return the worker's process id."""
        return os.getpid()


plugin = Plugin(name="echo", services=[Echo])
