"""What `garrison chaos` calls in a worker: it answers, takes posts, hangs, leaks, floods.

A method `chaos_hang` here is called as `$chaos_hang`. A worker has them only where the host's
config says `chaos = true`. Each ends by itself, whether or not anybody ends it. Durations are
seconds, sizes are bytes.
"""

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING, Any

from garrison.ipc.errors import CallError
from garrison.ipc.mail import EVENT

if TYPE_CHECKING:
    from garrison.workers.runtime import Runtime

HANG_MOST = 600.0
FLOOD_MOST = 30.0
FLOODING_CALLS, FLOODING_EVENTS = 192, 64  # at the same time
FLOODED_BYTES = 1024  # of each event
CALL_S = 5.0  # for each call of a flood
LEAK_PIECE = 4 << 20
LEAK_PAUSE = 0.005  # between pieces, so that beats go on: a leak is no hang
LEAK_HELD = 15.0  # until what was leaked is given back, where nobody ended the process for it
RUN = re.compile(r"[0-9a-f]{8,32}")


class FaultInjection:
    """The calls of `garrison chaos` that one worker takes.

    Args:
        runtime: The worker's.
    """

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime

    async def chaos_echo(self, number: int) -> tuple[int, int]:
        """Return the number, and the generation that answers."""
        return number, self._runtime.generation

    async def chaos_relay(self, name: str, number: int) -> Any:
        """Return what another service answers to the same."""
        return await self._runtime.ask(name, "$chaos_echo", (number,), Any, None)

    async def chaos_take(self, run: str, number: int) -> None:
        """Write down a number that was posted: a line in a file of that run's, which outlasts this
        process."""
        if not RUN.fullmatch(run):
            raise ValueError(f"a run is named by hexadecimal digits, not {run!r:.80}")
        path = self._runtime.data_folder / f"chaos-{run}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, f"{number}\n".encode())
        finally:
            os.close(file)

    async def chaos_hang(self, seconds: float) -> None:
        """Block the loop, until somebody ends the process for it."""
        time.sleep(min(seconds, HANG_MOST))  # noqa: ASYNC251 (what an author should not do)

    async def chaos_leak(self, most: int) -> None:
        """Take so much memory, unless the process is ended for it before."""
        held: list[bytes] = []
        while len(held) * LEAK_PIECE < most:
            held.append(b"\x01" * LEAK_PIECE)  # written to, for untouched pages take nothing
            await asyncio.sleep(LEAK_PAUSE)
        await asyncio.sleep(LEAK_HELD)

    async def chaos_flood(self, name: str, seconds: float) -> int:
        """Send another service calls and events as fast as they go; return how many it took."""
        until = time.monotonic() + min(seconds, FLOOD_MOST)
        taken = 0

        async def send(method: str, *args: Any) -> None:
            nonlocal taken
            while time.monotonic() < until:
                try:
                    await self._runtime.ask(name, method, args, Any, CALL_S)
                    taken += 1
                except CallError:
                    await asyncio.sleep(0.01)

        event = ("CHAOS_FLOOD", "x" * FLOODED_BYTES)
        calls = [send("$chaos_echo", 0) for _ in range(FLOODING_CALLS)]
        await asyncio.gather(*calls, *(send(EVENT, *event) for _ in range(FLOODING_EVENTS)))
        return taken
