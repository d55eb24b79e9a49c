"""Bounds what a server may send: the bytes of an answer, and the time that a whole one takes.

The libraries' own timeout is of each read: an answer that trickles would never end.
"""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from garrison.workers import load_library

from .tls import tls_context

ANSWER_MOST = 64 << 20  # bytes of an answer, a stream's as well
LINE_MOST = 2 << 20  # bytes of a line of a stream: the libraries read a long one ever slower
EVENTS = "text/event-stream"


def bounded(create_http: Callable[..., Any], timeout: float) -> Any:
    """Return an HTTP client whose answers are bounded.

    Args:
        create_http: The library's class.
        timeout: Seconds for the body of an answer that is no stream.
    """
    httpx2 = load_library("httpx2", "httpx2")

    stream_class: Any = httpx2.AsyncByteStream

    class Body(stream_class):  # type: ignore[misc]  # its library is loaded by name
        def __init__(self, body: Any, until: float | None) -> None:
            self._body, self._until = body, until

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = line = 0
            async for part in self._body:
                size += len(part)
                newline = part.rfind(b"\n")
                line = line + len(part) if newline < 0 else len(part) - newline - 1
                if size > ANSWER_MOST or (self._until is None and line > LINE_MOST):
                    raise httpx2.ReadError(f"its answer is too large: {size} bytes and more")
                if self._until is not None and time.monotonic() > self._until:
                    raise httpx2.ReadTimeout(f"its answer was not whole after {timeout:g} s")
                yield part

        async def aclose(self) -> None:
            await self._body.aclose()

    async def bound(response: Any) -> None:
        is_stream = response.headers.get("content-type", "").startswith(EVENTS)
        until = None if is_stream else time.monotonic() + timeout
        response.stream = Body(response.stream, until)

    return create_http(verify=tls_context(), event_hooks={"response": [bound]})
