"""Memories of the database: stored by many callers at once, and the most similar of 10,000.

    .venv/bin/python benchmarks/memories.py [--url postgresql://…] [--no-pgvector] [--count N]

A host runs the database, on a file of its own or at the URL. One program stores memories in calls
of their own, WIDTH at a time, first without vectors and then with one of 384 dimensions; then it
searches, one search after the other. A memory counts once its call has returned: it is on disk
then. Times are those of the caller. The database at the URL should be empty.

Exit status: 0 where each figure reaches its target, 1 otherwise.
"""

import argparse
import asyncio
import random
import statistics
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import START_S, host

from garrison.ipc import with_timeout
from garrison.workers import Content, Memory

WIDTH = 64  # calls in flight
DIMENSION = 384
SEARCHES = 50
STORED_TARGET, SEARCH_TARGET_S = 1_000, 0.020
TEXT = "My mother takes care of me, and so I have come to talk with you."


async def main() -> int:
    """Measure, print the figures, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="")
    parser.add_argument("--no-pgvector", action="store_true")
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    pgvector = str(not options.no_pgvector).lower()
    extra = f"[plugins.database]\n[services.database.config]\npgvector = {pgvector}\n"
    if options.url:
        extra += f'url = "{options.url}"\n'
    here = machine.describe()
    async with host({}, extra) as there:
        await there.client.get_service_load_promise("database", START_S)
        database: Any = with_timeout(there.client.get_service("database"), 60.0)
        plain = await stored(database, "messages", options.count, 0)
        with_vectors = await stored(database, "facts", options.count, DIMENSION)
        first, median = await searched(database)
    kind = "SQLite" if not options.url else f"PostgreSQL, pgvector = {pgvector}"
    print(
        f"{kind}: {options.count} memories stored by {WIDTH} callers: {plain:.0f}/s, with vectors "
        f"{with_vectors:.0f}/s (target {STORED_TARGET}); similar of {options.count} × {DIMENSION}: "
        f"p50 {median * 1000:.1f} ms (target {SEARCH_TARGET_S * 1000:.0f}), the first "
        f"{first * 1000:.0f} ms"
    )
    print(textwrap.fill(machine.line(here), 80))
    return 0 if plain >= STORED_TARGET and median <= SEARCH_TARGET_S else 1


async def stored(database: Any, table: str, count: int, dimension: int) -> float:
    """Store memories; return how many a second."""
    chosen = random.Random(dimension)
    memories = iter(
        [
            Memory(
                content=Content(TEXT, source="bench"),
                id=f"{table}-{number}",
                room_id=f"room-{number % 20}",
                entity_id="ada",
                created_at=1.0 + number,
                embedding=[chosen.gauss(0, 1) for _ in range(dimension)] or None,
            )
            for number in range(count)
        ]
    )

    async def store() -> None:
        for memory in memories:
            await database.create_memory(memory, table, agent_id="bench")

    began = time.perf_counter()
    await asyncio.gather(*(store() for _ in range(WIDTH)))
    return count / (time.perf_counter() - began)


async def searched(database: Any) -> tuple[float, float]:
    """Return the seconds of the first search, and the median of those that follow."""
    chosen = random.Random(1)
    took: list[float] = []
    for _ in range(SEARCHES + 1):
        vector = [chosen.gauss(0, 1) for _ in range(DIMENSION)]
        began = time.perf_counter()
        found = await database.search_memories(
            vector, table_name="facts", match_threshold=-1.0, agent_id="bench"
        )
        took.append(time.perf_counter() - began)
        assert len(found) == 10
    return took[0], statistics.median(took[1:])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
