"""Measure what others notice of a receiver that is held up, and of a service that floods.

    .venv/bin/python benchmarks/fairness.py [--quick] [--only ROW …] [--json]

A row is measured with all calls through the supervisor, and with all over direct routes.

`blocked`, `stopped` and `slow`: three services keep calls under way to a receiver whose loop is
blocked, whose process is stopped, or whose method takes half a second. Meanwhile one other service
calls another, with pauses: p99 of these calls, beside that of the same calls before, by turns. Rows
with `-large` send 1 MiB with each call.

`calls`, `posts`, `events`, `heartbeats`, `reports`, `unbounded`: two services flood a third with
these at full speed. Meanwhile another one is killed again and again: the time from the SIGKILL
until the service that had called it gets ServiceLost. `reports` are heartbeats with subscriptions,
and `unbounded` are calls past every window.

Exit status: 0 where every row that was measured reaches its target, 1 otherwise.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import DIRECT, ROUTED, Host, host

from garrison.ipc import with_timeout
from garrison.supervisor.direct_routing import FOR_TESTS

HELD_UP = ("blocked", "stopped", "slow")
FLOODS = ("calls", "posts", "events", "heartbeats", "reports", "unbounded")
ROWS = (*HELD_UP, *(f"{how}-large" for how in HELD_UP), *FLOODS)
WAYS = ("routed", "direct")
SETTINGS = "[defaults]\nwatchdog = 0\nintensity = 0\n"
CALLERS, FLOODERS = [f"caller-{n}" for n in range(3)], ["flood-0", "flood-1"]
WIDTH, LARGE_WIDTH, LARGE = 100, 8, 1 << 20  # calls under way of each caller; bytes
DEADLINE_S = 1.0  # of these calls
REST_S = 0.002  # between two calls that are measured
RATIO_MOST, LOST_MOST_S = 3.0, 0.05  # targets
LONG_S = 600.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: turns, seconds of each, kills in each flood."""

    rounds: int
    seconds: float
    kills: int


