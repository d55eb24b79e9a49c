"""The console as an ASGI application: from a request to its page, and from a failure to a message.

Sizes are bytes or characters.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from garrison.ipc import OrderFailed

from .access import page_denied
from .pages.page import Page
from .picture import Picture
from .sessions import Session
from .visit import Tools, Visit, failure_of, viewer_of

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
QUERY_MOST = 2000  # characters of one value
FIELDS_MOST = 100
LAST_PART_MOST = 100  # characters of the id of a stream's part
FORM_MOST = 64 << 10

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
SessionOf: TypeAlias = Callable[[Request], Awaitable[Session | None]]


class TooLarge(Exception):
    """A form has more than `FORM_MOST` bytes, or `FIELDS_MOST` fields."""


class Console:
    """Answers requests.

    Args:
        tools: What all visits share.
        pages: All pages.
        session_of: Returns the session of a request.
    """

    def __init__(self, tools: Tools, pages: Sequence[Page], session_of: SessionOf) -> None:
        self._tools, self._pages, self._session_of = tools, pages, session_of

    def application(self, *more: BaseRoute) -> Starlette:
        """Return the application.

        Args:
            more: Routes that need no session.
        """
        routes = [Route(one.path, self._handler(one), methods=[one.method]) for one in self._pages]
        static = Mount("/static", StaticFiles(directory=STATIC))
        handlers = {HTTPException: self._http_error, 404: self._http_error, 405: self._http_error}
        return Starlette(routes=[*routes, *more, static], exception_handlers=handlers)  # type: ignore[arg-type]

    def _handler(self, page: Page) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                session = await self._session_of(request)
            except OrderFailed as error:  # in no team of operators any more
                return self.outside(request, "login.html", 403, f"{error}.")
            if session is None:
                return self.outside(request, "login.html", 401)
            visit = Visit(
                self._tools,
                session,
                request.url.path,
                part=is_part(request.headers),
                path=request.path_params,
                query=bounded(request.query_params),
                last_part=request.headers.get("last-event-id", "")[:LAST_PART_MOST],
            )
            return await self._answer(page, visit, request)

        return handle

    async def _answer(self, page: Page, visit: Visit, request: Request) -> Response:
        session = visit.session
        try:
            permits = session.permits(page.needs)
            readonly = self._tools.readonly
            refused = page_denied(session.user, permits, page.needs, page.acts, readonly)
            if refused is not None:
                return visit.message(refused.text, refused.status)
            form = await form_of(request) if page.method == "POST" else {}
            picture = await self._picture(session)
            visit = replace(visit, form=form, picture=picture)
            return await page.show(visit)
        except ClientDisconnect:
            return Response(status_code=400)
        except TooLarge:
            return visit.message("what was sent is too large", 413)
        except Exception as error:
            status, text = failure_of(error)
            if status == 500:
                log.exception("page.failed path=%s", page.path)
            return visit.message(text, status)

    async def _picture(self, session: Session) -> Picture:
        return await self._tools.pictures.now(viewer_of(session))

    def outside(self, request: Request, template: str, status: int, text: str = "") -> Response:
        """Return a page that needs no session."""
        values = {"at": request.url.path, "text": text}
        page = self._tools.templates.page(template, values)
        return Response(page, status, media_type="text/html")

    async def _http_error(self, request: Request, error: HTTPException) -> Response:
        words = {404: "there is no such page", 405: "this address does not take that method"}
        text = words.get(error.status_code, error.detail)
        return self.outside(request, "outside.html", error.status_code, text)


def is_part(headers: Mapping[str, str]) -> bool:
    """Return whether htmx asks for a part of a page."""
    return headers.get("hx-request") == "true" and headers.get("hx-request-type") != "full"


def bounded(values: Mapping[str, str]) -> dict[str, str]:
    """Return parameters with their values cut."""
    return {key[:100]: value[:QUERY_MOST] for key, value in list(values.items())[:FIELDS_MOST]}


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a POST; of several with one name, the last.

    Raises:
        TooLarge: There is more than may be.
    """
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > FORM_MOST:
            raise TooLarge
    try:
        text = body.decode("utf-8", "replace")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MOST))
    except ValueError:
        raise TooLarge from None
