"""Direct routes of one worker, as a caller and as a callee: the hooks of its session."""

from collections.abc import Callable, Mapping
from typing import assert_never

from . import messages
from .direct_routes import Routes
from .direct_server import DirectServer
from .hooks import DirectOrder
from .messages import Token
from .session import Session


class Direct:
    """The direct routes of a worker.

    Args:
        session: The worker's session.
        caller_ended: Called with the address of each caller that has ended or closed its route:
            its calls need no answer.
    """

    def __init__(self, session: Session, caller_ended: Callable[[Token], None]) -> None:
        self._caller_ended = caller_ended
        self._routes = Routes(session)
        self._server = DirectServer(session, self._drop)

    @property
    def callers(self) -> Mapping[Token, Token]:
        """Return the incarnation of each address that calls come from."""
        return self._server.callers

    def ordered(self, message: DirectOrder) -> None:
        """Take an order of the supervisor."""
        match message:
            case messages.AcceptDirect():
                self._server.accept(message)
            case messages.GrantDirect():
                self._routes.grant(message)
            case messages.RevokeDirect(address):
                if not self._routes.revoke(address):
                    self._drop(address)
            case _:
                assert_never(message)

    def passed(self, source: Token, number: int) -> None:
        """Take the answer to a barrier."""
        self._routes.passed(source, number)

    def ended(self, message: messages.Ended) -> bool:
        """Take the notice of an end; return True if `Session.lose` is called for it later."""
        for address in self._server.addresses_of(message.token):
            self._drop(address)
        return self._routes.ended(message)

    def _drop(self, address: Token) -> None:
        """End what a caller has sent: it, or its route, has ended."""
        if address in self._server.callers:
            self._caller_ended(address)
            self._server.drop(address)

    def beat(self) -> None:
        """Look after the path, as often as the worker beats."""
        self._server.watch_path()

    def supervisor_changed(self) -> None:
        """Report the routes to a new supervisor."""
        self._routes.report()

    def close(self) -> None:
        """Close all routes."""
        self._routes.close()
        self._server.close()
