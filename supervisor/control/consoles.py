"""Where consoles listen, and the tickets that browsers enter them with. Pure.

Times are monotonic seconds.
"""

import hashlib
from typing import NamedTuple

from garrison.ipc.messages import Token

TICKET_S = 60.0  # how long a ticket is valid
TICKETS_MOST = 64  # the oldest is dropped for a further one
OF_USER_MOST = 8  # likewise, of one user: no operator drops those of others
ADDRESS_MOST = 200  # characters


class _Ticket(NamedTuple):
    uid: int
    console: str  # NAME of the service that it is for
    until: float


class Consoles:
    """The consoles of a host, and the tickets that were not used yet. Of these, hashes are kept."""

    def __init__(self) -> None:
        self._addresses: dict[str, tuple[Token, str]] = {}  # NAME → incarnation, address
        self._tickets: dict[bytes, _Ticket] = {}

    def listens(self, name: str, token: Token, address: str) -> None:
        """Note where an incarnation of a console listens."""
        self._addresses[name] = token, address[:ADDRESS_MOST]

    def address(self, name: str, token: Token) -> str:
        """Return where an incarnation listens; empty: that is not known."""
        known, address = self._addresses.get(name, (b"", ""))
        return address if known == token else ""

    def issue(self, ticket: str, uid: int, console: str, now: float) -> None:
        """Make a ticket valid for a user, once and for `TICKET_S`."""
        self._tickets = {key: one for key, one in self._tickets.items() if one.until > now}
        theirs = [key for key, one in self._tickets.items() if one.uid == uid]
        for former in theirs[: max(len(theirs) - OF_USER_MOST + 1, 0)]:
            del self._tickets[former]
        while len(self._tickets) >= TICKETS_MOST:
            del self._tickets[next(iter(self._tickets))]
        self._tickets[_hash(ticket)] = _Ticket(uid, console, now + TICKET_S)

    def take(self, ticket: str, console: str, now: float) -> int | None:
        """Return the uid of a ticket's user, and make it invalid.

        None: there is no such ticket, its time is over, or it is for another console.
        """
        found = self._tickets.pop(_hash(ticket), None)
        if found is None or found.until <= now or found.console != console:
            return None
        return found.uid


def _hash(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).digest()
