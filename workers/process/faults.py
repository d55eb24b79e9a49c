"""Methods of a worker for `garrison chaos`: echo, receive posts, hang, leak, flood.

A method `chaos_hang` here is called as `$chaos_hang`. They exist only where the host's config has
`chaos = true`. Each fault ends by itself. Durations are seconds, sizes are bytes.
"""

import asyncio
import os
import re
import time
from typing import Any

from garrison.ipc.client import Client
from garrison.ipc.errors import CallError
from garrison.ipc.mail import EVENT
from garrison.workers.runtime import Runtime

HANG_MOST = 600.0
FLOOD_MOST = 30.0
FLOOD_CALLS, FLOOD_EVENTS = 192, 64  # concurrent
FLOOD_BYTES = 1024  # of each event
CALL_S = 5.0  # for each call of a flood
LEAK_PIECE = 4 << 20
LEAK_PAUSE = 0.005  # between pieces, so that the loop still sends beats
LEAK_HELD = 15.0  # until leaked memory is freed, if the process was not ended before
RUN = re.compile(r"[0-9a-f]{8,32}")


class FaultInjection:
    """The fault methods of one worker.

    Args:
        runtime: The service's runtime.
        client: The service's client.
    """

    def __init__(self, runtime: Runtime, client: Client) -> None:
        self._runtime, self._client = runtime, client

    async def chaos_echo(self, number: int) -> tuple[int, int]:
        """Return the number, and the generation of this incarnation."""
        return number, self._runtime.generation

    async def chaos_relay(self, name: str, number: int) -> Any:
        """Return the reply of another service to `chaos_echo`."""
        return await self._client.call_method(name, "$chaos_echo", (number,))

    async def chaos_take(self, run: str, number: int) -> None:
        """Append a posted number to the file of a run, which outlasts this process."""
        if not RUN.fullmatch(run):
            raise ValueError(f"a run's name is 8 to 32 hexadecimal digits, not {run!r:.80}")
        path = self._runtime.data_folder / f"chaos-{run}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, f"{number}\n".encode())
        finally:
            os.close(file)

    async def chaos_hang(self, seconds: float) -> None:
        """Block the event loop."""
        time.sleep(min(seconds, HANG_MOST))  # noqa: ASYNC251 (the fault itself)

    async def chaos_leak(self, most: int) -> None:
        """Allocate and hold so much memory."""
        held: list[bytes] = []
        while len(held) * LEAK_PIECE < most:
            held.append(b"\x01" * LEAK_PIECE)  # written to: untouched pages use no memory
            await asyncio.sleep(LEAK_PAUSE)
        await asyncio.sleep(LEAK_HELD)

    async def chaos_flood(self, name: str, seconds: float) -> int:
        """Send calls and events to another service at full speed; return the number of replies."""
        until = time.monotonic() + min(seconds, FLOOD_MOST)
        replies = 0

        async def send(method: str, *args: Any) -> None:
            nonlocal replies
            while time.monotonic() < until:
                try:
                    await self._client.call_method(name, method, args, timeout=CALL_S)
                    replies += 1
                except CallError:
                    await asyncio.sleep(0.01)

        event = ("CHAOS_FLOOD", "x" * FLOOD_BYTES)
        calls = [send("$chaos_echo", 0) for _ in range(FLOOD_CALLS)]
        await asyncio.gather(*calls, *(send(EVENT, *event) for _ in range(FLOOD_EVENTS)))
        return replies
