"""Measure the processor time of a call, by process and thread, beside raw ZeroMQ's.

    .venv/bin/python benchmarks/processor.py [--direct] [--rounds N] [--width N] [--calls N]

One service calls another with a small dict, one call after another (or `--width` of them in
flight), through the supervisor or over a direct route. The floor is a raw DEALER, ROUTER and DEALER
of pyzmq, with messages of the same sizes, by turns in the same run; its router stands beside the
supervisor. The figures are of `/proc/PID/task/TID/schedstat` before and after, so what else the
machine does counts little.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import floors
from benchmarks.direct import until_direct
from benchmarks.host import DIRECT, ROUTED, Host, host
from benchmarks.programs.raw import used
from benchmarks.rows import LONG_S
from benchmarks.services.caller import SMALL

from garrison.ipc import with_timeout

ROLES = {"supervisor": "router", "caller": "caller", "echo": "echo"}  # process → the raw one
SHOWN = {"caller": "caller", "echo": "callee", "supervisor": "supervisor"}
THREADS = ("main", "others")


async def pids_of(there: Host) -> dict[str, int]:
    """Return the process of each role."""
    pids = {"supervisor": there.client.session._supervisor.pid}
    status = await there.client.order("status", ("caller", "echo"))
    for service in status["services"]:
        pids[service["name"]] = service["pid"]
    return pids


async def measure(options: Any) -> dict[str, list[float]]:
    """Return the rounds of each figure, in seconds.

    Figures are named PROCESS MAIN-OR-OTHERS, those of raw ZeroMQ with `raw` before them.
    """
    found: dict[str, list[float]] = defaultdict(list)
    width, count = options.width, options.calls // options.width * options.width
    config = DIRECT if options.direct else ROUTED
    async with host({"echo": "echo", "caller": "caller"}, config) as there:
        pids = await pids_of(there)
        caller: Any = with_timeout(there.client.get_service("caller"), LONG_S)
        await caller.small("echo", 500)
        await caller.small_side_by_side("echo", 20 * width, width)
        if options.direct:
            await until_direct(there, caller)
        for _ in range(options.rounds):
            raw = await floors.raw_use(SMALL, count, width)
            before = {role: used(pid) for role, pid in pids.items()}
            if width == 1:
                times: list[float] = await caller.small("echo", count)
                found["call, p50"].append(statistics.median(times))
            else:
                took: float = await caller.small_side_by_side("echo", count, width)
                found["call, mean"].append(took / count)
            for role, counterpart in ROLES.items():
                after = used(pids[role])
                for number, thread in enumerate(THREADS):
                    spent = (after[number] - before[role][number]) / count
                    found[f"{SHOWN[role]} {thread}"].append(spent)
                    found[f"raw {SHOWN[role]} {thread}"].append(raw[counterpart][number])
    return found


def table(found: dict[str, list[float]]) -> str:
    """Return medians in microseconds, and their ratios to raw ZeroMQ's."""
    lines = ["| processor time of a call, µs | main thread | others | raw ZeroMQ | ratio |"]
    lines.append("|---|---|---|---|---|")
    for shown in SHOWN.values():
        main, others = (statistics.median(found[f"{shown} {one}"]) * 1e6 for one in THREADS)
        floor = [statistics.median(found[f"raw {shown} {one}"]) * 1e6 for one in THREADS]
        beside = f"{floor[0]:.0f} + {floor[1]:.0f}"
        ratio = (main + others) / sum(floor)
        lines.append(f"| {shown} | {main:.0f} | {others:.0f} | {beside} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the requested path, and print a table of medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="every round's figures, as JSON")
    parser.add_argument("--direct", action="store_true", help="over a direct route")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of calls (5)")
    parser.add_argument("--width", type=int, default=1, help="calls in flight (1)")
    parser.add_argument("--calls", type=int, default=2000, help="calls a round (2000)")
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    if options.json:
        print(json.dumps(found))
        return
    for title in [title for title in found if title.startswith("call,")]:
        print(f"{title}: {statistics.median(found[title]) * 1e6:.1f} µs\n")
    print(table(found))


if __name__ == "__main__":
    main()
