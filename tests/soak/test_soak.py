"""Repeated faults: kills under load, fuzzed frames, a crash loop; with figures.

    pytest tests/soak/test_soak.py -s          # the short form, which is part of each run
    pytest tests/soak/test_soak.py -s -m soak  # the long form

Each test prints its figures. Promised bounds are asserted; times are only printed, because they
depend on the load of the machine.
"""

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from tests.support.figures import processor_s, show, spread
from tests.support.host import Host, found, hosting
from tests.support.proc import descriptors, listening, resident
from tests.support.rogue import Rogue, joined, mutated, reframed
from tests.support.sizes import sizes
from tests.support.waiting import SOON, until

from garrison.ipc import (
    CallTimeout,
    Client,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
    messages,
    sockets,
    with_timeout,
)
from garrison.ipc.errors import Fault
from garrison.ipc.messages import SUPERVISOR, Token, encode

SERVICES = 20
CALLERS = 8
CALL_S = 10.0  # the deadline of each call under load
LATE_S = 0.25  # past its deadline no call may last longer
PACE_S = 0.004  # between a caller's calls: the load is to leave the machine some room
MEMORY = 16 << 20
SEED = int(os.environ.get("GARRISON_SEED", "1"))


# --- kills under load -----------------------------------------------------------------------


class Record:
    """Counts the outcomes of calls."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.late = self.wrong = self.second = 0

    def watch(self, client: Client) -> None:
        """Count answers to calls that had one already."""
        answered: set[int] = set()
        take = client.calls.answered

        def watched(call_id: int, source: Token, outcome: Any, now: float) -> bool:
            if call_id in answered:
                self.second += 1
            taken = take(call_id, source, outcome, now)
            if taken:
                answered.add(call_id)
            return taken

        client.calls.answered = watched  # type: ignore[method-assign]

    async def one(self, call: Callable[[], Any], expected: object) -> None:
        """Make a call and note its end."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(CALL_S + 20):
                self.wrong += await call() != expected
            self.ends["answered"] += 1
        except (ServiceLost, ServiceUnavailable, CallTimeout) as error:
            self.ends[type(error).__name__] += 1
        except RemoteError as error:  # of the call that the service made in turn
            if error.type_name not in {"ServiceLost", "ServiceUnavailable", "CallTimeout"}:
                raise
            self.ends[f"{error.type_name} at a service"] += 1
        except TimeoutError:
            self.ends["never ended"] += 1
        self.late += time.monotonic() - began > CALL_S + LATE_S


def _held(host: Host) -> int:
    """Return how many descriptors a supervisor has, without the sockets that it listens at."""
    return len(descriptors(host.pid)) - listening(host.pid)


