"""The rows of the table: what garrison does, and its floor, measured by turns in the same run.

Times are seconds, sizes are bytes, rates are calls or bytes per second.
"""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from garrison.ipc import ServiceLost, messages, with_timeout

from . import floors
from .host import ROUTED, Host, host
from .programs.spawned import pss

TEXT = "My mother takes care of me, and so I have come to talk with you."
WIDTH = 64  # calls in flight
LONG_S = 300.0  # the deadline of a call that makes thousands of calls
KILLED = 4  # services on the host whose services are killed
REST_S = 0.2  # between kills, so that one restart does not disturb the next
IDLE_S = 3.0  # until a host that has just started is idle
ROOMS = 20  # of a platform, in which messages are answered side by side
ANSWERING = {name: name for name in ("agent", "lobby", "mimic", "database")}
MAILBOX = {"mailbox": "mailbox"}
HEAVY = ("discord", "openai")  # as services/heavy.py has them
LINES = (  # of a conversation, said again and again
    "Hello, I am a little sad today.",
    "My mother takes care of me, and so I have come to talk with you.",
    "I wish I could get along with her.",
    "Do you think that computers are like people?",
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds, calls a round, kills, fresh processes, services."""

    rounds: int
    calls: int
    kills: int
    fresh: int
    services: int


FULL = Size(rounds=15, calls=2_000, kills=24, fresh=9, services=50)
QUICK = Size(rounds=5, calls=1_000, kills=8, fresh=5, services=50)


@dataclass(frozen=True, slots=True)
class Found:
    """What the rounds of one row found, floor beside garrison."""

    floor: list[float]
    garrison: list[float]

    @property
    def ratio(self) -> float:
        """Return garrison's median as so many times the floor's."""
        return statistics.median(self.garrison) / statistics.median(self.floor)


class Skipped(Exception):
    """A row that cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, what it is measured in, and what its ratio has to be, or its figure itself."""

    key: str
    title: str
    unit: str  # "us", "ms", "s", "calls/s", "MB/s", "MiB"
    limit: float
    measure: Callable[[Size], Coroutine[Any, Any, Found]]
    absolute: bool = False  # the limit is one of garrison's median, in seconds

    @property
    def more_is_better(self) -> bool:
        """Tell whether the ratio has to be at least the limit, not at most."""
        return self.unit in {"calls/s", "MB/s"}

    def passes(self, found: Found) -> bool:
        """Tell whether what was found is good enough."""
        figure = statistics.median(found.garrison) if self.absolute else found.ratio
        return figure >= self.limit if self.more_is_better else figure <= self.limit


async def call(size: Size) -> Found:
    """Measure a call from one service to another, one after another."""
    floor: list[float] = []
    garrison: list[float] = []
    async with host({"echo": "echo", "caller": "caller"}, ROUTED) as there:
        caller = _patient(there, "caller")
        await caller.one_by_one("echo", TEXT, 500)
        for _ in range(size.rounds):
            floor.append(await floors.raw_call(TEXT, size.calls))
            garrison.append(statistics.median(await caller.one_by_one("echo", TEXT, size.calls)))
    return Found(floor, garrison)


async def flood(size: Size) -> Found:
    """Measure the rate with 64 calls in flight."""
    floor: list[float] = []
    garrison: list[float] = []
    count = size.calls * 5 // WIDTH * WIDTH
    async with host({"echo": "echo", "caller": "caller"}, ROUTED) as there:
        caller = _patient(there, "caller")
        await caller.side_by_side("echo", TEXT, 50 * WIDTH, WIDTH)
        for _ in range(size.rounds):
            floor.append(await floors.raw_rate(TEXT, count, WIDTH))
            took: float = await caller.side_by_side("echo", TEXT, count, WIDTH)
            garrison.append(count / took)
    return Found(floor, garrison)


async def large(size: Size) -> Found:
    """Measure calls with 1 MiB of bytes there and back, one after another."""
    return await _bytes(size, 1024**2, size.calls // 10)


async def larger(size: Size) -> Found:
    """Measure the same with 16 MiB."""
    return await _bytes(size, 16 * 1024**2, size.calls // 100)


async def batches(size: Size) -> Found:
    """Measure the same against this host with a message for each call, and for each answer."""
    floor: list[float] = []
    garrison: list[float] = []
    count = size.calls * 5 // WIDTH * WIDTH
    async with host({"echo": "echo", "caller": "caller"}, ROUTED) as there:
        caller, echo = _patient(there, "caller"), _patient(there, "echo")
        await caller.side_by_side("echo", TEXT, 50 * WIDTH, WIDTH)
        for _ in range(size.rounds):
            for batched, found in ((False, floor), (True, garrison)):
                await asyncio.gather(caller.batch(batched), echo.batch(batched))
                took: float = await caller.side_by_side("echo", TEXT, count, WIDTH)
                found.append(count / took)
    return Found(floor, garrison)


async def restart(size: Size) -> Found:
    """Measure a SIGKILL to the next answered call."""
    floor = await floors.fresh(size.fresh)
    return Found(floor, await _kills("echo", size))


async def preloaded(size: Size) -> Found:
    """Measure the same for a plugin with libraries that are slow to import."""
    missing = [name for name in HEAVY if find_spec(name) is None]
    if missing:
        raise Skipped("needs: pip install discord.py openai")
    floor = await floors.fresh(size.fresh, HEAVY)
    return Found(floor, await _kills("heavy", size))


async def start(size: Size) -> Found:
    """Measure the start of a host until all its services run."""
    floor: list[float] = []
    garrison: list[float] = []
    for _ in range(min(size.rounds, 3)):
        floor.append((await floors.spawned(size.services))[0])
        async with host(_many("echo", size.services)) as there:
            garrison.append(there.started_s)
    return Found(floor, garrison)


async def memory(_: Size) -> Found:
    """Measure an idle service's share of memory, of twenty."""
    floor = [float(share) for share in (await floors.spawned(20))[1]]
    async with host(_many("echo", 20)) as there:
        await asyncio.sleep(IDLE_S)
        pids = [await _service(there, name).pid() for name in there.names]
        return Found(floor, [float(pss(pid)) for pid in pids])


async def chat(size: Size) -> Found:
    """Measure a line in at `chat` to its answer out, beside the same calls between services that
    do nothing else: program to chat, chat to agent, agent to model, agent back to chat."""
    floor: list[float] = []
    garrison: list[float] = []
    relays = {f"relay-{number}": "relay" for number in range(1, 4)}
    async with host({"agent": "agent", "chat": "chat", "eliza": "eliza", **relays}) as there:
        service, relay = _service(there, "chat"), _service(there, "relay-1")
        lines = size.calls // 20
        await _conversation(service, lines)
        for _ in range(size.rounds):
            for number in range(lines):
                began = time.perf_counter()
                await relay.say(LINES[number % len(LINES)], "relay-2", "relay-3")
                floor.append(time.perf_counter() - began)
            garrison += await _conversation(service, lines)
    return Found(floor, garrison)


async def answer(size: Size) -> Found:
    """Measure from a received message to its delivered answer, through the mailbox; compare with a
    host without a mailbox, where the platform calls the agent."""
    floor: list[float] = []
    garrison: list[float] = []
    count = size.calls // 20
    async with host(ANSWERING) as direct, host(ANSWERING | MAILBOX) as there:
        for _ in range(size.rounds + 1):
            floor += await _patient(direct, "lobby").one_by_one(TEXT, count)
            garrison += await _patient(there, "lobby").one_by_one(TEXT, count)
    return Found(floor[count:], garrison[count:])


async def answers(size: Size) -> Found:
    """Measure the rate of messages that are answered in 20 rooms, each in order, likewise."""
    floor: list[float] = []
    garrison: list[float] = []
    each = max(size.calls // 200, 5)
    async with host(ANSWERING) as direct, host(ANSWERING | MAILBOX) as there:
        for _ in range(size.rounds + 1):
            for one, found in ((direct, floor), (there, garrison)):
                took: float = await _patient(one, "lobby").in_rooms(TEXT, each, ROOMS)
                found.append(each * ROOMS / took)
    return Found(floor[1:], garrison[1:])


async def posts(size: Size) -> Found:
    """Measure the rate of 64 posters, each waiting for its acknowledgement, while what they post
    is delivered; beside SQLite alone that commits the same rows in groups of 64."""
    floor: list[float] = []
    garrison: list[float] = []
    count = size.calls * 5 // WIDTH * WIDTH
    async with host({"mailbox": "mailbox", "post": "post", "sink": "post"}) as there:
        poster = _patient(there, "post")
        await poster.side_by_side("sink", TEXT, 20 * WIDTH, WIDTH)
        for _ in range(size.rounds):
            floor.append(await floors.committed(TEXT, count, WIDTH))
            took: float = await poster.side_by_side("sink", TEXT, count, WIDTH)
            garrison.append(count / took)
    return Found(floor, garrison)


async def post(size: Size) -> Found:
    """Measure one poster's wait for its acknowledgement, beside SQLite's commit of one row."""
    floor: list[float] = []
    garrison: list[float] = []
    count = size.calls // 10
    async with host({"mailbox": "mailbox", "post": "post", "sink": "post"}) as there:
        poster = _patient(there, "post")
        await poster.one_by_one("sink", TEXT, count)
        for _ in range(size.rounds):
            floor.append(1 / await floors.committed(TEXT, count, 1))
            times: list[float] = await poster.one_by_one("sink", TEXT, count)
            garrison.append(statistics.median(times))
    return Found(floor, garrison)


async def delivered(size: Size) -> Found:
    """Measure the rate at which what waits for one service is delivered, each acknowledged on disk
    before the next is sent; beside as many calls one after another."""
    floor: list[float] = []
    garrison: list[float] = []
    services = {"mailbox": "mailbox", "post": "post", "sink": "post", "echo": "echo"}
    async with host(services | {"caller": "caller"}, ROUTED) as there:
        poster, sink = _patient(there, "post"), _patient(there, "sink")
        caller = _patient(there, "caller")
        for _ in range(size.rounds):
            times: list[float] = await caller.one_by_one("echo", TEXT, size.calls)
            floor.append(1 / statistics.mean(times))
            all_of_them = size.calls // WIDTH * WIDTH + await sink.count()
            await poster.side_by_side("sink", TEXT, size.calls // WIDTH * WIDTH, WIDTH)
            left = all_of_them - await sink.count()
            began = time.perf_counter()
            await sink.until(all_of_them)
            garrison.append(left / (time.perf_counter() - began))
    return Found(floor, garrison)


async def _bytes(size: Size, each: int, count: int) -> Found:
    """Return bytes per second, both ways together."""
    floor: list[float] = []
    garrison: list[float] = []
    async with host({"echo": "echo", "caller": "caller"}, ROUTED) as there:
        caller = _patient(there, "caller")
        await caller.with_bytes("echo", each, 10)
        for _ in range(size.rounds):
            floor.append(await floors.raw_bytes(each, count))
            took: float = await caller.with_bytes("echo", each, count)
            garrison.append(2 * each * count / took)
    return Found(floor, garrison)


async def _conversation(service: Any, lines: int) -> list[float]:
    """Return the time of each line of a conversation, which travels with them."""
    conversation: Any = None
    times: list[float] = []
    for number in range(lines):
        began = time.perf_counter()
        reply = await service.say(LINES[number % len(LINES)], conversation)
        times.append(time.perf_counter() - began)
        conversation = reply["conversation"]
    return times


async def _kills(plugin: str, size: Size) -> list[float]:
    """Kill the services of a small host by turns.

    Each kill is a service's first: `reset` forgets the one before, after which it would back off.
    """
    async with host(_many(plugin, KILLED)) as there:
        times: list[float] = []
        for number in range(size.kills):
            name = there.names[number % KILLED]
            there.client.session.send(messages.Order(number, "reset", (name,)))
            await asyncio.sleep(REST_S)
            times.append(await _kill(there, name))
        return times


async def _kill(there: Host, name: str) -> float:
    """Return the time from the SIGKILL of a service to its next incarnation's answer."""
    service = _service(there, name)
    old: int = await service.pid()
    began = time.perf_counter()
    os.kill(old, signal.SIGKILL)
    while True:
        try:
            if await service.pid() != old:
                return time.perf_counter() - began
        except ServiceLost:
            continue


def _many(plugin: str, count: int) -> dict[str, str]:
    """Return so many services of a plugin, the one that it brings by itself among them."""
    more = {f"{plugin}-{number}": plugin for number in range(2, count + 1)}
    return {plugin: plugin} | more


def _service(there: Host, name: str) -> Any:
    return there.client.get_service(name)


def _patient(there: Host, name: str) -> Any:
    return with_timeout(_service(there, name), LONG_S)


ROWS = (
    Row("call", "sequential call, p50", "us", 1.25, call),
    Row("flood", "64 in flight, floor: raw", "calls/s", 2.5, flood),
    Row("batches", "same, floor: unbatched", "calls/s", 2.5, batches),
    Row("large", "1 MiB there and back", "MB/s", 0.9, large),
    Row("larger", "16 MiB there and back", "MB/s", 0.9, larger),
    Row("restart", "SIGKILL to next answer, p50", "ms", 0.2, restart),
    Row("preloaded", "same, discord.py + openai", "ms", 0.04, preloaded),
    Row("chat", "line at chat to answer, p50", "ms", 0.015, chat, absolute=True),
    Row("answer", "message to answer, p50", "ms", 0.012, answer, absolute=True),
    Row("answers", "answers in 20 rooms", "calls/s", 250.0, answers, absolute=True),
    Row("posts", "posts of 64 posters", "calls/s", 0.3, posts),
    Row("post", "one post, p50", "ms", 10.0, post),
    Row("delivered", "delivered to one service", "calls/s", 0.0, delivered),
    Row("start", "50 services running", "s", 0.15, start),
    Row("memory", "PSS per idle service of 20", "MiB", 0.6, memory),
)
