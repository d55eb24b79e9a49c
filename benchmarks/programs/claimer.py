"""A claimer of `benchmarks/tasks.py`: joins a host, claims tasks, settles them, prints their ids.

claimer.py HOME OWNER NAME: it prints "ready", waits for a line, and begins.
"""

import asyncio
import json
import sys
from typing import Any

from garrison.ipc import connect, with_timeout

AT_ONCE = 25
LEASE_S = 120.0


async def main(home: str, owner: str, name: str) -> None:
    """Work until nothing is due."""
    settled: list[str] = []
    async with connect(home) as client:
        database: Any = with_timeout(client.get_service("database"), 60.0)
        await database.count_memories()
        print("ready", flush=True)
        sys.stdin.readline()

        async def settle(task: dict[str, str]) -> None:
            if await database.settle_task(task["id"], task["lease"], {"status": "done"}):
                settled.append(task["id"])

        while found := await database.claim_tasks(
            owner=owner, lease=LEASE_S, limit=AT_ONCE, names=[name]
        ):
            await asyncio.gather(*(settle(task) for task in found))
    print(json.dumps(settled))


asyncio.run(main(*sys.argv[1:]))
