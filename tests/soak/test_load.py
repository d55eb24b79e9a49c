"""Load: receivers that are slow or stopped, workers that flood, everything that crashes at once.

    pytest tests/soak/test_load.py -s          # the short form, which is part of each run
    pytest tests/soak/test_load.py -s -m soak  # the long form

Each test prints its figures. It asserts outcomes and bounds of memory; of times only that nothing
hangs (`HANGS_S`), because promised times are those of an idle machine.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.figures import mib, processor_s, show, spread
from tests.support.host import Host, found, hosting
from tests.support.proc import descriptors, listening, resident
from tests.support.sizes import sizes
from tests.support.waiting import until

from garrison.ipc import CallTimeout, Client, ServiceLost, with_timeout

LONG = 600.0  # seconds: no deadline of the test's own calls
HANGS_S = 30.0  # what takes longer hangs, on any machine
RUNNING_S = 120.0  # until all that crashed run again


def load(*names: str, **defaults: Any) -> str:
    """Return a config with services that load each other."""
    detected = "".join(f"{key} = {value}\n" for key, value in ({"intensity": 0} | defaults).items())
    rows = "".join(f'[services.{name}]\nplugin = "load"\n' for name in names)
    return f"[plugins.load]\n[defaults]\n{detected}[services.load]\nautostart = false\n{rows}"


async def orders(host: Host, until_: asyncio.Event, rest: float = 0.05) -> list[float]:
    """Ask for `status` again and again; return how long each answer took."""
    times: list[float] = []
    while not until_.is_set():
        began = time.monotonic()
        await asyncio.to_thread(host.ask, "status")
        times.append(time.monotonic() - began)
        await asyncio.sleep(rest)
    return times


# --- a receiver that is slow, or does nothing -----------------------------------------------

WINDOW, WINDOW_BYTES = 64, 4 << 20  # of each caller to each service
CALLERS = 3  # services, each with so many calls:
CALLS = {"small": 1000, "large": 24}
SIZES = {"small": 100, "large": 1 << 20}
STUCK_S = 1.0  # the calls' deadline
IDLE_S = 0.3  # of calls between others before
# What a receiver that reads nothing may cost: the router holds 64 MiB for it, and the kernel
# its buffers; a caller what waits, 16 windows at the most.
SUPERVISORS = 160 << 20
CALLERS_MOST = 32 * WINDOW_BYTES


HOW = ("blocked", "stopped", "slow")


@pytest.fixture(scope="module")
def receiving() -> Iterator[Host]:
    """Run a receiver for each way to be slow, their callers, and two other services."""
    receivers = [f"{how}-{size}" for how in HOW for size in SIZES]
    callers = [f"caller-{n}" for n in range(CALLERS)]
    limits = {"watchdog": 0, "window": WINDOW, "window_bytes": WINDOW_BYTES}
    with hosting(load("one", "two", *receivers, *callers, **limits), ["load"]) as host:
        yield host


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", HOW)
async def test_a_receiver_that_does_not_keep_up(receiving: Host, how: str, size: str) -> None:
    """Its callers wait, then fail with Overloaded or CallTimeout. Memory stays within its bound,
    and calls between other services take as long as before."""
    host, name = receiving, f"{how}-{size}"
    callers = [f"caller-{n}" for n in range(CALLERS)]
    async with host.connect() as client:
        one, receiver = found(client, "one"), found(client, name)
        idle = await with_timeout(one, LONG).timed("two", IDLE_S, 0.005)
        pids = {of: host.status(of)["pid"] for of in (name, *callers)}
        before = {of: resident(pid) for of, pid in pids.items()}
        own = resident(host.pid)
        if how == "blocked":
            await receiver.block(1.5 * STUCK_S)
        elif how == "stopped":
            os.kill(pids[name], signal.SIGSTOP)
        rest = (0.5,) if how == "slow" else ()
        method = "slow" if how == "slow" else "size"
        crowds = [
            asyncio.ensure_future(
                with_timeout(found(client, caller), LONG).crowd(
                    name, method, SIZES[size], CALLS[size], STUCK_S, *rest
                )
            )
            for caller in callers
        ]
        busy = await with_timeout(one, LONG).timed("two", STUCK_S, 0.005)
        most = resident(host.pid)
        ends: dict[str, list[float]] = {}
        for crowd in crowds:
            for outcome, times in (await crowd).items():
                ends.setdefault(outcome, []).extend(times)
        if how == "stopped":
            os.kill(pids[name], signal.SIGCONT)
        most = max(most, resident(host.pid))
        grown = {of: resident(pid) - before[of] for of, pid in pids.items()}
        assert await with_timeout(receiver, LONG).echo("after") == "after"
        restarts = sum(row["restarts"] for row in host.rows().values())
    late = max(max(times) for times in ends.values()) - STUCK_S
    show(
        f"{CALLERS} callers with {CALLS[size]:,} calls each of {SIZES[size]:,} bytes; "
        f"their receiver is {how}",
        ends={outcome: len(times) for outcome, times in ends.items()},
        past_their_deadline=f"{late * 1000:.0f} ms",
        calls_between_others_before=spread(idle),
        calls_between_others_meanwhile=spread(busy),
        supervisors_memory=mib(most - own),
        receivers_memory=mib(grown.pop(name)),
        callers_memory=mib(max(grown.values())),
    )
    assert restarts == 0
    assert set(ends) <= {"answered", "CallTimeout", "Overloaded"}
    assert len(ends.get("Overloaded", ())) > CALLERS  # beyond the window nothing was sent
    assert max(late, *busy) < HANGS_S
    assert most - own < SUPERVISORS
    assert max(grown.values()) < CALLERS_MOST


# --- floods ---------------------------------------------------------------------------------

KILLS = 30  # at most, during one flood


@pytest.fixture(scope="module")
def flooded() -> Iterator[Host]:
    """Run two services that flood, their target, and three other services."""
    with hosting(load("flood-0", "flood-1", "target", "one", "two", "victim"), ["load"]) as host:
        yield host


@pytest.mark.parametrize("kind", ["calls", "events", "control", "garbage", "unbounded"])
@pytest.mark.parametrize("seconds", sizes(0.3, 20.0))
async def test_two_workers_that_flood(flooded: Host, kind: str, seconds: float) -> None:
    """Orders are answered, deadlines are kept, and a program learns of the end of a third worker,
    although that has nothing to do with the flood."""
    host = flooded
    async with host.connect() as client:
        pids = {name: row["pid"] for name, row in host.rows().items() if row["pid"]}
        idle = await deaths(host, client, 2)
        before, used, began = resident(host.pid), processor_s(host.pid), time.monotonic()
        most = seconds + HANGS_S
        floods = [with_timeout(found(client, name), most) for name in ("flood-0", "flood-1")]
        for flood in floods:
            await flood.flood(kind, "target", seconds)
        over = asyncio.Event()
        sent = asyncio.ensure_future(orders(host, over))
        called = asyncio.ensure_future(
            with_timeout(found(client, "one"), most).timed("two", seconds / 2, 0.005)
        )
        late = asyncio.ensure_future(deadlines(client, over))
        detected = await deaths(host, client, KILLS, until_=began + seconds)
        over.set()
        statuses, calls, lateness = await sent, await called, await late
        cpu = (processor_s(host.pid) - used) / (time.monotonic() - began)
        made = sum([await flood.flooded() for flood in floods])
        grown = resident(host.pid) - before
        rows = host.rows()
        assert await found(client, "one").echo(kind) == kind
    restarted = {name: rows[name] for name in pids if name != "victim" and rows[name]["restarts"]}
    show(
        f"two workers flood with {kind}: {made:,} messages in {seconds:g} s",
        status=spread(statuses),
        SIGKILL_to_ServiceLost=spread(detected),
        SIGKILL_to_ServiceLost_before=spread(idle),
        past_a_deadline=spread(lateness),
        calls_between_others=spread(calls),
        supervisors_processor=f"{cpu:.0%}",
        supervisors_memory=mib(grown),
    )
    assert restarted == {}
    assert detected
    assert max(*detected, *statuses, *lateness, *calls) < HANGS_S
    assert grown < SUPERVISORS


async def deaths(host: Host, client: Client, number: int, until_: float = 0.0) -> list[float]:
    """Kill a service with a call in flight; return the times until its caller got ServiceLost."""
    times: list[float] = []
    victim = with_timeout(found(client, "victim"), 10.0)
    for _ in range(number):
        await asyncio.to_thread(host.ask, "reset", "victim")
        await client.get_service_load_promise("victim")
        pid = await victim.pid()
        call = asyncio.ensure_future(victim.never())
        await asyncio.sleep(0)
        await victim.pid()  # so the call has begun: one that was not read goes to the next
        if until_ and times and time.monotonic() >= until_:
            call.cancel()
            break
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ServiceLost):
            await call
        times.append(time.monotonic() - began)
    return times


async def deadlines(client: Client, over: asyncio.Event) -> list[float]:
    """Call a method that never answers; return how long after its deadline each call ended."""
    times: list[float] = []
    two = with_timeout(found(client, "two"), 0.1)
    while not over.is_set():
        began = time.monotonic()
        with pytest.raises(CallTimeout):
            await two.never()
        times.append(time.monotonic() - began - 0.1)
    return times


# --- everything crashes at once -------------------------------------------------------------

CRASHES = ("once", "again")
STARTING = 8  # at a time: of four, and of those that took so long that they lost their slots


@pytest.mark.parametrize("many", sizes(12, 200))
def test_many_services_crash_at_once(many: int) -> None:
    """They crash a second time as soon as they run, and back off: a few start at a time, all run
    again, none has failed, `status` is answered meanwhile, and nothing grows."""
    names = [f"s{n}" for n in range(many)]
    rows = "".join(f'[services.{name}]\nplugin = "load"\n' for name in names)
    with hosting(f"[plugins.load]\n{rows}[services.load]\nautostart = false\n", ["load"]) as host:
        counts: list[tuple[int, int, int]] = []  # descriptors, of the supervisor and the launcher
        for crash in CRASHES:
            before, statuses, starting = host.rows(), list[float](), 0
            pids = {name: before[name]["pid"] for name in names}
            used, began = processor_s(host.pid), time.monotonic()
            for pid in random.sample(list(pids.values()), many):
                os.kill(pid, signal.SIGKILL)
            while True:
                sent = time.monotonic()
                now = host.rows()
                statuses.append(time.monotonic() - sent)
                states = Counter(now[name]["state"] for name in names)
                assert not states["failed"]
                starting = max(starting, states["initializing"])
                running = [n for n in names if now[n]["state"] == "running"]
                if len(running) == many and all(now[n]["pid"] != pids[n] for n in names):
                    break
                assert time.monotonic() - began < RUNNING_S, states
                time.sleep(0.1)
            took = time.monotonic() - began
            counts.append(
                (
                    len(descriptors(host.pid)) - listening(host.pid),
                    len(descriptors(host.launcher)),
                    resident(host.pid),
                )
            )
            show(
                f"{many} services crash {crash}",
                all_run_again_after=f"{took:.1f} s",
                status=spread(statuses),
                starting_at_the_same_time=starting,
                supervisors_processor=f"{processor_s(host.pid) - used:.1f} s",
                supervisors_memory=f"{counts[-1][2] / (1 << 20):.1f} MiB",
                supervisors_descriptors=counts[-1][0],
            )
            assert max(statuses) < HANGS_S
            assert starting <= STARTING
            assert all(now[name]["generation"] == before[name]["generation"] + 1 for name in names)
        waits = [
            event["data"]["wait_s"]
            for event in host.events("service.state")
            if event["data"]["to"] == "backoff"
        ]
        assert len(waits) == (len(CRASHES) - 1) * many  # none after the first crash
        assert max(waits) - min(waits) > 0.3  # seconds, by chance: up to 0.5, then up to 1
        # What the last ends left to do, such as their reports, has descriptors for a moment.
        until(lambda: len(descriptors(host.pid)) - listening(host.pid) <= counts[0][0] + 2)
        until(lambda: len(descriptors(host.launcher)) <= counts[0][1] + 2)
        assert counts[-1][2] < counts[0][2] + (16 << 20)
