"""X's rate limits, by the headers of its answers, and when to poll next. Pure; monotonic seconds.

X states resets in its own Unix time. They are read against the `Date` of the same answer, so this
machine's clock does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NamedTuple

# Each answer may state three limits: of the window, and of the day by user and by app
PREFIXES = ("x-rate-limit-", "x-user-limit-24hour-", "x-app-limit-24hour-")
WINDOW_S = 900.0  # for which a limit holds whose reset is not stated
MARGIN_S = 1.0  # X states whole seconds
GROWTH = 1.5  # of the interval, for each poll without mentions


class Window(NamedTuple):
    """What is left of a limit, and when it is renewed."""

    remaining: int
    reset_at: float  # monotonic


class Limits:
    """The limits of each endpoint, as last stated."""

    def __init__(self) -> None:
        self._windows: dict[str, list[Window]] = {}  # by endpoint: a handful

    def note(self, endpoint: str, headers: Mapping[str, str], now: float, unix: float) -> None:
        """Note what an answer states.

        Args:
            endpoint: Its name.
            headers: Of the answer.
            now: Monotonic time.
            unix: This machine's Unix time, for an answer without a date.
        """
        theirs = server_time(headers, unix)
        found = []
        for prefix in PREFIXES:
            remaining = _number(headers.get(f"{prefix}remaining"))
            reset = _number(headers.get(f"{prefix}reset"))
            if remaining is not None and reset is not None:
                found.append(Window(int(remaining), now + max(reset - theirs, 0.0) + MARGIN_S))
        if found:
            self._windows[endpoint] = found

    def wait_s(self, endpoint: str, now: float) -> float:
        """Return the seconds until an endpoint may be used; 0.0: it may be now."""
        used_up = [one for one in self._windows.get(endpoint, ()) if one.remaining <= 0]
        return max((one.reset_at - now for one in used_up), default=0.0)

    def spread_s(self, endpoint: str, now: float) -> float:
        """Return the seconds between requests that the rest of the windows allows."""
        left = [one for one in self._windows.get(endpoint, ()) if one.reset_at > now]
        return max(((one.reset_at - now) / max(one.remaining, 1) for one in left), default=0.0)

    def remaining(self, endpoint: str, now: float) -> int | None:
        """Return how many requests are left; None: it is not known."""
        left = [one.remaining for one in self._windows.get(endpoint, ()) if one.reset_at > now]
        return min(left, default=None)


def retry_after(headers: Mapping[str, str], unix: float) -> float:
    """Return the seconds after which X accepts what it refused with 429."""
    theirs = server_time(headers, unix)
    waits = []
    for prefix in PREFIXES:
        remaining, reset = headers.get(f"{prefix}remaining"), _number(headers.get(f"{prefix}reset"))
        if reset is not None and (_number(remaining) or 0.0) <= 0:
            waits.append(reset - theirs + MARGIN_S)
    stated = _number(headers.get("retry-after"))
    if stated is not None:
        waits.append(stated)
    return max(max(waits, default=WINDOW_S), MARGIN_S)


def server_time(headers: Mapping[str, str], unix: float) -> float:
    """Return the Unix time of an answer by its `Date`; without one, this machine's."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return unix


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Pace:
    """The interval of polls, which grows while nothing comes."""

    least: float
    most: float
    interval: float

    def after(self, mentions: int) -> "Pace":
        """Return the pace after a poll that found so many."""
        most = max(self.most, self.least)
        grown = self.least if mentions else min(self.interval * GROWTH, most)
        return Pace(self.least, self.most, grown)

    def wait_s(self, spread_s: float, wait_s: float) -> float:
        """Return the seconds until the next poll, by the limits as well."""
        return max(self.interval, spread_s, wait_s)


@dataclass(frozen=True)
class Budget:
    """What may be read in a month, by X's own count."""

    left: int
    renewed_on: int | None = None  # day of the month

    def readable(self, reserve: int) -> int:
        """Return how many posts may be read before the reserve is touched."""
        return max(self.left - reserve, 0)

    def after(self, read: int) -> "Budget":
        """Return the budget after so many were read."""
        return Budget(self.left - read, self.renewed_on)


def budget_of(usage: Mapping[str, object]) -> Budget | None:
    """Return the budget that an answer of `/2/usage/tweets` states; None: it states none."""
    cap, used = _whole(usage.get("project_cap")), _whole(usage.get("project_usage"))
    if cap is None or used is None:
        return None
    return Budget(cap - used, _whole(usage.get("cap_reset_day")))


def _whole(value: object) -> int | None:
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None