@pytest.mark.parametrize("kills", sizes(20, 2000))
async def test_kills_under_load(kills: int) -> None:
    """Twenty services are killed by turns under eight callers: each call ends once, in time, with
    its own answer or one typed error. The supervisor's memory and descriptors do not grow."""
    names = [f"target-{n}" for n in range(SERVICES)]
    rows = "".join(f'[services.{name}]\nplugin = "echo"\n' for name in names)
    config = f"[plugins.echo]\n[defaults]\nintensity = 0\n[services.echo]\n{rows}"
    with hosting(config, ["echo"]) as host:
        async with AsyncExitStack() as stack:
            killer = await stack.enter_async_context(host.connect())
            callers = [await stack.enter_async_context(host.connect()) for _ in range(CALLERS)]
            killed = Killer(host, killer, names)
            await killed.some(SERVICES)  # what is allocated once is allocated by now
            await killed.all_run()
            before = _held(host)
            memory = resident(host.pid)
            record, ids, stop = Record(), itertools.count(), asyncio.Event()

            async def calling(client: Client, number: int) -> None:
                record.watch(client)
                echo = with_timeout(found(client, "echo"), CALL_S)
                targets = [with_timeout(found(client, name), CALL_S) for name in names]
                chosen = random.Random(SEED + number)
                while not stop.is_set():
                    n, target = next(ids), chosen.randrange(SERVICES)
                    if number % 2:  # from one service to another
                        args = [names[target], "echo", [n]]
                        await record.one(lambda args=args: echo.ask(*args), n)  # type: ignore[misc]
                    else:
                        await record.one(lambda t=target, n=n: targets[t].echo(n), n)  # type: ignore[misc]
                    await asyncio.sleep(PACE_S)

            began = time.monotonic()
            killed.detected.clear()
            async with asyncio.TaskGroup() as group:
                for number, client in enumerate(callers):
                    group.create_task(calling(client, number))
                await killed.some(kills)
                stop.set()
            took = time.monotonic() - began
            await killed.all_run()
            assert not any(len(client.calls) for client in (killer, *callers))
            until(lambda: _held(host) <= before, what="descriptors as before")
        grown = resident(host.pid) - memory
        rows_now = host.rows()
        restarts = sum(rows_now[name]["restarts"] for name in names)
        assert restarts == kills + SERVICES
        assert rows_now["echo"]["restarts"] == 0
    show(
        f"{kills:,} kills of {SERVICES} services under {CALLERS} callers in {took:.1f} s",
        calls=f"{sum(record.ends.values()):,}: {dict(record.ends)}",
        past_their_deadline=record.late,
        second_answers=record.second,
        wrong_answers=record.wrong,
        SIGKILL_to_ServiceLost=spread(killed.detected),
        supervisors_descriptors="+0",
        supervisors_memory=f"{grown / (1 << 20):+.1f} MiB",
    )
    assert record.ends["answered"] > kills
    assert record.ends["never ended"] == 0
    assert (record.late, record.second, record.wrong) == (0, 0, 0)
    assert grown < MEMORY, f"the supervisor grew by {grown:,} bytes"


class Killer:
    """Kills services by turns, each with a call in flight."""

    def __init__(self, host: Host, client: Client, names: list[str]) -> None:
        self._host, self._client = host, client
        self._all = names
        self._names = itertools.cycle(names)
        self._orders = itertools.count(1)
        self.detected: list[float] = []  # from the kill to ServiceLost at the caller

    async def some(self, times: int) -> None:
        """Kill services this many times."""
        for _ in range(times):
            await self._one(next(self._names))

    async def all_run(self) -> None:
        """Return once all of them answer."""
        for name in self._all:
            assert await with_timeout(found(self._client, name), 30.0).echo(name) == name

    async def _one(self, name: str) -> None:
        target = with_timeout(found(self._client, name), 60.0)
        self._client.session.send(messages.Order(next(self._orders), "reset", (name,)))
        pid = await target.pid()  # of the one that runs since its last turn
        lost = target.hang("doomed")
        assert await target.pid() == pid  # so the other has begun
        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        try:
            await lost
        except ServiceLost:
            self.detected.append(time.perf_counter() - began)


# --- fuzzed frames --------------------------------------------------------------------------


