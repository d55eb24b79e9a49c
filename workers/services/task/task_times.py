"""Reads from a task when it runs. Pure, apart from the library for cron, which it may load."""

import math

from garrison.workers import Task

from .cron import Cron, UnusableTimes
from .times import Every, Once, Times

LEAST_INTERVAL_MS = 100.0
REPEAT, INTERVAL = "repeat", "updateInterval"


def times_of(task: Task, time_zone: str, now: float) -> Times:
    """Return a task's times.

    Args:
        task: The task.
        time_zone: Of a cron task that names none.
        now: Seconds since the epoch.

    Raises:
        UnusableTimes: They cannot be used; the task's author must change them.
        PermanentFailure: The library for cron is not installed.
    """
    if task.cron:
        return Cron(task.cron, task.time_zone or time_zone)
    if REPEAT not in task.tags:
        return Once()
    base = now if task.scheduled_for is None else task.scheduled_for.timestamp()
    return Every(_milliseconds(task) / 1000, base)


def interval(task: Task) -> float | None:
    """Return the seconds between a task's runs; None if it has none that can be used."""
    try:
        return None if task.cron or REPEAT not in task.tags else _milliseconds(task) / 1000
    except UnusableTimes:
        return None


def _milliseconds(task: Task) -> float:
    found = task.metadata.get(INTERVAL)
    if isinstance(found, int | float) and not isinstance(found, bool):
        milliseconds = float(found)
        if math.isfinite(milliseconds) and milliseconds >= LEAST_INTERVAL_MS:
            return milliseconds
    raise UnusableTimes(
        f"it has the tag {REPEAT}, and its metadata needs {INTERVAL}, a number of milliseconds "
        f"from {LEAST_INTERVAL_MS:g}; it is {found!r:.80}"
    )
