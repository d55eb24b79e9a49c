"""An experiment: calls over the supervisor's router, and over a socket of the callee's own.

    .venv/bin/python benchmarks/direct.py [--quick]

What a route granted by the supervisor would give: the callee has a ROUTER of its own and its
callers a DEALER to it, one hop in place of two. Everything else is garrison's own code, and both
ways are measured by turns in the same run, in the same processes. Run it on a quiet machine. It
takes a minute (`--quick`: twenty seconds), and leaves no process and no file behind.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import Host, host
from benchmarks.programs.spawned import pss
from benchmarks.rows import LONG_S, TEXT, WIDTH

from garrison.ipc import with_timeout

CALLERS = (1, 4)
ROUNDS, CALLS = (5, 2_000) if "--quick" in sys.argv[1:] else (15, 4_000)
ANSWERS = 200
WAYS = {False: "routed", True: "direct"}


@dataclass(slots=True)
class Found:
    """What one way gave, round by round."""

    times: list[float] = field(default_factory=list)  # of calls one after another
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)  # calls/s with WIDTH of each caller in flight
    alone: list[float] = field(default_factory=list)  # processor seconds a call, one by one
    busy: list[float] = field(default_factory=list)  # and in flight together


def used(pids: list[int]) -> float:
    """Return the seconds of a processor that these processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def pids_of(there: Host) -> list[int]:
    """Return the supervisor and every worker: all that a call can cost."""
    pid = there.client.session._supervisor_pid
    launchers = children(pid)
    return [pid, *(worker for launcher in launchers for worker in children(launcher))]


def children(pid: int) -> list[int]:
    """Return a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


async def measure(callers: int) -> None:
    """Measure both ways with so many callers, and print a table."""
    names = ["direct", *(f"caller-{n}" for n in range(callers))]
    found = {way: Found() for way in WAYS}
    async with host(dict.fromkeys(names, "direct")) as there:
        services = [with_timeout(_service(there, name), LONG_S) for name in names]
        calling = services[1:]
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
            await _all(one.one_by_one("direct", TEXT, 500) for one in calling)
            pids = await pids_of(there)
            before = sum(map(pss, pids)), sum(map(descriptors, pids))
            path = f"{folder}/direct.sock"
            await services[0].listen(path)
            await _all(one.connect("direct", path) for one in calling)
            await asyncio.sleep(0.3)  # for all to be connected
            after = sum(map(pss, pids)), sum(map(descriptors, pids))
            for direct in WAYS:
                await _all(one.go_direct(direct) for one in calling)
                await _all(one.side_by_side("direct", TEXT, 50 * WIDTH, WIDTH) for one in calling)
            for _ in range(ROUNDS):
                for direct in WAYS:
                    await _all(one.go_direct(direct) for one in calling)
                    await _round(calling, pids, found[direct])
    _print(callers, found)
    memory, opened = ((b - a) / callers for a, b in zip(before, after, strict=True))
    print(f"a pair more: {memory / 1024:.0f} KiB, {opened:.1f} descriptors\n", flush=True)


async def _round(calling: list[Any], pids: list[int], found: Found) -> None:
    count = CALLS // len(calling)
    began = used(pids)
    each = await _all(one.one_by_one("direct", TEXT, count) for one in calling)
    times: list[float] = [time for times in each for time in times]
    found.alone.append((used(pids) - began) / len(times))
    ordered = sorted(times)
    found.p50.append(statistics.median(ordered))
    found.p99.append(ordered[int(len(ordered) * 0.99)])
    count = 5 * CALLS // len(calling) // WIDTH * WIDTH
    began, at = used(pids), time.perf_counter()
    await _all(one.side_by_side("direct", TEXT, count, WIDTH) for one in calling)
    found.rate.append(count * len(calling) / (time.perf_counter() - at))
    found.busy.append((used(pids) - began) / (count * len(calling)))


async def answers_lost() -> None:
    """Have a callee answer and die while its caller's loop is busy; count what it was given."""
    lost = dict[str, int]()
    async with host(dict.fromkeys(("direct", "caller"), "direct")) as there:
        callee, caller = (with_timeout(_service(there, n), LONG_S) for n in ("direct", "caller"))
        with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
            for direct, way in WAYS.items():
                await there.client.get_service_load_promise("direct")
                if direct:
                    await callee.listen(f"{folder}/direct.sock")
                    await caller.connect("direct", f"{folder}/direct.sock")
                    await asyncio.sleep(0.3)
                    # Who never met at the router is told of no end at all.
                    await caller.one_by_one("direct", TEXT, 1)
                    await caller.go_direct(direct)
                lost[way] = await caller.late_reader("direct", ANSWERS)
    told = ", ".join(f"{way} {count}" for way, count in lost.items())
    print(f"of {ANSWERS} answers given before a death, told as ServiceLost: {told}", flush=True)


def _print(callers: int, found: dict[bool, Found]) -> None:
    routed, direct = found[False], found[True]
    print(f"{f'{callers} caller(s)':<32}{'routed':>10}{'direct':>10}{'change':>9}")
    for title, key, scale in (
        ("one by one, p50, µs", "p50", 1e6),
        ("one by one, p99, µs", "p99", 1e6),
        ("one by one, processor µs a call", "alone", 1e6),
        (f"{WIDTH} in flight each, calls/s", "rate", 1.0),
        ("the same, processor µs a call", "busy", 1e6),
    ):
        old, new = (statistics.median(getattr(one, key)) * scale for one in (routed, direct))
        print(f"{title:<32}{old:>10,.1f}{new:>10,.1f}{(new - old) / old:>+9.0%}")


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _service(there: Host, name: str) -> Any:
    return there.client.get_service(name)


async def _all(calls: Any) -> list[Any]:
    return list(await asyncio.gather(*calls))


async def main() -> None:
    """Measure with few callers and with more."""
    here = machine.describe()
    for callers in CALLERS:
        await measure(callers)
    await answers_lost()
    print(textwrap.fill(machine.line(here), 80))


if __name__ == "__main__":
    asyncio.run(main())
