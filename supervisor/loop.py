"""The supervisor's one loop: it polls, reads inputs, hands them on, and serves deadlines.

All state belongs to this loop, so there are no locks. Times are monotonic seconds.
"""

import contextlib
import gc
import os
import signal
import time
import traceback
from collections.abc import Mapping
from math import inf
from typing import assert_never

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError, GarrisonError
from garrison.ipc.messages import State
from garrison.ipc.system import trimmer
from garrison.ipc.system.descriptors import raise_descriptor_limit
from garrison.supervisor.bus.router import AGAIN_S
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.control.server import CONTROL_S
from garrison.supervisor.control.status import HostState
from garrison.supervisor.lifecycle.order_note import NO_ORDER, OPERATOR, OrderNote
from garrison.supervisor.lifecycle.ordering import have_processes
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.logs.rotation import Rotation
from garrison.supervisor.state.accepted_store import AcceptedStore
from garrison.supervisor.state.adoption import adoptable
from garrison.supervisor.state.handover import Handover
from garrison.supervisor.state.home import lock_home
from garrison.supervisor.state.home_watch import HomeWatch
from garrison.supervisor.state.identity import ConfigIdentity
from garrison.supervisor.state.orders import OrderStore, load_orders
from garrison.supervisor.state.ownership import exposed_folders
from garrison.supervisor.state.renames import RenameStore
from garrison.supervisor.state.snapshot import load_snapshot

from . import signals
from .components import Components, EngineFactory, LoopHooks, Stores, build, local_engine
from .disk import DiskWatch
from .gathering import Gathering
from .inputs import Inputs
from .processes import engine
from .renaming import rename_added
from .systemd import Systemd
from .tasks import Steps, TaskSet
from .trials import unfinished_trials

TASKS_S = 0.05  # longest wait while a task or a request is under way
IDLE_S = 60.0  # longest wait
END_S = 0.0002  # of a turn, for the control plane, until an end was announced
ERRORS_MOST = 1000  # of the supervisor itself; with more, it is better to end


