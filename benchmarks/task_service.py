"""The task service: due tasks run by several runners, each in one worker's process.

    .venv/bin/python benchmarks/task_service.py [--store agent|database] [--url postgresql://…]
        [--tasks N] [--runners N] [--concurrency N]

A host runs the store, the runners and the worker. All tasks are due at one moment; the rate is
theirs, from that moment until none is left. It fails where a task ran twice or was left. Seconds.
"""

import argparse
import asyncio
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import START_S, Host, host

from garrison.ipc import with_timeout
from garrison.workers import Task

STORED_AT_ONCE = 200
LOOK_S = 0.05
MOST_S = 120.0


async def main() -> int:
    """Measure, print one line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["agent", "database"], default="database")
    parser.add_argument("--url", default="")
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--runners", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    names = [f"task-{number}" for number in range(options.runners)]
    extra = f"[plugins.{options.store}]\n[plugins.errand]\n[plugins.task]\n"
    extra += "[services.task]\nautostart = false\n"
    for name in names:
        extra += f'[services.{name}]\nplugin = "task"\ntype = "task"\n[services.{name}.config]\n'
        extra += f"concurrency = {options.concurrency}\npoll = 0.2\nsteady = 0.5\n"
    if options.url:
        extra += f'[services.database.config]\nurl = "{options.url}"\n'
    here = machine.describe()
    async with host({"errand": "errand"}, extra.replace("[plugins.errand]\n", "")) as there:
        for name in (options.store, *names):
            await there.client.get_service_load_promise(name, START_S)
        took_s, left = await run(there, options.store, options.tasks)
        errand: Any = there.client.get_service("errand")
        runs, different = await errand.counts()
    kind = "PostgreSQL" if options.url else "SQLite"
    target = 1_000 if options.url else 500
    rate = options.tasks / took_s
    print(
        f"{options.store} on {kind}: {options.tasks} tasks by {options.runners} runners in "
        f"{took_s:.2f} s: {rate:.0f}/s (target {target}); twice: {runs - different}, left: {left}"
    )
    print(textwrap.fill(machine.line(here), 80))
    return 0 if rate >= target and runs == different == options.tasks and not left else 1


async def run(there: Host, store: str, count: int) -> tuple[float, int]:
    """Store tasks that are all due at one moment; return how long they took from it, and how many
    were left."""
    database: Any = with_timeout(there.client.get_service(store), 60.0)
    due = time.time() + 5.0 + count / 500
    at = datetime.fromtimestamp(due, UTC)
    for start in range(0, count, STORED_AT_ONCE):
        numbers = range(start, min(start + STORED_AT_ONCE, count))
        tasks = [
            Task(id=f"t{number}", name="ERRAND", tags=["queue"], scheduled_for=at)
            for number in numbers
        ]
        await asyncio.gather(*(database.create_task(task) for task in tasks))
    assert time.time() < due, "storing them took too long"
    await asyncio.sleep(due - time.time())
    began = time.perf_counter()
    while True:
        left = await database.get_tasks({"status": {"$ne": "done"}, "limit": 1})
        took_s = time.perf_counter() - began
        if not left or took_s > MOST_S:
            return took_s, len(left)
        await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
