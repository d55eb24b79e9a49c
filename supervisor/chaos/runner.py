"""One run of `garrison chaos`: injects faults by the schedule, while calls and posts go on.

Durations are seconds.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from garrison.ipc import mail, socket_paths
from garrison.ipc.client import Client
from garrison.ipc.connection import connect
from garrison.ipc.errors import (
    GarrisonError,
    InvalidCall,
    OrderFailed,
    ServiceLost,
    ServiceUnavailable,
    SupervisorGone,
)
from garrison.ipc.system import process_tree

from .faults import NotBack, Outcome, Recovered, WorkerFaults
from .load import ECHO, LoadCaller, PostTraffic, call_method, watch_loop
from .observe import IncarnationHistory, exclusive
from .results import Stalls, Tally, takers_of
from .schedule import HOST, FaultSchedule, PlannedFault
from .supervisor_fault import STATUS_S, SupervisorFault
from .targets import POLL_S, PROBE_S, Targets, ended

REMAINS_S = 5.0  # for the processes of ended incarnations to be gone from /proc
DOWN_S = 30.0  # for a stopping host to be gone
SETTLE_S = 3.0  # for the supervisor's descriptors to be as before
LEAK_SHARE = 0.5  # of the available memory, at most
WARM_SHARE = 0.25  # of the run, at most: what is allocated once is allocated by then


@dataclass(slots=True)
class RunOptions:
    """What a run is to do."""

    home: Path
    names: tuple[str, ...]
    faults: tuple[PlannedFault, ...]
    total: int | None  # faults
    seconds: float | None
    callers: int
    within: float  # for a service to be back, after its watchdog


@dataclass(slots=True)
class RunReport:
    """What a run has found so far; `announce` is called before the first fault."""

    announce: Callable[["RunReport"], None]
    targets: list[str] = field(default_factory=list)
    takers: dict[PlannedFault, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    mail: bool = False
    seconds: float = 0.0
    interrupted: bool = False
    tally: Tally = field(default_factory=Tally)


async def run(options: RunOptions, report: RunReport, stop: asyncio.Event) -> None:
    """Inject faults until the options are met, or `stop` is set; fill the report.

    Raises:
        OrderFailed: The host does not allow it, or there is no service to break.
        SupervisorGone: There is no supervisor, or it has ended.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(options.home))
        host = await client.order("chaos", options.names)
        await _check_namespace(client)
        if not stack.enter_context(exclusive(socket_paths.run_folder(options.home))):
            raise OrderFailed("failed", "another `garrison chaos` is under way in this home")
        rows = _running(options, report, host["services"])
        await _check_ready(client, rows)
        _choose(options, report, rows)
        report.announce(report)
        callers = [
            await stack.enter_async_context(connect(options.home)) for _ in range(options.callers)
        ]
        await Run(options, report, host, rows, client, stop).all(callers)


async def _check_namespace(client: Client) -> None:
    """Check that the pids of the host mean the same here: this run follows its processes."""
    head = (await client.order("status"))["supervisor"]
    if not process_tree.is_pid_namespace(head.get("pid_namespace", 0)):
        text = (
            "the host runs in another PID namespace, where its processes cannot be followed: run "
            "this command inside it, for instance with docker exec"
        )
        raise OrderFailed("failed", text)