async def recorded(host: Host, monkeypatch: pytest.MonkeyPatch) -> tuple[list[bytes], list[bytes]]:
    """Return the batches of real traffic: to the supervisor, and over the bus."""
    control: list[bytes] = []
    bus: list[bytes] = []
    send = sockets.send

    def noting(socket: Any, frames: list[bytes]) -> None:
        (bus if frames[0] else control).append(frames[1])
        send(socket, frames)

    monkeypatch.setattr(sockets, "send", noting)
    async with host.connect() as client:
        echo = found(client, "echo")
        await asyncio.gather(*(echo.echo({"n": n, "text": "x" * n}) for n in range(40)))
        await echo.add(1, second=2)
        await echo.total(1, 2, three=3)
        assert [n async for n in echo.count(100)] == list(range(100))
        with pytest.raises(RemoteError):
            await echo.fail("on purpose")
        hung = echo.hang("cancelled")
        await echo.echo(1)
        hung.cancel()
        await echo.hung()
    monkeypatch.undo()
    result, fault = msgspec.Raw(b"\x01"), Fault("RemoteError", "echo", "echo", "no", "")
    bus += [  # what services say
        encode([messages.Reply(n, result) for n in range(1, 9)]),
        encode([messages.Failed(3, fault), messages.Refused(4), messages.Done(5)]),
        encode([messages.Item(6, result), messages.Credit(7, 16), messages.Cancel(8)]),
        encode([messages.Ended(b"g" * 16, "was killed by SIGKILL")]),
    ]
    manifest = messages.Manifest("echo", "", (messages.MethodInfo("echo", False, "(x)", ""),), {})
    control += [
        encode([messages.Hello(1, "echo", 1, 1), messages.Beat(1, 2, 3)]),
        encode([messages.Initialized(), messages.Ready(manifest)]),
        encode([messages.Failing("run", "reason", "trace"), messages.Stopped("ordered")]),
        encode([messages.Subscribe(("a", "b")), messages.PluginRead((manifest,))]),
        encode([messages.Order(1, "status"), messages.Order(2, "events", (), 1.0, {"number": 9})]),
        encode([messages.Order(3, "wait", ("echo",), 0.1, {"state": "running"})]),
    ]
    return control, bus


