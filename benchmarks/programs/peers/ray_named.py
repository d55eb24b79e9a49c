"""A named actor of a Ray cluster, called by an actor of the head: for `benchmarks/nodes.py`.

`ray_named.py ADDRESS HEAD FIRST SEEN`: the cluster, the address of its head, that of the machine on
which the named actor is to begin, and the file in which it writes that it runs. For each line on
standard input it prints one line of JSON:

    call COUNT      the median of calls one after another, in seconds
    flight COUNT    calls a second with 64 in flight
    where           the actor's pid and the address of its machine
    answered        the monotonic time at which the actor answers next

Ray's settings are its own. A handle is got by the name before each attempt to reach the actor.
"""

# pyright: reportMissingImports=false

import asyncio
import json
import logging
import os
import sys
import threading
import time
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DISABLE_IMPORT_WARNING="1")

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAME, NAMESPACE = "there", "bench"
SMALL: dict[str, Any] = {"text": "My mother takes care of me.", "room": "lobby", "number": 7}
WIDTH = 64  # calls in flight
WARM = 200
EACH_S = 0.05  # between two lines that it runs
ASK_S = 1.0  # for one attempt to reach it
LONG_S = 240.0


class Echo:
    """The named actor.

    Args:
        seen: The file in which it writes that it runs.
    """

    def __init__(self, seen: str) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._file = os.open(seen, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self) -> None:
        while True:
            os.write(self._file, f"{self._mark} {time.monotonic()}\n".encode())
            time.sleep(EACH_S)

    async def value(self, value: Any) -> Any:
        """Return the value."""
        return value

    async def where(self) -> tuple[int, str]:
        """Return its pid, and the address of its machine."""
        return os.getpid(), ray.util.get_node_ip_address()


class Caller:
    """Calls the named actor, from the machine of the head."""

    def __init__(self) -> None:
        self._echo: Any = ray.get_actor(NAME, NAMESPACE)

    async def call(self, count: int) -> list[float]:
        """Return the time of each call, made one after another."""
        times: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await self._echo.value.remote(SMALL)
            times.append(time.perf_counter() - began)
        return times

    async def flight(self, count: int) -> float:
        """Return calls a second."""

        async def some() -> None:
            for _ in range(count // WIDTH):
                await self._echo.value.remote(SMALL)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(WIDTH)))
        return count // WIDTH * WIDTH / (time.perf_counter() - began)


def answered() -> tuple[int, str]:
    """Return where the actor runs, as soon as it answers."""
    until = time.monotonic() + LONG_S
    while time.monotonic() < until:
        try:
            answer: Any = ray.get_actor(NAME, NAMESPACE).where.remote()  # its stubs know no methods
            found: Any = ray.get(answer, timeout=ASK_S)
        except (RayError, ValueError):
            time.sleep(0.01)  # it fails at once while the actor is started
        else:
            return int(found[0]), str(found[1])
    raise TimeoutError("Ray's named actor did not come back")


def on(address: str, soft: bool = False) -> Any:
    """Return the strategy that starts an actor on a machine."""
    (node,) = [one for one in ray.nodes() if one["Alive"] and one["NodeName"] == address]
    return NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=soft)


def main(address: str, head: str, first: str, seen: str) -> None:
    """Measure."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints, too
    ray.init(address=address, namespace=NAMESPACE, logging_level=logging.ERROR, log_to_driver=False)
    named: Any = ray.remote(Echo)  # its stubs do not know classes
    echo = named.options(
        name=NAME,
        num_cpus=0,
        resources={"place": 1},
        max_restarts=-1,
        max_concurrency=2 * WIDTH,
        scheduling_strategy=on(first, soft=True),
    ).remote(seen)
    answered()
    calls: Any = ray.remote(Caller)
    caller = calls.options(num_cpus=0, scheduling_strategy=on(head)).remote()
    ray.get(caller.call.remote(WARM))
    print(json.dumps(answered()), file=answers, flush=True)
    for line in sys.stdin:
        kind, _, count = line.strip().partition(" ")
        match kind:
            case "call":
                times = sorted(ray.get(caller.call.remote(int(count))))
                found: Any = times[len(times) // 2]
            case "flight":
                found = ray.get(caller.flight.remote(int(count)))
            case "where":
                found = answered()
            case _:
                answered()
                found = time.monotonic()
        print(json.dumps(found), file=answers, flush=True)
    ray.kill(echo)


if __name__ == "__main__":
    main(*sys.argv[1:])
