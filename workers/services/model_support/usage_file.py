"""Keeps a provider's usage: in a file of its own, and hour by hour in the database if there is one.

Durations are seconds.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import CallError, CallTimeout, Overloaded, ServiceLost, ServiceUnavailable
from garrison.workers import Log, Runtime

from .ledger import replace_file
from .usage import HOUR_S, Counts, Kept, Usage, UsageKey, Used, body_of, day_of

log = logging.getLogger(__name__)

FILE = "usage.json"
SAVED_AFTER_S = 2.0  # a process that is killed loses at most what it counted in this time
AFTER_HOUR_S = 5.0  # the end of an hour, until its rows are stored
STORE_S = 10.0  # for the storing of one row
RETRY_S = 60.0  # after a database that did not answer
LOG_TYPE = "model_usage"
AWAY = (ServiceUnavailable, ServiceLost, CallTimeout, Overloaded)  # the database, for now


class UsageKeeper:
    """Counts a provider's requests, and keeps the counts.

    Args:
        runtime: Of the provider.
        show: Called after each change, to show the day's counts.
    """

    def __init__(self, runtime: Runtime, show: Callable[[], None]) -> None:
        self._runtime, self._show = runtime, show
        self._path = runtime.data_folder / FILE
        self.usage = Usage(_read(self._path))
        self.usage.begin(present_hour())
        self._changed, self._is_saved = asyncio.Event(), True
        runtime.spawn(self._keep(), "usage", essential=False)

    @property
    def today(self) -> Counts:
        """Return the sums of the present day."""
        return self.usage.today

    def add(self, used: Used, failed: bool, cost: float | None) -> None:
        """Count a request of the method that runs: for its answer, if it is a part of one."""
        self.usage.add(self._key(), used, failed, cost)
        self._is_saved = False
        self._changed.set()
        self._show()

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows that are kept here, the oldest first."""
        name = self._runtime.name
        return [
            {
                "at": key.hour * HOUR_S,
                "agent": key.agent,
                "person": key.person,
                **body_of(name, key, self.usage.rows[key]),
            }
            for key in sorted(self.usage.rows)
        ]

    def days(self) -> list[dict[str, Any]]:
        """Return the sums of each day, the oldest first and the present one last."""
        self.usage.begin(present_hour())
        return [day_of(day, counts) for day, counts in self.usage.by_day()]

    def forget(self, source: str, person: str) -> int:
        """Count a person's requests with no one's; return how many rows that changed."""
        rows = self.usage.forget(source, person)
        self._is_saved = False
        self._save()
        return rows

    def _key(self) -> UsageKey:
        answer, caller = self._runtime.attribution, self._runtime.caller
        if answer is not None:
            return UsageKey(present_hour(), answer.agent, answer.source, answer.person)
        return UsageKey(present_hour(), caller.agent if caller is not None else "")

    # --- keeping ----------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Save what is counted; store the rows of hours that have ended."""
        wait = 0.0  # what an earlier process left
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                if self._changed.is_set():
                    await asyncio.sleep(SAVED_AFTER_S)
                self.usage.begin(present_hour())
                is_stored = await self._store()
                self._save()
                self._show()
                wait = _until_next_hour() if is_stored else RETRY_S
        finally:
            self._save()

    def _save(self) -> None:
        self._changed.clear()
        if self._is_saved:
            return
        self._is_saved = True
        try:
            replace_file(self._path, msgspec.json.encode(self.usage.kept()))
        except OSError as error:
            log.warning("usage.not_saved file=%s error=%s", self._path, error)

    async def _store(self) -> bool:
        """Store rows of ended hours in the database; False if that is to be tried again."""
        if not self._runtime.has_database:
            return True
        for key in self.usage.ended(present_hour()):
            counts = self.usage.rows[key]
            try:
                async with asyncio.timeout(STORE_S):
                    await self._store_row(key, counts)
            except (*AWAY, TimeoutError) as error:
                log.info("usage.not_stored error=%s", error)
                return False
            except CallError as error:  # it would be refused again
                log.warning("usage.refused hour=%d agent=%s error=%s", key.hour, key.agent, error)
            self.usage.rows.pop(key, None)
            self._is_saved = False
        return True

    async def _store_row(self, key: UsageKey, counts: Counts) -> None:
        """Store one row. It replaces its own, which a killed process may have stored."""
        name = self._runtime.name
        row = Log(
            id=key.id(name),
            type=LOG_TYPE,
            body=body_of(name, key, counts),
            entity_id=key.person,
            created_at=key.hour * HOUR_S,
        )
        agent = key.agent or None
        database = self._runtime.database_adapter
        await database.delete_log(row.id, agent_id=agent)
        await database.create_log(row, agent_id=agent)


def present_hour() -> int:
    """Return the number of the present hour."""
    return int(time.time() // HOUR_S)


def _until_next_hour() -> float:
    return HOUR_S - time.time() % HOUR_S + AFTER_HOUR_S


def _read(path: Path) -> Kept:
    """Return what is kept; nothing if there is no file, or a damaged one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.DecodeError) as error:
        log.warning("usage.unreadable file=%s counted from 0 error=%s", path, error)
        return Kept()
