"""Runs a plain command as a service: it starts with its worker, and its worker ends as it did."""

import asyncio
import contextlib
import logging
import os
import signal
from typing import Self

from garrison.workers import Plugin, ProcessEnded, ProcessNotStarted, Runtime, Service
from garrison.workers.children.descendants import below, signal_all, wait_gone

from . import readiness, words
from .child import Child
from .config import Config as CommandConfig
from .health import HealthCommand
from .notify import EXTEND_MOST_S, NotifySocket

log = logging.getLogger(__name__)

SETTLE_S = 0.3  # for what an ended command has left to end as well
TERM_S = 2.0  # for the same after SIGTERM
UNDO_S = 1.0  # for a command whose start is given up


class CommandService(Service):
    """One command. It has no methods that other services could call."""

    service_type = "command"
    capability_description = "Runs a command as a service"
    Config = CommandConfig
    config: CommandConfig

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._child: Child | None = None
        self._notify: NotifySocket | None = None
        self._notified = asyncio.Event()
        self._alive_at: float | None = None  # of its last WATCHDOG=1; None: it has sent none
        self._checks: set[int] = set()  # pids of health checks that run
        self._stopping = False

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Start the command and return once it is ready.

        Raises:
            ProcessEnded: It ended before that.
            ProcessNotStarted: It cannot be started, went into the background, or was not ready in
                time.
        """
        checked = bool(runtime.config.health_command)
        service = (CheckedCommandService if checked else cls)(runtime)
        try:
            await service._begin()
        except BaseException:
            await service._give_up()
            raise
        return service  # type: ignore[return-value]  # of this class, or of its subclass

    async def _begin(self) -> None:
        config = self.config
        kind, value = config.ready_kind, config.ready_value
        if kind == "port" and await readiness.accepts(int(value)):
            reason = f"port {value} is in use by another process: end it, or use another port"
            raise ProcessNotStarted(reason)
        self._child = child = self._start_child()
        self.runtime.report(command_pid=child.pid)
        ready = readiness.condition(kind, value, child, self._notified)
        waiting = asyncio.ensure_future(ready())
        ended = asyncio.ensure_future(child.wait())
        seconds = readiness.patience(config.start_timeout)
        try:
            await asyncio.wait(
                {waiting, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
        child.on_output = lambda data: None
        if ended.done():
            await self._judge_early_end(ended.result(), kind)
        elif not waiting.done() or waiting.cancelled():
            text = f"it was not ready after {seconds:g} s: {readiness.missing(kind, value)}"
            raise ProcessNotStarted(words.with_last_line(text, child.tail))
        self.spawn(self._until_ended(ended), "command", essential=False)
        if self._notify is not None and config.watchdog:
            self.every(min(config.watchdog / 4, 1.0), self._look_at_watchdog)

    def _start_child(self) -> Child:
        command, environment = self.config.command, dict(os.environ)
        if self.config.ready_kind == "notify":
            self._notify = NotifySocket(self._on_notify)
            environment["NOTIFY_SOCKET"] = self._notify.address
            if self.config.watchdog:
                environment["WATCHDOG_USEC"] = str(int(self.config.watchdog * 1e6))
        if not command:
            reason = f'{self.runtime.name} has no command: write command = ["PROGRAM", "ARGUMENT"]'
            raise ProcessNotStarted(reason, permanent=True)
        try:
            return Child.start(command, environment)
        except OSError as error:
            why = error.strerror or str(error)
            reason = f"`{command[0]}` cannot be run in {_folder()}: {why}"
            raise ProcessNotStarted(reason) from error

    async def _judge_early_end(self, status: int, kind: str) -> None:
        """Raise for a command that ended before it was ready; return if its work is just done."""
        child = self._child
        assert child is not None
        if status == 0:
            await self._refuse_daemon()
            if not kind:
                return
        text = words.ended(status)
        if kind:
            text += " before it was ready"
        raise ProcessEnded(words.with_last_line(text, child.tail), status)

    async def _refuse_daemon(self) -> None:
        """Raise if the command went into the background: it ended, and what it started goes on."""
        left = await wait_gone(os.getpid(), self._checks, SETTLE_S)
        if left:
            signal_all(left, signal.SIGTERM)
            raise ProcessNotStarted(words.daemonized(self.config.command), permanent=True)

    async def _until_ended(self, ended: "asyncio.Future[int]") -> None:
        """Wait for the end of the command, and end as it did."""
        child = self._child
        assert child is not None
        status = await asyncio.shield(ended)
        if self._stopping:
            return
        early = asyncio.get_running_loop().time() - child.started < self.config.start_timeout
        if status == 0 and early:
            await self._refuse_daemon()
        text = words.ended(status)
        raise ProcessEnded(words.with_last_line(text, child.tail) if status else text, status)

    # --- what the command reports -------------------------------------------------------------

    def _on_notify(self, fields: dict[str, str]) -> None:
        loop = asyncio.get_running_loop()
        if fields.get("READY") == "1":
            self._notified.set()
        if fields.get("WATCHDOG") == "1":
            self._alive_at = loop.time()
        elif fields.get("WATCHDOG") == "trigger":
            self._alive_at = float("-inf")
        if status := fields.get("STATUS"):
            log.info("notify.status text=%r", status[:200])
        if fields.get("STOPPING") == "1":
            log.info("notify.stopping")
        microseconds = fields.get("EXTEND_TIMEOUT_USEC", "")
        if microseconds.isdecimal() and int(microseconds):
            seconds = min(int(microseconds) / 1e6, EXTEND_MOST_S)
            self.runtime.extend(seconds, fields.get("STATUS", "its command needs longer"))

    def _look_at_watchdog(self) -> None:
        """End a command that has sent WATCHDOG=1, and does so no longer."""
        if self._alive_at is None or self._stopping:
            return
        silent = asyncio.get_running_loop().time() - self._alive_at
        if silent > self.config.watchdog:
            raise ProcessEnded(
                f"its command hangs: no WATCHDOG=1 for {self.config.watchdog:g} s", -signal.SIGABRT
            )

    # --- its end ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Send the stop signal, and wait until the command and what it started have ended."""
        self._stopping = True
        child = self._child
        if child is None:
            return
        child.send(self.config.stop_signal)
        await child.wait()
        await self._end_rest(TERM_S)
        self._close()

    async def _end_rest(self, seconds: float) -> None:
        """Ask what the command has left behind to end; the launcher kills the rest."""
        left = below(os.getpid())
        if left:
            signal_all(left, signal.SIGTERM)
            await wait_gone(os.getpid(), self._checks, seconds)

    async def _give_up(self) -> None:
        """End a command whose start has failed, or was cancelled."""
        self._stopping = True
        child = self._child
        if child is not None and child.status is None:
            child.send(self.config.stop_signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UNDO_S):
                    await child.wait()
        self._close()

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
        if self._notify is not None:
            self._notify.close()


class CheckedCommandService(CommandService):
    """A command whose health another command checks."""

    async def health(self) -> bool:
        """Run the health command.

        Raises:
            RuntimeError: It failed.
        """
        await HealthCommand(self.config.health_command, self._checks).run()
        return True


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return "a folder that is gone"


plugin = Plugin(
    name="command",
    services=[CommandService],
    preload=["garrison.workers.services.command"],
)
