"""When all that ended members have sent was read, while others send without a pause. Pure.

A ROUTER reads one message of each peer that has some, by turns. So a peer that has none among as
many messages as there are peers has no more.
"""

from garrison.ipc.messages import Token


class LastMessages:
    """Counts messages since the last one of each ended member."""

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[Token, int] = {}  # member → number of its last message

    def note(self, source: Token) -> None:
        """Note that a message was read."""
        self._count += 1
        if source in self._last:
            self._last[source] = self._count

    def follow(self, token: Token) -> None:
        """Count for a member whose connection has ended; what it has sent is there to be read."""
        self._last[token] = self._count

    def follows(self, token: Token) -> bool:
        """Return whether messages are counted for a member."""
        return token in self._last

    def were_read(self, token: Token, most: int) -> bool:
        """Return whether more messages than so many were read since the member's last one."""
        return self._count - self._last[token] > most

    def forget(self, token: Token) -> None:
        """Count for a member no longer."""
        self._last.pop(token, None)
