"""The HTTP client for a server at an address: its headers, and bounds of what it may answer.

Durations are seconds, sizes bytes.
"""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2

from ..model_support.tls import tls_context
from .config import ServerConfig

CONNECT_S = 10.0
WRITE_S = 30.0
CLOSE_S = 2.0
PHASES = ("connect", "read", "write", "pool")
EVENTS = "text/event-stream"


class HttpClient:
    """Creates a client, and keeps the last status that says why a request failed.

    Args:
        server: The server's config.
        headers: Of each request; they may contain secrets.
    """

    def __init__(self, server: ServerConfig, headers: Mapping[str, str]) -> None:
        self._server, self._headers = server, dict(headers)
        self.refusal = ""  # of the last request that was answered with an error

    def create(self) -> httpx2.AsyncClient:
        """Return a client. An answer may take long and its reader has a deadline of its own, so
        reading has none here."""
        return httpx2.AsyncClient(
            headers=self._headers,
            timeout=httpx2.Timeout(WRITE_S, connect=CONNECT_S, read=None),
            verify=tls_context(),
            event_hooks={"request": [_bound_the_last], "response": [self._check]},
        )

    async def _check(self, response: httpx2.Response) -> None:
        status, self.refusal = response.status_code, ""
        if status in {401, 403}:
            self.refusal = f"HTTP {status}: it refuses the credentials; check `headers`"
        elif status >= 400:
            self.refusal = f"HTTP {status} {response.reason_phrase}".strip()
        if not response.headers.get("content-type", "").startswith(EVENTS):
            response.stream = _Bounded(
                response.stream, self._server.answer_bytes, self._server.timeout
            )


async def _bound_the_last(request: httpx2.Request) -> None:
    """Bound the request that ends a session: its reader has no deadline."""
    if request.method == "DELETE":
        request.extensions = {**request.extensions, "timeout": dict.fromkeys(PHASES, CLOSE_S)}


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer that is no stream of events, with its bounds."""

    def __init__(self, body: Any, most: int, seconds: float) -> None:
        self._body, self._most = body, most
        self._until = time.monotonic() + seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._body:
            size += len(part)
            if size > self._most:
                raise httpx2.StreamError(
                    f"its answer has more than {self._most:,} bytes, which is `answer_bytes`"
                )
            if time.monotonic() > self._until:
                raise httpx2.StreamError("its answer was not whole in time")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()
