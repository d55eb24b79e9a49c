"""Applies `access` to each request, and sets the headers that keep other sites out."""

import html
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import Seen, denied

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # With no-referrer browsers would send `Origin: null` with this console's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC = "/static/"
STATIC_CACHE = "no-cache"  # kept, and compared by its ETag


class Security:
    """Answers what is not this console's own, and passes on the rest.

    Args:
        application: The rest.
        names: Names by which a proxy addresses the console.
    """

    def __init__(self, application: ASGIApp, names: Collection[str]) -> None:
        self._application, self._names = application, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for key, value in SAFE.items():
                    headers[key] = value
                if scope["path"].startswith(STATIC) and message["status"] in {200, 304}:
                    headers["Cache-Control"] = STATIC_CACHE
            await send(message)

        refused = denied(seen(scope), self._names)
        if refused is None:
            await self._application(scope, receive, protected)
            return
        page = f"<!doctype html><title>garrison</title><p>{html.escape(refused.text)}</p>"
        await HTMLResponse(page, refused.status)(scope, receive, protected)


def seen(scope: Scope) -> Seen:
    """Return what a request says of itself."""
    headers = Headers(scope=scope)
    return Seen(
        scope["method"],
        tuple(headers.getlist("host")),
        tuple(headers.getlist("origin")),
        headers.get("sec-fetch-site", ""),
    )
