"""Measure what the supervisor costs while nothing happens: processor, memory, wake-ups.

    .venv/bin/python benchmarks/idle.py [--json] [--services N] [--seconds S]

N small services run in one host, and no call is made. `cpu` is the share of one processor that the
supervisor's threads have used in S seconds, by `/proc/PID/schedstat` of each. `pss` is its memory,
pages that are shared counted in part. `turns` are the times a second that its main thread waited
for something. Run it on a quiet machine: on a busy one, processor time is longer for the same work.

Exit status: 0 where both figures reach their target, 1 otherwise.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import host

from garrison.supervisor.cli.client import request

CPU_PERCENT, PSS_MIB = 0.5, 25.0  # targets, with 50 services
SETTLE_S = 12.0  # until starts are measured, pages are trimmed and every clock has begun


class Sample(NamedTuple):
    """What a process has used until now."""

    at: float  # monotonic seconds
    cpu_s: float
    waits: int  # of its main thread


def sample(pid: int) -> Sample:
    """Return what a process has used, over all of its threads."""
    process = Path(f"/proc/{pid}")
    used = [int((task / "schedstat").read_text().split()[0]) for task in process.glob("task/*")]
    lines = (process / "status").read_text().splitlines()
    waits = next(line for line in lines if line.startswith("voluntary_ctxt_switches"))
    return Sample(time.monotonic(), sum(used) / 1e9, int(waits.split()[1]))


def pss_bytes(pid: int) -> int:
    """Return the memory of a process, with its part of what is shared."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


async def measure(services: int, seconds: float) -> dict[str, float]:
    """Return the figures of an idle host."""
    async with host({f"echo-{number}": "echo" for number in range(services)}) as there:
        pid = (await asyncio.to_thread(request, there.home, "status"))["supervisor"]["pid"]
        await asyncio.sleep(SETTLE_S)
        before = sample(pid)
        await asyncio.sleep(seconds)
        after, pss = sample(pid), pss_bytes(pid)
    took = after.at - before.at
    return {
        "services": services,
        "cpu_percent": 100 * (after.cpu_s - before.cpu_s) / took,
        "pss_mib": pss / 1024**2,
        "turns_per_s": (after.waits - before.waits) / took,
    }


def main() -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    here = machine.describe()
    found = asyncio.run(measure(options.services, options.seconds))
    sound = found["cpu_percent"] <= CPU_PERCENT and found["pss_mib"] <= PSS_MIB
    if options.json:
        print(json.dumps({"machine": here, **found, "ok": sound}, indent=2))
    else:
        print(
            f"supervisor, {options.services} idle services: {found['cpu_percent']:.2f} % of a "
            f"processor (≤ {CPU_PERCENT:g}), {found['pss_mib']:.1f} MiB PSS (≤ {PSS_MIB:g}), "
            f"{found['turns_per_s']:.1f} turns/s  {'ok' if sound else 'MISSED'}"
        )
        print(machine.line(here))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
