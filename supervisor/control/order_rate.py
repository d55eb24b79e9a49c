"""How many orders another user may give: each is an event, and the events are bounded. Pure.

Times are monotonic seconds.
"""

from collections.abc import Callable

BURST = 120  # orders at once
EACH_S = 1.0  # until one more is free
USERS_MOST = 1000


class OrderRate:
    """The orders that users have given lately.

    Args:
        now: Returns the time.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._free_at: dict[int, float] = {}  # uid → when all of its orders are free again

    def take(self, uid: int) -> float:
        """Count an order; return 0, or for how many seconds none is free and it is not counted.

        Args:
            uid: Of the user who gives it.
        """
        now = self._now()
        if uid not in self._free_at and len(self._free_at) >= USERS_MOST:
            self._free_at = {one: at for one, at in self._free_at.items() if at > now}
            if len(self._free_at) >= USERS_MOST:
                return min(self._free_at.values()) - now
        free_at = max(self._free_at.get(uid, now), now) + EACH_S
        if (wait := free_at - now - BURST * EACH_S) > 0:
            return wait
        self._free_at[uid] = free_at
        return 0.0
