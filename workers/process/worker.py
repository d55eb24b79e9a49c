"""One incarnation of one service: init, start, serve, drain, stop, and its reports.

Durations are seconds.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar, assert_never

import msgspec

from garrison.ipc import messages
from garrison.ipc.call_counts import CallCounts
from garrison.ipc.client import Client
from garrison.ipc.direct import Direct
from garrison.ipc.errors import ConfigError, PermanentFailure
from garrison.ipc.hooks import WorkerHooks
from garrison.ipc.messages import WIRE, Assignment, Token, encodable
from garrison.ipc.session import ACKNOWLEDGE_S, Session
from garrison.ipc.system import log_stream, process_tree
from garrison.ipc.system.installed import versions
from garrison.workers.agents.events import Events
from garrison.workers.agents.functions import await_with_prefix
from garrison.workers.agents.registry import ComponentRegistry
from garrison.workers.agents.settings import Settings
from garrison.workers.background import Background
from garrison.workers.config_class import convert_config
from garrison.workers.plugin import Plugin
from garrison.workers.reports import WARNING_MOST, Reports
from garrison.workers.runtime import Runtime
from garrison.workers.service import Service

from . import health, logs, redaction
from .code_files import imported_files
from .dispatch import Dispatch
from .ending import LOG_HELD_S, Ending, EndReport
from .exit import CRASHED, leave
from .failure import report_failure
from .heartbeat import HeartbeatSchedule, is_hello_due
from .internal_methods import InternalMethods, fault_methods
from .loading import load
from .loop_watch import LoopWatch
from .methods import describe, with_attributes
from .orphan import ParentWatch
from .preparation import Prepared
from .reaper import Reaper
from .redaction import redacted
from .registration import add_plugin, add_service
from .sandbox import unreadable_code
from .stack_report import stacks_of
from .starting import start_service
from .task_watch import TaskWatch
from .tracebacks import format_task, formatted, one_line
from .traces import Traces

log = logging.getLogger(__name__)
T = TypeVar("T")

DRAIN_SHARE = 0.7  # of the grace is for running calls, the rest for Service.stop
UNDO_S = 2.0  # for a cancelled init or start to clean up
TREE_S = 2.0  # for descendants to end when the worker ends them itself


class Shutdown(Exception):
    """This incarnation is to end cleanly; the text is the reason."""


class Worker:
    """One incarnation of one service.

    Args:
        assignment: What to run.
        secrets: The secrets that the service is granted.
        prepared: The result of `drop_privileges`.
    """

    def __init__(self, assignment: Assignment, secrets: dict[str, str], prepared: Prepared) -> None:
        self._assignment = a = assignment
        self._prepared = prepared
        self._direct: Direct | None = None  # once it is connected
        self._loop = asyncio.get_running_loop()
        self._recorder = prepared.recorder
        self._session = session = self._new_session(a)
        self._client = client = Client(a.token, session, a.name)
        if bytes(a.identity.character) != bytes(messages.NIL):
            client.agent = a.identity.agent
        prepared.names.directory = session.directory
        self._components = ComponentRegistry(self._components_changed)
        self._events = Events(client, a.name, self._subscribe)
        self._reports = Reports()
        self._background = Background(self._reports.warn)
        self._loop_watch = LoopWatch(a.name)
        self._runtime = Runtime(
            client,
            a.name,
            components=self._components,
            settings=Settings.assigned(a, secrets, self._reports.warn),
            background=self._background,
            events=self._events,
            reports=self._reports,
            generation=a.generation,
            data_folder=Path(a.paths.data),
            restarted_by=a.restarted_by,
            record_values=a.record_values,
            tombstones=a.tombstones,
            redact=redacted,
        )
        self._reports.extend = self._extend
        internal = InternalMethods(self._runtime, self._components, self._events)
        self._dispatch = Dispatch(a.name, self._reply, internal, a.calls.max_message, a.threads)
        names = prepared.names.of
        self._traces = Traces(a, client, self._dispatch, self._reports.warn, names)
        self._end = EndReport(self._dispatch, self._background, names)
        self._service: Service | None = None
        self._phase = "init"
        self._drain: asyncio.Future[Ending] = self._loop.create_future()
        self._extended_until, self._extension = 0.0, ""
        self._unanswered = 0  # heartbeats before the first Welcome
        self._thread = threading.get_ident()
        self._failure: asyncio.Task[int] | None = None  # that is being reported
        self._seq = 0
        self._heartbeat = HeartbeatSchedule(a.timing.watchdog, a.token)
        self._methods = messages.Manifest("")  # the manifest of the methods alone
        self._manifest: messages.Manifest | None = None  # as sent with Ready
        self._code: tuple[messages.CodeFile, ...] = ()
        self._update_pending = False
        self._parents = ParentWatch(prepared.launcher, a.timing.orphan_grace)
        self._reaper = Reaper()
        self._reaper.watch_forks()

    def _new_session(self, a: Assignment) -> Session:
        hooks = WorkerHooks(
            redact=redaction.redact_control,
            welcomed=self._welcomed,
            ordered=self._ordered,
            batch_read=self._recorder.batches.add,
            synced=self._recorder.batches.clear,
            router_changed=lambda: self._dispatch.router_changed(),
            peer_ended=self._caller_ended,
            broken=self._abandon,
        )
        session = Session(a.token, a.calls, worker=hooks)
        session.handlers |= {
            messages.Call: self._on_call,
            messages.Cancel: self._on_cancel,
            messages.Credit: self._on_credit,
        }
        session.calls.observer = self._recorder
        session.calls.counts = CallCounts(session.directory)
        return session

    async def run(self) -> int:
        """Connect, run the service until its end, and return the exit code."""
        paths = self._assignment.paths
        self._direct = Direct(self._session, self._caller_ended)
        self._prepared.names.callers = self._dispatch.callers = self._direct.callers
        self._session.direct = self._direct
        self._session.open(paths.control, paths.bus, paths.curve)
        if self._prepared.lease is not None:
            self._prepared.lease.begin()
        self._introduce()
        self._beat()
        try:
            if self._prepared.problem is not None:
                raise self._prepared.problem
            return await self._serve()
        except Shutdown as end:
            return await self._stop(str(end))
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                raise
            return await self.fail(end)
        except BaseException as error:  # noqa: BLE001 (an author's code may raise anything)
            return await self.fail(error)

    def close(self) -> None:
        """Close the connections; return when the last replies have left."""
        self._session.close()

    # --- its life ---------------------------------------------------------------------------

    async def _serve(self) -> int:
        a, runtime = self._assignment, self._runtime
        self._traces.begin()  # before the plugin's libraries look for a provider
        plugin = self._load()
        logs.take_over_loggers(a.name)  # those of bundled services
        self._watch()
        cls = plugin.service(a.service_type, a.source.name)
        await self._session.wait_welcome()
        self._loop.add_signal_handler(signal.SIGTERM, self._on_term)
        plugin_config = convert_config(
            plugin.config_class, a.plugin_config, ("plugins", a.source.name, "config")
        )
        runtime.config = convert_config(
            getattr(cls, "Config", None), a.config, ("services", a.name, "config")
        )
        if a.with_parts:
            add_plugin(self._components, plugin, a.source.name, a.priority)
            for event, handlers in plugin.events.items():
                for handler in handlers:
                    self._events.register(event, handler)
        await self._until_ended(plugin.init(plugin_config, runtime))
        self._phase = "start"
        self._session.send(messages.Initialized())
        starting = start_service(cls, runtime, self._background, self._reports)
        self._service = service = await self._until_ended(starting)
        add_service(self._components, service, a.source.name, a.priority)
        await self._until_ended(await_with_prefix(cls.register_send_handlers, runtime, service))
        described, methods = describe(type(service))
        self._methods = with_attributes(described, service)
        self._manifest = self._components.add_to_manifest(self._methods)
        self._dispatch.serve(service, methods, fault_methods(a, runtime))
        self._phase, self._background.serving = "run", True
        self._code = imported_files()
        self._parents.expect_beat(self._silence)
        self._session.send(messages.Ready(self._manifest, self._code))
        with health.checking(service, a.timing.health_interval, self._session.send):
            await self._until_ended(self._background.finished.wait())
        raise Shutdown(self._background.finished_because)

    def _watch(self) -> None:
        """Watch the loop and its tasks from now on; the import is allowed to block."""
        crash = self._background.fail if self._assignment.task_errors == "crash" else None
        factory: Any = TaskWatch(self._assignment.name, self._reports.warn, crash)
        self._loop.set_task_factory(factory)
        self._loop_watch.begin()

    def _load(self) -> Plugin:
        """Import the plugin. Where the service's user cannot read its code, name that as the cause
        in place of "no module"."""
        a = self._assignment
        try:
            return load(a.source)
        except (OSError, ImportError, ConfigError) as error:
            folders = dict.fromkeys([a.source.folder, *sys.path])
            reason = unreadable_code(a.limits, folders, error)
            if not reason:
                raise
            raise PermanentFailure(f"its plugin cannot be imported: {reason}") from error

    async def _until_ended(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work. Cancel it if background work fails, or if the worker is to drain.

        Raises:
            BackgroundFailure: Background work failed.
            Shutdown: The worker is to drain.
            Exception: What the work raised.
        """
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        failed, drain = self._background.failed, self._drain
        await asyncio.wait({task, failed, drain}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            task.cancel()
            failed.result()
        if drain.done():
            task.cancel()
            self._end.begin(cancelled=self._phase if self._phase != "run" else "")
            await asyncio.wait({task}, timeout=UNDO_S)  # its `finally` clauses run
            raise Shutdown(drain.result().reason)
        result: T = task.result()
        return result

    # --- its end ----------------------------------------------------------------------------

    async def _stop(self, reason: str) -> int:
        """Drain, stop the service and report a clean end; return the exit code."""
        self._phase, self._background.ending = "stop", True
        self._end.begin()
        own = Ending(self._assignment.timing.grace, reason, reason)
        await self._drain_calls(self._drain.result() if self._drain.done() else own)
        if self._service is not None:
            self._end.stop_begins()
            self._send_beat()
            try:
                await self._service.stop()
            except BaseException as error:  # noqa: BLE001 (its end is to be reported)
                log.error("stop raised\n%s", formatted(error).rstrip())
                reason = f"its stop raised {one_line(error)}"
            self._end.stop_ended()
        await self._background.cancel()
        await self._traces.end()
        await self._session.send_last(messages.Stopped(reason), self._patience)
        self._end.log_resisting()  # by now what was cancelled has had its turn
        return 0

    async def _drain_calls(self, ending: Ending) -> None:
        """Let the running calls end; the log names those that did not."""
        share = ending.grace * DRAIN_SHARE
        seconds = share if ending.calls is None else min(share, ending.calls)
        late = self._loop.call_later(min(LOG_HELD_S, seconds / 2), self._end.log_held)
        if self._dispatch.in_flight:
            self._send_beat()
        if not await self._dispatch.drain(seconds, ending.words):
            self._end.log_held()
        late.cancel()

    async def fail(self, error: BaseException) -> int:
        """Report a failure, the first one; return the exit code."""
        if self._failure is None:
            self._failure = self._loop.create_task(self._report_failure(error))
        return await asyncio.shield(self._failure)

    async def _report_failure(self, error: BaseException) -> int:
        message, code = report_failure(self._assignment.name, self._phase, error)
        await self._traces.end()
        await self._session.send_last(message, self._patience)
        return code

    def _patience(self) -> float:
        """Return how long to wait from now for the last message to be acknowledged.

        A worker that ends by itself while there is no supervisor waits for the next one, which
        would otherwise restart the service.
        """
        remote = self._assignment.paths.curve is not None
        there = not self._session.is_alone if remote else self._parents.supervised
        alone = not there and not self._drain.done()
        return max(self._assignment.timing.orphan_grace if alone else 0.0, ACKNOWLEDGE_S)

    def _on_term(self) -> None:
        if self._drain.done():  # the second SIGTERM, or one during a drain
            self._end.log_held()
            self._show_tasks()
            leave(128 + signal.SIGTERM)
        words = "it received SIGTERM"
        self._drain.set_result(Ending(self._assignment.timing.grace, "received SIGTERM", words))

    def _abandon(self, reason: str) -> NoReturn:
        """End this process and its descendants, which no other process would end."""
        log.error("%s; ending", reason)
        process_tree.end_everything_below(TREE_S)
        leave(CRASHED)

    # --- messages to the supervisor ---------------------------------------------------------

    def _introduce(self) -> None:
        """Report the current state to a supervisor: the first one, or its successor."""
        a, session = self._assignment, self._session
        self._heartbeat.renew()
        local = a.paths.curve is None  # there are no direct routes to another machine
        session.send(
            messages.Hello(WIRE, a.name, a.generation, os.getpid(), True, *versions(), local)
        )
        if self._phase in {"start", "run"}:
            session.send(messages.Initialized())
        if self._phase == "run" and self._manifest is not None:
            session.send(messages.Ready(self._manifest, self._code))
        if (extended := self._extended_until - self._loop.time()) > 0:
            session.send(messages.Extend(extended, self._extension))
        self._events.subscribe()

    def _subscribe(self, events: tuple[str, ...]) -> None:
        self._session.send(messages.Subscribe(events))

    def _components_changed(self) -> None:
        """Send components that are registered after the start, once for each turn of the loop."""
        if self._manifest is not None and not self._update_pending:
            self._update_pending = True
            self._loop.call_soon(self._send_manifest)

    def _send_manifest(self) -> None:
        self._update_pending = False
        try:
            self._manifest = self._components.add_to_manifest(self._methods)
        except ValueError as error:
            log.error("components.not_sent error=%s", error)
        else:
            self._session.send(messages.Ready(self._manifest, self._code))

    def _send_beat(self) -> None:
        session, dispatch, reports = self._session, self._dispatch, self._reports
        reports.warn("threads", dispatch.threads.problem or None)
        beat = messages.Beat(
            0,
            dispatch.in_flight,
            session.refused,
            reports.numbers(),
            self._end.held(),
            tuple(redacted(text)[:WARNING_MOST] for text in reports.warnings.values()),
            dispatch.threads.use,
            reports.link(),
            *session.calls.report(),
            reports.incidents.of_beat(),
        )
        if self._heartbeat.is_due(beat, session.now(), adds=bool(beat.calls)):
            self._seq += 1
            session.send(msgspec.structs.replace(beat, seq=self._seq))

    def _extend(self, seconds: float, reason: str) -> None:
        """Move the deadline of the start or the stop that is under way; from any thread."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._extend, seconds, reason)
            return
        self._extended_until = max(self._extended_until, self._loop.time() + seconds)
        self._extension = encodable(reason)
        self._parents.expect_beat(self._silence)
        self._session.send(messages.Extend(seconds, self._extension))
        if self._session.control is not None:
            self._session.control.flush()  # the loop may be blocked from here on

    def _beat(self) -> None:
        session = self._session
        self._recorder.note_turn()
        self._send_beat()
        self._unanswered += not session.boot
        if not session.boot and is_hello_due(self._unanswered):
            self._introduce()
        self._reaper.reap(session.now())
        log_stream.follow()  # also for what C code and child processes write
        if self._direct is not None:
            self._direct.beat()
        self._parents.expect_beat(self._silence)
        if self._prepared.lease is None and self._parents.is_orphaned(session.now()):
            self._parents.end_launcher()
            self._abandon("the supervisor and the launcher are gone, or stopped")
        self._loop.call_later(self._heartbeat.delay(time.monotonic()), self._beat)

    @property
    def _silence(self) -> float:
        """Return how long the loop may be blocked in the current phase; 0 is without limit."""
        timing = self._assignment.timing
        serving = self._phase == "run" and not self._drain.done()
        if serving or not timing.watchdog:
            return timing.watchdog
        extended = self._extended_until - self._loop.time()
        return max(timing.watchdog, timing.start_timeout, timing.grace, extended)

    # --- messages from the supervisor -------------------------------------------------------

    def _ordered(self, message: messages.Drain | messages.ShowTasks | messages.Rejected) -> None:
        match message:
            case messages.Drain(grace, reason, calls):
                if not self._drain.done():
                    words = reason or "it was ended by order"
                    self._drain.set_result(Ending(grace, "ordered", words, calls))
            case messages.ShowTasks(number) if number:
                self._session.send(stacks_of(self._loop, number))
            case messages.ShowTasks():
                self._show_tasks()
            case messages.Rejected(reason):
                self._abandon(f"the supervisor rejected this worker: {reason}")
            case _:
                assert_never(message)

    def _welcomed(self, message: messages.Welcome, is_successor: bool) -> None:
        if self._assignment.paths.curve is None:  # else it is the pid of another machine's process
            self._parents.set_supervisor(message.pid)
        self._session.watch_supervisor()
        self._dispatch.limit_to(message.max_message)
        if is_successor or message.introduce:
            self._introduce()
        if is_successor and self._direct is not None:
            self._direct.supervisor_changed()

    def _caller_ended(self, token: Token) -> None:
        self._recorder.caller_ended(token)
        self._dispatch.caller_ended(token)

    def _show_tasks(self) -> None:
        """Log where each task waits: a stack dump shows only the loop."""
        tasks = [format_task(task) for task in asyncio.all_tasks(self._loop)]
        text = "".join(tasks).rstrip()
        log.error("%s is late; where it waits:\n%s", self._assignment.name, text)

    # --- messages of callers ----------------------------------------------------------------

    def _on_call(self, source: Token, message: messages.Call) -> None:
        self._recorder.received(source, message)
        self._dispatch.call(source, message)

    def _on_cancel(self, source: Token, message: messages.Cancel) -> None:
        self._recorder.cancelled(source, message.id)
        self._dispatch.cancel(source, message.id)

    def _on_credit(self, source: Token, message: messages.Credit) -> None:
        self._dispatch.credit(source, message.id, message.items)

    def _reply(self, to: Token, message: messages.Data) -> None:
        if type(message) is not messages.Reply:  # which has no text
            message = redaction.redact_reply(message)
        self._recorder.answered(to, message)
        link = self._session.links.get(to, self._session.bus)
        if link is not None:  # in place of `send_data`, which would be one more call
            link.send(to, message)
