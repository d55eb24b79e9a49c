"""Injects one fault into a worker, and waits until it is over. Durations are seconds."""

import asyncio
from dataclasses import dataclass
from typing import Any

from garrison.ipc.client import Client
from garrison.ipc.errors import CallError, OrderFailed

from .load import call_method
from .observe import IncarnationHistory
from .results import Tally, listed
from .schedule import PlannedFault
from .targets import POLL_S, Targets

FLOOD_S = 2.0  # of one flood


@dataclass(frozen=True, slots=True)
class Recovered:
    """The services answered again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class NotBack:
    """A service did not answer in time."""

    reason: str


Outcome = Recovered | NotBack | None  # None: an operator stopped the service


class WorkerFaults:
    """Injects faults into workers.

    Args:
        client: Sends the orders and the calls.
        targets: The services of the run.
        history: Notes the process of each incarnation that is to end.
        tally: Notes problems.
        within: For a service to be back, after its watchdog if that has to end it.
    """

    def __init__(
        self,
        client: Client,
        targets: Targets,
        history: IncarnationHistory,
        tally: Tally,
        within: float,
    ) -> None:
        self._client, self._targets, self._history = client, targets, history
        self._tally, self._within = tally, within
        self._loop = asyncio.get_running_loop()

    async def inject(self, fault: PlannedFault, name: str) -> Outcome:
        """Inject a fault; return once it is over, or did not pass in time."""
        return await (self._flood(name) if fault is PlannedFault.FLOOD else self._end(fault, name))

    async def _end(self, fault: PlannedFault, name: str) -> Outcome:
        row = self._targets[name]
        worker = await self._order(fault, name)
        if worker is None:
            return None
        self._history.harmed(worker["pid"], worker["ticks"])
        began = self._loop.time()
        within = self._within
        if fault in {PlannedFault.HANG, PlannedFault.STOP}:
            within += row["watchdog"]
        harming = self._call(fault, row)
        try:
            if await self._targets.is_back(name, worker["generation"], began + within):
                return Recovered(self._loop.time() - began)
        finally:
            if harming is not None:
                harming.cancel()
        if self._targets.is_withdrawn(name):
            return None
        return NotBack(await self._reason(name, worker["generation"], within))

    async def _order(self, fault: PlannedFault, name: str) -> dict[str, Any] | None:
        """Have the supervisor begin a fault; return the worker, or None if it was withdrawn.

        A service may not run just now: another took it along, an operator restarted it, or it
        failed by itself. It has as long to be back as one that was broken here.
        """
        until = self._loop.time() + self._within
        while True:
            try:
                worker: dict[str, Any] = await self._client.order(
                    "fault", (name,), kind=fault.value
                )
            except OrderFailed:
                if self._targets.is_withdrawn(name):
                    return None
                if self._loop.time() >= until:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return worker

    def _call(self, fault: PlannedFault, row: dict[str, Any]) -> asyncio.Future[Any] | None:
        """Call the method by which a worker breaks itself. The call's own end does not matter."""
        if fault is PlannedFault.HANG:
            method, argument = "$chaos_hang", 3 * row["watchdog"] + 10.0
        elif fault is PlannedFault.LEAK:
            method, argument = "$chaos_leak", 2 * row["memory_max"]
        else:
            return None
        call = call_method(self._client, row["name"], method, (argument,), 3600.0)
        harming = asyncio.ensure_future(call)
        harming.add_done_callback(lambda done: done.cancelled() or done.exception())
        return harming

    async def _reason(self, name: str, generation: int, within: float) -> str:
        """Return why a service is not back."""
        row = (await self._client.order("status", (name,)))["services"][0]
        why = f": {row['reason']}" if row["reason"] else ""
        if row["generation"] == generation and row["state"] == "running":
            why = ": nothing has ended it"
        return f"it was not back within {within:g} s; it is {row['state']}{why}"

    async def _flood(self, name: str) -> Outcome:
        names = self._targets.names()
        victim = names[(names.index(name) + 1) % len(names)]
        worker = await self._client.order("fault", (name,), kind=PlannedFault.FLOOD.value)
        limit = FLOOD_S + self._within
        try:
            await call_method(self._client, name, "$chaos_flood", (victim, FLOOD_S), limit)
        except CallError as error:
            self._tally.note(f"the flood by {name} ended as: {error}")
        began = self._loop.time()
        away = await self._targets.all_back(self._targets.wanted(), began + self._within)
        away = [one for one in away if not self._targets.is_withdrawn(one)]
        if not away:
            return Recovered(self._loop.time() - began)
        text = f"{listed(away)} did not answer within {self._within:g} s after its end"
        return NotBack(f"generation {worker['generation']}: {text}")
