"""Makes requests within a provider's limits, counts them, and raises what their failures mean."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from garrison.ipc import Busy, ModelError
from garrison.workers import Runtime

from .config import Limits
from .failures import Rule, model_error
from .ledger import Ledger, Spent, today
from .limiter import Limiter
from .usage import Usage, Used

LONGEST_WAIT_S = 5.0  # for rpm or tpm; a longer one is left to the next provider
NOT_FOUND = 404
WAITING_MOST = 256  # requests that wait for their turn; further ones are refused


class Requests:
    """The requests of one provider.

    Args:
        runtime: Of its service.
        limits: Its config.
        rules: What its library's exceptions mean.
    """

    def __init__(self, runtime: Runtime, limits: Limits, rules: tuple[Rule, ...] = ()) -> None:
        self._runtime, self._rules = runtime, rules
        self._turns = asyncio.Semaphore(limits.concurrency)
        self._ledger = Ledger(runtime.data_folder / "spent.json")
        self._has_budget = limits.budget_per_day > 0
        spent = self._ledger.read() if self._has_budget else Spent(0, 0)
        self._limiter = Limiter(
            limits.rpm, limits.tpm, limits.budget_per_day, spent.tokens, spent.day
        )
        self._usage, self._waiting = Usage(), 0
        self._report()

    @contextlib.asynccontextmanager
    async def request(self, tokens: int) -> AsyncIterator[Used]:
        """Make a request; note its use in what this yields.

        Args:
            tokens: About how many it will use.

        Raises:
            ModelError: It failed, or a limit is reached.
            Busy: Too many wait already.
        """
        if self._waiting >= WAITING_MOST:
            raise Busy(f"{WAITING_MOST} requests wait for {self._runtime.name} already")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            await self._admit(tokens)
            async with self._counted(tokens) as used:
                yield used
        finally:
            self._turns.release()

    async def _admit(self, tokens: int) -> None:
        """Wait a little for the limits, or raise how long it takes."""
        until = time.monotonic() + LONGEST_WAIT_S
        while True:
            now = time.monotonic()
            refusal = self._limiter.admit(tokens, now, *today())
            if refusal is None:
                return
            if refusal.limit == "budget_per_day" or now + refusal.seconds > until:
                text = f"{refusal.limit} of {self._runtime.name} is used up"
                raise ModelError("busy", refusal.seconds, text)
            await asyncio.sleep(refusal.seconds)

    @contextlib.asynccontextmanager
    async def _counted(self, tokens: int) -> AsyncIterator[Used]:
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
            if getattr(error, "status_code", None) == NOT_FOUND:
                text = f"its server knows no such model or address: {meant.reason}"
                self._runtime.warn("model", text)
            raise meant from error
        else:
            self._runtime.warn("key", None)
            self._runtime.warn("model", None)
        finally:
            self._limiter.settle(tokens, used.tokens, time.monotonic(), today()[0])
            self._usage.add(used, failed)
            if used.tokens:
                self._runtime.count_tokens(input=used.read, cached=used.cached, output=used.written)
            if self._has_budget:
                self._ledger.write(Spent(self._limiter.day, self._limiter.spent))
            self._report()

    def _note(self, error: ModelError | Busy) -> None:
        """Show in `garrison status` that the key or the account does not work."""
        if isinstance(error, ModelError) and error.kind == "auth":
            self._runtime.warn("key", f"its key or account is refused: {error.reason}")

    def _report(self) -> None:
        self._runtime.report(**self._usage.facts(self._limiter.left))
