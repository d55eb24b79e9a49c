"""One run of `garrison chaos`: faults are injected as the plan says, while calls and posts go on.

Durations are seconds.
"""

import asyncio
import contextlib
import secrets
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from garrison.ipc import mail, sockets
from garrison.ipc.client import Client, connect
from garrison.ipc.errors import (
    CallError,
    GarrisonError,
    InvalidCall,
    OrderFailed,
    ServiceLost,
    ServiceUnavailable,
    SupervisorGone,
)

from .load import ECHO, Caller, PostTraffic, asked, watch_loop
from .observe import IncarnationHistory, alone, begin_again, how_it_began, kill
from .results import Stalls, Tally, listed, who_takes
from .schedule import HOST, Fault, FaultSchedule

PROBE_S = 30.0  # for one call that shows whether a service is back
LOOK_S = 0.1
FLOOD_S = 2.0  # of one flood
KILLED_S = 5.0  # for a killed supervisor to be gone
KEPT_S = 8.0  # for systemd to start it again
LEFT_S = 5.0  # for what is over to be gone from /proc
DOWN_S = 30.0  # for a host on its way down to be gone
SETTLE_S = 3.0  # for the supervisor's descriptors to be as before
LEAK_SHARE = 0.5  # of the memory that is available, at the most
WARM_SHARE = 0.25  # of the run, at the most: what is allocated once is allocated by then


@dataclass(slots=True)
class RunOptions:
    """What a run is to be."""

    home: Path
    names: tuple[str, ...]
    faults: tuple[Fault, ...]
    total: int | None  # faults
    seconds: float | None
    callers: int
    within: float  # for a service to be back, beyond its watchdog


@dataclass(slots=True)
class RunReport:
    """What a run found, and who is told how far it is."""

    announce: Callable[["RunReport"], None]
    targets: list[str] = field(default_factory=list)
    takers: dict[Fault, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    mail: bool = False
    seconds: float = 0.0
    interrupted: bool = False
    tally: Tally = field(default_factory=Tally)


async def run(wish: RunOptions, scene: RunReport, stop: asyncio.Event) -> None:
    """Injure a host until what was wished is done, or `stop` is set; count all of it in the scene.

    Raises:
        OrderFailed: The host does not allow it, or there is nobody to injure.
        SupervisorGone: There is no supervisor, or none any more.
    """
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(wish.home))
        host = await client.order("chaos", wish.names)
        if not stack.enter_context(alone(sockets.run_folder(wish.home))):
            raise OrderFailed("failed", "another `garrison chaos` is under way in this home")
        rows = _running(wish, scene, host["services"])
        await _check_taken(client, rows)
        _choose(wish, scene, rows)
        scene.announce(scene)
        callers = [await stack.enter_async_context(connect(wish.home)) for _ in range(wish.callers)]
        await Run(wish, scene, host, rows, client, stop).all(callers)


