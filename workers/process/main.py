"""A worker's life: first lines, init, start, serve, beat, drain, end. One service, one loop.

Runs in a process that the launcher forked. What it is to be comes out of a descriptor.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn, assert_never

import msgspec
import uvloop
import zmq

from garrison.ipc import messages
from garrison.ipc.character import Character
from garrison.ipc.errors import ConfigError, GarrisonError, PermanentFailure
from garrison.ipc.flight_recorder import Recorder, ValueRecorder
from garrison.ipc.messages import WIRE, Assignment, Reading, Token, encodable
from garrison.ipc.session import ACKNOWLEDGE_S, Session, WorkerHooks
from garrison.ipc.system import log_stream, process_tree
from garrison.workers.agents.internal_methods import await_with_prefix
from garrison.workers.config_class import ConfigMismatch, convert_config
from garrison.workers.plugin import Plugin
from garrison.workers.runtime import BackgroundFailure, Runtime
from garrison.workers.service import Service

from . import health, redaction
from .belongings import hand_over
from .dispatch import Dispatch
from .identity import unreadable
from .loading import installed_plugins, load
from .lock import held_by, take_lock
from .methods import describe
from .orphan import ParentWatch
from .reaper import Reaper
from .sandbox import apply_limits
from .tracebacks import format_task, formatted, one_line

log = logging.getLogger(__name__)

BEAT_S = 1.0  # between beats, at the most; a quarter of the watchdog where that is shorter
DRAIN_SHARE = 0.7  # of the grace, for calls under way; the rest is for Service.stop
UNDO_S = 2.0  # for an init or start that is broken off to clean up
TREE_S = 2.0  # for what this process started to end, where nobody else can end it
CRASHED, NOT_STARTED = 70, 1  # exit codes: EX_SOFTWARE after running, and before
PR_SET_NAME = 15  # linux/prctl.h


def warm_up() -> None:
    """Do in the launcher, once, what every worker would have to do again."""
    installed_plugins()
    describe(_Sample)


class _Sample(Service):
    service_type = "sample"

    async def method(self, text: str, number: int = 0) -> dict[str, int]:
        """Stand for any method."""
        return {text: number}


def run(descriptor: int, log_path: str) -> NoReturn:
    """Be the worker that an assignment describes; never return."""
    try:
        get_ready()
        _write_to(log_path)
        with os.fdopen(descriptor, "rb") as file:
            assignment = messages.decode_assignment(file.read())
        if isinstance(assignment, Reading):
            _be_named(f"reads:{assignment.source.name}")
            env = assignment.env
        else:
            _be_named(f"g:{assignment.name}")
            env = assignment.environment.env
        os.environ.clear()
        os.environ.update({name: os.fsdecode(value) for name, value in env.items()})
        os.environ[process_tree.MARK] = process_tree.incarnation_mark(
            assignment.token
        )  # what it starts can be found by that
        if isinstance(assignment, Reading):
            from .probe import run_probe

            code = _loop(run_probe(assignment))
        else:
            given = assignment.environment.secrets
            secrets = {name: os.fsdecode(value) for name, value in given.items()}
            os.environ.update(secrets)
            redaction.install(secrets)
            worker = Worker(assignment, secrets)
            worker.be_its_user()
            code = _loop(worker.live())
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else (0 if end.code is None else CRASHED)
    except BaseException:  # noqa: BLE001 (the last place that could tell)
        traceback.print_exc()
        code = CRASHED
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End at once: a library's leftover thread must not keep the process."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    redaction.release()
    os._exit(code)


def get_ready() -> None:
    """Do what needs no assignment: a worker that is forked ahead has it behind it."""
    with contextlib.suppress(PermissionError):  # already the leader of a session
        os.setsid()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faulthandler.enable(all_threads=True)
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # until then the signal kills
    process_tree.forbid_cores()
    process_tree.become_subreaper()  # what escapes stays with its worker


def _write_to(log_path: str) -> None:
    os.makedirs(os.path.dirname(log_path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
    output, problem = log_stream.log_or_nothing(log_path)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    log_stream.install(log_stream.standard(), log_path if problem else "", problem)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # whole lines, so that the last one is there
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def _be_named(name: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def _loop(work: Any) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code: int = runner.run(work)
        _leave(code)  # without waiting for tasks and threads that others left behind


class Shutdown(Exception):
    """This incarnation's life is over; the text says why."""


