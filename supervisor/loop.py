"""The supervisor's one loop: it polls, reads inputs, hands them on, and serves deadlines.

All state belongs to this loop, so there are no locks. Times are monotonic seconds.
"""

import contextlib
import gc
import os
import secrets
import signal
import time
import traceback
from collections.abc import Mapping
from typing import Any

import zmq

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError, GarrisonError
from garrison.ipc.messages import Token
from garrison.ipc.system import idle, process_tree
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.bus.router import AGAIN_S, BusRouter
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.control.commands.base import CommandContext
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.control.requests import EventFollowers, RequestHooks, RequestQueue
from garrison.supervisor.control.server import CONTROL_BYTES, ControlServer
from garrison.supervisor.control.status import HostState, StatusReport
from garrison.supervisor.crashes.store import CrashRecorder
from garrison.supervisor.lifecycle.ordering import have_processes
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.logs.rotation import Rotation
from garrison.supervisor.processes.local import InheritedState, LocalEngine
from garrison.supervisor.processes.machine import detect_capabilities
from garrison.supervisor.processes.preload import Preloader
from garrison.supervisor.processes.usage import UsageMonitor
from garrison.supervisor.state import adoption as adoptions
from garrison.supervisor.state.adoption import Adoption
from garrison.supervisor.state.handover import SIGNALS, Handover, Upgrade
from garrison.supervisor.state.home import lock_home
from garrison.supervisor.state.orders import OrderStore, load_orders
from garrison.supervisor.state.snapshot import Snapshot, load_snapshot
from garrison.supervisor.state.snapshot_writer import SnapshotWriter

from .assignment import AssignmentBuilder
from .manager import Collaborators, ServiceManager
from .plugins import PluginRegistry, RegistryHooks
from .tasks import Steps, TaskSet

TASKS_S = 0.05  # longest wait while a task or a request is under way
IDLE_S = 60.0  # longest wait
ERRORS_MOST = 1000  # of the supervisor itself; with more, it is better to end


