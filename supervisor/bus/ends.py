"""When the end of a member is announced: behind the last messages of its process. Pure.

libzmq reads connections in a thread of its own, which may come late on a busy machine. So what
counts is that it has come to the end of the member's connection: all that the member has sent is
there to be read then. It was read once the bus is seen empty; or, while others send without a
pause, once so many messages were read that each peer has had its turn, as a ROUTER reads one
message of each by turns.

Times are monotonic seconds, passed in as `now`.
"""

import msgspec

from garrison.ipc.messages import Token

CAUSE_BY_S = 0.05  # after an end: it is announced without its cause then
OVER_BY_S = 1.0  # then also if its connection has not ended: its machine may be off
LOOK_S = 0.001  # between two looks whether that connection has ended; later ones are rarer


class _End(msgspec.Struct):
    since: float
    cause: str = ""
    look_at: float = 0.0
    closed_at: float | None = None  # when its connection had ended
    last: int = 0  # number of its last message, from then on
    was_read: bool = False  # all that it has sent


class Ends:
    """The members whose processes have ended, until that is announced."""

    def __init__(self) -> None:
        self._ends: dict[Token, _End] = {}
        self._count = 0  # messages that were read

    def __bool__(self) -> bool:
        return bool(self._ends)

    def __contains__(self, token: Token) -> bool:
        return token in self._ends

    def mark(self, token: Token, now: float) -> None:
        """Note that a member's process has ended."""
        if token not in self._ends:
            self._ends[token] = _End(now)

    def set_cause(self, token: Token, cause: str) -> None:
        """Note why."""
        if token in self._ends:
            self._ends[token].cause = cause

    def note_read(self, source: Token) -> None:
        """Note that a message was read."""
        self._count += 1
        end = self._ends.get(source)
        if end is not None:
            end.last = self._count

    def to_look(self, now: float) -> list[Token]:
        """Return the members whose connection is to be looked at now."""
        found = [
            token
            for token, end in self._ends.items()
            if end.closed_at is None and now >= end.look_at
        ]
        for token in found:
            end = self._ends[token]
            end.look_at = now + max(LOOK_S, (now - end.since) / 4)
        return found

    def note_closed(self, token: Token, now: float, *, was_read: bool = False) -> None:
        """Note the end of a member's connection.

        Args:
            token: The member.
            now: The time.
            was_read: All before that end was read, as on a plain socket; libzmq may have more.
        """
        end = self._ends[token]
        end.closed_at, end.last, end.was_read = now, self._count, was_read

    def take_due(self, now: float, empty_at: float, most: int) -> list[tuple[Token, str]]:
        """Return the members whose end is to be announced now, and why they ended.

        Args:
            now: The time.
            empty_at: When the bus was last seen empty.
            most: Messages after which each peer has had its turn.
        """
        due = [
            (token, end.cause)
            for token, end in self._ends.items()
            if now >= end.since + OVER_BY_S
            or (
                self._was_read(end, empty_at, most) and (end.cause or now >= end.since + CAUSE_BY_S)
            )
        ]
        for token, _ in due:
            del self._ends[token]
        return due

    def _was_read(self, end: _End, empty_at: float, most: int) -> bool:
        if end.closed_at is None:
            return False
        return end.was_read or empty_at >= end.closed_at or self._count - end.last > most
