"""Looks for due tasks, and claims as many as may run."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from garrison.ipc import CallError
from garrison.workers import Runtime, Task

from .leases import Leases
from .runner import Runner
from .scopes import CLAIM, Listed, Scope, scopes
from .steadiness import Steadiness
from .store import Store

log = logging.getLogger(__name__)

COALESCE_S = 0.002  # tasks that end at about the same time are followed by one claim
ORPHANS_S = 10.0  # between looks for due tasks that no worker runs
ORPHANS_MOST = 200  # of them that are looked at
FAILED_S = 1.0  # after a claim failed
LEAST_WAIT_S = 0.01


class Claimer:
    """Claims due tasks of all scopes in turn, so that no agent's backlog delays another's.

    Args:
        runtime: The task service's.
        leases: Those that it holds.
        runner: Runs what is claimed.
        steadiness: Whether services have run for long enough.
        owner: This runner, in leases.
        concurrency: Tasks that run at the same time.
        poll: Seconds between looks for due tasks.
    """

    def __init__(
        self,
        runtime: Runtime,
        leases: Leases,
        runner: Runner,
        steadiness: Steadiness,
        owner: str,
        concurrency: int,
        poll: float,
    ) -> None:
        self._runtime, self._leases, self._runner = runtime, leases, runner
        self._steadiness, self._owner = steadiness, owner
        self._concurrency, self._poll = concurrency, poll
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._due = math.inf  # when a task that ended here is due again, in the loop's time
        self._scopes: list[Scope] | None = None  # None: something changed
        self._stores: dict[tuple[str, str], Store] = {}
        self._released: set[tuple[str, str]] = set()  # stores whose former leases were released
        self._next_look = 0.0  # for tasks without a worker
        self._turn = 0  # which scope is first
        self.is_ending = False

    def wake(self) -> None:
        """Look for due tasks at once."""
        self._wake.set()

    def ended(self, delay: float | None) -> None:
        """Note the end of a run, and when its task is due again."""
        if delay is not None:
            self._due = min(self._due, self._loop.time() + delay)
        self._loop.call_later(COALESCE_S, self._wake.set)

    def changed(self) -> None:
        """Note that a service changed."""
        self._scopes = None
        self._wake.set()

    async def run_forever(self) -> None:
        """Claim and begin tasks, until the service ends."""
        while not self.is_ending:
            self._wake.clear()
            if self._runtime.paused:
                await self._wake.wait()  # `changed` follows when it is resumed
                continue
            wait = await self._fill()
            try:
                async with asyncio.timeout(max(wait, LEAST_WAIT_S)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def scopes(self) -> list[Scope]:
        """Return the scopes, as the directory has them."""
        if self._scopes is None:
            client = self._runtime.client
            listed = [
                Listed(
                    entry.name,
                    entry.agent,
                    entry.manifest.service_type,
                    entry.wanted,
                    any(method.name == CLAIM for method in entry.manifest.methods),
                    entry.manifest.task_workers,
                )
                for entry in client.directory
            ]
            self._scopes = scopes(listed, self._runtime.agent)
            for scope in self._scopes:
                self._runtime.warn(f"store of {scope.agent}", scope.problem or None)
        return self._scopes

    def store(self, scope: Scope) -> Store:
        """Return the store of a scope."""
        key = scope.agent, scope.store
        if key not in self._stores:
            self._stores[key] = Store(self._runtime, scope.store, scope.agent, self._owner)
        return self._stores[key]

    async def _fill(self) -> float:
        """Claim tasks while there are free places and due tasks; return how long to wait then."""
        found = [scope for scope in self.scopes() if not scope.problem]
        self._turn += 1
        shift = self._turn % len(found) if found else 0
        wait = self._poll
        if self._due <= self._loop.time():
            self._due = math.inf
        more = True
        while more and not self.is_ending:
            more = False
            for scope in found[shift:] + found[:shift]:
                free = self._concurrency - len(self._leases.held)
                if free <= 0:
                    return self._poll
                ready, scope_wait = self._ready(scope)
                wait = min(wait, scope_wait)
                share = max(free // len(found), 1)
                claimed = await self._claim(scope, ready, share)
                if claimed is None:
                    wait = min(wait, FAILED_S)
                else:
                    more = more or claimed == share
        await self._look_for_orphans(found)
        return min(wait, max(self._due - self._loop.time(), 0.0))

    def _ready(self, scope: Scope) -> tuple[dict[str, str], float]:
        """Return which tasks may be started, each name with its service, and when to look again."""
        now, ready, wait = self._loop.time(), dict[str, str](), math.inf
        for name, services in scope.workers.items():
            waits = [(self._steadiness.wait(service, now), service) for service in services]
            free = [
                service
                for seconds, service in waits
                if seconds <= 0 and self._runtime.client.generation_of(service)  # not paused
            ]
            if free:
                ready[name] = free[0]
            wait = min([wait, *(seconds for seconds, _ in waits if seconds > 0)])
        return ready, wait

    async def _claim(self, scope: Scope, ready: dict[str, str], limit: int) -> int | None:
        """Claim tasks and begin them; return how many, or None where that failed."""
        if not ready:
            return 0
        store, began = self.store(scope), self._loop.time()
        try:
            await self._release(store)
            claimed = await store.claim(self._leases.seconds, limit, list(ready))
        except CallError as error:
            text = f"{scope.store} gives no tasks: {error}"
            self._runtime.warn(f"claims of {scope.agent}", text)
            log.warning("task.no_claim store=%s agent=%s error=%s", store.name, store.agent, error)
            return None
        self._runtime.warn(f"claims of {scope.agent}", None)
        for task in claimed:
            self._runner.begin(store, task, ready[task.name], began)
        return len(claimed)

    async def _release(self, store: Store) -> None:
        """Before the first claim, make pending what a former process of this service held."""
        key = store.agent, store.name
        if key not in self._released:
            count = await store.release()
            self._released.add(key)
            if count:
                log.info("task.released agent=%s count=%d", store.agent or "-", count)

    async def release_all(self) -> None:
        """Give up the leases of all stores. Raises CallError."""
        await asyncio.gather(
            *(store.release() for key, store in self._stores.items() if key in self._released)
        )

    async def _look_for_orphans(self, found: Iterable[Scope]) -> None:
        """Warn of due tasks that no worker runs."""
        now = self._loop.time()
        if now < self._next_look:
            return
        self._next_look = now + ORPHANS_S
        query: dict[str, Any] = {"status": "pending", "tags": ["queue"], "limit": ORPHANS_MOST}
        query["scheduled_for"] = {"$lte": time.time()}
        for scope in found:
            try:
                due = await self.store(scope).select(query)
            except CallError as error:
                log.debug("task.no_look agent=%s error=%s", scope.agent, error)
                continue
            warn_of(self._runtime.warn, scope, due)


def warn_of(warn: Callable[[str, str | None], None], scope: Scope, due: Iterable[Task]) -> None:
    """Show which due tasks of an agent have no worker."""
    counts: dict[str, int] = {}
    for task in due:
        if task.name not in scope.workers:
            counts[task.name] = counts.get(task.name, 0) + 1
    of = f" of {scope.agent}" if scope.agent else ""
    shown = ", ".join(f"{name} ({count} due)" for name, count in sorted(counts.items()))
    text = f"no worker is registered for these tasks{of}: {shown}" if shown else None
    warn(f"orphans of {scope.agent}", text)
