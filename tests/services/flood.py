"""A service that writes more than anyone reads, by a thread or a child, also while it hangs."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from garrison.ipc import messages
from garrison.workers import Plugin, Service

PIECE = b"x" * 65_536
CHILD = "import os\nwhile True: os.write(1, b'x' * 65_536)"


class FloodService(Service):
    """Floods."""

    service_type = "flood"
    child: subprocess.Popen[bytes] | None = None
    flooding = False

    async def begin(self, by_child: bool) -> None:
        """Write without a newline until `end`."""
        if by_child:
            self.child = subprocess.Popen([sys.executable, "-c", CHILD])  # noqa: ASYNC220
            return
        self.flooding = True
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def _write(self) -> None:
        while self.flooding:
            os.write(1, PIECE)

    async def end(self) -> None:
        """Write no more, but for a line."""
        if self.flooding:
            self.flooding = False
            await asyncio.to_thread(self.thread.join)  # its last piece is before the line's end
        if self.child is not None:
            self.child.kill()
            self.child.wait()
        os.write(1, b"\n")

    async def block(self, seconds: float) -> None:
        """Block the service's loop."""
        asyncio.get_running_loop().call_soon(time.sleep, seconds)

    async def flood_control(self) -> None:
        """Send the supervisor as much as it reads, until `calm`."""
        batch = [messages.Beat(1, 0, 0)] * 1000
        self.sending = asyncio.ensure_future(self._send(lambda: batch))

    async def flood_descriptions(self) -> None:
        """Send the supervisor ever new descriptions of this service, until `calm`."""
        numbers = itertools.count()
        new = lambda: [messages.Subscribe((f"event-{next(numbers)}",)) for _ in range(10)]  # noqa: E731
        self.sending = asyncio.ensure_future(self._send(new))

    async def _send(self, batch: Callable[[], list[Any]]) -> None:
        link: Any = self.runtime.client.session.control
        while True:
            for _ in range(10 - len(link._backlog)):
                link._post_batch(messages.SUPERVISOR, batch())
            await asyncio.sleep(0)

    async def calm(self) -> bool:
        """Stop that; return whether it was still going on."""
        return self.sending.cancel()

    async def say(self, text: str, number: int) -> None:
        """Print so many lines."""
        for count in range(number):
            print(text, count)

    async def die_saying(self, text: str) -> None:
        """Print a line, and be killed before anything else can happen."""
        kill: Callable[[], None] = lambda: os.kill(os.getpid(), 9)  # noqa: E731
        print(text)
        kill()


plugin = Plugin(name="flood", services=[FloodService])