class Worker(Runtime):
    """One incarnation of one service, from Hello to its end."""

    def __init__(self, assignment: Assignment, secrets: dict[str, str]) -> None:
        self._assignment = assignment
        self._own_secrets = secrets
        self._launcher = os.getppid()
        self._problem: Exception | None = None  # why it cannot be what it is to be

    def be_its_user(self) -> None:
        """Open what its user may not, then be that user; before any code of others, and while
        this process has one thread. What goes wrong is told once the supervisor is there."""
        a = self._assignment
        if a.record_values:
            redact = redaction.redacted
            self._notes: Recorder = ValueRecorder(a.paths.recorder, self._name_of, redact)
        else:
            self._notes = Recorder(a.paths.recorder, self._name_of)
        if a.paths.lock and take_lock(a.paths.lock) is None:
            self._problem = GarrisonError(held_by(a.paths.lock))
        try:
            if self._problem is None:
                hand_over(a.paths.data, a.limits)
            for refused in apply_limits(a.limits):
                print(f"limit not granted: {refused}", file=sys.stderr)
        except PermanentFailure as error:
            self._problem = error

    async def live(self) -> int:
        """Live a worker's life; return the process's exit code."""
        a = self._assignment
        _log_as(a.name, a.generation)
        hooks = WorkerHooks(
            redact=redaction.redact_control,
            welcomed=self._welcomed,
            ordered=self._ordered,
            router_changed=lambda: self._dispatch.router_changed(),
            peer_ended=self._peer_ended,
        )
        session = Session(a.token, a.calls, worker=hooks, zero_copy=True)
        session.handlers |= {
            messages.Call: self._on_call,
            messages.Cancel: self._on_cancel,
            messages.Credit: self._on_credit,
        }
        super().__init__(a.name, a.token, self._own_secrets, a.generation, session)
        self._data = Path(a.paths.data)
        self._be_part_of_its_agent()
        self.calls.observer = self._notes
        self._dispatch = Dispatch(a.name, self._answer, self.hidden, a.calls.max_message)
        self._service: Service | None = None
        self._phase = "init"
        self._drain: asyncio.Future[tuple[float, str]] = self.loop.create_future()
        self._seq = 0
        self._beats = min(BEAT_S, a.timing.watchdog / 4) if a.timing.watchdog else BEAT_S
        self._manifest: messages.Manifest | None = None  # as it was told
        self._described = messages.Manifest("")  # without what was registered
        self._telling = False
        self._guardians = ParentWatch(self._launcher, a.timing.orphan_grace)
        self._reaper = Reaper()
        self._reaper.watch_forks()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.session.open(self._context, a.paths.control, a.paths.bus)
        self._introduce()
        self._beat()
        try:
            return await self._life()
        finally:
            self.close()
            self._context.term()  # the answers of the last calls have left by then

    def _be_part_of_its_agent(self) -> None:
        a = self._assignment
        said = bytes(a.identity.character)
        if said != bytes(messages.NIL):
            decode = msgspec.msgpack.Decoder(Character).decode
            self.speak_for(a.identity.agent, decode(said), a.identity.withheld)

    async def _life(self) -> int:
        try:
            if self._problem is not None:
                raise self._problem
            return await self._serve()
        except Shutdown as end:
            return await self._stop(str(end))
        except Exception as error:  # noqa: BLE001 (whatever an author's code raises)
            return await self._break(error)

    async def _serve(self) -> int:
        a = self._assignment
        plugin = self._loaded()
        cls = plugin.service(a.service_type, a.source.name)
        await self.session.wait_welcome()
        self.loop.add_signal_handler(signal.SIGTERM, self._on_term)
        plugin_config = convert_config(
            plugin.config_class, a.plugin_config, ("plugins", a.source.name, "config")
        )
        self.config = convert_config(
            getattr(cls, "Config", None), a.config, ("services", a.name, "config")
        )
        if a.with_parts:
            self._take_parts(plugin)
        await self._unless_ended(plugin.init(plugin_config, self))
        self._phase = "start"
        self.session.send(messages.Initialized())
        self._service = service = await self._unless_ended(self.begin(cls))
        self.parts.add_service(service, a.source.name, a.priority)
        await self._unless_ended(await_with_prefix(cls.register_send_handlers, self, service))
        self._described, methods = describe(type(service))
        self._manifest = self.parts.told_in(self._described)
        self._dispatch.serve(service, methods, self._injuries())
        self._phase = "run"
        self._guardians.next_beat_within(self._silence)
        self.session.send(messages.Ready(self._manifest))
        with health.asking(service, a.timing.health_interval, self.session.send):
            await self._unless_ended(self.finished.wait())
        raise Shutdown("it asked to end")

    def _loaded(self) -> Plugin:
        """Import its plugin; where its user cannot read that, say so rather than "no module"."""
        a = self._assignment
        try:
            return load(a.source)
        except (OSError, ImportError, ConfigError) as error:
            shut = unreadable(a.limits, dict.fromkeys([a.source.folder, *sys.path]), error)
            if not shut:
                raise
            raise PermanentFailure(f"its plugin cannot be imported: {shut}") from error

    def _injuries(self) -> object | None:
        """Return what `garrison chaos` may call here, where the host says that it may."""
        if not self._assignment.chaos:
            return None
        from .faults import FaultInjection  # no other worker has it, not even in memory

        return FaultInjection(self)

    def _take_parts(self, plugin: Plugin) -> None:
        self.parts.add_plugin(plugin, self._assignment.source.name, self._assignment.priority)
        for event, handlers in plugin.events.items():
            for handler in handlers:
                self.register_event(event, handler)

    def _parts_changed(self) -> None:
        """Tell what was registered late; what is registered by `start` is told with Ready."""
        if self._manifest is not None and not self._telling:
            self._telling = True
            self.loop.call_soon(self._tell_parts)

    def _tell_parts(self) -> None:
        self._telling = False
        try:
            self._manifest = self.parts.told_in(self._described)
        except ValueError as error:
            log.error("parts.untold error=%s", error)
        else:
            self.session.send(messages.Ready(self._manifest))

    async def _unless_ended(self, work: Any) -> Any:
        """Await work; leave it where background work fails, or the supervisor says drain."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, self.failed, self._drain}, return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            task.cancel()
            self.failed.result()
        if self._drain.done():
            task.cancel()
            await asyncio.wait({task}, timeout=UNDO_S)  # its finally clauses run
            raise Shutdown(self._drain.result()[1])
        return task.result()

    # --- the end ----------------------------------------------------------------------------

    async def _stop(self, reason: str) -> int:
        """Drain, stop the service, say so: a clean end."""
        self._phase = "stop"
        grace = self._drain.result()[0] if self._drain.done() else self._assignment.timing.grace
        await self._dispatch.drain(grace * DRAIN_SHARE)
        if self._service is not None:
            try:
                await self._service.stop()
            except Exception as error:
                log.exception("stop raised")
                reason = f"its stop raised {one_line(error)}"
        await self.cancel_background()
        await self.session.send_last(messages.Stopped(reason), self._patience)
        return 0

    async def _break(self, error: Exception) -> int:
        """Say what failed, and end."""
        shown = error
        if isinstance(error, BackgroundFailure) and isinstance(error.__cause__, Exception):
            shown = error.__cause__
        text = formatted(shown)
        log.error("%s failed in %s\n%s", self.name, self._phase, text.rstrip())
        permanent = isinstance(shown, PermanentFailure | ConfigMismatch | ConfigError)
        reason = encodable(redaction.redacted(str(shown)))[:2000] if permanent else one_line(shown)
        await self.session.send_last(
            messages.Failing(self._phase, reason, text, permanent), self._patience
        )
        return CRASHED if self._phase == "run" else NOT_STARTED

    @property
    def _patience(self) -> float:
        """Return how long to wait for the last words to be heard: where this worker ends by itself
        and there is no supervisor, the next one must hear of it, or it would start it again."""
        alone = not self._guardians.supervised and not self._drain.done()
        return max(self._assignment.timing.orphan_grace if alone else 0.0, ACKNOWLEDGE_S)

    def _on_term(self) -> None:
        if self._drain.done():
            _leave(128 + signal.SIGTERM)  # asked twice, or asked while it was draining
        self._drain.set_result((self._assignment.timing.grace, "it was told to end by SIGTERM"))

    # --- what the supervisor and others say -------------------------------------------------

    def _ordered(self, message: messages.Drain | messages.ShowTasks | messages.Rejected) -> None:
        match message:
            case messages.Drain(grace):
                if not self._drain.done():
                    self._drain.set_result((grace, "ordered"))
            case messages.ShowTasks():
                self._show_tasks()
            case messages.Rejected(reason):
                self._abandoned(f"the supervisor turned this worker away: {reason}")
            case _:
                assert_never(message)

    def _welcomed(self, message: messages.Welcome, is_next: bool) -> None:
        self._guardians.meet(message.pid)
        self.session.watch_supervisor()
        if is_next:
            self._introduce()

    def _introduce(self) -> None:
        """Say all that this incarnation is by now: to its supervisor, and to each next one."""
        a = self._assignment
        self.session.send(messages.Hello(WIRE, a.name, a.generation, os.getpid()))
        if self._phase in {"start", "run"}:
            self.session.send(messages.Initialized())
        if self._phase == "run" and self._manifest is not None:
            self.session.send(messages.Ready(self._manifest))
        self.subscribe()

    def _on_call(self, source: Token, message: messages.Call) -> None:
        self._notes.received(source, message)
        self._dispatch.call(source, message)

    def _answer(self, to: Token, message: messages.Data) -> None:
        message = redaction.redact_reply(message)
        self._notes.answered(to, message)
        bus = self.session.bus
        if bus is not None:  # as `send_data`, without a step between
            bus.send(to, message)

    def _name_of(self, token: Token) -> str:
        return next((entry.name for entry in self.directory if entry.token == token), "")

    def _on_cancel(self, source: Token, message: messages.Cancel) -> None:
        self._notes.cancelled(source, message.id)
        self._dispatch.cancel(source, message.id)

    def _on_credit(self, source: Token, message: messages.Credit) -> None:
        self._dispatch.credit(source, message.id, message.items)

    def _peer_ended(self, token: Token) -> None:
        self._notes.caller_ended(token)
        self._dispatch.caller_ended(token)

    def _beat(self) -> None:
        self._seq += 1
        self.session.send(
            messages.Beat(self._seq, self._dispatch.in_flight, self.refused, self.facts)
        )
        self._reaper.look(self.now())
        self._guardians.next_beat_within(self._silence)
        if self._guardians.gone(self.now()):
            self._guardians.end_launcher()
            self._abandoned("the supervisor and the launcher are gone, or stopped")
        self.loop.call_later(self._beats, self._beat)

    @property
    def _silence(self) -> float:
        """Return for how long this loop may be silent just now, in seconds; 0 is for ever."""
        a = self._assignment
        usual = self._phase == "run" and not self._drain.done()
        if usual or not a.timing.watchdog:
            return a.timing.watchdog
        return max(a.timing.watchdog, a.timing.start_timeout, a.timing.grace)

    def _show_tasks(self) -> None:
        """Write where each task waits: a stack dump shows only the loop that waits for them."""
        told = [format_task(task) for task in asyncio.all_tasks(self.loop)]
        log.error("%s is late; where it waits:\n%s", self.name, "".join(told).rstrip())

    def _abandoned(self, why: str) -> NoReturn:
        """End, with everything that this process started: nobody else is left to do it."""
        log.error("%s; ending", why)
        process_tree.end_everything_below(TREE_S)
        _leave(CRASHED)


def _log_as(name: str, generation: int) -> None:
    """Send Python's logging to the service's log, each line with its incarnation."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=(
            "%(asctime)s.%(msecs)03dZ %(levelname)s"
            f" service={name} generation={generation} pid={os.getpid()}"
            " %(name)s: %(message)s"
        ),
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.Formatter.converter = time.gmtime
