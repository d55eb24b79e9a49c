"""What a provider was used for: requests, failures, tokens, cost, by hour, agent and person. Pure.

Days and hours are numbers since the epoch, UTC.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

HOURS = 24  # of a day
HOUR_S = 3600.0
KEPT_HOURS = 48  # without a database, after which a row is dropped
KEPT_DAYS = 31  # sums of whole days, before the present one
ROWS_MOST = 1_000  # rows that are kept; further persons are counted together
FINISHES_MOST = 8  # different reasons for an end; further ones are "other"
NAME_MOST = 64  # characters of a reason


@dataclass
class Used:
    """The tokens of one request, as its provider counts them."""

    read: int = 0
    cached: int = 0  # of those that were read from the server's cache; they cost less
    stored: int = 0  # of those that were read and are in that cache from now on
    written: int = 0
    finish: str = ""  # the provider's word for why the text ended

    @property
    def tokens(self) -> int:
        """Return all of them."""
        return self.read + self.written


def reported(usage: Any, field: str) -> int:
    """Return a number of tokens that a server reports; 0 where it reports no number."""
    count = getattr(usage, field, None)
    return count if isinstance(count, int) and count > 0 else 0


CUT = frozenset({"length", "max_tokens"})  # the text ended because it may not be longer


class Counts(msgspec.Struct):
    """The sums of requests."""

    requests: int = 0
    failures: int = 0
    cut: int = 0
    read: int = 0
    cached: int = 0
    written: int = 0
    cost: float = 0.0  # of those requests whose model has a price
    unpriced: int = 0  # requests that took tokens of a model without a price
    finishes: dict[str, int] = {}

    def add(self, used: Used, failed: bool, cost: float | None) -> None:
        """Count one request."""
        self.requests += 1
        self.failures += failed
        self.cut += used.finish in CUT
        self.read += used.read
        self.cached += used.cached
        self.written += used.written
        self.cost += cost or 0.0
        self.unpriced += cost is None and used.tokens > 0
        if used.finish:
            self._finish(used.finish[:NAME_MOST], 1)

    def merge(self, other: "Counts") -> None:
        """Add another's sums."""
        for name in self.__struct_fields__:
            if name != "finishes":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for finish, number in other.finishes.items():
            self._finish(finish, number)

    def _finish(self, finish: str, number: int) -> None:
        known = finish in self.finishes or len(self.finishes) < FINISHES_MOST
        name = finish if known else "other"
        self.finishes[name] = self.finishes.get(name, 0) + number

    def facts(self, has_prices: bool) -> dict[str, float]:
        """Return what `garrison status` shows."""
        facts: dict[str, float] = {
            "requests": self.requests,
            "failures": self.failures,
            "tokens_in": self.read,
            "tokens_cached": self.cached,
            "tokens_out": self.written,
            "cut_short": self.cut,
        }
        if has_prices:
            facts["cost"] = round(self.cost, 6)
            facts["unpriced"] = self.unpriced
        return {name: float(value) for name, value in facts.items()}


class UsageKey(NamedTuple):
    """What a row counts."""

    hour: int
    agent: str = ""  # NAME; empty for a program, and in a host without agents
    source: str = ""  # NAME of the service that received the message
    person: str = ""  # empty: of no answer

    def id(self, provider: str) -> str:
        """Return the row's id in a database: the same each time."""
        text = "\0".join((provider, str(self.hour), self.agent, self.source, self.person))
        return f"usage-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"


class Kept(msgspec.Struct):
    """The content of a provider's file."""

    day: int = 0
    today: Counts = msgspec.field(default_factory=Counts)
    rows: list[tuple[UsageKey, Counts]] = []
    days: list[tuple[int, Counts]] = []  # that were used and have ended, the oldest first


class Usage:
    """The sums of a day, and a row for each hour, agent and person.

    Args:
        kept: What an earlier process counted.
    """

    def __init__(self, kept: Kept) -> None:
        self.day, self.today = kept.day, kept.today
        self.rows = dict(kept.rows)
        self.days = dict(kept.days)

    def kept(self) -> Kept:
        """Return what the file is to hold."""
        return Kept(self.day, self.today, list(self.rows.items()), list(self.days.items()))

    def begin(self, hour: int) -> None:
        """Begin the day of an hour, if it is a later one; drop rows that are too old."""
        day = hour // HOURS
        if day > self.day:  # a clock that is set back counts on
            if self.today.requests:
                self.days[self.day] = self.today
            self.day, self.today = day, Counts()
        for ended in [one for one in self.days if one < self.day - KEPT_DAYS]:
            del self.days[ended]
        for key in [key for key in self.rows if key.hour <= hour - KEPT_HOURS]:
            del self.rows[key]

    def add(self, key: UsageKey, used: Used, failed: bool, cost: float | None) -> None:
        """Count one request."""
        self.begin(key.hour)
        self.today.add(used, failed, cost)
        self._row(key).add(used, failed, cost)

    def _row(self, key: UsageKey) -> Counts:
        if key not in self.rows and len(self.rows) >= ROWS_MOST:
            key = UsageKey(key.hour)
            if key not in self.rows:  # room for it: the oldest row is counted with no one's
                oldest = min(self.rows)
                gone = self.rows.pop(oldest)
                self.rows[key] = Counts()
                self.rows[key].merge(gone)
        return self.rows.setdefault(key, Counts())

    def by_day(self) -> list[tuple[int, Counts]]:
        """Return the sums of each day that was used, the oldest first and the present one last."""
        return [*sorted(self.days.items()), (self.day, self.today)]

    def ended(self, hour: int) -> list[UsageKey]:
        """Return the rows of earlier hours, the oldest first."""
        return sorted(key for key in self.rows if key.hour < hour)

    def forget(self, source: str, person: str) -> int:
        """Count a person's rows with no one's; return how many there were."""
        theirs = [key for key in self.rows if (key.source, key.person) == (source, person)]
        for key in theirs:
            gone = self.rows.pop(key)
            self.rows.setdefault(UsageKey(key.hour, key.agent), Counts()).merge(gone)
        return len(theirs)


def day_of(day: int, counts: Counts) -> dict[str, Any]:
    """Return a day's sums as `usage_by_day` has them."""
    return {
        "at": day * HOURS * HOUR_S,
        "requests": counts.requests,
        "failures": counts.failures,
        "tokens_in": counts.read,
        "tokens_cached": counts.cached,
        "tokens_out": counts.written,
        "cut_short": counts.cut,
        "cost": round(counts.cost, 6),
        "unpriced": counts.unpriced,
    }


def body_of(provider: str, key: UsageKey, counts: Counts) -> dict[str, Any]:
    """Return the body of a row's log entry in a database."""
    return {
        "provider": provider,
        "source": key.source,
        "hours": 1,
        "requests": counts.requests,
        "failures": counts.failures,
        "tokens_in": counts.read,
        "tokens_cached": counts.cached,
        "tokens_out": counts.written,
        "cost": None if counts.unpriced else round(counts.cost, 6),
        "finish": dict(counts.finishes),
    }
