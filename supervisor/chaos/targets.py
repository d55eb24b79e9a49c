"""The services of one run that still take faults: which are there, and which are back."""

import asyncio
from pathlib import Path
from typing import Any

from garrison.ipc.client import Client
from garrison.ipc.errors import CallError, ServiceUnavailable, SupervisorGone

from .load import ECHO, call_method
from .schedule import FaultSchedule

PROBE_S = 30.0  # of one call that shows whether a service is back
POLL_S = 0.1


class Targets:
    """The services of one run.

    Args:
        home: The host's home, for errors.
        client: Calls the services, and sees the directory.
        rows: What the supervisor reported of each.
        schedule: Takes no more faults for a service that is dropped.
        left_out: Collects sentences on services that are dropped.
    """

    def __init__(
        self,
        home: Path,
        client: Client,
        rows: list[dict[str, Any]],
        schedule: FaultSchedule,
        left_out: list[str],
    ) -> None:
        self._home, self._client = home, client
        self._schedule, self._left_out = schedule, left_out
        self._rows = {row["name"]: row for row in rows}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._rows[name]

    def names(self) -> list[str]:
        """Return the NAMEs of all targets."""
        return list(self._rows)

    def rows(self) -> list[dict[str, Any]]:
        """Return what the supervisor reported of each."""
        return list(self._rows.values())

    def wanted(self) -> list[str]:
        """Return the NAMEs of those that are wanted now."""
        return [name for name in self._rows if self._is_wanted(name)]

    def _is_wanted(self, name: str) -> bool:
        entry = self._client.directory.get(name)
        return entry is not None and entry.wanted

    def drop(self, name: str) -> None:
        """Leave a service alone from now on."""
        self._rows.pop(name, None)
        self._schedule.drop(name)

    def is_withdrawn(self, name: str) -> bool:
        """Return True if an operator stopped a service meanwhile. It is then left alone."""
        if self._is_wanted(name):
            return False
        if name in self._rows:
            self.drop(name)
            self._left_out.append(f"{name} from then on: it was stopped in mid-run")
        return True

    async def is_back(self, name: str, generation: int, until: float) -> bool:
        """Return True once a later incarnation answers; False if none does by then.

        Raises:
            SupervisorGone: The supervisor has ended.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := until - loop.time()) > 0:
            try:
                _, answering = await call_method(self._client, name, ECHO, (0,), min(left, PROBE_S))
            except ServiceUnavailable:  # stopped, or given up; an operator may start it again
                if not self._is_wanted(name):
                    return False
                await asyncio.sleep(POLL_S)
            except CallError:  # lost with the incarnation that was to end
                await asyncio.sleep(0)
            else:
                if answering > generation:
                    return True
                await asyncio.sleep(min(0.02, 0.001 + (loop.time() - began) / 10))
            if self._client.supervisor_gone:
                raise ended(self._home)
        return False

    async def all_back(self, names: list[str], until: float) -> list[str]:
        """Return those of the NAMEs that do not answer by then."""
        back = await asyncio.gather(*(self.is_back(name, 0, until) for name in names))
        return [name for name, is_back in zip(names, back, strict=True) if not is_back]


def ended(home: Path) -> SupervisorGone:
    """Return the error for a supervisor that has ended."""
    return SupervisorGone(str(home), "it has ended in mid-run; start one with: garrison up")