def _running(
    wish: RunOptions, scene: RunReport, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    there = [row for row in rows if row["state"] == "running"]
    for row in rows:
        if row not in there and wish.names:
            text = f"{row['name']} is {row['state']}; only what runs can be injured"
            raise OrderFailed("failed", text)
        if row not in there:
            scene.left_out.append(f"{row['name']} is {row['state']}")
    if not there:
        raise OrderFailed("failed", "no service runs, so there is nothing to injure")
    return there


async def _check_taken(client: Client, rows: list[dict[str, Any]]) -> None:
    """Show that each answers: one that was started before chaos was allowed does not know how."""
    for row in rows:
        try:
            await asked(client, row["name"], ECHO, (0,), PROBE_S)
        except (ServiceLost, ServiceUnavailable):
            continue  # it ended just now; whether it comes back is for the first fault to see
        except InvalidCall:
            text = (
                f"{row['name']} was started before `chaos = true` was said; first: "
                f"garrison restart {row['name']}"
            )
            raise OrderFailed("failed", text) from None


def _choose(wish: RunOptions, scene: RunReport, rows: list[dict[str, Any]]) -> None:
    scene.targets = [row["name"] for row in rows]
    for fault in wish.faults:
        if fault is Fault.SUPERVISOR:
            scene.takers[fault] = [HOST]
            continue
        room = psutil.virtual_memory().available * LEAK_SHARE
        names, left = who_takes(fault, rows, room)
        scene.left_out += left
        if names:
            scene.takers[fault] = names
    if not scene.takers:
        why = "; ".join(scene.left_out)
        raise OrderFailed("failed", f"none of these services takes any of these faults: {why}")


class Run:
    """The faults of one run, and what is measured of each."""

    def __init__(
        self,
        wish: RunOptions,
        scene: RunReport,
        host: dict[str, Any],
        rows: list[dict[str, Any]],
        client: Client,
        stop: asyncio.Event,
    ) -> None:
        self._wish, self._scene, self._host, self._client = wish, scene, host, client
        self._rows = {row["name"]: row for row in rows}
        self._tally, self._stop = scene.tally, stop
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._plan = FaultSchedule(scene.takers, wish.total, self._began)
        self._turned = asyncio.Event()  # a fault is over
        self._faults: set[asyncio.Task[None]] = set()
        self._stalls = Stalls()
        self._past = IncarnationHistory()
        self._warm = False
        self._lost: Exception | None = None  # why no fault can follow
        self._children: list[subprocess.Popen[bytes]] = []  # supervisors that were started here
        client.on_service_change(self._note)
        for name in self._rows:
            self._note(name)

    def _note(self, name: str) -> None:
        entry = self._client.directory.get(name)
        if entry is not None:
            self._past.seen(entry.token)

    async def all(self, clients: Sequence[Client]) -> None:
        """Injure, call and post; return when all that was begun has ended, and was counted."""
        names, calm = list(self._rows), asyncio.Event()
        mail = self._mail()
        self._scene.mail = mail is not None
        callers = [Caller(client, names, self._tally, self._stalls) for client in clients]
        ever = [asyncio.create_task(watch_loop(self._stalls))]
        work = [asyncio.create_task(caller.run(calm)) for caller in callers]
        if mail is not None:
            mail.remove_former()
            work.append(asyncio.create_task(mail.post(calm)))
            ever.append(asyncio.create_task(mail.go_on_reading()))
        try:
            await self._measure(before=True)
            await self._injure()
            self._scene.seconds = self._loop.time() - self._began
            calm.set()
            if self._lost is not None:
                raise self._lost
            await asyncio.gather(*work)
            if mail is not None:
                await mail.all_delivered(self._wish.within)
            await self._measure(before=False)
            await self._find_orphans()
        finally:
            for task in (*ever, *work, *self._faults):
                task.cancel()
            await asyncio.gather(*ever, *work, *self._faults, return_exceptions=True)
            if mail is not None:
                mail.remove()

    def _mail(self) -> PostTraffic | None:
        mailbox = self._client.entry_of(mail.MAILBOX)
        receivers = [
            row
            for name, row in self._rows.items()
            if (entry := self._client.directory.get(name)) is not None
            and entry.manifest.service_type != mail.MAILBOX
        ]
        if mailbox is None or not mailbox.wanted or not receivers:
            return None
        return PostTraffic(self._client, secrets.token_hex(4), receivers, self._tally)

    # --- faults -----------------------------------------------------------------------------

    async def _injure(self) -> None:
        warm = len(self._rows)
        if self._wish.total is not None:
            warm = min(warm, int(self._wish.total * WARM_SHARE))
        while not self._over():
            if not self._warm and (self._plan.begun >= warm or self._is_quarter_over()):
                if not self._plan.busy:
                    await self._measure(before=True)
                    self._warm = True
                    continue
            else:
                while (begun := self._plan.next(self._loop.time())) is not None:
                    task = asyncio.create_task(self._one(*begun))
                    self._faults.add(task)
                    task.add_done_callback(self._faults.discard)
            self._turned.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._turned.wait()
        self._scene.interrupted = self._stop.is_set()
        while self._faults:
            await asyncio.wait(self._faults)
        if self._lost is None and self._all_withdrawn():
            gone = await self._is_going()
            self._lost = OrderFailed("failed", "every service was stopped in mid-run")
            if gone:
                self._lost = SupervisorGone(str(self._wish.home), "it has ended in mid-run")

    async def _is_going(self) -> bool:
        """Tell whether the host is on its way down; return once it is gone, or in its own time."""
        until = self._loop.time() + DOWN_S
        while not self._client.supervisor_gone and self._loop.time() < until:
            try:
                head = (await self._client.order("status", timeout=LOOK_S * 20))["supervisor"]
            except GarrisonError:  # it may have gone meanwhile
                head = {"stopping": True}
            if not head["stopping"]:
                return False
            await asyncio.sleep(LOOK_S)
        return self._client.supervisor_gone

    def _all_withdrawn(self) -> bool:
        """Tell whether nobody is left, by somebody's order; who was not back is another matter."""
        return not self._rows and not self._tally.not_back

    def _over(self) -> bool:
        if self._client.supervisor_gone and self._lost is None:
            self._lost = SupervisorGone(str(self._wish.home), "it has ended in mid-run")
        if self._stop.is_set() or self._lost is not None or self._plan.spent:
            return True
        seconds = self._wish.seconds
        return seconds is not None and self._loop.time() - self._began >= seconds

    def _is_quarter_over(self) -> bool:
        seconds = self._wish.seconds
        return seconds is not None and self._loop.time() - self._began >= WARM_SHARE * seconds

    async def _one(self, fault: Fault, name: str) -> None:
        try:
            match fault:
                case Fault.SUPERVISOR:
                    await self._end_supervisor()
                case Fault.FLOOD:
                    await self._flood(name)
                case _:
                    await self._end_worker(fault, name)
        except (SupervisorGone, OSError) as error:
            self._lost = self._lost or error
        except GarrisonError as error:
            self._failed(fault, name, str(error))
        finally:
            self._plan.ended(name, self._loop.time())
            self._turned.set()

    def _failed(self, fault: Fault, name: str, why: str) -> None:
        self._tally.failed(f"{fault.value} of {name or 'the supervisor'}: {why}")
        self._leave(name)

    def _leave(self, name: str) -> None:
        self._rows.pop(name, None)
        self._plan.drop(name)

    async def _end_worker(self, fault: Fault, name: str) -> None:
        row = self._rows[name]
        told = await self._order_fault(fault, name)
        if told is None:
            return
        self._past.injured(told["pid"], told["ticks"])
        began = self._loop.time()
        within = self._wish.within
        doing: asyncio.Future[Any] | None = None
        if fault is Fault.HANG:
            within += row["watchdog"]
            doing = self._do(name, "$chaos_hang", 3 * row["watchdog"] + 10.0)
        elif fault is Fault.LEAK:
            doing = self._do(name, "$chaos_leak", 2 * row["memory_max"])
        elif fault is Fault.STOP:
            within += row["watchdog"]
        try:
            if await self._is_back(name, told["generation"], began + within):
                self._tally.recovered(fault, name, self._loop.time() - began)
                return
        finally:
            if doing is not None:
                doing.cancel()
        if self._is_withdrawn(name):
            return
        state = await self._client.order("status", (name,))
        row = state["services"][0]
        why = f": {row['reason']}" if row["reason"] else ""
        if row["generation"] == told["generation"] and row["state"] == "running":
            why = ": nothing has ended it"
        self._failed(fault, name, f"it was not back within {within:g} s; it is {row['state']}{why}")

    async def _order_fault(self, fault: Fault, name: str) -> dict[str, Any] | None:
        """Return whom a fault was done to; None where it was withdrawn.

        One that does not run just now was taken along by another, restarted by somebody, or has
        failed by itself: it is waited for, as long as for one that was injured.
        """
        until = self._loop.time() + self._wish.within
        while True:
            try:
                told: dict[str, Any] = await self._client.order("fault", (name,), kind=fault.value)
            except OrderFailed:
                if self._is_withdrawn(name):
                    return None
                if self._loop.time() >= until:
                    raise
                await asyncio.sleep(LOOK_S)
            else:
                return told

    def _is_withdrawn(self, name: str) -> bool:
        """Tell whether somebody stopped a service meanwhile; then it is left alone, and told."""
        entry = self._client.directory.get(name)
        if entry is not None and entry.wanted:
            return False
        if name in self._rows:
            self._leave(name)
            self._scene.left_out.append(f"{name} from then on: it was stopped in mid-run")
        return True

    def _do(self, name: str, method: str, *args: Any) -> asyncio.Future[Any]:
        """Have a worker injure itself; how that call ends is what the fault is."""
        doing = asyncio.ensure_future(asked(self._client, name, method, args, 3600.0))
        doing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return doing

    async def _is_back(self, name: str, generation: int, until: float) -> bool:
        """Tell whether a service answers as a later incarnation, by then."""
        began = self._loop.time()
        while (left := until - self._loop.time()) > 0:
            try:
                _, answering = await asked(self._client, name, ECHO, (0,), min(left, PROBE_S))
            except ServiceUnavailable:  # stopped, or given up; it may be tried again
                entry = self._client.directory.get(name)
                if entry is None or not entry.wanted:
                    return False
                await asyncio.sleep(LOOK_S)
            except CallError:  # lost with the one that was to end
                await asyncio.sleep(0)
            else:
                if answering > generation:
                    return True
                await asyncio.sleep(min(0.02, 0.001 + (self._loop.time() - began) / 10))
            if self._client.supervisor_gone:
                raise SupervisorGone(str(self._wish.home), "it has ended in mid-run")
        return False

    async def _flood(self, name: str) -> None:
        names = list(self._rows)
        victim = names[(names.index(name) + 1) % len(names)]
        told = await self._client.order("fault", (name,), kind=Fault.FLOOD.value)
        limit = FLOOD_S + self._wish.within
        try:
            await asked(self._client, name, "$chaos_flood", (victim, FLOOD_S), limit)
        except CallError as error:
            self._tally.tell(f"the flood by {name} ended as: {error}")
        began = self._loop.time()
        until = began + self._wish.within
        names = self._there()
        back = await asyncio.gather(*(self._is_back(one, 0, until) for one in names))
        away = [one for one, is_back in zip(names, back, strict=True) if not is_back]
        if not (away := [one for one in away if not self._is_withdrawn(one)]):
            self._tally.recovered(Fault.FLOOD, name, self._loop.time() - began)
        else:
            text = f"{listed(away)} did not answer within {self._wish.within:g} s after its end"
            self._failed(Fault.FLOOD, name, f"generation {told['generation']}: {text}")

    def _there(self) -> list[str]:
        return [n for n in self._rows if (e := self._client.directory.get(n)) and e.wanted]

    # --- the supervisor ---------------------------------------------------------------------

    async def _end_supervisor(self) -> None:
        before = await self._client.order("status")
        head = before["supervisor"]
        how = how_it_began(head["pid"])
        grace = self._host["orphan_grace_s"]
        began, kept = self._loop.time(), False
        if not kill(head["pid"], KILLED_S):  # nothing may come between this and its successor
            self._failed(Fault.SUPERVISOR, HOST, "the kernel did not end it")
            return
        try:
            kept = how.watched and await self._is_kept(min(KEPT_S, grace / 2))
        finally:  # also where this is cancelled: services wait for it
            if not kept:
                log = Path(self._host["logs"]) / "supervisor.log"
                self._children.append(begin_again(how, log))
        until = began + self._wish.within
        after = await self._adopted(head["boot"], until)
        if after is None:
            text = f"no other has settled within {self._wish.within:g} s; see its supervisor.log"
            raise SupervisorGone(str(self._wish.home), text)
        running = [row["name"] for row in before["services"] if row["state"] == "running"]
        names = [name for name in self._there() if name in running]
        if all(await asyncio.gather(*(self._is_back(name, 0, until) for name in names))):
            self._tally.recovered(Fault.SUPERVISOR, HOST, self._loop.time() - began)
        else:
            self._failed(Fault.SUPERVISOR, HOST, "not every service answered afterwards")
        self._count_restarted(before, after)
        self._tally.growth.restarted = True
        await self._measure(before=True)

    async def _is_kept(self, seconds: float) -> bool:
        """Tell whether somebody else starts the supervisor again, as systemd does."""
        control = sockets.control_path(sockets.run_folder(self._wish.home))
        until = self._loop.time() + seconds
        while self._loop.time() < until:
            try:
                sockets.check_listening(control)
            except SupervisorGone:
                if sockets.is_starting(control):
                    return True
                await asyncio.sleep(LOOK_S)
            else:
                return True
        return False

    async def _adopted(self, boot: str, until: float) -> dict[str, Any] | None:
        """Return the status under the next supervisor once it has settled; None where not in
        time."""
        while self._loop.time() < until and not self._client.supervisor_gone:
            self._children = [child for child in self._children if child.poll() is None]
            if self._client.boot != boot:
                with contextlib.suppress(SupervisorGone):
                    status: dict[str, Any] = await self._client.order("status", timeout=LOOK_S * 20)
                    if status["supervisor"]["settled"]:
                        return status
            await asyncio.sleep(0.01)
        return None

    def _count_restarted(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        pids = {row["name"]: row["pid"] for row in after["services"]}
        for row in before["services"]:
            if row["state"] == "running" and pids.get(row["name"]) != row["pid"]:
                self._tally.restarted += 1
                self._tally.tell(f"{row['name']} did not outlive the supervisor")

    # --- what is left -----------------------------------------------------------------------

    async def _measure(self, before: bool) -> None:
        """Note what the supervisor has; at the end, once its descriptors are as before, or after
        a while."""
        growth, until = self._tally.growth, self._loop.time() + SETTLE_S
        while True:
            head = (await self._client.order("status"))["supervisor"]
            memory, descriptors = head["rss_bytes"], head["descriptors"]
            if before:
                growth.memory_before, growth.descriptors_before = memory, descriptors
            growth.memory, growth.descriptors = memory, descriptors
            if descriptors <= growth.descriptors_before or self._loop.time() >= until:
                return
            await asyncio.sleep(LOOK_S)

    async def _find_orphans(self) -> None:
        """Count processes of incarnations that are over, once their ends have had time."""
        until = self._loop.time() + LEFT_S
        while True:
            living = [entry.token for entry in self._client.directory if entry.token]
            left = await asyncio.to_thread(self._past.left, living)
            if not left or self._loop.time() >= until:
                break
            await asyncio.sleep(LOOK_S)
        self._tally.orphans = len(left)
        for pid in left:
            self._tally.tell(f"process {pid} is left of an incarnation that is over")
