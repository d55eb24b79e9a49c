"""The callee's side of direct routes: accepts the callers that are named. Durations are seconds."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

from .direct_sockets import accept, listen
from .errors import GarrisonError
from .messages import AcceptDirect, DirectOpen, Token
from .packet_link import PacketLink
from .queue_limits import LINGER_S
from .session import Session
from .system.descriptors import free_descriptors
from .system.file_id import NO_FILE, file_at

log = logging.getLogger(__name__)

CALLERS_MOST = 64  # the supervisor grants fewer
FREE_LEAST = 64  # descriptors; a route takes one on each side
CONNECT_S = 10.0  # for an announced caller to connect
PAUSE_S = 0.1  # before the next accept, after one for which there was no descriptor


class DirectServer:
    """Accepts the calls of some callers directly.

    Args:
        session: Its session; it handles what arrives as if it came over the bus.
        left: Called with the address of each caller whose connection has ended, after all that
            it had sent was read.

    Attributes:
        callers: The incarnation of each address.
    """

    def __init__(self, session: Session, left: Callable[[Token], None]) -> None:
        self._session, self._left = session, left
        self.callers: dict[Token, Token] = {}
        self._links: dict[Token, PacketLink] = {}  # of those that are connected
        self._listener: socket.socket | None = None
        self._path, self._identity = "", NO_FILE

    def accept(self, message: AcceptDirect) -> None:
        """Accept a caller, and answer the supervisor."""
        address, problem = message.address, ""
        if address not in self.callers:
            try:
                self._admit(message)
            except (OSError, GarrisonError) as error:
                problem = f"its callee cannot listen: {error}"
        self._session.send(DirectOpen(address, problem))

    def _admit(self, message: AcceptDirect) -> None:
        if len(self.callers) >= CALLERS_MOST:
            raise GarrisonError(f"it has {CALLERS_MOST} direct callers already")
        if free_descriptors() < FREE_LEAST:
            raise GarrisonError("it may open too few files")
        if self._listener is None:
            self._path = message.path
            self._listen()
        self.callers[message.address] = message.caller
        self._session.loop.call_later(CONNECT_S, self._drop_absent, message.address)

    def _drop_absent(self, address: Token) -> None:
        if address not in self._links:
            self.callers.pop(address, None)

    # --- connections ------------------------------------------------------------------------

    def _listen(self) -> None:
        former = self._listener
        self._listener, self._identity = listen(self._path)
        self._session.loop.add_reader(self._listener.fileno(), self._accept)
        if former is not None:
            self._session.loop.remove_reader(former.fileno())
            former.close()

    def _accept(self) -> None:
        """Accept one connection; the loop calls again for the next."""
        if self._listener is None:
            return
        try:
            connection, address = accept(self._listener)
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # no descriptor is free
            log.warning("direct.not_accepted error=%s", error)
            self._session.loop.remove_reader(self._listener.fileno())
            self._session.loop.call_later(PAUSE_S, self._go_on)
            return
        if address not in self.callers or address in self._links:
            connection.close()
            self._session.malformed()
            return
        session = self._session
        self._links[address] = session.links[address] = PacketLink(
            connection,
            address,
            session.on_bus,
            session.malformed,
            lambda: session.limits.max_message,
            lambda: self._left(address),
        )

    def _go_on(self) -> None:
        if self._listener is not None:
            self._session.loop.add_reader(self._listener.fileno(), self._accept)

    def watch_path(self) -> None:
        """Listen anew if the socket was removed; callers that are connected stay so."""
        if self._listener is not None and file_at(self._path) != self._identity:
            with contextlib.suppress(OSError):  # its folder is gone as well; tried again
                self._listen()

    # --- ends -------------------------------------------------------------------------------

    def drop(self, address: Token) -> None:
        """Accept no more from a caller whose route is closed."""
        self.callers.pop(address, None)
        self._session.links.pop(address, None)
        link = self._links.pop(address, None)
        if link is not None:
            link.close()

    def addresses_of(self, caller: Token) -> list[Token]:
        """Return the addresses of an incarnation."""
        return [address for address, token in self.callers.items() if token == caller]

    def close(self) -> None:
        """Send what is queued, and close the sockets."""
        if self._listener is not None:
            self._session.loop.remove_reader(self._listener.fileno())
            if file_at(self._path) == self._identity:
                Path(self._path).unlink(missing_ok=True)
            self._listener.close()
            self._listener = None
        until = time.monotonic() + LINGER_S  # for all together
        for link in self._links.values():
            link.close(until - time.monotonic())
        self._links.clear()
