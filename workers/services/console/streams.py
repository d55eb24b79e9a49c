"""Streams of server-sent events: bounded in number, and ended before the server waits for them.

Durations are seconds.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeAlias

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STREAMS_MOST = 64  # at the same time, of all tabs
COMMENT_S = 15.0  # without an event, a comment shows whether the browser is still there
SEND_S = 30.0  # for a browser that does not read; then its stream ends
CLOSE_S = 2.0

# What htmx swaps; or an event's name and its data; or these with an id, which a browser that
# connects again sends as `Last-Event-ID`
Part: TypeAlias = str | tuple[str, str] | tuple[str, str, str]


class Streams:
    """All streams that are open."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()

    @property
    def is_full(self) -> bool:
        """Return whether there are as many as there may be."""
        return len(self._open) >= STREAMS_MOST

    async def run(self, sending: "asyncio.Task[None]") -> None:
        """Wait until a stream has ended, or was ended by `close`."""
        self._open.add(sending)
        try:
            await asyncio.wait({sending})
        finally:
            self._open.discard(sending)
            sending.cancel()

    async def close(self) -> None:
        """End all of them."""
        for sending in (tasks := set(self._open)):
            sending.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)


class EventStream(Response):
    """One stream.

    Args:
        streams: Where it is entered.
        parts: What is sent.
        failed: Returns the part that says why the parts have ended with an error.
        holds: Whether who looks is still logged in; if not, the stream ends.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        streams: Streams,
        parts: AsyncIterator[Part],
        failed: Callable[[Exception], Part],
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._streams, self._parts, self._failed = streams, parts, failed
        self._holds = holds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the parts end, the browser leaves, or all streams are ended."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send), name=f"stream {scope.get('path', '')}")
        leaving = asyncio.create_task(_until_left(receive))
        leaving.add_done_callback(lambda _: sending.cancel())
        try:
            await self._streams.run(sending)
        finally:
            leaving.cancel()
            await asyncio.wait({sending, leaving})
            if isinstance(self._parts, AsyncGenerator):
                await self._parts.aclose()
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async def write(text: str) -> None:
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        parts = aiter(self._parts)
        step: asyncio.Future[Part] | None = None
        try:
            while True:
                step = step or asyncio.ensure_future(anext(parts))
                await asyncio.wait({step}, timeout=COMMENT_S)
                if not self._holds():
                    return  # the browser asks again, and learns why
                if not step.done():
                    await write(": \n\n")
                    continue
                done, step = step, None
                try:
                    part = done.result()
                except StopAsyncIteration:
                    return
                except Exception as error:  # noqa: BLE001 (the page says what it is)
                    await write(framed(self._failed(error)))
                    return
                await write(framed(part))
        except (OSError, TimeoutError):  # the browser has left, or does not read
            return
        finally:
            if step is not None:
                step.cancel()
                await asyncio.wait({step})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def framed(part: Part) -> str:
    """Return a part as an event of the protocol. No text ends an event early."""
    name, data, *ids = ("", part) if isinstance(part, str) else part
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    head = (f"event: {name}\n" if name else "") + "".join(f"id: {one}\n" for one in ids)
    return head + "".join(f"data: {line}\n" for line in lines) + "\n"