class Supervisor:
    """The supervisor of one home.

    Args:
        config: What to run.
        environ: The environment at the start; secrets are taken from it.
        log: Where events go.
        handover: What the supervisor before an upgrade, in this same process, has left.

    Attributes:
        failure: Why the host cannot run, after `run` has returned.
        upgrade: Has the successor, if this process is to become another supervisor.

    Raises:
        AlreadyRunning: Another supervisor has this home.
        ConfigError: The config does not fit what a former supervisor left running; it runs on.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        log: EventLog,
        handover: Handover | None = None,
    ) -> None:
        self._host, self._environ, self._log = config.host, dict(environ), log
        self.failure: GarrisonError | None = None
        self._done = self._settled = False
        self._awake = True
        self._errors = self._signals = 0
        self._publish_due = 0.0
        self._turned_at = time.monotonic()
        self._joining: set[Token] = set()  # programs that are to be welcomed
        self._poller, self._polled = zmq.Poller(), list[int]()
        host, handover = config.host, handover or Handover()
        self._locks = lock_home(config, handover.locks)
        orders, problem = load_orders(host.state)
        snapshot, unreadable = load_snapshot(host.state)
        adoptable = adoptions.adoptable(config, snapshot) if snapshot is not None else []
        self._build(config, handover, OrderStore(host.state, orders, self._report_unsaved))
        log.record("supervisor.started", pid=os.getpid(), home=str(host.home))
        for damaged in filter(None, (problem, unreadable)):
            log.record("state.damaged", problem=damaged)
        self._adopt(config, snapshot, adoptable)
        self._crashes.sweep(self._services.by_token)  # files of workers that ended meanwhile

    def _build(self, config: Config, handover: Handover, orders: OrderStore) -> None:
        host, environ, log = config.host, self._environ, self._log
        boot = secrets.token_hex(8)
        self._orders, self._services = orders, ServiceTable()
        self._tasks = TaskSet(self._report_error)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._engine = LocalEngine(
            host.run,
            host.logs / "launcher.log",
            base_environment(environ),
            host.orphan_grace,
            host.cgroups,
        )
        if handover.locks:
            self._engine.others &= set(handover.others)
        self._endpoints = Endpoints(self._context, host, min(host.max_message, CONTROL_BYTES))
        self._control = ControlServer(self._endpoints.control, log)
        self._bus = BusRouter(self._endpoints.bus, self._control.reject, host.max_message)
        self._publisher = DirectoryPublisher(
            self._endpoints.control,
            self._services,
            host,
            boot,
            lambda: self._plugins.config.default_spec.calls,
            log,
            self._on_program_left,
        )
        self._crashes = CrashRecorder(
            host,
            environ,
            log,
            self._services,
            self._add_task,
            self._wake,
            self._report_error,
        )
        self._preloader = Preloader(self._engine, log)
        hooks = RegistryHooks(
            self._add_services,
            lambda specs: self._manager.take_specs(specs),
            lambda token: self._acknowledge(token),
            self._add_task,
            self._wake,
            lambda: self._manager.stopping,
        )
        self._plugins = PluginRegistry(
            config, environ, self._engine, self._preloader, self._services, log, hooks
        )
        self._snapshots = SnapshotWriter(
            host.state,
            self._services,
            orders,
            lambda: (self._plugins.config.digest, self._plugins.read),
            self._report_unsaved,
        )
        machine = detect_capabilities(host.cgroups, process_tree.children())
        assignments = AssignmentBuilder(
            host,
            environ,
            self._endpoints,
            self._plugins.source,
            self._crashes.flight,
            self._report_error,
        )
        use = Collaborators(
            self._engine,
            self._publisher,
            self._bus,
            self._endpoints,
            log,
            self._crashes,
            assignments,
            machine,
            self._snapshots.touch,
            self._wake,
            self._report_error,
        )
        self._manager = ServiceManager(self._services, host.starts_at_once, use)
        self._usage = UsageMonitor(self._manager.on_usage)
        self._adoption = Adoption(host, self._engine, self._endpoints, log)
        self.upgrade = Upgrade(environ, self._engine, self._bus)
        self._rotation = Rotation(host.logs, host.log_bytes, host.log_files)
        status = StatusReport(
            host,
            boot,
            self._services,
            self._bus,
            machine,
            self._host_state,
            lambda service: self._usage.last(service.current.token),
            self._crashes.last,
        )
        followers = EventFollowers(self._publisher.send)
        log.listeners.append(followers.publish_event)
        self._followers = followers
        self._requests = self._build_requests(boot, status)

    def _build_requests(self, boot: str, status: StatusReport) -> RequestQueue:
        context = CommandContext(
            self._host,
            boot,
            self._environ,
            self._services,
            self._plugins,
            status,
            self._log,
            lambda: self._manager.stopping,
            self._wake,
            self._crashes.write_next,
            self._snapshots.record_order,
            self._followers.add,
            self._stop_host,
            self.upgrade.check_successor,
            self._write_snapshot,
            self._begin_upgrade,
        )
        hooks = RequestHooks(
            self._publisher.send,
            self._manager.perform,
            self._snapshots.write_pending,
            self._publish_now,
            self._wake,
            self._report_error,
        )
        return RequestQueue(context, hooks)

    # --- the loop ---------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until everything has stopped on request."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup; an ignored SIGINT is only what a script's & passes down
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # those that came too early come now
        self._add_task(self._register())
        self._add_task(self._until_settled())
        self._rotation.start()
        gc.freeze()  # a collection of all that is there by now would delay a turn
        try:
            while not self._done:
                try:
                    self._turn(wake)
                except Exception as error:
                    self._report_error("a turn of the loop", error)
                    self._awake = True
                    if self._errors > ERRORS_MOST:
                        raise
        finally:
            self._close(wake)
            signal.set_wakeup_fd(-1)

    def _turn(self, wake: int) -> None:
        ready = self._poll(wake)
        if self._endpoints.gates.fileno() in ready or time.monotonic() >= self._endpoints.gates.due:
            self._endpoints.gates.turn()
        if wake in ready:
            self._on_signals(wake)
        if self._control.pending or not ready.keys().isdisjoint(self._endpoints.control.all):
            for token, message in self._control.receive():
                self._dispatch_safely(token, message)
        if self._publisher.exit_poll.fileno() in ready:
            self._publisher.remove_ended_programs()
        if self._rotation.wake in ready:
            for event, name, data in self._rotation.news():
                self._log.record(event, name, **data)
        self._read_engine(ready)
        self._route(ready)
        now = time.monotonic()
        if now >= self._usage.due or self._usage.wake in ready:
            self._usage.turn()
        if now >= self._manager.due:
            self._manager.check_deadlines(now, self._turned_at)
        if self._awake or self._tasks or self._requests or now >= self._publish_due:
            self._settle()
        if now >= self._snapshots.due:
            self._snapshots.write()
        if now >= self._bus.quiet.due and self._bus.quiet.over(now):
            idle.give_back()
        self._turned_at = time.monotonic()

    def _poll(self, wake: int) -> dict[Any, int]:
        launchers = self._engine.descriptors()
        polled = [len(self._endpoints), *launchers]
        if polled != self._polled:  # a new poller only for other sockets
            self._polled = polled
            self._poller = zmq.Poller()
            fds = [wake, self._engine.deaths.fileno(), self._publisher.exit_poll.fileno()]
            fds += [self._rotation.wake, self._endpoints.gates.fileno(), self._usage.wake]
            sockets = (*self._endpoints.control.all, *self._endpoints.bus.all)
            for one in (*sockets, *fds, *launchers):
                self._poller.register(one, zmq.POLLIN)
        return dict(self._poller.poll(int(self._wait() * 1000 + 0.999)))

    def _wait(self) -> float:
        if self._awake or self._control.pending:
            return 0.0
        if self._bus.settling or self._engine.busy:
            return 0.001
        due = min(self._manager.due, self._publish_due, self._engine.due, self._snapshots.due)
        due = min(due, self._endpoints.gates.due, self._bus.quiet.due, self._usage.due)
        wait = min(due - time.monotonic(), AGAIN_S if self._bus.waiting else IDLE_S)
        return max(min(wait, TASKS_S) if self._tasks or self._requests else wait, 0.0)

    def _settle(self) -> None:
        """Start what can start, continue what waits, publish what changed."""
        self._awake = False
        if not self._manager.stopping:
            self._manager.start_next()
        elif self._manager.stop_next():
            self._done = True
        if self._tasks.step_all():
            self._awake = True
        self._publisher.publish()  # before a request is answered that was waiting for this
        self._requests.step_all()
        self._publish_due = self._publisher.publish()

    def _publish_now(self) -> None:
        self._publish_due = self._publisher.publish(at_once=True)

    def _wake(self) -> None:
        """Have the next turn look at everything that waits."""
        self._awake = True

    def _add_task(self, task: Steps) -> None:
        self._tasks.add(task)
        self._awake = True

    def _report_error(self, during: str, error: Exception) -> None:
        """Record an error of the supervisor itself; the host goes on."""
        self._errors += 1
        text = "".join(traceback.format_exception(error))
        self._log.record("supervisor.erred", over=during, error=text[-4000:])

    def _report_unsaved(self, problem: str) -> None:
        self._log.record("state.unsaved", error=problem)

    # --- inputs -----------------------------------------------------------------------------

    def _dispatch_safely(self, token: Token, message: messages.Upward | None) -> None:
        try:
            if message is None:
                self._on_connected(token)
            else:
                self._dispatch(token, message)
        except Exception as error:  # noqa: BLE001 (one message must not end the host)
            self._report_error(f"a {type(message).__name__}", error)

    def _on_connected(self, token: Token) -> None:
        if not self._manager.on_probe(token) and not self._plugins.has_probe(token):
            # a program of a former supervisor answers; any other peer is about to send
            self._publisher.send(token, messages.Identify())

    def _dispatch(self, token: Token, message: messages.Upward) -> None:
        match message:
            case messages.Order():
                self._requests.take(token, message)
                self._wake()
            case messages.Join(wire, pid):
                self._on_join(token, wire, pid)
            case messages.Leave():
                self._publisher.leave(token)
                self._forget_program(token)
            case _:
                taken = self._plugins.on_message(token, message)
                if not taken and not self._manager.on_message(token, message):
                    self._on_unknown_worker(token, message)

    def _on_join(self, token: Token, wire: int, pid: int) -> None:
        if token in self._services.by_token or self._plugins.has_probe(token):
            self._control.reject("a worker that says it is a program")
        elif self._publisher.join(token, wire, pid):
            self._bus.admit(token)
            if token not in self._joining:
                self._joining.add(token)
                self._add_task(self._welcome(token))

    def _welcome(self, token: Token) -> Steps:
        """Welcome a program once the plugins have been read."""
        while not self._plugins.finished:
            yield False
        self._joining.discard(token)
        if self._publisher.has_program(token) and not self._publisher.welcome(token):
            self._publisher.resend_directory(token)

    def _on_unknown_worker(self, token: Token, message: messages.Upward) -> None:
        if token in self._adoption.unclaimed:  # it is being ended: let it end in order
            if isinstance(message, messages.Stopped | messages.Failing):
                self._acknowledge(token)
        elif isinstance(message, messages.Hello):
            self._publisher.reject(token, "no such incarnation is expected here")
        elif isinstance(message, messages.Beat):  # late, or of a former supervisor's worker
            rejected = messages.Rejected("no such incarnation is expected here")
            self._publisher.send(token, rejected)

    def _acknowledge(self, token: Token) -> None:
        self._publisher.send(token, messages.Acknowledged())

    def _on_program_left(self, token: Token) -> None:
        self._forget_program(token)
        self._bus.drop(token, "the program ended")

    def _forget_program(self, token: Token) -> None:
        self._requests.forget(token)
        self._followers.remove(token)

    def _read_engine(self, ready: dict[Any, int]) -> None:
        deaths = self._engine.deaths.fileno() in ready or self._engine.busy
        if deaths or any(fd in ready for fd in self._engine.descriptors()):
            for token in self._engine.ended_now():
                self._manager.on_process_died(token)
            for event in self._engine.read():
                self._manager.on_process_event(event)
                self._plugins.on_process_event(event)
                self._preloader.on_process_event(event)
                self._wake()
        if time.monotonic() >= self._engine.due:
            self._engine.end_hanging()

    def _route(self, ready: dict[Any, int]) -> None:
        arrived = not ready.keys().isdisjoint(self._endpoints.bus.all)
        if arrived or self._bus.settling or self._bus.waiting:
            for token in self._bus.turn():
                self._manager.on_connected(token)
            self._bus.tell_ends()

    def _on_signals(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 64):
                if number in SIGNALS:
                    # A terminal that closes sends SIGHUP twice; that is no order to hurry.
                    self._signals += number != signal.SIGHUP or not self._signals
                    name = signal.Signals(number).name
                    self._log.record("supervisor.signal", signal=name, count=self._signals)
        if self._signals == 1:
            self._stop_host()
        elif self._signals > 1:
            self._done = True

    # --- the host as a whole ----------------------------------------------------------------

    def _adopt(self, config: Config, snapshot: Snapshot | None, adoptable: Any) -> None:
        """Restore the services of a former supervisor and take over its workers: before the first
        turn, so that no worker's message comes too early."""
        now = time.monotonic()
        if snapshot is not None:
            former = [(one.name, one.current) for one in snapshot.services]
            self._adoption.open_endpoints((name, own.token, own.uid) for name, own in former)
            self._plugins.resume(snapshot.plugins)
        for position, (one, spec) in enumerate(adoptable):
            plugin = config.plugins[spec.plugin]
            service = adoptions.restore_service(one, spec, plugin, position, now)
            self._manager.add(service)
        self._on_found(self._engine.adopt(), snapshot)

    def _on_found(self, found: InheritedState, snapshot: Snapshot | None) -> None:
        for problem in found.refused:
            self._log.record("launcher.refused", problem=problem)
        plan = self._adoption.plan(list(self._services), found)
        self._manager.adopt(plan, time.monotonic())
        for service in plan.reparented:
            self._usage.begin(service)
        for token, name in plan.unclaimed:
            is_known = snapshot is not None
            self._add_task(self._adoption.end_unclaimed(token, name, is_known))
        self._preloader.resume(found.modules, found.outdated)
        if snapshot is not None and self._plugins.config.digest != snapshot.config:
            self._manager.retry_failed()
        if found.launchers or plan.adopted:
            self._log.record(
                "supervisor.adopts",
                services=plan.adopted,
                launchers=found.launchers,
                preloaded=len(found.modules),
            )
        self._snapshots.touch()

    def _register(self) -> Steps:
        try:
            yield from self._plugins.read_all(self._adoption.until_unknown_ended())
        except ConfigError as error:
            self.failure, self._done = error, True
        except Exception as error:  # noqa: BLE001 (without its services the host is of no use)
            self._report_error("the registration", error)
            self.failure = GarrisonError(f"nothing could be registered: {error!r}")
            self._done = True

    def _add_services(self, specs: list[ServiceSpec]) -> None:
        new = self._plugins.new_services(specs)
        self._manager.add_configured(new, specs, self._orders)
        for service in new:
            if problem := self._plugins.config_problem(service.spec):
                self._manager.refuse(service, problem)

    def _until_settled(self) -> Steps:
        """Record once that every service that was to be started runs or was given up."""
        while not self._plugins.finished or self._manager.is_settling():
            yield False
        self._settled = True
        gc.freeze()  # and the services stay, too
        if not self._manager.stopping:
            running, count = self._manager.count_running(), len(self._services.services)
            self._log.record("supervisor.settled", running=running, services=count)

    def _host_state(self) -> HostState:
        return HostState(
            self._engine.pid,
            self._plugins.config.path,
            self._manager.stopping,
            self._plugins.finished,
            self._settled,
            self._control.rejected,
        )

    def _stop_host(self) -> None:
        """Stop every service in reverse order of the starts, then end."""
        if not self._manager.stopping:
            self._manager.stopping = True
            self._snapshots.keep_wanted()
            self._log.record("supervisor.stopping")
            self._wake()

    def _write_snapshot(self) -> str:
        self._snapshots.write()
        return self._snapshots.problem

    def _begin_upgrade(self, python: str) -> None:
        steps = self.upgrade.exec_successor(
            python, self._publisher.suspend_programs, self._manager.suspend_calls, self._end_loop
        )
        self._add_task(steps)

    def _end_loop(self) -> bool:
        self._done = self._done or not self._manager.stopping
        return not self._manager.stopping

    # --- the end ----------------------------------------------------------------------------

    def _close(self, wake: int) -> None:
        self._rotation.close()
        if self.upgrade.successor:
            self._close_for_successor(wake)
        else:
            self._close_for_good()
        self._usage.close()
        self._publisher.close()
        self._endpoints.close()
        self._context.term()
        self._log.close()
        if not self.upgrade.successor:
            self._endpoints.unlink()
            for lock in self._locks:
                os.close(lock)

    def _close_for_successor(self, wake: int) -> None:
        self.upgrade.hand_over(self._locks, wake)
        self._bus.turn()
        self._snapshots.write()
        while self._crashes.write_next():
            pass
        self._log.record("supervisor.upgrades", python=self.upgrade.successor)

    def _close_for_good(self) -> None:
        killed = self._signals > 1
        kill = killed or self.failure is not None or have_processes(self._services)
        self._engine.leave(kill=kill)
        self._crashes.close()
        self._snapshots.remove()
        self._log.record("supervisor.stopped", killed="yes" if killed else "")
        self._requests.answer_all()
        self._publisher.send_farewell()