FULL, QUICK = Size(5, 2.0, 40), Size(2, 1.5, 12)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. Durations are seconds; `floor` is what they are compared with."""

    row: str
    way: str
    floor: list[float]
    times: list[float]
    limit: float  # of the ratio of both p99, or of the longest time

    @property
    def is_ratio(self) -> bool:
        """Tell whether two p99 are compared."""
        return self.row not in FLOODS

    @property
    def figure(self) -> float:
        """Return what has to be within the limit."""
        return p99(self.times) / p99(self.floor) if self.is_ratio else max(self.times)

    def line(self) -> str:
        """Return it as shown."""
        ms = [1000 * one for one in (p99(self.floor), statistics.median(self.times))]
        ms += [1000 * one for one in (p99(self.times), max(self.times))]
        figure = f"{self.figure:7.2f} x" if self.is_ratio else f"{1000 * self.figure:6.1f} ms"
        limit = f"{self.limit:.0f} x" if self.is_ratio else f"{1000 * self.limit:.0f} ms"
        shown = "".join(f"{one:>9.2f}" for one in ms)
        result = "ok" if self.figure <= self.limit else "MISSED"
        return f"{self.row:<15}{self.way:<8}{shown}{figure:>11}{'≤ ' + limit:>9}  {result}"


HEAD = (
    f"{'beside':<15}{'way':<8}{'idle p99':>9}{'p50':>9}{'p99':>9}{'longest':>9}"
    f"{'':>11}{'target':>9}   (ms)"
)


def p99(times: list[float]) -> float:
    """Return the time that 99 of 100 do not exceed."""
    return sorted(times)[int(len(times) * 0.99)]


@contextlib.asynccontextmanager
async def crowd(names: list[str], way: str, posts: bool = False) -> AsyncIterator[Host]:
    """Run a host of services that are held up, flood or measure."""
    services = {"crowd": "crowd"} | dict.fromkeys(names, "crowd")
    config = (ROUTED if way == "routed" else DIRECT) + SETTINGS
    before = os.environ.pop(FOR_TESTS, None)
    if way == "direct":
        os.environ[FOR_TESTS] = "all"
    try:
        async with host(services | ({"mailbox": "mailbox"} if posts else {}), config) as there:
            yield there
    finally:
        os.environ.pop(FOR_TESTS, None)
        if before is not None:
            os.environ[FOR_TESTS] = before


def at(there: Host, name: str) -> Any:
    """Return a service, for calls that may take long."""
    return with_timeout(there.client.get_service(name), LONG_S)


async def pid_of(there: Host, name: str) -> int:
    """Return the process of a service."""
    (found,) = (await there.client.order("status", (name,)))["services"]
    return int(found["pid"])


# --- a receiver that is held up ---------------------------------------------------------------


async def held_up(row: str, way: str, size: Size) -> Result:
    """Measure calls between two services, idle and beside a receiver that is held up."""
    how, _, large = row.partition("-")
    idle: list[float] = []
    beside: list[float] = []
    async with crowd(["one", "two", "receiver", *CALLERS], way) as there:
        one, pid = at(there, "one"), await pid_of(there, "receiver")
        await one.timed("two", 0.5, REST_S)
        for _ in range(size.rounds):
            idle += await one.timed("two", size.seconds, REST_S)
            pressed = asyncio.gather(*(_press(there, name, how, large, size) for name in CALLERS))
            try:
                if how == "blocked":
                    await at(there, "receiver").block(size.seconds)
                elif how == "stopped":
                    os.kill(pid, signal.SIGSTOP)
                beside += await one.timed("two", size.seconds, REST_S)
            finally:
                os.kill(pid, signal.SIGCONT)
            await pressed
    return Result(row, way, idle, beside, RATIO_MOST)


async def _press(there: Host, name: str, how: str, large: str, size: Size) -> None:
    method = "slow" if how == "slow" else "echo"
    each, width = (LARGE, LARGE_WIDTH) if large else (100, WIDTH)
    await at(there, name).press("receiver", method, each, width, DEADLINE_S, size.seconds)


# --- services that flood ----------------------------------------------------------------------


async def flooded(row: str, way: str, size: Size) -> Result:
    """Measure from a service's SIGKILL to its caller's ServiceLost, before and during a flood."""
    names = ["target", "watch", "victim", *FLOODERS]
    async with crowd(names, way, posts=row == "posts") as there:
        await deaths(there, 2)
        idle = await deaths(there, size.kills // 2)
        await asyncio.gather(*(at(there, name).flood(row, "target") for name in FLOODERS))
        await asyncio.sleep(0.5)
        times = await deaths(there, size.kills)
        made = await asyncio.gather(*(at(there, name).calm() for name in FLOODERS))
    if not all(made):
        raise RuntimeError(f"{row}: a service did not flood")
    return Result(row, way, idle, times, LOST_MOST_S)


async def deaths(there: Host, number: int) -> list[float]:
    """Kill a service with a call in flight so often; return how long its caller did not know."""
    times: list[float] = []
    watch = at(there, "watch")
    for _ in range(number):
        await there.client.order("reset", ("victim",))  # so that it does not back off
        await there.client.get_service_load_promise("victim", LONG_S)
        pid: int = await at(there, "victim").pid()
        await watch.timed("victim", 0.05, REST_S)  # so that the two have met
        call = asyncio.ensure_future(watch.lost("victim"))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        times.append(await call - began)
    return times


# --- the command ------------------------------------------------------------------------------


def main() -> int:
    """Measure the requested rows; return the exit status."""
    options = _options()
    here, size = machine.describe(), QUICK if options.quick else FULL
    results: list[Result] = []
    if not options.json:
        print(HEAD)
    for row in options.only:
        for way in options.way:
            measure = flooded if row in FLOODS else held_up
            results.append(asyncio.run(measure(row, way, size)))
            if not options.json:
                print(results[-1].line(), flush=True)
    if options.json:
        rows = [
            {"row": one.row, "way": one.way, "idle": one.floor, "times": one.times}
            for one in results
        ]
        print(json.dumps({"machine": here, "rows": rows}, indent=2))
    else:
        print(textwrap.fill(machine.line(here), 80))
    return 0 if all(one.figure <= one.limit for one in results) else 1


def _options() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer turns and kills")
    parser.add_argument("--only", action="append", choices=ROWS, help="this row; may be repeated")
    parser.add_argument("--way", action="append", choices=WAYS, help="this way alone")
    parser.add_argument("--json", action="store_true", help="every time, as JSON")
    options = parser.parse_args()
    options.only, options.way = options.only or list(ROWS), options.way or list(WAYS)
    return options


if __name__ == "__main__":
    sys.exit(main())
