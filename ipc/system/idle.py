"""Gives back the memory of large messages, once they have ceased. Times are monotonic seconds."""

import threading
from math import inf

from . import malloc

QUIET_S = 2.0  # after the last large message: what is free is returned


def give_back() -> None:
    """Return what is free to the kernel, in a thread.

    It takes some 0.2 ms a MiB, and holds up those threads alone whose memory it is: in a router
    that is libzmq's own one.
    """
    threading.Thread(target=malloc.trim, name="memory", daemon=True).start()


class IdleTrimmer:
    """Tells when large messages have ceased for a while."""

    def __init__(self) -> None:
        self._last = -inf
        self.due = inf

    def passed(self, now: float) -> bool:
        """Note a large message; tell whether it is the first for a while."""
        self._last = now
        if self.due != inf:
            return False
        self.due = now + QUIET_S
        return True

    def over(self, now: float) -> bool:
        """Tell, when it is due, whether there was none since; otherwise it is due later."""
        self.due = self._last + QUIET_S
        if now < self.due:
            return False
        self.due = inf
        return True
