"""The caller's side of direct routes: performs what `direct_state` decides. Durations are seconds.

Each route is a connection of its own to its callee, with the same batches as the bus.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from . import messages
from .direct_sockets import connect
from .direct_state import LONGEST_S, Act, Happened, Stage, step
from .errors import GarrisonError
from .messages import DirectRoute, GrantDirect, Token
from .packet_link import PacketLink
from .queue_limits import LINGER_S
from .session import Session
from .system.descriptors import free_descriptors

log = logging.getLogger(__name__)

FREE_LEAST = 64  # descriptors; else a direct route would take the last that its service has
DISCONNECTED = "the direct connection to it ended"
PROBLEMS = {Happened.DISCONNECTED: DISCONNECTED, Happened.LATE: "its callee did not answer in time"}
USED = frozenset({Stage.DIRECT, Stage.LEAVING, Stage.STAYING})  # its calls go directly


class Route:
    """One direct route of this process.

    Args:
        session: Has the calls, and the way through the router.
        grant: What the supervisor has granted.
        closed: Called once with the route, and why it was closed; empty: by order.

    Raises:
        OSError, GarrisonError: It cannot connect.
    """

    def __init__(
        self,
        session: Session,
        grant: GrantDirect,
        closed: Callable[["Route", str], None],
    ) -> None:
        self._session, self._closed = session, closed
        self.address, self.callee = grant.address, grant.callee
        self.stage = Stage.CONNECTING
        self._timer: asyncio.TimerHandle | None = None
        self._end: messages.Ended | None = None  # the notice of its callee's end
        self._has_settled = False  # with that notice
        self._link = session.links[grant.address] = PacketLink(
            connect(grant.path, grant.address),
            grant.address,
            session.on_bus,
            session.malformed,
            lambda: session.limits.max_message,
            lambda: self.happen(Happened.DISCONNECTED),
            session.calls.posted,
        )
        self._set_timer()
        self._barrier = self._send_barrier(self.address)

    @property
    def is_active(self) -> bool:
        """Return True if calls go this way."""
        return self.stage in USED

    def passed(self, number: int) -> None:
        """Take the answer to a barrier."""
        if number == self._barrier:
            self._barrier = -1
            self.happen(Happened.PASSED)

    def ended(self, end: messages.Ended) -> bool:
        """Take the notice of the callee's end; return True if this route settles it: at once,
        unless the connection has not ended yet, as where a child of the callee has it too."""
        self._end = end
        self.happen(Happened.ENDED)
        if self.stage is Stage.ENDING:
            self._link.receive_all()
        return self.stage is Stage.ENDING or self._has_settled

    def happen(self, event: Happened) -> None:
        """Take what happened."""
        rule = step(self.stage, event)
        if rule is None:
            return
        if self.stage is Stage.EMPTYING and not self._session.calls.has_sent(self.address):
            event, rule = Happened.EMPTY, step(self.stage, Happened.EMPTY) or rule
        self.stage = rule.stage
        self._set_timer()
        self._perform(rule.act, event)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        longest = LONGEST_S.get(self.stage)
        self._timer = None
        if longest is not None:
            self._timer = self._session.loop.call_later(longest, self.happen, Happened.LATE)

    def _perform(self, act: Act | None, event: Happened) -> None:
        session, calls = self._session, self._session.calls
        match act:
            case None:
                pass
            case Act.ENTER:
                calls.hold(self.callee)
                self._barrier = self._send_barrier(self.callee)
            case Act.USE:
                session.send(DirectRoute(self.address, self.callee, True))
                calls.release(self.callee, self.address, session.now())
            case Act.LEAVE:
                calls.hold(self.callee)
                self._barrier = self._send_barrier(self.address)
            case Act.STAY:
                calls.release(self.callee, self.address, session.now())
            case Act.EMPTY:
                calls.release(self.callee, b"", session.now())
            case Act.HOLD:
                calls.hold(self.callee)
            case Act.SETTLE:
                self._settle()
            case Act.CLOSE:
                self._close(PROBLEMS.get(event, ""))

    def _send_barrier(self, to: Token) -> int:
        number = next(self._session.ids)
        self._session.send_data(to, messages.Barrier(number))
        return number

    def _settle(self) -> None:
        """End the calls that were sent over this route and have no answer."""
        self._link.receive_all()
        session, end = self._session, self._end
        calls, now = session.calls, session.now()
        if end is not None:
            self._has_settled = True
            session.lose(end)
            calls.ended(self.address, end.cause, now, end.direct)
        else:
            calls.ended(self.address, DISCONNECTED, now)
        self._close("" if end is not None else DISCONNECTED)

    def _close(self, problem: str) -> None:
        session = self._session
        self.close()
        self._closed(self, problem)
        session.calls.release(self.callee, b"", session.now())

    def close(self, linger: float = 0.0) -> None:
        """Close the connection; what is not sent within `linger` seconds is dropped."""
        self.stage = Stage.CLOSED
        self._set_timer()
        self._session.links.pop(self.address, None)
        self._link.close(linger)


class Routes:
    """All direct routes of this process as a caller.

    Args:
        session: Its session.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._routes: dict[Token, Route] = {}  # by address
        self._to: dict[Token, Route] = {}  # by callee

    def grant(self, message: GrantDirect) -> None:
        """Open a route."""
        if message.address in self._routes:
            return
        problem = ""
        if message.callee in self._to:
            problem = "it has another route to that callee"
        elif free_descriptors() < FREE_LEAST:
            problem = "its caller may open too few files"
        else:
            try:
                route = Route(self._session, message, self._on_closed)
            except (OSError, GarrisonError) as error:
                problem = f"its caller cannot connect: {error}"
            else:
                self._routes[message.address] = self._to[message.callee] = route
        if problem:
            self._session.send(DirectRoute(message.address, message.callee, False, problem))

    def revoke(self, address: Token) -> bool:
        """Give up a route in order; return False if there is none."""
        route = self._routes.get(address)
        if route is not None:
            route.happen(Happened.REVOKED)
        return route is not None

    def passed(self, source: Token, number: int) -> None:
        """Take the answer to a barrier, from a callee or over its route."""
        route = self._routes.get(source) or self._to.get(source)
        if route is not None:
            route.passed(number)

    def ended(self, end: messages.Ended) -> bool:
        """Take the notice of an end; return True if a route settles it later."""
        route = self._to.get(end.token)
        return route is not None and route.ended(end)

    def report(self) -> None:
        """Report the routes to a new supervisor."""
        for route in self._routes.values():
            if route.stage not in {Stage.CONNECTING, Stage.ENTERING}:
                self._session.send(DirectRoute(route.address, route.callee, True))

    def close(self) -> None:
        """Close all, as far as that takes no longer than for other sockets."""
        until = time.monotonic() + LINGER_S
        for route in list(self._routes.values()):
            route.close(until - time.monotonic())
        self._routes.clear()
        self._to.clear()

    def _on_closed(self, route: Route, problem: str) -> None:
        self._routes.pop(route.address, None)
        if self._to.get(route.callee) is route:
            del self._to[route.callee]
        self._session.send(DirectRoute(route.address, route.callee, False, problem))
