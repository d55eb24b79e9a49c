"""The transport to a server that is a process here: its messages are lines on its standard streams.

The library has such a transport too. This one bounds a line, logs what else the server writes, ends
all that the server has started, and gives it an environment of its own. Durations are seconds.
"""

import asyncio
import contextlib
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from garrison.workers import ChildProcess

from .config import ServerConfig
from .errors import McpFailed
from .line_log import LineLog
from .lines import Lines, TooLong

StartProcess: TypeAlias = Callable[..., Awaitable[ChildProcess]]

READ_BYTES = 64 * 1024
FLUSH_S = 0.5  # for what a server wrote before its end
CLOSE_S = 1.0  # after its input is closed, before SIGTERM
TERM_S = 1.0  # after SIGTERM, before SIGKILL


class StdioServer:
    """One start of a server.

    Args:
        server: Its config.
        environment: What its process gets.
        start: Starts its process: `Runtime.process`.
        log: Logs what it writes besides messages.
        ended: Called with the reason where it ends by itself.
    """

    def __init__(
        self,
        server: ServerConfig,
        environment: Mapping[str, str],
        start: StartProcess,
        log: LineLog,
        ended: Callable[[str], None],
    ) -> None:
        self._server, self._environment, self._log = server, environment, log
        self._start_process, self._ended = start, ended
        self._exited = asyncio.Event()
        self.pid = 0
        self.patience = CLOSE_S  # between the end of its input and SIGTERM

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """Start it and yield the streams of its messages; on leaving, end all of its processes.

        Raises:
            McpFailed: It cannot be started.
        """
        process = await self._start()
        self.pid = process.pid
        inbound, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        sent, outbound = anyio.create_memory_object_stream[SessionMessage](0)
        reading = {
            asyncio.create_task(self._read(process, inbound)),
            asyncio.create_task(self._read_errors(process)),
        }
        tasks = [
            *reading,
            asyncio.create_task(self._write(process, outbound, inbound)),
            asyncio.create_task(self._watch(process, reading, inbound)),
        ]
        try:
            yield received, sent
        finally:
            try:
                if not await process.end(TERM_S, self.patience):
                    self._log.add("stderr", b"[garrison: some of its processes cannot be ended]")
            finally:  # also where the end was cancelled
                for task in tasks:
                    task.cancel()
                for stream in (inbound, received, sent, outbound):
                    stream.close()

    async def _start(self) -> ChildProcess:
        command = self._server.command
        try:
            return await self._start_process(
                [command, *self._server.args],
                scope="service",
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=self._environment,
                cwd=self._server.cwd or None,
            )
        except OSError as error:
            where = f" in {self._server.cwd}" if self._server.cwd else ""
            text = f"it cannot be started: {error.strerror}: {command}{where}"
            raise McpFailed(text) from error

    # --- messages -----------------------------------------------------------------------------

    async def _read(self, process: ChildProcess, inbound: Any) -> None:
        assert process.stdout is not None
        lines = Lines(self._server.answer_bytes)
        with _streams_may_end():
            while data := await process.stdout.read(READ_BYTES):
                for line in lines.feed(data):
                    message = self._message(line)
                    if message is not None:
                        await inbound.send(SessionMessage(message))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._exited.wait()
        if not self._exited.is_set():
            self._ended("it closed its output")
            inbound.close()

    def _message(self, line: bytes | TooLong) -> Any:
        """Return the message in a line; None if there is none."""
        if isinstance(line, TooLong):
            text = f"its answer has {line.size:,} bytes; `answer_bytes` is "
            text += f"{self._server.answer_bytes:,}"
            self._log.add("stdout", f"[left out: {text}]".encode())
            if line.request_id is None:
                return None
            error = ErrorData(code=INTERNAL_ERROR, message=text)
            return JSONRPCError(jsonrpc="2.0", id=line.request_id, error=error)
        if not line.strip():
            return None
        try:
            return jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            self._log.add("stdout", line)
            return None

    async def _write(self, process: ChildProcess, outbound: Any, inbound: Any) -> None:
        assert process.stdin is not None
        try:
            async for one in outbound:
                text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()
        except OSError:
            if not self._exited.is_set():
                self._ended("it closed its input")
            inbound.close()  # else requests would wait for answers

    async def _read_errors(self, process: ChildProcess) -> None:
        assert process.stderr is not None
        lines = Lines(READ_BYTES)
        with contextlib.suppress(OSError):
            while data := await process.stderr.read(READ_BYTES):
                for line in lines.feed(data):
                    size = f"[{line.size:,} bytes]" if isinstance(line, TooLong) else ""
                    self._log.add("stderr", size.encode() if isinstance(line, TooLong) else line)

    # --- its end ------------------------------------------------------------------------------

    async def _watch(
        self, process: ChildProcess, reading: "set[asyncio.Task[None]]", inbound: Any
    ) -> None:
        """Note the end of its first process: what that started may hold the streams open."""
        await process.wait()
        self._exited.set()
        await asyncio.wait(reading, timeout=FLUSH_S)  # for its last words
        self._ended(_in_words(process.returncode, self._log.last))
        inbound.close()


def _in_words(code: int | None, last: list[str]) -> str:
    end = "it ended" if code is None else f"it exited with {code}"
    if code is not None and code < 0:
        end = f"it was killed by signal {-code}"
    return f"{end}: {last[-1]}" if last else end


@contextlib.contextmanager
def _streams_may_end() -> Any:
    """Pass over the ends of streams: the other side is gone."""
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        yield
