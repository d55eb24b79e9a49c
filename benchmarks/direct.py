"""Measure calls through the supervisor and over direct routes, and the raw hops that they are.

    .venv/bin/python benchmarks/direct.py [--quick]

Two hosts, one of them with `direct = true`, are measured by turns in the same run, and so are two
raw hops and one. It leaves no process and no file behind.
"""

import asyncio
import statistics
import sys
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import floors, machine
from benchmarks.host import DIRECT, ROUTED, Host, host
from benchmarks.rows import LONG_S, TEXT, WIDTH

from garrison.ipc import with_timeout

ROUNDS, CALLS = (3, 1_000) if "--quick" in sys.argv[1:] else (9, 4_000)
SERVICES = {"echo": "echo", "caller": "caller"}
GRANTED_S = 30.0


async def until_direct(there: Host, caller: Any) -> None:
    """Call until the supervisor has granted the route."""
    async with asyncio.timeout(GRANTED_S):
        while not (await there.client.order("counters"))["direct"]:
            await caller.one_by_one("echo", TEXT, 500)


async def measure() -> dict[str, list[float]]:
    """Return the rounds of each figure."""
    found: dict[str, list[float]] = defaultdict(list)
    async with host(SERVICES, ROUTED) as routed, host(SERVICES, DIRECT) as direct:
        ways = {"routed": routed, "direct": direct}
        callers = {way: _caller(there) for way, there in ways.items()}
        await callers["routed"].one_by_one("echo", TEXT, 500)
        await until_direct(direct, callers["direct"])
        for _ in range(ROUNDS):
            found["raw, two hops, p50, µs"].append(1e6 * await floors.raw_call(TEXT, CALLS))
            found["raw, one hop, p50, µs"].append(1e6 * await floors.raw_hop(TEXT, CALLS))
            for way, caller in callers.items():
                times = sorted(await caller.one_by_one("echo", TEXT, CALLS))
                found[f"{way}, p50, µs"].append(1e6 * statistics.median(times))
                found[f"{way}, p99, µs"].append(1e6 * times[int(len(times) * 0.99)])
                count = 5 * CALLS // WIDTH * WIDTH
                took = await caller.side_by_side("echo", TEXT, count, WIDTH)
                found[f"{way}, {WIDTH} in flight, calls/s"].append(count / took)
    return found


def _caller(there: Host) -> Any:
    return with_timeout(there.client.get_service("caller"), LONG_S)


async def main() -> None:
    """Measure, and print the medians."""
    here = machine.describe()
    for title, rounds in (await measure()).items():
        print(f"{title:<36}{statistics.median(rounds):>10,.0f}")
    print(textwrap.fill(machine.line(here), 80))


if __name__ == "__main__":
    asyncio.run(main())
