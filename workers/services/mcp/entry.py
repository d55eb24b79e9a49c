"""One server's entry: its connection, kept up by itself, and what the server offers.

A server that hangs or ends concerns its own entry alone. Durations are seconds.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from garrison.workers import Busy

from . import backoff
from .child_environment import environment, filled
from .config import ServerConfig
from .connection import GONE, LOST, RESOURCES, TOOLS, Connection, Sampling
from .errors import McpFailed, McpUnavailable, in_one_line
from .line_log import LineLog
from .resources import ResourceTexts
from .stdio import StartProcess
from .tools import ToolInfo, tool_of, withheld

log = logging.getLogger(__name__)

RETURN_S = 5.0  # a call waits so long for a server that has just ended
SETTLE_S = 0.2  # changes that are noticed within it are read once
READ_GAP_S = 1.0  # between two readings: a server may send any number of notices
CLOSE_S = 10.0  # for the end of a connection
WAITING_MOST = 256  # calls that wait for their turn
OTHERS_MOST = 64  # single resources that are noticed as changed; more: all are read


class Entry:
    """One server.

    Args:
        name: Its NAME.
        server: Its config.
        secrets: NAME and value of its secrets.
        probe: Time between checks of an idle server; 0 is never.
        changed: Called where its tools or its state have changed.
        redact: Replaces the service's secrets in a text.
        sampling: Answers its requests for a model, where its config allows them.
        start: Starts a process that ends with the service: `Runtime.process`.
    """

    def __init__(
        self,
        name: str,
        server: ServerConfig,
        secrets: Mapping[str, str],
        probe: float,
        changed: Callable[[], None],
        redact: Callable[[str], str],
        sampling: Sampling,
        start: StartProcess,
    ) -> None:
        self.name, self.server = name, server
        self.tools: list[ToolInfo] = []
        self.resources = ResourceTexts(server.resources, server.resource_bytes)
        self.problem = ""  # why it is not connected
        self.calls = self.failures = self.timeouts = self.connects = 0
        self._secrets, self._probe, self._changed = dict(secrets), probe, changed
        self._sampling = sampling if server.sampling else None
        self._redact, self._start_process = redact, start
        self._connection: Connection | None = None
        self._life: asyncio.Task[str] | None = None
        self._there = asyncio.Event()  # it is connected
        self.tried = asyncio.Event()  # for the first time
        self._wake = asyncio.Event()
        self._stale: set[str] = set()
        self._suspect = self._closing = self._answered = False
        self._lasted = 0.0  # of the last connection
        self._failed, self._retry_at = 0, 0.0
        self._slots, self._waiting, self._in_flight = asyncio.Semaphore(server.concurrency), 0, 0
        self._log = LineLog(log, name)

    # --- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep it connected, until it is closed."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            reason = await self._live()
            if self._closing:
                return
            self._failed = backoff.failures_now(self._failed, self._lasted, self._answered)
            wait = backoff.wait(self._failed, random.random())
            self._retry_at = loop.time() + wait
            self.problem = reason
            log.warning("mcp.disconnected server=%s wait_s=%.1f error=%s", self.name, wait, reason)
            self.tried.set()
            self._changed()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._until_closing()

    def close(self) -> None:
        """End its connection, and do not connect again."""
        self._closing = True
        self._wake.set()
        if self._connection is None and self._life is not None:
            self._life.cancel()  # it has not answered yet

    async def _until_closing(self) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()

    async def _live(self) -> str:
        """Connect and serve until the connection ends; return why.

        The library's client is opened and closed in a task of its own, whose cancellations are the
        library's.
        """
        task = asyncio.create_task(self._connect(), name=f"mcp server {self.name}")
        self._life = task
        try:
            await asyncio.wait({task})
        finally:
            if not task.done():  # the service ends
                task.cancel()
                await asyncio.wait({task}, timeout=CLOSE_S)
        if task.cancelled():
            return "the connection was cancelled"
        error = task.exception()
        return in_one_line(error) if error is not None else task.result()

    async def _connect(self) -> str:
        server, loop = self.server, asyncio.get_running_loop()
        connection = Connection(self.name, server, self._noticed, self._redact, self._sampling)
        if server.command:
            given = environment(server, self._secrets)
            opening = connection.over_stdio(given, self._start_process, self._log)
        else:
            opening = connection.over_http(filled(server.headers, self._secrets))
        self._stale, self._suspect = set(), False
        self._lasted, self._answered = 0.0, False
        self._wake.clear()
        limit = asyncio.timeout(server.connect_timeout)
        late = loop.call_later(server.connect_timeout, self.tried.set)  # its end may take longer
        try:
            async with limit, opening:
                try:
                    await self._read(connection, {TOOLS, RESOURCES})
                    limit.reschedule(None)
                    await self._serve(connection)
                finally:
                    self._gone(connection)
                    if not limit.expired():
                        limit.reschedule(loop.time() + CLOSE_S)
        except Exception as error:  # noqa: BLE001 (the library raises groups of any)
            slow = limit.expired() and f"it did not answer within {server.connect_timeout:g} s"
            known = "" if connection.lost == GONE else connection.lost
            return known or slow or connection.refusal or in_one_line(error)
        finally:
            late.cancel()
            self.tried.set()
        return connection.lost or GONE

    async def _serve(self, connection: Connection) -> None:
        """Serve calls, and read what has changed, until the connection is lost."""
        began = asyncio.get_running_loop().time()
        self._connection, self.problem = connection, ""
        self.connects += 1
        log.info("mcp.connected server=%s about=%r", self.name, connection.about)
        self._there.set()
        self.tried.set()
        self._changed()
        read_at = began
        listening = asyncio.create_task(connection.listen(self.resources.uris))
        listening.add_done_callback(_look_at)
        try:
            while not connection.lost and not self._closing:
                is_due = not await self._woken()
                if connection.lost or self._closing:
                    return
                if self._stale:
                    now = asyncio.get_running_loop().time()
                    await asyncio.sleep(max(SETTLE_S, read_at + READ_GAP_S - now))
                    what, self._stale = self._stale, set()
                    await self._read_in_time(connection, what)
                    read_at = asyncio.get_running_loop().time()
                elif self._suspect or (is_due and not self._in_flight):
                    await self._read_in_time(connection, {TOOLS, RESOURCES})
                    self._suspect = False
        finally:
            listening.cancel()
            self._lasted = asyncio.get_running_loop().time() - began

    async def _woken(self) -> bool:
        """Wait until something is to be done; return False if a check is due."""
        try:
            async with asyncio.timeout(self._probe or None):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _gone(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            self._there.clear()

    def _noticed(self, what: str) -> None:
        if what != LOST:
            self._stale.add(what if len(self._stale) < OTHERS_MOST else RESOURCES)
        self._wake.set()

    async def _read_in_time(self, connection: Connection, what: set[str]) -> None:
        seconds = self.server.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._read(connection, what)
        except TimeoutError:
            connection.give_up(f"it no longer answers: its lists did not come in {seconds:g} s")
        except McpFailed as error:
            connection.give_up(f"it no longer lists its tools: {error.reason}")

    async def _read(self, connection: Connection, what: set[str]) -> None:
        """Read what the server offers.

        Args:
            connection: Its connection.
            what: Of the notices of changes.

        Raises:
            McpFailed: It does not list its tools.
        """
        if TOOLS in what:
            found = [tool_of(self.name, raw) for raw in await connection.tools()]
            allow, deny = self.server.allow, self.server.deny
            tools = [
                msgspec.structs.replace(one, withheld=withheld(one, allow, deny)) for one in found
            ]
            if tools != self.tools:
                self.tools = tools
                self._changed()
        if what - {TOOLS} and self.server.resources:
            await self.resources.read(connection, None if RESOURCES in what else what)

    # --- calls --------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Return whether calls can be sent now."""
        return self._connection is not None

    @property
    def pid(self) -> int:
        """Return the pid of the server's process; 0 if it has none here."""
        return self._connection.pid if self._connection is not None else 0

    async def request(
        self,
        send: Callable[[Connection], Awaitable[Any]],
        seconds: float,
        may_repeat: bool = True,
    ) -> Any:
        """Send a request to the server, and return its answer.

        Args:
            send: Sends it by a connection.
            seconds: For the answer.
            may_repeat: It does no harm to send it twice: where the server ends in between, it is.

        Raises:
            McpUnavailable: The server is not connected; nothing was sent.
            McpFailed: It refused, ended or gave no answer in time.
            Busy: Too many calls wait.
        """
        until = asyncio.get_running_loop().time() + seconds
        self.calls += 1
        async with self._turn(until):
            for is_last in (False, True):
                connection = await self._available(until)
                try:
                    return await self._answer(connection, send, until, seconds)
                except McpFailed as error:
                    self.failures += 1
                    if connection.lost:
                        self.problem = connection.lost
                        self._gone(connection)
                        self._wake.set()
                    if is_last or not connection.lost or not (may_repeat or error.is_known):
                        raise
        raise AssertionError("unreachable")

    @contextlib.asynccontextmanager
    async def _turn(self, until: float) -> AsyncIterator[None]:
        if self._slots.locked() and self._waiting >= WAITING_MOST:
            raise Busy(f"{WAITING_MOST} calls of the server {self.name} wait already")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(until):
                await self._slots.acquire()
        except TimeoutError as error:
            text = f"{self.name}: {self.server.concurrency} calls run already; nothing was sent"
            raise Busy(text) from error
        finally:
            self._waiting -= 1
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._slots.release()

    async def _available(self, until: float) -> Connection:
        """Return the connection. One that is about to come back is waited for."""
        loop = asyncio.get_running_loop()
        latest = min(until, loop.time() + RETURN_S)
        if self._connection is None and self._retry_at < latest:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(latest):
                    await self._there.wait()
        if self._connection is None:
            why = self.problem or "it has not answered yet"
            text = f"the server {self.name} is not connected: {why}"
            left = max(self._retry_at - loop.time(), 0.0)
            raise McpUnavailable(text, server=self.name, retry_after=round(left, 1))
        return self._connection

    async def _answer(
        self,
        connection: Connection,
        send: Callable[[Connection], Awaitable[Any]],
        until: float,
        seconds: float,
    ) -> Any:
        """Return an answer. The library's own end of a request may take some seconds longer, and is
        not waited for."""
        task = asyncio.ensure_future(send(connection))
        left = until - asyncio.get_running_loop().time()
        try:
            await asyncio.wait({task}, timeout=max(left, 0.0))
        finally:
            if not task.done():
                task.add_done_callback(_look_at)
                task.cancel()
        if task.done():
            answer = task.result()
            self._answered = True
            return answer
        self.timeouts += 1
        self._suspect = True
        self._wake.set()
        text = f"{self.name} did not answer within {seconds:g} s; the call may have run"
        raise McpFailed(text, server=self.name, is_known=False)


def _look_at(task: "asyncio.Future[Any]") -> None:
    """Look at the exception of a task that is no longer waited for."""
    if not task.cancelled():
        task.exception()