@pytest.mark.parametrize("number", sizes(5_000, 200_000))
async def test_fuzzed_frames(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Mutations of real traffic, sent to both sockets, a worker and a program: no process ends, and
    correct calls are answered in time."""
    config = "[plugins.echo]\n[services.echo]\n[services.other]\nplugin = 'echo'\n"
    with hosting(config, ["echo"]) as host:
        pids = {name: row["pid"] for name, row in host.rows().items()}
        control, bus = await recorded(host, monkeypatch)
        memory = resident(host.pid)
        async with host.connect() as client, host.connect() as target:
            echo = with_timeout(found(client, "echo"), SOON)
            other = with_timeout(found(client, "other"), SOON)
            entry = client.directory.get("echo")
            assert entry is not None
            with joined(host) as rogue:
                fuzzer = Fuzzer(rogue, control, bus, [entry.token, target.token])
                began = time.monotonic()
                working = threading.Thread(target=fuzzer.run, args=(number,))
                working.start()
                times: list[float] = []
                while working.is_alive():
                    sent = time.monotonic()
                    assert await echo.echo(sent) == sent
                    assert await other.ask("echo", "echo", [sent]) == sent
                    times.append(time.monotonic() - sent)
                    await asyncio.sleep(PACE_S)
                working.join()
                took = time.monotonic() - began
            assert fuzzer.sent == number
            assert await echo.echo("after") == "after"
            head = host.head()
            assert head is not None
            assert {name: row["pid"] for name, row in host.rows().items()} == pids
            least = number // 100  # else they were no fuzzed frames
            by_worker = until(  # its next beat tells
                lambda: max(host.status("echo")["refused_frames"] - least, 0)
            )
            refused = head["refused_frames"], by_worker + least
        grown = resident(host.pid) - memory
        assert not host.events("supervisor.erred")
        show(
            f"{number:,} fuzzed frames in {took:.1f} s, seed {SEED}",
            crashes=0,
            refused=f"{refused[0]:,} by the supervisor, {refused[1]:,} by a worker",
            two_healthy_calls_meanwhile=spread(times),
            supervisors_memory=f"{grown / (1 << 20):+.1f} MiB",
        )
        assert refused[0] > least
        assert grown < 3 * MEMORY


class Fuzzer:
    """Sends mutated frames to all kinds of receivers."""

    def __init__(
        self, rogue: Rogue, control: list[bytes], bus: list[bytes], tokens: list[Token]
    ) -> None:
        self._rogue, self._control, self._bus = rogue, control, bus
        self._tokens = [*tokens, tokens[0], rogue.token, SUPERVISOR, b"\x00", b"\x01", b"g" * 16]
        self.sent = 0

    def run(self, count: int) -> None:
        """Send this many; join again regularly, because a frame may be a valid Leave."""
        rng = random.Random(SEED)
        for n in range(count):
            if n % 100 == 0:
                self._rogue.join()
            if n % 3 == 0:
                frames = [SUPERVISOR, mutated(rng, self._control)]
                self._rogue.control.send_multipart(reframed(rng, frames) or [b""])
            else:
                frames = [rng.choice(self._tokens), mutated(rng, self._bus)]
                self._rogue.bus.send_multipart(reframed(rng, frames) or [b""])
            self.sent += 1


@pytest.mark.parametrize("number", sizes(5_000, 200_000))
async def test_tiny_frames(number: int) -> None:
    """Messages of one frame and one byte, as fast as they can be sent, to both sockets."""
    with hosting("[plugins.echo]\n[services.echo]\n", ["echo"]) as host:
        memory = resident(host.pid)
        async with host.connect() as client:
            echo = with_timeout(found(client, "echo"), SOON)
            with joined(host) as rogue:

                def flood() -> None:
                    for n in range(number // 2):
                        rogue.control.send(b"x" if n % 2 else b"")
                        rogue.bus.send(b"x" if n % 2 else b"")

                began = time.monotonic()
                working = threading.Thread(target=flood)
                working.start()
                times: list[float] = []
                while working.is_alive():
                    sent = time.monotonic()
                    assert await echo.echo(sent) == sent
                    times.append(time.monotonic() - sent)
                working.join()
                took = time.monotonic() - began
            assert await echo.echo("after") == "after"
        grown = resident(host.pid) - memory
        show(
            f"{number:,} tiny frames in {took:.1f} s",
            healthy_calls_meanwhile=spread(times),
            supervisors_memory=f"{grown / (1 << 20):+.1f} MiB",
        )
        assert grown < MEMORY


# --- a crash loop ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", sizes(2.0, 60.0))
async def test_a_crash_loop_beside_healthy_services(seconds: float) -> None:
    """One service crashes in a loop: calls to the others and orders are answered, and the
    supervisor uses little processor time."""
    names = [f"healthy-{n}" for n in range(5)]
    rows = "".join(f'[services.{name}]\nplugin = "echo"\n' for name in names)
    crash = (
        "[plugins.crash]\n[services.crash]\nautostart = false\nintensity = 0\n"
        "env = { MODE = 'spawn raises' }\n"
    )
    with hosting(f"[plugins.echo]\n[services.echo]\n{rows}{crash}", ["echo", "crash"]) as host:
        async with host.connect() as client:
            healthy = [with_timeout(found(client, name), SOON) for name in names]

            async def measured(lasting: float) -> tuple[list[float], float]:
                times: list[float] = []
                used, began = processor_s(host.pid), time.monotonic()
                async for n in _paced(lasting):
                    sent = time.perf_counter()
                    assert await healthy[n % len(healthy)].echo(n) == n
                    times.append(time.perf_counter() - sent)
                return times, (processor_s(host.pid) - used) / (time.monotonic() - began)

            idle, idle_cpu = await measured(seconds / 2)
            client.session.send(messages.Order(1, "start", ("crash",)))
            looping, cpu = await measured(seconds)
            began = time.monotonic()
            row = await asyncio.to_thread(host.status, "crash")
            assert time.monotonic() - began < SOON
        assert row["restarts"] >= 2
        assert all(row["restarts"] == 0 for name, row in host.rows().items() if name in names)
    show(
        f"a crash loop of {seconds:g} s beside {len(names)} healthy services",
        restarts=row["restarts"],
        healthy_calls_before=spread(idle),
        healthy_calls_meanwhile=spread(looping),
        supervisors_processor=f"{cpu * 100:.1f} % (before {idle_cpu * 100:.1f} %)",
    )


async def _paced(seconds: float) -> AsyncIterator[int]:
    """Count, a hundred times a second."""
    until_ = time.monotonic() + seconds
    for n in itertools.count():
        if time.monotonic() >= until_:
            return
        yield n
        await asyncio.sleep(0.01)
