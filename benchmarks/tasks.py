"""Tasks of the database: due ones are claimed and settled by several processes at once.

    .venv/bin/python benchmarks/tasks.py [--url postgresql://…] [--tasks N] [--claimers N]

A host runs the database, on a file of its own or at the URL. The tasks are stored, then each
claimer, a process of its own, claims some, settles each as done, and claims again, until none is
left. It fails where a task was claimed twice or was left. The database at the URL should be empty.
"""

import argparse
import asyncio
import json
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import START_S, Host, host

from garrison.ipc import with_timeout
from garrison.workers import Task

CLAIMER = Path(__file__).parent / "programs" / "claimer.py"
NAME = "benchmark"
STORED_AT_ONCE = 200


async def main() -> int:
    """Measure, print one line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--claimers", type=int, default=4)
    options = parser.parse_args()
    extra = "[plugins.database]\n"  # the bundled one, not that of `services/`
    if options.url:
        extra += f'[services.database.config]\nurl = "{options.url}"\n'
    here = machine.describe()
    async with host({}, extra) as there:
        await there.client.get_service_load_promise("database", START_S)
        stored_s = await store(there, options.tasks)
        lists, took_s = await claim(there, options.claimers)
    ids = [one for ids in lists for one in ids]
    kind = "PostgreSQL" if options.url else "SQLite"
    target = 1_000 if options.url else 500
    rate = len(ids) / took_s
    print(
        f"{kind}: {options.tasks} stored, {options.tasks / stored_s:.0f}/s; claimed and settled by "
        f"{options.claimers}: {rate:.0f}/s (target {target}); twice: {len(ids) - len(set(ids))}, "
        f"left: {options.tasks - len(set(ids))}; each: {', '.join(str(len(one)) for one in lists)}"
    )
    print(textwrap.fill(machine.line(here), 80))
    return 0 if rate >= target and len(set(ids)) == len(ids) == options.tasks else 1


async def store(there: Host, count: int) -> float:
    """Store due tasks; return the seconds."""
    database: Any = with_timeout(there.client.get_service("database"), 60.0)
    began = time.perf_counter()
    for start in range(0, count, STORED_AT_ONCE):
        numbers = range(start, min(start + STORED_AT_ONCE, count))
        await asyncio.gather(
            *(
                database.create_task(Task(id=f"{NAME}-{number}", name=NAME, tags=["queue"]))
                for number in numbers
            )
        )
    return time.perf_counter() - began


async def claim(there: Host, claimers: int) -> tuple[list[list[str]], float]:
    """Return the ids that each claimer settled, and the seconds from the first claim on."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(CLAIMER), str(there.home), f"claimer-{number}", NAME),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(claimers)
    ]
    for process in processes:  # all have joined
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    began = time.perf_counter()
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    took_s = time.perf_counter() - began
    return [json.loads(output) for output, _ in outputs], took_s


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
