"""One connection of a browser: bounded in number, in how long a request takes to arrive, and in
how long an answer is not read.

uvicorn bounds none of these, and any user of this machine can connect. Durations are seconds,
sizes bytes.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 128  # at the same time; for a further one, the one without a request goes
REQUEST_S = 20.0  # for a whole request to arrive
UNREAD_S = 30.0  # for a client that reads nothing of its answer
READ_LEAST = 4096  # of an answer, that count as reading
CHECK_S = 2.0


class Connection(H11Protocol):
    """A connection that is ended when its client neither asks nor reads."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._checking: asyncio.TimerHandle | None = None
        self._asking_since: float | None = None  # when the request began that has not arrived
        self.heard_at = self._read_at = 0.0
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; the connection that was silent for the longest makes room."""
        super().connection_made(transport)
        self._asking_since = self.heard_at = self._read_at = self.loop.time()
        self._checking = self.loop.call_later(CHECK_S, self._check)
        if len(self.connections) > CONNECTIONS:
            others = [one for one in self.connections if isinstance(one, Connection)]
            idle = [one for one in others if one is not self and not one.is_answering]
            for longest in sorted(idle, key=lambda one: one.heard_at)[:1]:
                longest.abort()  # without one, uvicorn answers 503

    def data_received(self, data: bytes) -> None:
        """Take what was received."""
        super().data_received(data)
        self.heard_at = self.loop.time()
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._asking_since = None
        elif self._asking_since is None:
            self._asking_since = self.heard_at

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; behind an answer that has begun, no other one can be sent."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._checking is not None:
            self._checking.cancel()
        super().connection_lost(exc)

    @property
    def is_answering(self) -> bool:
        """Return whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def abort(self) -> None:
        """End it at once, with what was not read."""
        self.connections.discard(self)
        self.transport.abort()

    def _check(self) -> None:
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        if not unread or unread <= self._unread - READ_LEAST or unread > self._unread:
            self._read_at, self._unread = now, unread
        is_late = self._asking_since is not None and now - self._asking_since > REQUEST_S
        if is_late or now - self._read_at > UNREAD_S:
            self.abort()
        else:
            self._checking = self.loop.call_later(CHECK_S, self._check)
