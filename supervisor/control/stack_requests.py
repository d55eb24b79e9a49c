"""Requests for the stacks of workers that run."""

from collections.abc import Callable

from garrison.ipc.messages import Downward, ShowTasks, Stacks, Token

PENDING_MOST = 64  # requests; the oldest are forgotten


class StackRequests:
    """What was requested and has been answered.

    Args:
        send: Sends to a worker; returns False if it is not connected.
        signal: Has a worker write the stacks of its threads to its log, even if its loop is
            blocked.
    """

    def __init__(
        self, send: Callable[[Token, Downward], bool], signal: Callable[[Token], None]
    ) -> None:
        self._send, self._signal = send, signal
        self._number = 0
        self._pending: dict[int, tuple[Token, Stacks | None]] = {}

    def begin(self, token: Token) -> int:
        """Request the stacks of a worker; return the request's number, 0 if it is not connected."""
        self._number += 1
        if not self._send(token, ShowTasks(self._number)):
            return 0
        self._pending[self._number] = (token, None)
        if len(self._pending) > PENDING_MOST:
            del self._pending[next(iter(self._pending))]
        return self._number

    def take(self, token: Token, stacks: Stacks) -> None:
        """Take an answer; one that was not requested of this worker is ignored."""
        if self._pending.get(stacks.number, (b"", None))[0] == token:
            self._pending[stacks.number] = (token, stacks)

    def answer(self, number: int) -> Stacks | None:
        """Return the answer of a request; None if there is none yet."""
        return self._pending.get(number, (b"", None))[1]

    def forget(self, number: int) -> None:
        """Forget a request."""
        self._pending.pop(number, None)

    def signal(self, token: Token) -> None:
        """Have a worker write the stacks of its threads to its log."""
        self._signal(token)
