"""What each row is held against: raw ZeroMQ, SQLite alone, fresh and spawned processes.

Each floor but SQLite's is a program of its own in `programs/`, so that nothing imported here weighs
on it.
Durations are seconds, sizes are bytes.
"""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from garrison.ipc import messages
from garrison.workers.services.mailbox import schema

PROGRAMS = Path(__file__).parent / "programs"
LONGEST_S = 300.0  # for one program


@contextlib.asynccontextmanager
async def ended_after(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """End a process, the leader of its session, and what it started; whatever happens inside."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _program(name: str, *arguments: object) -> Any:
    """Run a program; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAMS / name),
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    async with ended_after(process), asyncio.timeout(LONGEST_S):
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        return json.loads(output)


def sizes(value: Any) -> tuple[int, int]:
    """Return the bytes of a garrison call of `echo` with this value, and of its reply."""
    arguments = Raw(messages.encode([value]))
    call = messages.Call(1000, "echo", arguments, messages.EMPTY_MAP, 30.0)
    reply = messages.Reply(1000, Raw(messages.encode(value)))
    return len(messages.encode([call])), len(messages.encode([reply]))


async def _raw(value: Any, count: int, width: int) -> Any:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return await _program("raw.py", folder, *sizes(value), count, width)


async def raw_call(text: str, count: int) -> float:
    """Return the median time of a raw call, one after another."""
    found = await _raw(text, count, 1)
    return float(statistics.median(found["times"]))


async def raw_use(value: Any, count: int, width: int) -> dict[str, tuple[float, float]]:
    """Return the seconds of a processor that a raw call takes its caller, router and echo: those of
    the main thread and of libzmq's."""
    used: dict[str, tuple[float, float]] = (await _raw(value, count, width))["used"]
    return {role: (main / count, others / count) for role, (main, others) in used.items()}


async def raw_hop(text: str, count: int) -> float:
    """Return the median time of a raw call without a router, one after another."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = await _program("raw_hop.py", folder, *sizes(text), count)
        return float(statistics.median(found["times"]))


async def raw_rate(text: str, count: int, width: int) -> float:
    """Return raw calls per second, `width` of them in flight, one message each."""
    found = await _raw(text, count, width)
    return count / float(found["total"])


async def raw_bytes(size: int, count: int) -> float:
    """Return bytes per second, both ways together, of raw calls with so many each way."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = await _program("large.py", folder, size, count)
        return 2 * size * count / float(found["total"])


async def fresh(count: int, modules: Sequence[str] = ()) -> list[float]:
    """Return how long each of so many fresh processes takes until it answers a call."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found: list[float] = await _program("fresh.py", folder, count, *modules)
        return found


async def spawned(count: int) -> tuple[float, list[int]]:
    """Return how long so many spawned processes take, and the PSS of each."""
    found = await _program("spawned.py", count)
    return found["seconds"], found["pss"]


async def committed(text: str, count: int, group: int) -> float:
    """Return how many rows SQLite alone commits a second, synced, in groups of so many."""
    return await asyncio.to_thread(_committed, text, count, group)


def _committed(text: str, count: int, group: int) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        db = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(schema.SCHEMA)
        args = msgspec.msgpack.encode([text])
        began = time.perf_counter()
        for start in range(0, count, group):
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO letters (id, receiver, method, args, kwargs, sender, posted_at, body, "
                "checksum) VALUES (?, 'sink', 'take', ?, X'80', 'post', ?, 1234567890, 1234567890)",
                [(f"{number:016x}", args, time.time()) for number in range(start, start + group)],
            )
            db.execute("COMMIT")
        took = time.perf_counter() - began
        db.close()
    return count / took
