"""When an idle worker drops its copies of common pages. Pure; times are monotonic seconds.

A copy is made by a page fault, and so is each use of a page after its copy was dropped. So faults
say whether there are copies worth a search, and whether the worker is idle.
"""

from math import inf

IDLE_FAULTS = 48  # from one heartbeat to the next, of a worker that is idle
LEAST_FAULTS = 256  # since copies were dropped: fewer copies are not searched for
FIRST_S = 0.5  # of idling, after the start
AGAIN_S = 10.0  # of idling, later: what calls use is used again soon


class CopySchedule:
    """When one worker drops its copies."""

    def __init__(self) -> None:
        self._last, self._last_at = -inf, -inf  # faults at the last heartbeat, and its time
        self._idle_since = inf
        self._idle_s = FIRST_S
        self._base = 0.0  # faults once copies were dropped, and those of an idle worker made again

    def is_due(self, faults: int, now: float) -> bool:
        """Return whether copies are to be dropped now; called with each heartbeat.

        Args:
            faults: Page faults of this process until now.
            now: The time.
        """
        idle, since = faults - self._last <= IDLE_FAULTS, self._last_at
        self._last, self._last_at = faults, now
        if not idle:
            self._idle_since = inf
            return False
        self._idle_since = min(self._idle_since, since)
        self._base = min(self._base, faults)
        if now - self._idle_since < self._idle_s or faults - self._base < LEAST_FAULTS:
            return False
        self._idle_since, self._idle_s, self._base = inf, AGAIN_S, inf
        return True