def _running(
    options: RunOptions, report: RunReport, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    running = [row for row in rows if row["state"] == "running"]
    for row in rows:
        if row in running:
            continue
        if options.names:
            text = f"{row['name']} is {row['state']}; only a running service takes faults"
            raise OrderFailed("failed", text)
        report.left_out.append(f"{row['name']} is {row['state']}")
    if not running:
        raise OrderFailed("failed", "no service runs, so no service can take faults")
    return running


async def _check_ready(client: Client, rows: list[dict[str, Any]]) -> None:
    """Check that each answers: a worker that was started before chaos was allowed cannot."""
    for row in rows:
        try:
            await call_method(client, row["name"], ECHO, (0,), PROBE_S)
        except (ServiceLost, ServiceUnavailable):
            continue  # it ended just now; the first fault finds out whether it comes back
        except InvalidCall:
            text = (
                f"{row['name']} was started before `chaos = true` was set; first run: "
                f"garrison restart {row['name']}"
            )
            raise OrderFailed("failed", text) from None


def _choose(options: RunOptions, report: RunReport, rows: list[dict[str, Any]]) -> None:
    report.targets = [row["name"] for row in rows]
    for fault in options.faults:
        if fault is PlannedFault.SUPERVISOR:
            report.takers[fault] = [HOST]
            continue
        room = psutil.virtual_memory().available * LEAK_SHARE
        names, left_out = takers_of(fault, rows, room)
        report.left_out += left_out
        if names:
            report.takers[fault] = names
    if not report.takers:
        why = "; ".join(report.left_out)
        raise OrderFailed("failed", f"none of these services takes any of these faults: {why}")


class Run:
    """The faults of one run, and what is measured of each."""

    def __init__(
        self,
        options: RunOptions,
        report: RunReport,
        host: dict[str, Any],
        rows: list[dict[str, Any]],
        client: Client,
        stop: asyncio.Event,
    ) -> None:
        self._options, self._report, self._client = options, report, client
        self._tally, self._stop = report.tally, stop
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._schedule = FaultSchedule(report.takers, options.total, self._began)
        self._history = IncarnationHistory()
        home, within, tally = options.home, options.within, report.tally
        self._targets = Targets(home, client, rows, self._schedule, report.left_out)
        self._workers = WorkerFaults(client, self._targets, self._history, tally, within)
        self._supervisor = SupervisorFault(home, host, client, self._targets, tally, within)
        self._over = asyncio.Event()  # set when a fault is over
        self._faults: set[asyncio.Task[None]] = set()
        self._stalls = Stalls()
        self._warm = False
        self._failure: Exception | None = None  # why no fault can follow
        client.on_service_change(self._note_incarnation)
        for name in self._targets.names():
            self._note_incarnation(name)

    def _note_incarnation(self, name: str) -> None:
        entry = self._client.directory.get(name)
        if entry is not None:
            self._history.seen(entry.token)

    async def all(self, clients: Sequence[Client]) -> None:
        """Inject, call and post; return when all of it has ended and was counted."""
        names, calm = self._targets.names(), asyncio.Event()
        mail = self._mail()
        self._report.mail = mail is not None
        callers = [LoadCaller(client, names, self._tally, self._stalls) for client in clients]
        endless = [asyncio.create_task(watch_loop(self._stalls))]
        work = [asyncio.create_task(caller.run(calm)) for caller in callers]
        if mail is not None:
            mail.remove_former()
            work.append(asyncio.create_task(mail.post(calm)))
            endless.append(asyncio.create_task(mail.keep_reading()))
        try:
            await self._measure(before=True)
            await self._inject_all()
            self._report.seconds = self._loop.time() - self._began
            calm.set()
            if self._failure is not None:
                raise self._failure
            await asyncio.gather(*work)
            if mail is not None:
                await mail.all_delivered(self._options.within)
            await self._measure(before=False)
            if self._failure is not None:
                raise self._failure
            await self._find_orphans()
        finally:
            for task in (*endless, *work, *self._faults):
                task.cancel()
            await asyncio.gather(*endless, *work, *self._faults, return_exceptions=True)
            if mail is not None:
                mail.remove()

    def _mail(self) -> PostTraffic | None:
        mailbox = self._client.entry_of(mail.MAILBOX)
        receivers = [
            row
            for row in self._targets.rows()
            if (entry := self._client.directory.get(row["name"])) is not None
            and entry.manifest.service_type != mail.MAILBOX
        ]
        if mailbox is None or not mailbox.wanted or not receivers:
            return None
        return PostTraffic(self._client, secrets.token_hex(4), receivers, self._tally)

    # --- faults -----------------------------------------------------------------------------

    async def _inject_all(self) -> None:
        while not self._is_done():
            if self._is_to_be_measured():
                if not self._schedule.busy:
                    await self._measure(before=True)
                    self._warm = True
                    continue
            else:
                while (begun := self._schedule.next(self._loop.time())) is not None:
                    task = asyncio.create_task(self._one(*begun))
                    self._faults.add(task)
                    task.add_done_callback(self._faults.discard)
            self._over.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._over.wait()
        self._report.interrupted = self._stop.is_set()
        while self._faults:
            await asyncio.wait(self._faults)
        # No target is left, and not because one was not back: operators stopped all of them.
        if self._failure is None and not len(self._targets) and not self._tally.not_back:
            self._failure = OrderFailed("failed", "every service was stopped in mid-run")
            if await self._is_stopping():
                self._failure = ended(self._options.home)

    def _is_to_be_measured(self) -> bool:
        """Return True if the warm-up is over, and the memory was not measured since."""
        warm, seconds = len(self._targets), self._options.seconds
        if self._options.total is not None:
            warm = min(warm, int(self._options.total * WARM_SHARE))
        elapsed = self._loop.time() - self._began
        quarter_over = seconds is not None and elapsed >= WARM_SHARE * seconds
        return not self._warm and (self._schedule.begun >= warm or quarter_over)

    def _is_done(self) -> bool:
        if self._client.supervisor_gone and self._failure is None:
            self._failure = ended(self._options.home)
        if self._stop.is_set() or self._failure is not None or self._schedule.spent:
            return True
        seconds = self._options.seconds
        return seconds is not None and self._loop.time() - self._began >= seconds

    async def _is_stopping(self) -> bool:
        """Return True once a host that stops is gone; False if it does not stop."""
        until = self._loop.time() + DOWN_S
        while not self._client.supervisor_gone and self._loop.time() < until:
            try:
                head = (await self._client.order("status", timeout=STATUS_S))["supervisor"]
            except GarrisonError:  # it may have gone meanwhile
                head = {"stopping": True}
            if not head["stopping"]:
                return False
            await asyncio.sleep(POLL_S)
        return self._client.supervisor_gone

    async def _one(self, fault: PlannedFault, name: str) -> None:
        try:
            if fault is PlannedFault.SUPERVISOR:
                self._record(fault, name, await self._supervisor.inject())
                await self._measure(before=True)
            else:
                self._record(fault, name, await self._workers.inject(fault, name))
        except (SupervisorGone, OSError) as error:
            if self._failure is None:  # the supervisor fault's own text says more than `ended`
                gone = isinstance(error, SupervisorGone) and fault is not PlannedFault.SUPERVISOR
                self._failure = ended(self._options.home) if gone else error
        except GarrisonError as error:
            self._record(fault, name, NotBack(str(error)))
        finally:
            self._schedule.ended(name, self._loop.time())
            self._over.set()

    def _record(self, fault: PlannedFault, name: str, outcome: Outcome) -> None:
        match outcome:
            case Recovered(seconds):
                self._tally.recovered(fault, name, seconds)
            case NotBack(reason):
                self._tally.failed(f"{fault.value} of {name or 'the supervisor'}: {reason}")
                self._targets.drop(name)
            case None:
                pass

    # --- remains ----------------------------------------------------------------------------

    async def _measure(self, before: bool) -> None:
        """Measure the supervisor; at the end, once its descriptors are as before, or a while
        later."""
        growth, until = self._tally.growth, self._loop.time() + SETTLE_S
        while True:
            try:
                head = (await self._client.order("status"))["supervisor"]
            except SupervisorGone:
                self._failure = self._failure or ended(self._options.home)
                return
            memory, descriptors = head["rss_bytes"], head["descriptors"]
            if before:
                growth.memory_before, growth.descriptors_before = memory, descriptors
            growth.memory, growth.descriptors = memory, descriptors
            if descriptors <= growth.descriptors_before or self._loop.time() >= until:
                return
            await asyncio.sleep(POLL_S)

    async def _find_orphans(self) -> None:
        """Count the processes of ended incarnations, after some time for them to end."""
        until = self._loop.time() + REMAINS_S
        while True:
            current = [entry.token for entry in self._client.directory if entry.token]
            left = await asyncio.to_thread(self._history.left, current)
            if not left or self._loop.time() >= until:
                break
            await asyncio.sleep(POLL_S)
        self._tally.orphans = len(left)
        for pid in left:
            self._tally.note(f"process {pid} is left of an incarnation that has ended")
