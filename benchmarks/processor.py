"""Measure what a call costs each process: microseconds of a processor, main thread and others.

    .venv/bin/python benchmarks/processor.py [--direct] [--rounds N] [--width N] [--calls N]

One service calls another, one call after another (or `--width` of them in flight), through
the supervisor or over a direct route. The figures are
of `/proc/PID/task/TID/schedstat` before and after, so what else the machine does counts little.
`raw` is the p50 of the same sizes over raw pyzmq, by turns in the same run.
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
from benchmarks.rows import LONG_S, TEXT

from garrison.ipc import with_timeout

ROLES = ("supervisor", "caller", "echo")
SHOWN = {"caller": "caller", "echo": "callee", "supervisor": "supervisor"}


def used(pid: int) -> tuple[float, float]:
    """Return the seconds of a processor that a process's main thread has used, and its others."""
    main = others = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        if task.name == str(pid):
            main = nanoseconds
        else:
            others += nanoseconds
    return main / 1e9, others / 1e9


async def pids_of(there: Host) -> dict[str, int]:
    """Return the process of each role."""
    pids = {"supervisor": there.client.session._supervisor.pid}
    status = await there.client.order("status", ("caller", "echo"))
    for service in status["services"]:
        pids[service["name"]] = service["pid"]
    return pids


async def measure(options: Any) -> dict[str, list[float]]:
    """Return the rounds of each figure; seconds."""
    found: dict[str, list[float]] = defaultdict(list)
    width, count = options.width, options.calls // options.width * options.width
    config = DIRECT if options.direct else ROUTED
    async with host({"echo": "echo", "caller": "caller"}, config) as there:
        pids = await pids_of(there)
        caller: Any = with_timeout(there.client.get_service("caller"), LONG_S)
        await caller.one_by_one("echo", TEXT, 500)
        await caller.side_by_side("echo", TEXT, 20 * width, width)
        if options.direct:
            await until_direct(there, caller)
        for _ in range(options.rounds):
            if width == 1:
                found["raw, p50"].append(await floors.raw_call(TEXT, count))
            before = {role: used(pid) for role, pid in pids.items()}
            if width == 1:
                times: list[float] = await caller.one_by_one("echo", TEXT, count)
                found["call, p50"].append(statistics.median(times))
            else:
                took: float = await caller.side_by_side("echo", TEXT, count, width)
                found["call, mean"].append(took / count)
            for role in ROLES:
                after = used(pids[role])
                found[SHOWN[role]].append((after[0] - before[role][0]) / count)
                found[f"{SHOWN[role]}, other threads"].append((after[1] - before[role][1]) / count)
    return found


def main() -> None:
    """Measure the requested paths, and print medians."""
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
    for title, rounds in found.items():
        print(f"{title:<28}{statistics.median(rounds) * 1e6:>9.1f} us")


if __name__ == "__main__":
    main()
