"""Faults of the Discord bridge: what becomes of the next requests that match.

A fault is a mapping with `method`, `path` (a pattern), `kind`, `times`, and for some kinds
`seconds`. The kinds:

- `429`: refused by the route's limit for `seconds`; `429 global` by that of the whole bot.
- `500`, `502`, `503`: not done. `done 502` is done, and answered by that status.
- `cut`: done; the connection ends before the answer. `half`: in the midst of the answer's body.
- `reset`: not done; the connection ends.
- `slow`: done; the answer comes after `seconds`.
"""

import asyncio
import fnmatch
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

PROXY = {"Via": "1.1 bridge"}  # as at Discord: the library takes a 429 without it for a ban
Answer = Callable[[], Awaitable[web.Response]]


class Faults:
    """The faults that are to come."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self.done: list[str] = []  # kinds, in order

    def add(self, fault: dict[str, Any]) -> None:
        """Have the next matching requests fail."""
        self._waiting.append({"method": "*", "path": "*", "times": 1, "seconds": 0.2} | fault)

    async def answered(self, request: web.Request, path: str, answer: Answer) -> web.StreamResponse:
        """Answer a request, or do to it what a fault wants."""
        fault = self._take(request.method, path)
        if fault is None:
            return await answer()
        kind, seconds = fault["kind"], fault["seconds"]
        self.done.append(kind)
        match kind.split():
            case ["429", *scope]:
                return _limited(seconds, bool(scope))
            case [("500" | "502" | "503") as status]:
                return web.Response(status=int(status), text="upstream error")
            case ["done", status]:
                await answer()
                return web.Response(status=int(status), text="upstream error")
            case ["slow"]:
                done = await answer()
                await asyncio.sleep(seconds)
                return done
            case ["half"]:
                return await _half(request, await answer())
            case ["cut"]:
                await answer()
            case ["reset"]:
                pass
            case _:
                raise web.HTTPNotImplemented(text=f"no fault {kind}")
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _take(self, method: str, path: str) -> dict[str, Any] | None:
        for fault in self._waiting:
            if fault["method"] in {"*", method} and fnmatch.fnmatch(path, fault["path"]):
                fault["times"] -= 1
                if fault["times"] <= 0:
                    self._waiting.remove(fault)
                return fault
        return None


def _limited(seconds: float, everywhere: bool) -> web.Response:
    body = {"message": "You are being rate limited.", "retry_after": seconds, "global": everywhere}
    headers = PROXY | {"Content-Type": "application/json", "Retry-After": str(seconds)}
    return web.Response(body=json.dumps(body).encode(), status=429, headers=headers)


async def _half(request: web.Request, whole: web.Response) -> web.StreamResponse:
    """Send the head of an answer and half of its body, then end the connection."""
    body = bytes(whole.body or b"")  # type: ignore[arg-type]
    cut = web.StreamResponse(status=whole.status, headers={"Content-Type": "application/json"})
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()
    return cut
