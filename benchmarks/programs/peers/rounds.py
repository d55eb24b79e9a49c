"""What the programs of all peers share: they measure a round for each line on standard input.

`call COUNT` makes calls of a small dict one after another and prints the median in seconds;
`flight COUNT` makes them with 64 in flight and prints calls a second; `large COUNT` sends 1 MiB
there and back and prints bytes a second each way. Only the standard library is imported: each
peer is installed in a virtual environment of its own.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SMALL: dict[str, Any] = {"text": "My mother takes care of me.", "room": "lobby", "number": 7}
LARGE = os.urandom(1 << 20)
WIDTH = 64  # calls in flight
CONNECT_S = 20.0
WARM = 200  # calls before the first round


def started(*arguments: str) -> "subprocess.Popen[str]":
    """Start this program again, as its server, and return it once it has printed a line."""
    server = subprocess.Popen(
        [sys.executable, sys.argv[0], *arguments], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    if not server.stdout.readline():
        raise RuntimeError(f"the server has ended with {server.wait()}")
    return server


def serving() -> None:
    """Say that the server can be called."""
    print("serving", flush=True)


def connected(connect: Callable[[], Any]) -> Any:
    """Return what a function returns, once the server, which is about to listen, lets it."""
    until = time.monotonic() + CONNECT_S
    while True:
        try:
            return connect()
        except OSError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.01)


def _answer(value: float) -> None:
    print(json.dumps(value), flush=True)


def measure(
    call: Callable[[Any], Any],
    client: Callable[[], Callable[[Any], Any]] | None = None,
    flight: Callable[[int], None] | None = None,
) -> None:
    """Measure a client that blocks.

    Args:
        call: Sends a value and returns it as it came back.
        client: Returns such a function for the thread that calls this; 64 threads have one each.
        flight: Makes so many calls, 64 of them in flight, where no threads are needed for it.
    """
    own = threading.local()
    threads = ThreadPoolExecutor(WIDTH)

    def one(_: int) -> None:
        if not hasattr(own, "call"):
            own.call = client() if client else call
        own.call(SMALL)

    def flight_of_threads(count: int) -> None:
        list(threads.map(one, range(count)))

    flight = flight or flight_of_threads
    for _ in range(WARM):
        call(SMALL)
    _answer(0.0)
    for line in sys.stdin:
        kind, count = line.split()[0], int(line.split()[1])
        times: list[float] = []
        began = time.perf_counter()
        if kind == "flight":
            flight(count)
            _answer(count / (time.perf_counter() - began))
            continue
        value = SMALL if kind == "call" else LARGE
        for _ in range(count):
            sent = time.perf_counter()
            if len(call(value)) != len(value):
                raise ValueError("something else came back")
            times.append(time.perf_counter() - sent)
        _answer(statistics.median(times) if kind == "call" else len(LARGE) * count / sum(times))


async def measure_async(call: Callable[[Any], Awaitable[Any]]) -> None:
    """Measure a client of an event loop."""
    for _ in range(WARM):
        await call(SMALL)
    _answer(0.0)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        kind, count = line.split()[0], int(line.split()[1])
        _answer(await _round(call, kind, count))


async def _round(call: Callable[[Any], Awaitable[Any]], kind: str, count: int) -> float:
    if kind == "flight":

        async def some() -> None:
            for _ in range(count // WIDTH):
                await call(SMALL)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(WIDTH)))
        return count // WIDTH * WIDTH / (time.perf_counter() - began)
    value = SMALL if kind == "call" else LARGE
    times: list[float] = []
    for _ in range(count):
        sent = time.perf_counter()
        if len(await call(value)) != len(value):
            raise ValueError("something else came back")
        times.append(time.perf_counter() - sent)
    return statistics.median(times) if kind == "call" else len(LARGE) * count / sum(times)
