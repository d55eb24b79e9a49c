"""How many requests and tokens a provider may get, and when. Pure.

Times are monotonic seconds, passed in as `now`. A bucket holds what may be used at once, and fills
over a minute; a request takes its estimate before, and the difference to its real use after.
"""

from typing import NamedTuple

MINUTE_S = 60.0
CHARS_PER_TOKEN = 4  # of English text, about; the difference is settled after the answer


class Bucket:
    """A token bucket.

    Args:
        per_minute: What it holds when full, and what flows in per minute; 0 is no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._most, self._left, self._since = float(per_minute), float(per_minute), 0.0

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until an amount may be taken; more than it holds waits until full."""
        if not self._most:
            return 0.0
        self._fill(now)
        lacking = min(amount, self._most) - self._left
        return max(lacking, 0.0) * MINUTE_S / self._most

    def take(self, amount: float, now: float) -> None:
        """Take an amount; a negative one is given back. It may fall below zero."""
        self._fill(now)
        self._left = min(self._left - amount, self._most)

    def _fill(self, now: float) -> None:
        passed = max(now - self._since, 0.0)
        self._left = min(self._left + passed * self._most / MINUTE_S, self._most)
        self._since = max(now, self._since)


class Refusal(NamedTuple):
    """Why a request may not be made now, and in how many seconds it may."""

    limit: str  # the config key
    seconds: float


class Budget:
    """What may be spent in one day: tokens, or money.

    Args:
        limit: 0 is no limit.
        spent: What the day has used already.
    """

    def __init__(self, limit: float, spent: float = 0) -> None:
        self._limit, self.spent, self._reserved = limit, spent, 0.0

    @property
    def left(self) -> float | None:
        """Return what the day still has; None without a limit."""
        return max(self._limit - self.spent, 0) if self._limit else None

    @property
    def used_ratio(self) -> float:
        """Return how much of the day's budget is used, from 0 to 1; 0 without a limit."""
        return min(self.spent / self._limit, 1.0) if self._limit else 0.0

    @property
    def is_used_up(self) -> bool:
        """Return whether nothing is left, with what is reserved."""
        return bool(self._limit) and self.spent + self._reserved >= self._limit

    def reserve(self, amount: float) -> None:
        """Reserve an amount; `settle` must follow."""
        self._reserved += amount

    def settle(self, reserved: float, used: float) -> None:
        """Count what was used of a reserved amount."""
        self._reserved = max(self._reserved - reserved, 0.0)
        self.spent += used


class Limiter:
    """The limits of one provider; 0 is no limit.

    Args:
        rpm: Requests per minute.
        tpm: Tokens per minute, read and written.
        budget_per_day: Tokens of one day.
        spent: Tokens that `day` has used already.
        day: The day that this was, as a number of days.
        budget_cost_per_day: Money of one day, in the config's currency.
        cost: Money that `day` has used already.
    """

    def __init__(
        self,
        rpm: int = 0,
        tpm: int = 0,
        budget_per_day: int = 0,
        spent: int = 0,
        day: int = 0,
        budget_cost_per_day: float = 0.0,
        cost: float = 0.0,
    ) -> None:
        self._requests, self._tokens = Bucket(rpm), Bucket(tpm)
        self.budget = Budget(budget_per_day, spent)
        self.cost_budget = Budget(budget_cost_per_day, cost)
        self.day = day

    def admit(
        self, tokens: int, now: float, day: int, left_of_day: float, cost: float = 0.0
    ) -> Refusal | None:
        """Reserve a request of about so many tokens; `settle` must follow. Or return why not.

        Args:
            tokens: The estimate.
            now: Monotonic seconds.
            day: The present day, as a number of days.
            left_of_day: Seconds until the next one.
            cost: The most that the estimate costs.
        """
        self._begin(day)
        if self.budget.is_used_up:
            return Refusal("budget_per_day", left_of_day)
        if self.cost_budget.is_used_up:
            return Refusal("budget_cost_per_day", left_of_day)
        waits = {"rpm": self._requests.wait(1, now), "tpm": self._tokens.wait(tokens, now)}
        limit = max(waits, key=lambda name: waits[name])
        if waits[limit] > 0:
            return Refusal(limit, waits[limit])
        self._requests.take(1, now)
        self._tokens.take(tokens, now)
        self.budget.reserve(tokens)
        self.cost_budget.reserve(cost)
        return None

    def settle(
        self,
        reserved: int,
        used: int,
        now: float,
        day: int,
        cost_reserved: float = 0.0,
        cost: float = 0.0,
    ) -> None:
        """Note what a request has used of what `admit` reserved for it."""
        self._begin(day)
        self.budget.settle(reserved, used)
        self.cost_budget.settle(cost_reserved, cost)
        self._tokens.take(used - reserved, now)

    def _begin(self, day: int) -> None:
        if day > self.day:  # a clock that is set back does not renew a budget
            self.day, self.budget.spent, self.cost_budget.spent = day, 0, 0.0


def estimate(characters: int, max_tokens: int) -> int:
    """Return about how many tokens a request will use: all that it may write is counted."""
    return characters // CHARS_PER_TOKEN + 1 + max_tokens
