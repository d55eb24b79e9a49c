"""A TCP proxy between a worker and its supervisor, which can hold data back and break connections.

It runs in a thread of its own.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

CHUNK = 65536


class TcpProxy:
    """One listening port.

    Args:
        target: Returns host and port to connect to, at each connection.

    Attributes:
        port: Where it listens.
        held: Bytes that it holds back.
        connections: How many it has accepted.
    """

    def __init__(self, target: Callable[[], tuple[str, int]]) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = self.held = self.connections = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,))
        self._thread.start()
        started.wait()

    def hold(self) -> None:
        """Hold back what the worker sends."""
        self._do(self._open.clear)

    def release(self) -> None:
        """Send what was held back, and what follows."""
        self._do(self._open.set)

    def break_all(self) -> None:
        """Break all connections."""

        def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._do(abort)

    def close(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait()

    def _run(self, started: threading.Event) -> None:
        self._open.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # the transports close

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far = await asyncio.open_connection(*self._target())
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far}
        up = asyncio.ensure_future(self._copy(reader, far, True))
        down = asyncio.ensure_future(self._copy(far_reader, writer, False))
        try:
            await asyncio.gather(up, down)
        finally:
            self._writers -= {writer, far}
            for one in (writer, far):
                one.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if held and not self._open.is_set():
                    self.held += len(data)
                    await self._open.wait()
                writer.write(data)
                await writer.drain()
        if held and not self._open.is_set():  # the end waits like the data before it
            await self._open.wait()
        writer.close()


@contextlib.contextmanager
def proxy(target: Callable[[], tuple[str, int]]) -> Iterator[TcpProxy]:
    """Run a proxy."""
    one = TcpProxy(target)
    try:
        yield one
    finally:
        one.close()
