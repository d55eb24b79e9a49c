"""Makes requests within a provider's limits, counts them, and raises what their failures mean."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from garrison.ipc import Busy, ModelError
from garrison.workers import Runtime

from .config import Limits
from .failures import FORMLESS_NAMES, Rule, model_error
from .ledger import Ledger, Spent, today
from .limiter import Limiter
from .prices import Price
from .usage import Used
from .usage_file import UsageKeeper

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 5.0  # for rpm or tpm; a longer one is left to the next provider
NOT_FOUND = 404
WAITING_MOST = 256  # requests that wait for their turn, where a service sets no number
BUDGETS = ("budget_per_day", "budget_cost_per_day")


class Requests:
    """The requests of one provider.

    Args:
        runtime: Of its service.
        limits: Its config.
        rules: What its library's exceptions mean.
        waiting: Requests that wait for their turn at most; further ones are refused.

    Attributes:
        on_refused_key: Called after a request that was refused for its key or account.
    """

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        rules: tuple[Rule, ...] = (),
        waiting: int = WAITING_MOST,
    ) -> None:
        self._runtime, self._rules, self._config = runtime, rules, limits
        self._turns = asyncio.Semaphore(limits.concurrency)
        self._ledger = Ledger(runtime.data_folder / "spent.json")
        self._has_budget = limits.budget_per_day > 0 or limits.budget_cost_per_day > 0
        spent = self._ledger.read() if self._has_budget else Spent(0, 0)
        self._limiter = Limiter(
            limits.rpm,
            limits.tpm,
            limits.budget_per_day,
            spent.tokens,
            spent.day,
            limits.budget_cost_per_day,
            spent.cost,
        )
        self._waiting, self._waiting_most = 0, waiting
        self._reached = 0  # the day for which it is reported that a budget is used up
        self.on_refused_key: Callable[[], None] = lambda: None
        self.advice = ""  # what is to be done about a refused key
        self._keeper = UsageKeeper(runtime, self._report)
        self._report()

    @contextlib.asynccontextmanager
    async def request(self, tokens: int, model: str = "") -> AsyncIterator[Used]:
        """Make a request; note its use in what this yields.

        Args:
            tokens: About how many it will use.
            model: The model that it names; its price is in the config, if it is known.

        Raises:
            ModelError: It failed, or a limit is reached.
            Busy: Too many wait already.
        """
        if self._waiting >= self._waiting_most:
            raise Busy(f"{self._waiting_most} requests wait for {self._runtime.name} already")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            price = self._price_of(model)
            await self._admit(tokens, price)
            async with self._counted(tokens, price) as used:
                yield used
        finally:
            self._turns.release()

    def usage_rows(self) -> list[dict[str, Any]]:
        """Return what is counted and not in a database yet, by hour, agent and person."""
        return self._keeper.rows()

    def usage_by_day(self) -> list[dict[str, Any]]:
        """Return the sums of each day, the oldest first and the present one last."""
        return self._keeper.days()

    def forget_person(self, source: str, person: str) -> int:
        """Count a person's requests with no one's; return how many rows that changed."""
        return self._keeper.forget(source, person)

    def _price_of(self, model: str) -> Price | None:
        price = self._config.prices.get(model)
        if price is None and self._config.budget_cost_per_day and model:
            text = f"budget_cost_per_day does not count {model}: it has no entry in prices"
            self._runtime.warn(f"price {model}", text)
        return price

    async def _admit(self, tokens: int, price: Price | None) -> None:
        """Wait a little for the limits, or raise how long it takes."""
        until = time.monotonic() + LONGEST_WAIT_S
        cost = price.most(tokens) if price else 0.0
        while True:
            now = time.monotonic()
            refusal = self._limiter.admit(tokens, now, *today(), cost)
            if refusal is None:
                return
            if refusal.limit in BUDGETS or now + refusal.seconds > until:
                text = f"{refusal.limit} of {self._runtime.name} is used up"
                if refusal.limit in BUDGETS and self._reached != today()[0]:
                    self._reached = today()[0]
                    self._runtime.incident("budget.reached", text)
                raise ModelError("busy", refusal.seconds, text)
            await asyncio.sleep(refusal.seconds)

    @contextlib.asynccontextmanager
    async def _counted(self, tokens: int, price: Price | None) -> AsyncIterator[Used]:
        used, failed = Used(), True
        try:
            yield used
            failed = False
        except (ModelError, Busy) as error:
            self._note(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):  # the caller has left
            failed = False
            raise
        except Exception as error:
            meant = model_error(error, self._rules)
            if meant is None:
                raise
            self._note(meant)
            if type(error).__name__ in FORMLESS_NAMES:  # it could be this service's mistake, too
                log.warning("an answer could not be read: %s", meant.reason, exc_info=error)
            if getattr(error, "status_code", None) == NOT_FOUND:
                text = f"its server knows no such model or address: {meant.reason}"
                self._runtime.warn("model", text)
            raise meant from error
        else:
            self._runtime.warn("key", None)
            self._runtime.warn("model", None)
        finally:
            self._settle(tokens, price, used, failed)

    def _settle(self, tokens: int, price: Price | None, used: Used, failed: bool) -> None:
        """Count what a request has used."""
        cost = price.of(used) if price else None
        reserved = price.most(tokens) if price else 0.0
        now, day = time.monotonic(), today()[0]
        self._limiter.settle(tokens, used.tokens, now, day, reserved, cost or 0.0)
        if used.tokens:
            self._runtime.count_tokens(input=used.read, cached=used.cached, output=used.written)
            if cost is not None:
                self._runtime.count_cost(cost)
        if self._has_budget:
            limiter = self._limiter
            spent = Spent(limiter.day, int(limiter.budget.spent), limiter.cost_budget.spent)
            self._ledger.write(spent)
        self._keeper.add(used, failed, cost)

    def _note(self, error: ModelError | Busy) -> None:
        """Show in `garrison status` that the key or the account does not work."""
        if isinstance(error, ModelError) and error.kind == "auth":
            advice = f". {self.advice}" if self.advice else ""
            self._runtime.warn("key", f"its key or account is refused: {error.reason}{advice}")
            self.on_refused_key()

    def _report(self) -> None:
        facts = self._keeper.today.facts(bool(self._config.prices))
        limiter = self._limiter
        left = {"budget_left": limiter.budget.left, "cost_left": limiter.cost_budget.left}
        if any(one is not None for one in left.values()):
            left["budget_used"] = max(limiter.budget.used_ratio, limiter.cost_budget.used_ratio)
        self._runtime.report(
            **facts, **{name: float(one) for name, one in left.items() if one is not None}
        )
