"""Login by a one-time link, and logout."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from garrison.ipc import OrderFailed, SupervisorGone

from .access import may_carry
from .security import seen
from .sessions import Session, Sessions

TICKET_MOST = 200  # characters
Enter: TypeAlias = Callable[..., Awaitable[Mapping[str, Any]]]
Outside: TypeAlias = Callable[[Request, str, int, str], Response]


class Login:
    """Who a browser is.

    Args:
        sessions: All that are logged in.
        enter: Orders `console_enter` with these options.
        cookie: Name of the cookie: browsers share cookies between the ports of a machine.
        length: Seconds that a login holds.
    """

    def __init__(self, sessions: Sessions, enter: Enter, cookie: str, length: float) -> None:
        self._sessions, self._enter = sessions, enter
        self._cookie, self._length = cookie, length

    def routes(self, outside: Outside) -> list[BaseRoute]:
        """Return the routes of login and logout.

        Args:
            outside: Makes a page that needs no session, of a template, status and text.
        """

        async def enter(request: Request) -> Response:
            return await self._entered(request, outside)

        async def leave(request: Request) -> Response:
            self._sessions.end(request.cookies.get(self._cookie, ""))
            response = outside(request, "login.html", 200, "You are logged out.")
            response.delete_cookie(self._cookie, path="/", httponly=True, samesite="strict")
            return response

        return [
            Route("/enter", enter, methods=["GET"]),
            Route("/leave", leave, methods=["POST"]),
        ]

    async def session_of(self, request: Request) -> Session | None:
        """Return the session of a request, with what its user may do now; None: there is none."""
        if not may_carry(seen(request.scope)):
            return None
        session = self._sessions.find(request.cookies.get(self._cookie, ""))
        if session is None or session.trusted:
            return session
        try:
            return session_from(await self._enter(of=session.uid), session.id)
        except SupervisorGone:  # what was permitted last; nothing but the last picture is shown
            return session

    async def _entered(self, request: Request, outside: Outside) -> Response:
        ticket = request.query_params.get("ticket", "")
        try:
            if not 0 < len(ticket) <= TICKET_MOST:
                raise OrderFailed("not_allowed", "this link has no ticket")
            session = session_from(await self._enter(ticket=ticket))
        except OrderFailed as error:
            return outside(request, "login.html", 403, f"{error}.")
        except SupervisorGone as error:
            return outside(request, "login.html", 503, f"{error}.")
        # The first page of a link from another page would come without the cookie, which is
        # SameSite=Strict: this page leads to it instead.
        if may_carry(seen(request.scope)):
            response: Response = RedirectResponse("/", 303)
        else:
            response = outside(request, "entered.html", 200, "")
        word = self._sessions.begin(session)
        response.set_cookie(
            self._cookie,
            word,
            max_age=int(self._length),
            path="/",
            httponly=True,
            samesite="strict",
        )
        return response


def session_from(data: Mapping[str, Any], session_id: str = "") -> Session:
    """Return the session that the supervisor's answer describes."""
    may = frozenset(str(word) for word in data["may"])
    return Session(int(data["uid"]), str(data["user"]), bool(data["trusted"]), may, session_id)
