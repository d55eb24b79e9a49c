"""Keeps to the month's budget of posts, by X's own count. Durations are seconds."""

import logging
import time

from garrison.workers import Runtime

from .client import APP_TOKEN, Api
from .limits import Budget, budget_of
from .outcome import reason_of

log = logging.getLogger(__name__)

REFRESH_S = 3600.0
AGAIN_S = 300.0  # after a failure
UNLIMITED = 1 << 30
SUBJECT = "budget"


class BudgetWatch:
    """How many posts may still be read.

    Args:
        api: X's.
        runtime: The service's, for its warnings.
        reserve: Posts of the month that are left alone.
    """

    def __init__(self, api: Api, runtime: Runtime, reserve: int) -> None:
        self._api, self._runtime, self._reserve = api, runtime, reserve
        self._budget: Budget | None = None
        self._due = 0.0

    @property
    def left(self) -> int | None:
        """Return what is left of the month's posts; None: it is not known."""
        return self._budget.left if self._budget else None

    async def readable(self) -> int:
        """Return how many posts may be read now; warn where there are none."""
        if not self._api.has_app_token:
            return UNLIMITED
        now = time.monotonic()
        if now >= self._due:
            await self._refresh(now)
        if self._budget is None:
            return UNLIMITED
        most = self._budget.readable(self._reserve)
        self._runtime.warn(SUBJECT, None if most else self._used_up(self._budget))
        return most

    def note(self, read: int) -> None:
        """Note that so many posts were read."""
        if self._budget is not None:
            self._budget = self._budget.after(read)

    async def _refresh(self, now: float) -> None:
        try:
            usage = await self._api.usage()
        except Exception as error:  # noqa: BLE001 (the month's use is an aid)
            log.warning("twitter.usage_unknown error=%s", reason_of(error))
            self._due = now + AGAIN_S
            return
        self._due = now + REFRESH_S
        found = budget_of(usage.get("data") or {})
        if found is None:
            log.warning("twitter.usage_unknown error=%s states no cap", APP_TOKEN)
        self._budget = found

    def _used_up(self, budget: Budget) -> str:
        day = f"until day {budget.renewed_on} of the month" if budget.renewed_on else "this month"
        return (
            f"mentions are not read {day}: X counts {budget.left} posts left, monthly_reserve is "
            f"{self._reserve}"
        )
