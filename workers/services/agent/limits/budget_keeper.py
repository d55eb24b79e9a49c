"""Keeps the agent's budgets: reserves uses of models, and writes what is spent beside the record.

Durations are seconds.
"""

import asyncio
import hashlib
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from garrison.ipc import GarrisonError
from garrison.workers import Attribution, BudgetGrant, BudgetNeed, BudgetSpent, Memory, Runtime

from ..config import Config
from ..record.rows import MessageState
from .budgets import MICROS, BudgetConfig, Budgets, Key, Refused, Request, Row, Scope
from .no_answer import NoAnswer

log = logging.getLogger(__name__)

T = TypeVar("T")

DAY_S = 86_400
ID_MOST = 200  # characters of an id that travels; of a longer one its hash does
WARNING = "budget"
UNLIMITED = "unlimited"  # id of a use that nothing was reserved for

TABLE = """CREATE TABLE IF NOT EXISTS budgets (
    scope TEXT NOT NULL, id BLOB NOT NULL, day INTEGER NOT NULL,
    tokens INTEGER NOT NULL, micros INTEGER NOT NULL,
    tokens_reserved INTEGER NOT NULL, micros_reserved INTEGER NOT NULL, told INTEGER NOT NULL,
    PRIMARY KEY (scope, id)) WITHOUT ROWID"""
INSERT = "INSERT OR REPLACE INTO budgets VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Store(Protocol):
    """Where budgets are written."""

    def execute(self, operation: Callable[[sqlite3.Cursor], T]) -> asyncio.Future[T]:
        """Run an operation in a transaction."""
        ...


class BudgetKeeper:
    """The agent's budgets; without any in the config, uses are attributed but not limited.

    Args:
        runtime: The agent's.
        config: Its config.
        store: Where they are written.
        show: Shows numbers in `garrison status`.
    """

    def __init__(
        self, runtime: Runtime, config: Config, store: Store, show: Callable[..., None]
    ) -> None:
        self._runtime, self._config, self._store, self._show = runtime, config, store, show
        limits = config.budget or BudgetConfig()
        self._has_limits = bool(limits.limits)
        self._at_limit, self._most = limits.at_limit, config.senders
        self._budgets = Budgets(limits, self._most)
        self._limits, self._refused, self._is_written = limits, 0, True
        self._reached = 0  # the day for which it is reported that the budget is used up

    async def load(self) -> None:
        """Read what earlier processes have used today."""
        if not self._has_limits:
            return
        day, _ = today()
        rows = await self._store.execute(lambda at: _read(at, day))
        self._budgets = Budgets(self._limits, self._most, day, rows)
        self._report()

    def attribution(self, memory: Memory, task: str = "") -> Attribution:
        """Return what the answer to a message is counted for."""
        keeper = self._runtime.name if self._has_limits else ""
        ids = (memory.content.source, memory.room_id, memory.entity_id, task)
        return Attribution(self._runtime.agent, keeper, *map(_short, ids))

    # --- uses of models ---------------------------------------------------------------------

    async def reserve_use(self, attribution: Attribution, need: BudgetNeed) -> BudgetGrant:
        """Reserve a use of a model; `settle_use` must follow."""
        if not self._has_limits:  # a task's: its service does not know whether there are any
            return BudgetGrant(UNLIMITED, need.written)
        day, left_of_day = today()
        request = Request(need.read, need.written, need.can_shrink, need.model_type)
        reserved = self._budgets.reserve(attribution, request, day, time.monotonic())
        if isinstance(reserved, Refused):
            self._refused += 1
            if reserved.scope is Scope.AGENT:
                problem = f"the agent's budget is used up: {self._in_words()}"
                self._runtime.warn(WARNING, problem)
                if day != self._reached:
                    self._reached = day
                    self._runtime.incident("budget.reached", problem)
            self._report()
            return BudgetGrant(limit=reserved.scope.value, seconds=left_of_day)
        self._runtime.warn(WARNING, None)
        await self._write(reserved.keys)
        return BudgetGrant(reserved.id, reserved.written, reserved.smaller)

    async def settle_use(self, id: str, tokens: int | None, cost: float | None) -> None:
        """Count what a use has taken."""
        if id == UNLIMITED:
            return
        micros = None if cost is None else math.ceil(cost * MICROS)
        changed = self._budgets.settle(id, tokens, micros)
        self._report()
        if changed:
            await self._write(changed)

    async def no_answer(self, memory: Memory, error: BudgetSpent) -> NoAnswer:
        """Return that a message gets no answer; its sender is told, once a day in a pause."""
        text, scope = self._config.budget_text, Scope(error.limit)
        key = self._budgets.tell(self.attribution(memory), scope)
        if key is not None:
            await self._write([key])
        elif self._at_limit == "pause":
            text = ""
        return NoAnswer(MessageState.DROPPED, scope.value, text, str(error))

    # --- the file ---------------------------------------------------------------------------

    async def _write(self, keys: Iterable[Key]) -> None:
        """Write rows; return once they are on disk. Where that fails, memory alone counts."""
        budgets = self._budgets
        day = budgets.day
        rows = [_values(key, budgets.rows[key], day) for key in keys]
        try:
            await self._store.execute(lambda at: _replace(at, rows, day))
        except (sqlite3.Error, GarrisonError) as error:
            if self._is_written:
                log.warning("budget.not_written it counts in memory alone; error=%s", error)
            self._is_written = False
        else:
            self._is_written = True

    def _report(self) -> None:
        tokens, money = self._budgets.left()
        facts = {"budget_left": tokens, "cost_left": money, "over_budget": self._refused or None}
        facts["budget_used"] = self._budgets.used_ratio()
        self._show(**{name: float(one) for name, one in facts.items() if one is not None})

    def _in_words(self) -> str:
        what = {"degrade": "it answers no more", "pause": "it is silent", "say": "it says so"}
        return f"{what[self._at_limit]} until 00:00 UTC"


def today() -> tuple[int, float]:
    """Return the present day, and the seconds until the next one."""
    now = time.time()
    return int(now // DAY_S), DAY_S - now % DAY_S


def _short(id: str) -> str:
    if len(id) <= ID_MOST:
        return id
    return hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read(at: sqlite3.Cursor, day: int) -> dict[Key, Row]:
    at.execute(TABLE)
    at.execute("DELETE FROM budgets WHERE day < ?", (day,))
    found = at.execute(
        "SELECT scope, id, tokens, micros, tokens_reserved, micros_reserved, told FROM budgets"
    )
    scopes = {scope.value: scope for scope in Scope}
    return {
        Key(scopes[scope], bytes(id)): Row(tokens, micros, held_tokens, held_micros, bool(told))
        for scope, id, tokens, micros, held_tokens, held_micros, told in found
        if scope in scopes
    }


def _values(key: Key, row: Row, day: int) -> tuple[object, ...]:
    numbers = (row.tokens, row.micros, row.tokens_reserved, row.micros_reserved)
    return (key.scope.value, key.id, day, *numbers, int(row.told))


def _replace(at: sqlite3.Cursor, rows: list[tuple[object, ...]], day: int) -> None:
    at.execute("DELETE FROM budgets WHERE day < ?", (day,))
    at.executemany(INSERT, rows)
