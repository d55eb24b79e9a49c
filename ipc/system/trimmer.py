"""Returns freed memory once large messages have stopped. Times are monotonic seconds.

Apart from `malloc`, because the launcher imports that and must not import threads.
"""

import threading
from math import inf

from . import malloc

IDLE_S = 2.0  # after the last large message, free memory is returned


def trim_in_background() -> None:
    """Return free memory to the kernel from a thread.

    It takes about 0.2 ms per MiB, and blocks only the threads whose memory it is.
    """
    threading.Thread(target=malloc.trim, name="memory", daemon=True).start()


class IdleTrimmer:
    """Decides when large messages have stopped.

    Attributes:
        due: When to call `is_idle`; infinite if there was no large message.
    """

    def __init__(self) -> None:
        self._last = -inf
        self.due = inf

    def note_large(self, now: float) -> bool:
        """Note a large message; return True if `due` was set by it."""
        self._last = now
        if self.due != inf:
            return False
        self.due = now + IDLE_S
        return True

    def is_idle(self, now: float) -> bool:
        """Return True if large messages have stopped; otherwise set a later `due`."""
        self.due = self._last + IDLE_S
        if now < self.due:
            return False
        self.due = inf
        return True
