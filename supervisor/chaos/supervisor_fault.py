"""Kills the supervisor, has another one started, and waits until that has adopted the workers.

Durations are seconds.
"""

import asyncio
import contextlib
import subprocess
from pathlib import Path
from typing import Any

from garrison.ipc import socket_paths
from garrison.ipc.client import Client
from garrison.ipc.errors import SupervisorGone

from .faults import NotBack, Outcome, Recovered
from .observe import StartCommand, kill, start_again, start_command
from .results import Tally
from .targets import POLL_S, Targets

KILLED_S = 5.0  # for a killed supervisor to be gone
RESTARTED_S = 8.0  # for systemd to start it again
STATUS_S = 2.0  # for an answer to `status`


class SupervisorFault:
    """Kills the supervisor, any number of times.

    Args:
        home: The host's home.
        host: What the supervisor reported of itself: `logs`, `orphan_grace_s`.
        client: Sends the orders.
        targets: The services of the run.
        tally: Counts the services that did not outlive the supervisor.
        within: For every service to answer under the next supervisor.
    """

    def __init__(
        self,
        home: Path,
        host: dict[str, Any],
        client: Client,
        targets: Targets,
        tally: Tally,
        within: float,
    ) -> None:
        self._home, self._host, self._client = home, host, client
        self._targets, self._tally, self._within = targets, tally, within
        self._loop = asyncio.get_running_loop()
        self._children: list[subprocess.Popen[bytes]] = []  # supervisors that were started here

    async def inject(self) -> Outcome:
        """Kill the supervisor; return once every service answers under the next one.

        Raises:
            SupervisorGone: No other supervisor has settled in time.
        """
        before = await self._client.order("status")
        head = before["supervisor"]
        command = start_command(head["pid"])
        began = self._loop.time()
        if not kill(head["pid"], KILLED_S):  # no await between this and the next supervisor's start
            return NotBack("the kernel did not end it")
        await self._ensure_started(command)
        until = began + self._within
        after = await self._settled(head["boot"], until)
        if after is None:
            text = f"no other has settled within {self._within:g} s; see its supervisor.log"
            raise SupervisorGone(str(self._home), text)
        running = {row["name"] for row in before["services"] if row["state"] == "running"}
        names = [name for name in self._targets.wanted() if name in running]
        away = await self._targets.all_back(names, until)
        seconds = self._loop.time() - began
        self._count_restarted(before, after)
        self._tally.growth.restarted = True
        return NotBack("not every service answered afterwards") if away else Recovered(seconds)

    async def _ensure_started(self, command: StartCommand) -> None:
        restarted = False
        try:
            if command.watched:
                limit = min(RESTARTED_S, self._host["orphan_grace_s"] / 2)
                restarted = await self._is_restarted(limit)
        finally:  # also if this is cancelled: workers without a supervisor end
            if not restarted:
                log = Path(self._host["logs"]) / "supervisor.log"
                self._children.append(start_again(command, log))

    async def _is_restarted(self, seconds: float) -> bool:
        """Return True once another process, as systemd, has started the supervisor again."""
        control = socket_paths.control_path(socket_paths.run_folder(self._home))
        until = self._loop.time() + seconds
        while self._loop.time() < until:
            try:
                socket_paths.check_listening(control)
            except SupervisorGone:
                if socket_paths.is_starting(control):
                    return True
                await asyncio.sleep(POLL_S)
            else:
                return True
        return False

    async def _settled(self, boot: str, until: float) -> dict[str, Any] | None:
        """Return the status under the next supervisor once it has settled; None if too late."""
        while self._loop.time() < until and not self._client.supervisor_gone:
            self._children = [child for child in self._children if child.poll() is None]
            if self._client.boot != boot:
                with contextlib.suppress(SupervisorGone):
                    status: dict[str, Any] = await self._client.order("status", timeout=STATUS_S)
                    if status["supervisor"]["settled"]:
                        return status
            await asyncio.sleep(0.01)
        return None

    def _count_restarted(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        pids = {row["name"]: row["pid"] for row in after["services"]}
        for row in before["services"]:
            if row["state"] == "running" and pids.get(row["name"]) != row["pid"]:
                self._tally.restarted += 1
                self._tally.note(f"{row['name']} did not outlive the supervisor")
