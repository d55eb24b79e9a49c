"""What to do with a claimed task whose time has passed. Pure. Seconds since the epoch."""

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

from garrison.workers import Task

from .times import CATCH_UP_MOST, Times

SAME_S = 1e-3  # times that differ less are the same: stores round them


class Policy(Enum):
    """What follows missed times."""

    RUN = "run"  # each of them is run
    SKIP = "skip"  # none of them is
    LATEST = "latest"  # the last of them is run


class Missed(msgspec.Struct, frozen=True):
    """Times that were missed, for the log and the event `task.missed`."""

    count: int
    first: float
    last: float
    policy: Policy
    runs: int  # how many of them are run now

    def fields(self, task: Task) -> dict[str, Any]:
        """Return the changes of the task that record them."""
        return {"missed_count": task.missed_count + self.count, "missed_until": self.last}


class Rescheduled(msgspec.Struct, frozen=True):
    """A claimed task is not run now, but waits for a time of its own."""

    at: float | None  # None: it has no further time
    missed: Missed | None = None


def reschedule(
    task: Task, times: Times, now: float, policy: Policy, max_late: float
) -> Rescheduled | None:
    """Return to which time a claimed task goes back, or None if it runs now.

    What was missed is decided once: the times up to `missed_until` are known, and run.

    Args:
        task: It has been claimed.
        times: Its times.
        now: Seconds since the epoch.
        policy: What follows missed times.
        max_late: Seconds after which a time counts as missed.
    """
    if task.scheduled_for is None:
        return Rescheduled(times.after(now)) if task.cron else None
    at = task.scheduled_for.timestamp()
    if at <= task.missed_until + SAME_S:
        return None
    passed = times.passed(at, now)
    latest = list(passed.latest)
    is_late = now - latest[-1] > max_late
    if passed.count == 1 and not is_late:
        return None
    if policy is Policy.RUN:
        runs = latest[-CATCH_UP_MOST:]
        return Rescheduled(runs[0], Missed(passed.count, at, latest[-1], policy, len(runs)))
    if is_late:
        missed = Missed(passed.count, at, latest[-1], policy, int(policy is Policy.LATEST))
        return Rescheduled(latest[-1] if missed.runs else times.after(now), missed)
    # The last one is in time, and runs as usual; those before it are missed.
    return Rescheduled(latest[-1], Missed(passed.count - 1, at, latest[-2], policy, 0))


def following(task: Task, times: Times, now: float) -> float | None:
    """Return the time after a run that has ended; None if there is none."""
    at = now if task.scheduled_for is None else task.scheduled_for.timestamp()
    if at < task.missed_until - SAME_S:  # what was missed is run one after the other
        return times.after(at)
    return times.following(at, now)


def as_time(seconds: float | None) -> datetime | None:
    """Return seconds since the epoch as a task's time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