class Supervisor:
    """The supervisor of one home.

    Args:
        config: What to run.
        environ: The environment at the start; secrets are taken from it.
        log: Where events go.
        identity: The config's names, claimed already.
        handover: What the supervisor before an upgrade, in this same process, has left.
        make_engine: Makes the engine that runs the workers.

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
        identity: ConfigIdentity,
        handover: Handover | None = None,
        make_engine: EngineFactory = local_engine,
    ) -> None:
        host, self._log = config.host, log
        self.failure: GarrisonError | None = None
        self._done = self._settled = self._killed = False
        self._awake = True
        self._errors = self._signals = 0
        self._publish_due = 0.0
        self._turned_at = time.monotonic()
        self._gathering, self._systemd = Gathering(), Systemd(environ)
        self._stop_timeout, self._kill_at = host.stop_timeout, inf
        self._tasks = TaskSet(self._report_error)
        handover = handover or Handover()
        self._terminal = handover.terminal or signals.at_terminal()
        self._locks = lock_home(config, handover.locks)
        orders, problem = load_orders(host.state)
        former, unreadable = load_snapshot(host.state)
        config, services = adoptable(config, former) if former is not None else (config, [])
        accepted = self._accepted = AcceptedStore(host.state, self._report_unsaved)
        self._orders = OrderStore(host.state, orders, self._report_unsaved)
        hooks = self._hooks()
        self._renames = RenameStore(host, self._orders, accepted)
        stores = Stores(self._orders, accepted, self._renames, former)
        parts = build(config, environ, log, handover, stores, hooks, make_engine)
        self._take(parts)
        self._rotation = Rotation(host.logs, *host.kept_logs)
        self._disk = DiskWatch((host.home, host.state, host.logs), host.disk_low)
        self._home = HomeWatch(config, self._locks, self._endpoints, identity)
        log.record("supervisor.started", pid=os.getpid(), home=str(host.home))
        for damaged in filter(None, (problem, unreadable, accepted.problem, self._renames.problem)):
            log.record("state.damaged", problem=damaged)
        for exposed in exposed_folders(host):
            log.record("home.exposed", problem=exposed)
        self._takeover.begin(config, services)

    def _hooks(self) -> LoopHooks:
        return LoopHooks(
            self._add_task,
            self._wake,
            self._report_error,
            self._report_unsaved,
            self._add_services,
            lambda token: self._dispatcher.on_program_left(token),
            self._host_state,
            self._stop_host,
            self._begin_upgrade,
            self._publish_now,
        )

    def _take(self, parts: Components) -> None:
        self._services, self._engine, self._crashes = parts.services, parts.engine, parts.crashes
        self._plugins, self._snapshots = parts.plugins, parts.snapshots
        self._manager, self._places = parts.manager, parts.places
        self._takeover, self._dispatcher = parts.takeover, parts.dispatcher
        self.upgrade = parts.upgrade
        self._requests, sockets = parts.requests, parts.sockets
        self._context, self._endpoints = sockets.context, sockets.endpoints
        self._control, self._bus = sockets.control, sockets.bus
        self._inputs = Inputs(self._endpoints.streams)
        self._publisher, self._direct = sockets.publisher, sockets.direct

    # --- the loop ---------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until everything has stopped on request."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        numbers = signals.handled()
        signals.catch(lambda *_: None, numbers)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # those that came too early come now
        self._engine.reap()  # what ended before
        self._add_task(self._register())
        self._add_task(self._until_settled())
        self._add_task(unfinished_trials(self._accepted, self._plugins, self._requests.take))
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
        self._raise_limit()  # poll fails with more descriptors than the limit
        ready = self._poll(wake)
        listeners = self._endpoints.listeners
        if listeners.fileno() in ready or time.monotonic() >= listeners.due:
            self._raise_limit()  # it may have been lowered during the poll
            listeners.turn()
        if self._home.identity.fileno() in ready:
            self._home.identity.answer()
        if self._home.is_near(time.monotonic()):
            self._watch_home()
        if time.monotonic() >= self._disk.due and (happened := self._disk.turn(time.monotonic())):
            self._log.record(happened[0], **happened[1])
        if wake in ready:
            self._on_signals(wake)
        self._read_engine(ready)  # ends come first, whatever the control plane has
        settling = self._bus.settling
        used = self._bus.is_pending or not ready.isdisjoint(self._inputs.bus)
        if settling or used or self._bus.waiting:
            self._route(None if settling else ready)
            self._bus.announce_ends()
        waiting = self._control.pending and time.monotonic() >= self._gathering.until
        if waiting or not ready.isdisjoint(self._inputs.control):
            only_beats = self._dispatcher.receive(END_S if self._bus.settling else CONTROL_S)
            self._gathering.note_read(only_beats, self._control.overdrawn, time.monotonic())
        if self._publisher.exit_poll.fileno() in ready:
            self._publisher.remove_ended_programs()
        if self._rotation.wake in ready:
            for event, name, data in self._rotation.events():
                self._log.record(event, name, **data)
        now = time.monotonic()
        self._awake = self._awake or not ready.isdisjoint(self._places.descriptors())
        if now >= self._manager.due:
            self._manager.check_deadlines(now, self._turned_at)
        if self._awake or self._tasks or self._requests or now >= self._publish_due:
            self._settle()
        if now >= self._snapshots.due:
            self._snapshots.write()
        if now >= self._bus.trimmer.due and self._bus.trimmer.is_idle(now):
            trimmer.trim_in_background()
        if now >= self._kill_at:
            self._kill_late()
        if now >= self._systemd.due:
            settling = not self._settled or self._manager.stopping
            self._systemd.turn(now, self._services, settling)
        self._turned_at = time.monotonic()

    def _raise_limit(self) -> None:
        """Undo what another program may do to this one's limit of descriptors."""
        if lowered := raise_descriptor_limit():
            self._log.record("descriptors.raised", lowered_to=lowered)

    def _poll(self, wake: int) -> set[int]:
        """Wait until there is more to do than to route, and route; return what is ready."""
        lasting = [wake, self._publisher.exit_poll.fileno(), self._rotation.wake]
        lasting += [self._endpoints.listeners.fileno(), self._home.identity.fileno()]
        changing = [*self._engine.descriptors(), *self._places.descriptors()]
        self._inputs.watch(self._endpoints, lasting, changing)
        wait, now = self._wait(), time.monotonic()
        gathering = self._gathering.until > now
        self._inputs.hold_control(gathering)
        until = min(now + wait, self._gathering.until) if gathering else now + wait
        ready = self._inputs.unread()  # what was sent since may have taken their signals
        if ready or until <= now:
            return ready | self._inputs.wait(0.0)
        while now < until or self._bus.is_pending:
            ready = self._inputs.wait(0.0 if self._bus.is_pending else until - now)
            if not (ready or self._bus.is_pending) or not ready <= self._inputs.bus.keys():
                return ready
            if (ready or not self._bus.route_streams()) and self._route(ready):
                return ready
            if self._bus.trimmer.due < until:
                return ready
            now = self._turned_at = time.monotonic()
            if self._bus.waiting:
                until = min(until, now + AGAIN_S)
        return set()

    def _wait(self) -> float:
        if self._awake or (self._control.pending and time.monotonic() >= self._gathering.until):
            return 0.0
        if self._bus.settling or self._engine.busy:
            return 0.001
        due = min(self._manager.due, self._publish_due, self._engine.due, self._snapshots.due)
        due = min(due, self._endpoints.listeners.due, self._bus.trimmer.due, self._home.due)
        due = min(due, self._systemd.due, self._kill_at, self._disk.due)
        wait = min(due - time.monotonic(), AGAIN_S if self._bus.waiting else IDLE_S)
        return max(min(wait, TASKS_S) if self._tasks or self._requests else wait, 0.0)

    def _settle(self) -> None:
        """Start what can start, continue what waits, publish what changed."""
        self._awake = False
        self._direct.check(time.monotonic())
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

    def _read_engine(self, ready: set[int]) -> None:
        due = self._engine.busy or time.monotonic() >= self._engine.due
        if due or any(fd in ready for fd in self._engine.descriptors()):
            for event in self._engine.turn():
                self._on_engine_event(event)
                self._wake()

    def _on_engine_event(self, event: engine.Happened) -> None:
        match event:
            case engine.Found():
                self._takeover.on_found(event)
                self._takeover.resume_orders(self._orders)
                self._snapshots.touch()
                self._dispatcher.dispatch_early()
            case engine.FlightRecord() | engine.LogTail():
                self._crashes.take(event)
            case engine.Preloaded() | engine.Fresh():
                self._plugins.on_engine_event(event)
            case engine.Lost(launcher, workers):
                self._log.record("launcher.lost", pid=launcher.pid, workers=workers)
                self._plugins.on_engine_event(event)
            case _:
                self._manager.on_engine_event(event)
                self._plugins.on_engine_event(event)

    def _route(self, ready: set[int] | None) -> bool:
        """Route what has arrived at these descriptors, or all; return True if that is not all."""
        bus = self._inputs.bus
        sockets = None if ready is None else [bus[fd] for fd in ready if fd in bus]
        new = self._bus.route_pending(sockets)
        for token in new:
            self._manager.on_connected(token)
        self._awake = self._awake or self._bus.pairs.has_new  # they may get a direct route
        return bool(new) or self._awake or self._bus.settling

    def _on_signals(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(wake, 4096)
            for number in numbers:
                if signals.meaning(number, self._terminal) is signals.Meaning.STOP:
                    # A terminal that closes sends SIGHUP twice; that is no order to hurry.
                    self._signals += number != signal.SIGHUP or not self._signals
                    name = signals.name_of(number)
                    self._log.record("supervisor.signal", signal=name, count=self._signals)
            for number in dict.fromkeys(numbers):
                self._on_harmless_signal(number)
        if self._signals == 1:
            self._stop_host(NO_ORDER)
        elif self._signals > 1:
            self._done = True

    def _on_harmless_signal(self, number: int) -> None:
        """Do what a signal means that does not stop the host, and record it."""
        match what := signals.meaning(number, self._terminal):
            case signals.Meaning.STOP:
                return
            case signals.Meaning.REAP:
                self._engine.reap()
                return
            case signals.Meaning.REOPEN:
                self._rotation.look_at_once()  # the event log looks at each event, as below
            case signals.Meaning.APPLY:
                self._requests.take(b"", messages.Order(0, "apply"))  # an event has the outcome
            case signals.Meaning.NOTHING:
                pass
            case _:
                assert_never(what)
        self._log.record("supervisor.signal", signal=signals.name_of(number), action=what.value)

    # --- the host as a whole ----------------------------------------------------------------

    def _register(self) -> Steps:
        try:
            yield from self._plugins.read_all(self._takeover.until_adopted())
        except ConfigError as error:
            self.failure, self._done = error, True
        except Exception as error:  # noqa: BLE001 (without its services the host is of no use)
            self._report_error("the registration", error)
            self.failure = GarrisonError(f"nothing could be registered: {error!r}")
            self._done = True

    def _add_services(self, specs: list[ServiceSpec]) -> None:
        new = self._plugins.new_services(specs)
        former = self._plugins.config.former
        names = [service.name for service in new]
        rename_added(self._renames, self._log, self._services, names, former)
        self._manager.roster.add_configured(new, specs, self._orders)
        for service in new:
            if problem := self._plugins.config_problem(service.spec):
                self._manager.roster.refuse(service, problem)

    def _until_settled(self) -> Steps:
        """Record once that every service that was to be started runs or was given up."""
        while not self._plugins.finished or self._manager.is_settling():
            yield False
        self._settled = True
        self._direct.sweep()
        gc.freeze()  # and the services stay, too
        trimmer.trim_in_background()  # what the start needed meanwhile
        if not self._manager.stopping:
            states = [service.state for service in self._services]
            running, count = states.count(State.RUNNING), len(states)
            self._log.record("supervisor.settled", running=running, services=count)
            self._systemd.ready()

    def _host_state(self) -> HostState:
        return HostState(
            self._plugins.config.path,
            self._plugins.config.paths,
            self._manager.stopping,
            self._plugins.finished,
            self._settled,
            self._control.rejected,
            self._plugins.rejected,
            self._plugins.preloader.refused,
            self._disk.state,
        )

    def _stop_host(self, note: OrderNote) -> None:
        """Stop every service in reverse order of the starts, then end."""
        if not self._manager.stopping:
            self._manager.stopping = True
            self._snapshots.keep_wanted()
            data = {"by": note.who} if note.who != OPERATOR else {}
            self._log.record("supervisor.stopping", **data)
            self._systemd.stopping()
            if self._stop_timeout:
                self._kill_at = time.monotonic() + self._stop_timeout
            self._wake()

    def _kill_late(self) -> None:
        """End the host although services still stop: `stop_timeout` is over."""
        late = [service.name for service in self._services.all() if has_process(service.state)]
        self._log.record("supervisor.stop_late", services=" ".join(late))
        self._kill_at, self._killed, self._done = inf, True, True

    def _watch_home(self) -> None:
        """Restore what was removed from the home; end if another supervisor has taken its path."""
        self._publisher.check_programs_elsewhere(time.monotonic())
        events = self._home.turn()
        if self._home.restored:
            self._log.close()  # the next event opens the file that is at the path then
        for event, data in events:
            self._log.record(event, **data)
        self._snapshots.rewrite_lost(all_files=self._home.restored)
        if self._home.displaced is not None:
            self.failure = self.failure or self._home.displaced
            self._snapshots.abandon()
            self._stop_host(NO_ORDER)

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
        self._systemd.turn(time.monotonic(), self._services, settling=True)
        if self.upgrade.successor:
            self._close_for_successor(wake)
        else:
            self._close_for_good()
        self._systemd.close()
        self._inputs.close()
        self._places.close()
        self._engine.close()
        self._publisher.close()
        self._endpoints.close()
        self._context.term()
        self._log.close()
        if not self.upgrade.successor:
            self._endpoints.unlink()
            self._home.identity.close()
            for lock in self._locks:
                os.close(lock)

    def _close_for_successor(self, wake: int) -> None:
        names = self._home.identity.hand_over()
        self.upgrade.hand_over(self._locks, names, wake, self._terminal)
        self._bus.route_pending()
        self._snapshots.write()
        self._crashes.flush()
        self._systemd.reloading()
        self._log.record("supervisor.upgrades", python=self.upgrade.successor)

    def _close_for_good(self) -> None:
        killed = self._killed or self._signals > 1
        kill = killed or self.failure is not None or have_processes(self._services.all())
        self._crashes.flush()
        self._engine.leave(kill=kill)
        self._snapshots.remove()
        self._log.record("supervisor.stopped", killed="yes" if killed else "")
        self._requests.answer_all()
        self._publisher.send_farewell()
