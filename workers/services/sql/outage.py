"""A server that is away: no request is sent again at once, and `status` says so.

Durations are seconds.
"""

import time
from collections.abc import Callable

from garrison.ipc import RetryLater

FIRST_S, LONGEST_S = 0.5, 30.0


class Outage:
    """How long a server has been away.

    Args:
        on_change: Called with what is wrong, and with None once it is over.
    """

    def __init__(self, on_change: Callable[[str | None], None]) -> None:
        self._on_change = on_change
        self._delay = FIRST_S
        self._until, self._text = 0.0, ""

    def check(self) -> None:
        """Let one through, unless the server failed a moment ago.

        Raises:
            RetryLater: It did.
        """
        left = self._until - time.monotonic()
        if self._text and left > 0:
            raise RetryLater(left, self._text)

    def begin(self, text: str) -> RetryLater:
        """Note that the server is away; return the error for the caller."""
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_S)
        self._until, self._text = time.monotonic() + delay, text
        self._on_change(text)
        return RetryLater(delay, text)

    def end(self) -> None:
        """Note that it answers."""
        if self._text:
            self._text, self._delay = "", FIRST_S
            self._on_change(None)
