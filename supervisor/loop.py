"""The one loop: sockets, ends, signals, deadlines. It carries out what the policy decides.

All of the supervisor's state belongs to it, so there are no locks. Times are monotonic seconds.
"""

import contextlib
import gc
import os
import random
import secrets
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

import zmq

from garrison.ipc import messages
from garrison.ipc.errors import GarrisonError
from garrison.ipc.messages import State, Token
from garrison.ipc.system import process_tree, trimmer
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.bus.router import AGAIN_S, BusRouter
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec, service_spec
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.control.requests import RequestQueue
from garrison.supervisor.control.server import CONTROL_BYTES, ControlServer
from garrison.supervisor.crashes.recorder import CrashRecorder
from garrison.supervisor.crashes.store import CrashStore
from garrison.supervisor.lifecycle.dependencies import (
    blocking_dependencies,
    bound_services,
    can_stop,
)
from garrison.supervisor.lifecycle.policy import (
    AS_CRASHED,
    Child,
    Effect,
    Event,
    has_process,
    step,
)
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.logs.rotation import Rotation
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.processes.local import LocalEngine
from garrison.supervisor.processes.machine import detect_capabilities
from garrison.supervisor.state.adoption import ENDING, Adoption, Handover, adoptable
from garrison.supervisor.state.home import lock_home

from .manager import SLOT_S, ServiceManager
from .plugins import PluginRegistry
from .state import snapshot
from .tasks import Steps, TaskSet

STIR_S = 0.05  # how often waiting orders look, at the least
IDLE_S = 60.0  # the longest wait for anything
MISTAKES_MOST = 1000  # of the supervisor's own, until it is better to end
# That tell what the reason of an end is, in place of what was said of it before
AT_FAULT = {Event.DEADLINE, Event.UNWELL, Event.EXCESS, Event.OVERRUN}
LATE_S = 1.0  # a turn that comes so late was stopped from outside; beats are not to blame


