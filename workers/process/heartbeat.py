"""When a worker beats: together with others, and less often while nothing changes. Pure.

Each beat wakes the supervisor. Workers of one group beat together, and all groups leave out the
same beats, so that it wakes twice a second and not once for each worker; the groups keep a host of
many workers from running all of them at one moment. Times are monotonic seconds, which all
processes of a machine share.
"""

from math import inf

BEAT_S = 1.0  # between two beats; a quarter of the watchdog if that is shorter
QUIET_S = 2.0  # the same, while a beat would repeat the last one
GROUPS = 4
HELLO_AGAIN = 4  # the beat before the first Welcome with which the Hello is sent again


class HeartbeatSchedule:
    """When one worker beats.

    Args:
        watchdog: The longest silence of its loop that is tolerated; 0: any.
        token: Of its incarnation; its group follows from it.
    """

    def __init__(self, watchdog: float, token: bytes) -> None:
        longest = watchdog / 4 if watchdog else inf
        self._interval = min(BEAT_S, longest)
        self._phase = self._interval * (sum(token) % GROUPS) / GROUPS
        # Of beats that would repeat the last one, each so many is sent.
        self._every = max(1, int(min(QUIET_S, longest) / self._interval))
        self._last: object = None
        self._sent_at = -inf

    def delay(self, now: float) -> float:
        """Return the seconds until the next time to beat: three quarters of an interval or more,
        so that a timer that is early does not beat twice."""
        wait = (self._phase - now) % self._interval
        return wait if wait >= self._interval * 0.75 else wait + self._interval

    def is_due(self, content: object, now: float, adds: bool = False) -> bool:
        """Return whether a beat is to be sent now; it then counts as sent.

        Args:
            content: What it would say.
            now: The time.
            adds: It has figures that are added to those of the last one, so none may be left out.
        """
        number = round((now - self._phase) / self._interval)  # the same for all groups
        late = now - self._sent_at > (self._every + 0.25) * self._interval
        if number % self._every and not (late or adds) and content == self._last:
            return False
        self._last, self._sent_at = content, now
        return True

    def renew(self) -> None:
        """Have the next beat sent in any case: another supervisor has not received the last one."""
        self._last = None


def is_hello_due(unanswered: int) -> bool:
    """Return whether a Hello is sent again: it is lost if its connection breaks at once, as libzmq
    has a router end one that takes too long to be made.

    That is seldom, and a supervisor that is late must not be kept busy: each pause is twice as long
    as the one before. The first beats do not count, as an import may have blocked the loop.

    Args:
        unanswered: Beats before the first Welcome, this one included.
    """
    return unanswered >= HELLO_AGAIN and unanswered.bit_count() == 1
