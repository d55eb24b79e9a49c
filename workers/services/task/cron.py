"""The times of a cron expression in a time zone, by cronsim, which is imported for the first one.

The expression's time is the wall clock's. Where a clock change skips a time, it runs once at the
next minute that there is; where a time comes twice, it runs the first time. An expression whose
hour is `*` runs by real hours, so that it never stands still for one.
"""

import functools
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from garrison.workers import load_library

from .times import CATCH_UP_MOST, Passed

REQUIREMENT = "cronsim>=2.7"
COUNT_MOST = 1000  # passed times that are counted
FIELDS = 5
WINDOWS = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366))


class UnusableTimes(Exception):
    """A cron expression or a time zone cannot be used; the text is the reason."""


class Cron:
    """The times of a cron expression.

    Args:
        expression: Five fields: minute, hour, day of month, month, day of week.
        time_zone: Such as "Europe/Berlin".

    Raises:
        UnusableTimes: One of them cannot be used.
    """

    def __init__(self, expression: str, time_zone: str) -> None:
        self._zone = _zone(time_zone)
        self._expression = _normalized(expression)
        cronsim = _cronsim()
        try:
            cronsim(self._expression, datetime(2026, 1, 1, tzinfo=UTC))
        except Exception as error:
            raise UnusableTimes(f"cron {expression!r:.80} cannot be used: {error}") from error

    def after(self, time: float) -> float | None:
        begin = datetime.fromtimestamp(time, UTC).astimezone(self._zone)
        for found in _cronsim()(self._expression, begin):
            stamp = float(found.timestamp())
            if stamp > time:  # in a doubled hour it begins with the first of the two
                return stamp
        return None

    def following(self, at: float, now: float) -> float | None:
        return self.after(at)

    def passed(self, at: float, now: float) -> Passed:
        found = deque([at], CATCH_UP_MOST + 1)
        count, last = 1, at
        while (later := self.after(last)) is not None and later <= now and count < COUNT_MOST:
            found.append(later)
            count, last = count + 1, later
        if count == COUNT_MOST:
            found.extend(time for time in self._last_before(now) if time > last)
        return Passed(count, tuple(found))

    def _last_before(self, now: float) -> list[float]:
        """Return the times shortly before one, ascending: some of the last."""
        for window in WINDOWS:
            found = deque[float](maxlen=CATCH_UP_MOST + 1)
            time = self.after(now - window.total_seconds())
            while time is not None and time <= now:
                found.append(time)
                time = self.after(time)
            if found:
                return list(found)
        return []


def _normalized(expression: str) -> str:
    """Return an expression to which cronsim applies its rule for clock changes.

    It does where neither the minute nor the hour begins with a star.
    """
    fields = expression.split()
    if len(fields) != FIELDS:
        raise UnusableTimes(
            f"cron {expression!r:.80} has {len(fields)} fields, not {FIELDS}: "
            "minute, hour, day of month, month, day of week"
        )
    minute, hour, *rest = fields
    if hour != "*":
        minute = "0-59" + minute[1:] if minute.startswith("*") else minute
        hour = "0-23" + hour[1:] if hour.startswith("*") else hour
    return " ".join([minute, hour, *rest])


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError) as error:
        raise UnusableTimes(
            f"there is no time zone {name!r:.80} here: write one such as Europe/Berlin; where the "
            "machine has no zones, pip install tzdata"
        ) from error


@functools.cache
def _cronsim() -> Any:
    return load_library("cronsim", REQUIREMENT).CronSim
