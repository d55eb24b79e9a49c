"""What each member may use of something that all share; beyond its share it waits. Pure.

Times are monotonic seconds. The unit of an amount is the user's: seconds of work, or broadcasts.
"""

from garrison.ipc.messages import Token

MEMBERS_MOST = 1024  # that are remembered; the one that was seen first is forgotten


class Shares:
    """What members have used lately.

    Args:
        burst: What a member may use at once.
        rate: What of it is free again in each second.
    """

    def __init__(self, burst: float, rate: float) -> None:
        self._burst_s, self._rate = burst / rate, rate
        self._free_at: dict[Token | str, float] = {}  # member → when all of its share is free again

    def take(self, member: Token | str, amount: float, now: float) -> bool:
        """Note what a member uses; return whether that is within its share.

        A member that goes on beyond its share is within it again after twice the time that a burst
        takes to be free, at most.
        """
        free_at = self._free_at.get(member)
        if free_at is None:
            self._make_room(now)
            free_at = now
        free_at = max(free_at, now) + amount / self._rate
        self._free_at[member] = min(free_at, now + 2 * self._burst_s)
        return free_at <= now + self._burst_s

    def _make_room(self, now: float) -> None:
        if len(self._free_at) < MEMBERS_MOST:
            return
        self._free_at = {one: at for one, at in self._free_at.items() if at > now}
        while len(self._free_at) >= MEMBERS_MOST:
            del self._free_at[next(iter(self._free_at))]
