"""What is known of a platform's connection: last traffic, the last probe, a disconnect for good.

Times are seconds of the monotonic clock.
"""

import time
from collections.abc import Callable

from garrison.ipc.messages import Link

REASON_MOST = 200  # characters that are shown


class LinkState:
    """The connection of one platform.

    Args:
        now: Returns the time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._in: float | None = None
        self._out: float | None = None
        self._alive: float | None = None
        self._probed: float | None = None
        self._problem = self._deaf = ""

    def note_in(self) -> None:
        """Note that a message was received."""
        self.note_alive()
        self._in = self._alive

    def note_out(self) -> None:
        """Note that the platform has taken a message: that shows nothing of the receiving side."""
        self._out = self._now()

    def note_alive(self) -> None:
        """Note that the receiving side has shown that it is alive."""
        self._alive = self._now()
        self._deaf = ""

    def note_probe(self, problem: str) -> None:
        """Note the outcome of a probe.

        Args:
            problem: Why the receiving side is deaf; empty: it is alive.
        """
        self._probed, self._deaf = self._now(), _line(problem)
        if not problem:
            self._alive = self._probed

    def disconnected(self, why: str) -> None:
        """Note that the connection has ended for good."""
        self._problem = _line(why) or "the connection has ended"

    def connected(self) -> None:
        """Note that there is a connection."""
        self._problem = ""
        self.note_alive()

    @property
    def quiet_s(self) -> float:
        """Return the seconds since the receiving side was last known to be alive, or was probed."""
        last = max((at for at in (self._alive, self._probed) if at is not None), default=None)
        return float("inf") if last is None else self._now() - last

    @property
    def problem(self) -> str:
        """Return why nothing is received; "" if it is, as far as is known."""
        return self._problem or self._deaf

    @property
    def is_disconnected(self) -> bool:
        """Return whether the connection has ended for good."""
        return bool(self._problem)

    def report(self) -> Link:
        """Return what `garrison status` shows."""
        now = self._now()

        def age(at: float | None) -> float | None:
            return None if at is None else now - at

        return Link(
            self._problem,
            age(self._in),
            age(self._out),
            age(self._alive),
            age(self._probed),
            self._deaf,
        )


def _line(text: str) -> str:
    return " ".join(text.split())[:REASON_MOST]
