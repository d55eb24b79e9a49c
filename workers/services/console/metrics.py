"""`/metrics` for Prometheus, by a bearer token: the text of `garrison metrics`."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from garrison.ipc import SupervisorGone
from garrison.ipc.verb_commands import VerbCommands

from .access import bearer

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
READ_S = 20.0
KEPT_S = 1.0  # a text is for all who ask within this


class Metrics:
    """Serves metrics.

    Args:
        token: What a client proves itself by; empty: nothing is served.
        commands: Runs verbs.
    """

    def __init__(self, token: str, commands: Callable[[], Awaitable[VerbCommands]]) -> None:
        self._token, self._commands = token, commands
        self._reading = asyncio.Lock()
        self._text, self._read_at = "", float("-inf")

    def route(self) -> Route:
        """Return its route."""
        return Route("/metrics", self._answer, methods=["GET"])

    async def _answer(self, request: Request) -> Response:
        if not self._token:
            text = "no metrics are served here: set metrics_token in the console's config\n"
            return PlainTextResponse(text, 404)
        given = bearer(request.headers.get("authorization", ""))
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            headers = {"WWW-Authenticate": 'Bearer realm="garrison"'}
            return PlainTextResponse("the bearer token is missing or wrong\n", 401, headers)
        try:
            return Response(await self._current(), media_type=CONTENT_TYPE)
        except (SupervisorGone, TimeoutError) as error:
            return PlainTextResponse(f"{error or 'it took too long'}\n", 503)

    async def _current(self) -> str:
        async with self._reading:
            if time.monotonic() - self._read_at >= KEPT_S:
                commands = await self._commands()
                _, self._text, _ = await commands.run(["metrics"], (), READ_S, json=False)
                self._read_at = time.monotonic()
            return self._text