class Supervisor:
    """The supervisor of one home.

    Args:
        config: What to run.
        environ: The environment as it was at the start; secrets are taken from it.
        journal: Where events go.
        handover: What the supervisor before an upgrade, in this same process, has handed on.

    Raises:
        AlreadyRunning: Another supervisor has this home.
        ConfigError: The config does not fit what a former supervisor left running; it runs on.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        journal: EventLog,
        handover: Handover | None = None,
    ) -> None:
        self.config = config
        self.environ = dict(environ)
        self.journal = journal
        self.boot = secrets.token_hex(8)
        self.began = time.monotonic()
        self.roster = ServiceTable()
        self.settled = False  # the first starts have come to an end, good or bad
        self.stopping = False
        self.done = False
        self.failure: GarrisonError | None = None  # what the host cannot run with
        self._stirred = True
        self._soonest = 0.0  # what was adopted has deadlines already
        self._turned_at = time.monotonic()
        self._works = TaskSet(self.erred)
        self._signals = 0
        self._mistakes = 0  # of this program's own
        self._poller = zmq.Poller()
        self._polled: list[int] | None = None  # how many users, and the launchers' sockets
        host = config.host
        handover = handover or Handover()
        self._locks = lock_home(config, handover.locks)
        self.saved, problem = snapshot.load(host.state)
        self._unkept, self._unkept_why = False, ""  # orders that are not on disk, and why
        living, unread = snapshot.load_living(host.state)
        services = adoptable(config, living) if living is not None else []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.others = set(process_tree.children())  # children of this process, but not the host's
        if handover.locks:
            self.others &= set(handover.others)
        self.engine: Engine = LocalEngine(
            host.run,
            host.logs,
            base_environment(self.environ),
            host.orphan_grace,
            host.cgroups,
            self.others,
        )
        self.doors = Endpoints(self.context, host, min(host.max_message, CONTROL_BYTES))
        self.gates = self.doors.listeners
        self.hearing = ControlServer(self, self.doors.control)
        self.bus = BusRouter(self.doors.bus, self.hearing.refuse, host.max_message)
        self.members = DirectoryPublisher(self, self.doors.control, self._left)
        self.orders = RequestQueue(self, self.members.send)
        self.incarnations = ServiceManager(self)
        self.registration = PluginRegistry(self)
        self.succession = Adoption(self)
        self.deaths = CrashRecorder(
            CrashStore(host.state / "deaths"),
            host.logs,
            self.engine,
            journal,
            self.environ,
            self.roster.by_token,
            self.later,
            self.erred,
        )
        self.rotation = Rotation(host.logs, host.log_bytes, host.log_files)
        self.machine = detect_capabilities(host.cgroups, process_tree.children())
        journal.listeners.append(self.orders.heard)
        journal.record("supervisor.started", pid=os.getpid(), home=str(host.home))
        for damaged in filter(None, (problem, unread)):
            journal.record("state.damaged", problem=damaged)
        self.succession.adopt(living, services)

    # --- the loop ---------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop, and everything has stopped."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in ENDING:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup; an ignored SIGINT is only what a script's & hands down
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # what came too early comes now
        for work in (self._register(), self._until_settled()):
            self.later(work)
        self.rotation.start()
        gc.freeze()  # what is there stays: to look through it all holds up a turn
        try:
            while not self.done:
                try:
                    self._turn(wake)
                except Exception as error:
                    self.erred("a turn of the loop", error)
                    self._stirred = True
                    if self._mistakes > MISTAKES_MOST:
                        raise
        finally:
            self._close(wake)
            signal.set_wakeup_fd(-1)

    def _turn(self, wake: int) -> None:
        ready = self._poll(wake)
        if self.gates.fileno() in ready or time.monotonic() >= self.gates.due:
            self.gates.turn()
        if wake in ready:
            self._on_signals(wake)
        control = not ready.keys().isdisjoint(self.doors.control.all)
        if control or self.hearing.unheard:
            self.hearing.read()
        if self.members.leavers.fileno() in ready:
            self.members.see_who_left()
        if self.rotation.wake in ready:
            for event, log, data in self.rotation.events():
                self.journal.record(event, log, **data)
        due = self.engine.busy or time.monotonic() >= self.engine.due or self.incarnations.backlog
        if due or any(fd in ready for fd in self.engine.descriptors()):
            self.incarnations.read_engine()
        carries = not ready.keys().isdisjoint(self.doors.bus.all)
        if carries or self.bus.settling or self.bus.waiting:
            for token in self.bus.route_pending():
                self._connected(token)
            self.bus.announce_ends()
        now = time.monotonic()
        if now >= self._soonest:
            self._deadlines(now)
        if self._stirred or self._works or self.orders:
            self._settle()
        if now >= self.succession.due:
            self.succession.write()
        if now >= self.bus.trimmer.due and self.bus.trimmer.is_idle(now):
            trimmer.trim_in_background()
        self._turned_at = time.monotonic()

    def _poll(self, wake: int) -> dict[Any, int]:
        launchers = self.engine.descriptors()
        polled = [len(self.doors), *launchers]
        if polled != self._polled:  # a poller is made anew only for other sockets
            self._polled = polled
            self._poller = zmq.Poller()
            fds = (wake, self.members.leavers.fileno(), *launchers)
            fds = (self.rotation.wake, self.gates.fileno(), *fds)
            for one in (*self.doors.control.all, *self.doors.bus.all, *fds):
                self._poller.register(one, zmq.POLLIN)
        return dict(self._poller.poll(int(self._wait() * 1000 + 0.999)))

    def _wait(self) -> float:
        if self._stirred or self.hearing.unheard:
            return 0.0
        if self.bus.settling or self.engine.busy:
            return 0.001
        due = min(self._soonest, self.engine.due, self.succession.due, self.gates.due)
        due = min(due, self.bus.trimmer.due)
        wait = min(due - time.monotonic(), AGAIN_S if self.bus.waiting else IDLE_S)
        return max(min(wait, STIR_S) if self._works or self.orders else wait, 0.0)

    def _settle(self) -> None:
        """Start what may start, go on with what waits, tell what changed."""
        self._stirred = False
        if self.stopping:
            self._stop_next()
        else:
            self._start_next()
        if self._works.go_on():
            self._stirred = True
        self.members.publish()  # before an order is answered that was waiting for just that
        self.orders.go_on()
        self._soonest = min(self._soonest, self.members.publish())

    def stir(self) -> None:
        """Have the next turn look at everything that waits."""
        self._stirred = True

    def _register(self) -> Steps:
        try:
            yield from self.registration.all()
        except Exception as error:  # noqa: BLE001 (without its services the host is no use)
            self.erred("the registration", error)
            self.failure = GarrisonError(f"nothing could be registered: {error!r}")
            self.done = True

    def _until_settled(self) -> Steps:
        """Say once that everything which was to be started runs, or has failed."""
        moving = {State.QUEUED, State.INITIALIZING, State.STARTING}
        while not self.registration.finished or any(
            self.succession.awaits(post)
            or (post.state in moving and not self.roster.stuck(post))
            or (post.state is State.STOPPING and post.child.wanted)
            for post in self.roster
        ):
            yield False
        running = sum(post.state is State.RUNNING for post in self.roster)
        self.settled = True
        gc.freeze()  # and so do the services
        if not self.stopping:
            count = len(self.roster.posts)
            self.journal.record("supervisor.settled", running=running, services=count)

    def later(self, work: Steps) -> None:
        """Go on with work from turn to turn until it ends."""
        self._works.add(work)
        self.stir()

    def _deadlines(self, now: float) -> None:
        gap = now - self._turned_at
        late = gap if gap > LATE_S + max(self._soonest - self._turned_at, 0) else 0.0
        for post in list(self.roster):
            if post.child.deadline > now:
                continue
            if late and post.state is State.RUNNING:  # its beats wait in the socket, unread
                self.advance(post, Event.BEAT)
            else:
                self.advance(post, Event.DEADLINE)
        self._soonest = min((post.child.deadline for post in self.roster), default=inf)
        self._stirred = True  # a start slot may have run out

    def _on_signals(self, wake: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(wake, 64):
                if number in {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
                    # A terminal that closes says so twice; that is no order to hurry.
                    self._signals += number != signal.SIGHUP or not self._signals
                    name = signal.Signals(number).name
                    self.journal.record("supervisor.signal", signal=name, count=self._signals)
        if self._signals == 1:
            self.stop_everything()
        elif self._signals > 1:
            self.done = True

    # --- one service ------------------------------------------------------------------------

    def advance(self, post: Service, event: Event, death: str = "") -> None:
        """Take an event to the policy, and carry out what it decides.

        Args:
            post: The service.
            event: What happened to it.
            death: The id of the crash report, where the event is a crash that has one.
        """
        before = post.child
        after, effect = step(before, event, time.monotonic(), random.random())
        if after is before:
            return
        post.child = after
        if after.state is not before.state:
            self._moved(post, before, event, death)
        if (after.state, after.wanted) != (before.state, before.wanted):
            self.members.changed(post.name)
            self._stirred = True
            self.succession.touch()
        self._soonest = min(self._soonest, after.deadline)
        if effect is not None:
            self._carry_out(post, effect)

    def _moved(self, post: Service, before: Child, event: Event, death: str) -> None:
        after = post.child
        said: dict[str, Any] = {"from": before.state.value, "to": after.state.value}
        if event in {Event.CRASH, Event.CLEAN_EXIT, Event.REFUSED}:
            said["exit"] = post.last_exit
            if post.reason and post.reason != f"its process {post.last_exit}":
                said["reason"] = post.reason
            if death:
                said["death"] = death
        if after.state in {State.BACKOFF, State.FAILED} and after.deadline < inf:
            said |= {"restarts": after.restarted, "wait_s": after.deadline - time.monotonic()}
        if after.state is State.STOPPING and post.reason:
            said["reason"] = post.reason
        if after.state is State.STOPPING and event in AT_FAULT:
            said["reason"] = post.cause("")
        if after.state is State.RUNNING:
            said |= {"pid": post.current.pid, "generation": after.generation}
            said["took_s"] = after.since - post.current.started_at
            post.reason = post.traceback = ""
        self.journal.record("service.state", post.name, **said)
        self._take_along(post, before, event)

    def _take_along(self, post: Service, before: Child, event: Event) -> None:
        """Restart who is bound to a service that ended without being told to."""
        ended = event in {Event.CRASH, Event.CLEAN_EXIT, Event.REFUSED}
        at_fault = before.state is State.STOPPING and before.why in AS_CRASHED
        if ended and (before.state is State.RUNNING or at_fault) and not self.stopping:
            self.restart_bound(post.name)

    def restart_bound(self, name: str) -> None:
        """Restart what runs and is bound to a service."""
        for bound in bound_services(name, self.roster.children()):
            other = self.roster.posts[bound]
            if has_process(other.state) and other.child.wanted:
                self.journal.record("service.taken_along", bound, by=name)
                self.advance(other, Event.STOP)
                self.advance(other, Event.START)

    def _carry_out(self, post: Service, effect: Effect) -> None:
        match effect:
            case Effect.SPAWN:
                self.incarnations.begin(post)
            case Effect.DRAIN:
                if not post.current.welcomed or not self.members.send(
                    post.current.token, messages.Drain(post.spec.supervision.grace)
                ):
                    self.engine.signal(post.current.token, signal.SIGTERM)
            case Effect.DUMP:
                self.engine.dump(post.current.token)
                self.members.send(post.current.token, messages.ShowTasks())  # where its loop turns
            case Effect.TERM:
                self.engine.signal(post.current.token, signal.SIGTERM)
            case Effect.KILL:
                self.engine.signal(post.current.token, signal.SIGKILL)

    def _connected(self, token: Token) -> None:
        post = self.roster.by_token.get(token)
        if post is not None:
            post.current.connected = True
            self.maybe_running(post)
            if post.state is State.RUNNING:  # an adopted one can be called again
                self.members.changed(post.name)
                self._stirred = True

    def maybe_running(self, post: Service) -> None:
        """Take it as running once `start` has returned and its bus connection was seen.

        Not before: else its first call could come back undelivered.
        """
        if post.current.ready and post.current.connected and not post.current.ended:
            self.advance(post, Event.READY)

    def erred(self, over: str, error: Exception) -> None:
        """Write down a mistake of the supervisor's own; the host goes on."""
        self._mistakes += 1
        text = "".join(traceback.format_exception(error))
        self.journal.record("supervisor.erred", over=over, error=text[-4000:])

    def _left(self, token: Token) -> None:
        self.orders.forget(token)
        self.bus.drop(token, "the program ended")

    # --- starting and stopping everything ---------------------------------------------------

    def _start_next(self) -> None:
        queued = [post for post in self.roster if post.state is State.QUEUED]
        if not queued:
            return
        now = time.monotonic()
        slots = [p.current.slot_until for p in self.roster if p.state is State.INITIALIZING]
        busy = sum(now < until for until in slots)
        children = self.roster.children() if busy < self.config.host.starts_at_once else {}
        for post in queued:
            if busy >= self.config.host.starts_at_once:
                self._soonest = min(self._soonest, *(t for t in slots if t > now), now + SLOT_S)
                return
            if not blocking_dependencies(post.child, children):
                busy += 1
                self.advance(post, Event.SLOT)

    def stop_everything(self) -> None:
        """Stop every service in reverse order of the starts, then end."""
        if not self.stopping:
            self.stopping = True
            self.succession.keep_wanted()
            self.journal.record("supervisor.stopping")
            self.stir()

    def _stop_next(self) -> None:
        left = [post for post in self.roster if post.child.wanted or has_process(post.state)]
        under_way = [p for p in left if p.state is State.STOPPING and not p.child.wanted]
        ready = [p for p in left if p not in under_way and can_stop(p.name, self.roster.children())]
        for post in ready or ([] if under_way else left):  # left: a circle, which must end as well
            self.advance(post, Event.STOP)
        if not any(has_process(post.state) for post in self.roster):
            self.done = True

    def take_config(self, config: Config, specs: list[ServiceSpec]) -> None:
        """Take what the config on disk says now: who depends on whom, and where a plugin's parts
        are, counts for all at once, so that there is one order and one place; the rest for each
        service when it is told to start."""
        self.config = config
        by_name = {spec.name: spec for spec in specs}
        for post in self.roster:
            if (new := by_name.get(post.name)) is not None:
                spec = service_spec(
                    post.spec,
                    depends_on=new.supervision.depends_on,
                    bind_to=new.supervision.bind_to,
                    with_parts=new.with_parts,
                )
                post.child = replace(post.child, spec=spec)

    def wants(self, name: str, wanted: bool) -> None:
        """Remember an order beyond this supervisor's life."""
        post = self.roster.posts.get(name)
        if self.saved.order(name, wanted, post is None or post.spec.supervision.autostart):
            self._unkept = True
            if not self.keep_orders():
                self.succession.touch()

    def keep_orders(self) -> bool:
        """Write down orders that are not yet on disk; False where a full one does not take them."""
        if self._unkept:
            try:
                snapshot.save(self.config.host.state, self.saved)
            except OSError as error:
                if str(error) != self._unkept_why:  # once, not each time that it is tried again
                    self.journal.record("state.unsaved", error=str(error))
                self._unkept_why = str(error)
            else:
                self._unkept, self._unkept_why = False, ""
        return not self._unkept

    # --- the end ----------------------------------------------------------------------------

    def _close(self, wake: int) -> None:
        self.rotation.close()
        if self.succession.successor:
            self.succession.hand_over(self._locks, wake)
            self.deaths.flush()
            self.journal.record("supervisor.upgrades", python=self.succession.successor)
        else:
            killing = self._signals > 1 or self.failure is not None
            living = any(has_process(post.state) for post in self.roster)
            self.deaths.flush()
            self.engine.leave(kill=killing or living)
            self.succession.forget()
            self.journal.record("supervisor.stopped", killed="yes" if self._signals > 1 else "")
            self.orders.end()
            self.members.farewell()
        self.engine.close()
        self.members.close()
        self.doors.close()
        self.context.term()
        self.journal.close()
        if self.succession.successor:
            return
        self.doors.unlink()
        for lock in self._locks:
            os.close(lock)
