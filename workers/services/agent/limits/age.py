"""How old a message is, without a second look at the wall clock. Pure. Durations are seconds."""

from typing import NamedTuple

DATES_FROM = 946_684_800.0  # 2000; an earlier time is no date, but another clock's


class Age(NamedTuple):
    """When a message was sent, on the agent's monotonic clock.

    The wall clock is compared once, with the time that the platform gives. If it is set while the
    message waits, that changes nothing.
    """

    sent_at: float

    def at(self, now: float) -> float:
        """Return the age at a moment of the monotonic clock."""
        return now - self.sent_at

    def is_over(self, limit: float, now: float) -> bool:
        """Return whether the message is older than a limit; 0 is none."""
        return bool(limit) and self.at(now) > limit


def age_of(created_at: float, wall: float, now: float) -> Age:
    """Return the age of a message that has arrived now.

    Args:
        created_at: When it was sent, by the platform's clock, in seconds since the epoch. 0 is
            unknown, and counts as now, as do a time in the future and one before 2000.
        wall: Now, in seconds since the epoch.
        now: Now, on the monotonic clock.
    """
    return Age(now - max(wall - created_at, 0.0) if created_at >= DATES_FROM else now)
