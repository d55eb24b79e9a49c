"""The one place that applies events to services and performs what the policy decides.

Other components report what happened: the control server returns messages, the engine returns
events of processes, commands yield actions. Times are monotonic seconds.
"""

import random
import signal
import time
from math import inf
from typing import TypeAlias, assert_never

from msgspec.structs import replace

from garrison.ipc import messages, socket_paths
from garrison.ipc.messages import WIRES, Join, Leave, Order, Stacks, State, Token
from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import service_spec
from garrison.supervisor.lifecycle import silence
from garrison.supervisor.lifecycle.actions import (
    Action,
    Apply,
    Attach,
    Configure,
    EndFromInside,
    InjectFault,
    Ordered,
    Pause,
    Reload,
    Remove,
    RestartBound,
)
from garrison.supervisor.lifecycle.dependencies import bound_services
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.order_note import NO_ORDER
from garrison.supervisor.lifecycle.ordering import (
    have_processes,
    is_settling,
    next_stops,
)
from garrison.supervisor.lifecycle.policy import (
    Effect,
    Event,
    has_process,
    step,
)
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable
from garrison.supervisor.lifecycle.transitions import ended_by_itself, transition_data

from .assignment import CannotStart
from .effects import Effects
from .processes import engine
from .reloads import Reloads
from .roster import ServiceRoster
from .starts import StartScheduler
from .worker_reports import WorkerReports

LATE_S = 1.0  # a turn that is so late was stopped from outside; the watchdogs are not at fault
HELD_UP_S = 0.5  # between two looks whether what a worker elsewhere has sent may be held up
SETTLE_S = 2.0  # for an adopted worker without a watchdog to answer

WorkerEvent: TypeAlias = (
    engine.Forked
    | engine.NotForked
    | engine.Died
    | engine.Ended
    | engine.Gone
    | engine.Usage
    | engine.NodeChanged
)


class ServiceManager:
    """Applies events to services.

    Args:
        services: The services; only this class changes one.
        starts: Chooses the services that start.
        effects: What effects are performed with.

    Attributes:
        roster: Adds and takes out services.
        due: When `check_deadlines` or `start_next` has something to do.
        stopping: Whether everything is being stopped.
        hold_starts: Whether starts wait, because running workers are still being adopted.
    """

    def __init__(self, services: ServiceTable, starts: StartScheduler, effects: Effects) -> None:
        self._services, self._starts, self._use = services, starts, effects
        self._reports = WorkerReports(services, effects)
        self.roster = ServiceRoster(services, effects, self.apply, self._note_due)
        self._reloads = Reloads(services, effects, self.apply, self._restart_bound)
        self._began = time.monotonic()
        self.due = inf
        self.stopping = False
        self.hold_starts = False

    # --- events -----------------------------------------------------------------------------

    def apply(self, service: Service, event: Event, crash_id: str = "") -> None:
        """Apply an event to a service and perform the effect that the policy decides.

        Args:
            service: The service.
            event: What happened to it.
            crash_id: The id of the crash report, where the event is a crash that has one.
        """
        if event is Event.STOP and not service.is_second:
            self._reloads.abandon(service.name)
        before, now = service.child, time.monotonic()
        after, effect = step(before, event, now, random.random())
        if after is before:
            return
        service.child = after
        if after.state is not before.state:
            data = transition_data(service, before, event, now, crash_id)
            if after.state is State.RUNNING:
                service.reason = service.traceback = ""
                service.restarted_by = NO_ORDER  # a crash from here on is no order
                service.current.extended = ""
            self._starts.note(service, before, event)
            name = "service.reload" if service.is_second else "service.state"
            self._use.log.record(name, service.name, **data)
            if ended_by_itself(before, event) and not (self.stopping or service.is_second):
                self._restart_bound(service.name)
        if (after.state, after.wanted) != (before.state, before.wanted):
            self._use.publisher.changed(service.name)
            self._use.wake()
            self._use.touch()
        self.due = min(self.due, after.deadline)
        if effect is not None:
            self._perform_effect(service, effect)
        if service.is_second:
            self._reloads.follow(service)

    def _note_due(self, at: float) -> None:
        self.due = min(self.due, at)

    def perform(self, action: Action) -> None:
        """Perform what a command wants done."""
        match action:
            case Apply(name, event, reason, note):
                service = self._services.services[name]
                self.apply(service, event)
                service.carry_out(note, event, reason)
                self._use.touch()
            case Ordered(name, note):
                if self._services.services[name].note_order(note, time.monotonic()):
                    data = {"order": note.verb, "by": note.who, "why": note.why}
                    self._use.log.record("service.ordered", name, **data)
            case EndFromInside(name, note):
                self._services.services[name].end_from_inside(note, time.monotonic())
            case Configure(spec, plugin):
                service = self._services.services[spec.name]
                service.child, service.plugin = replace(service.child, spec=spec), plugin
                service.next_watchdog = None
            case Remove(name):
                self._use.removed(self._services.remove(name))
            case RestartBound(name):
                self._restart_bound(name)
            case Reload():
                self._reloads.begin(action)
            case Pause(name, note, paused):
                self.roster.pause(self._services.services[name], note, paused)
            case Attach(name, pid):
                self._services.services[name].terminal = pid
            case InjectFault(name, kind, number):
                current = self._services.services[name].current
                current.faulted = True
                self._use.log.record("service.fault", name, fault=kind, pid=current.pid)
                if number is not None:
                    self._use.engine.signal(current.token, number, group=False)
            case _:
                assert_never(action)

    def _perform_effect(self, service: Service, effect: Effect) -> None:
        token = service.current.token
        match effect:
            case Effect.SPAWN:
                self._start(service)
            case Effect.DRAIN:
                service.current.drained = service.drain_reason(self.stopping)
                self._use.drain(service)
            case Effect.DUMP:
                self._use.dump(token)
            case Effect.TERM:
                self._reports.on_overdue(service)
                self._use.engine.signal(token, signal.SIGTERM)
            case Effect.KILL:
                self._use.engine.signal(token, signal.SIGKILL)
            case _:
                assert_never(effect)

    def _restart_bound(self, name: str) -> None:
        for bound in bound_services(name, self._services.children()):
            other = self._services.services[bound]
            if has_process(other.state) and other.child.wanted:
                self._use.log.record("service.taken_along", bound, by=name)
                other.take_along(self._services.services[name], time.time())
                self.apply(other, Event.STOP)
                self.apply(other, Event.START)

    def check_deadlines(self, now: float, turned_at: float) -> None:
        """Apply every deadline that has passed.

        Args:
            now: The time.
            turned_at: When the last turn of the loop ended.
        """
        late = now - turned_at > LATE_S + max(self.due - turned_at, 0.0)
        for service in self._services.all():
            if service.child.deadline > now:
                continue
            if (later := self._starts.put_off(service)) is not None:
                service.child = later
            elif late and service.state is State.RUNNING:  # its beats wait in a socket
                self.apply(service, Event.BEAT)
            elif self._may_be_held_up(service, now):
                service.child = replace(service.child, deadline=now + HELD_UP_S)
            else:
                self.apply(service, Event.DEADLINE)
        self.due = min((service.child.deadline for service in self._services.all()), default=inf)
        self.due = min(self.due, self._use.places.due)
        self._use.wake()  # a start slot may have expired

    def _may_be_held_up(self, service: Service, now: float) -> bool:
        """Return whether a worker's messages may be under way in a partition, or after it."""
        contact = self._use.engine.contact(service.current.token)
        if contact is None:
            return False
        if service.state is not State.RUNNING or service.current.adopting:
            if service.due_first[0] != service.child.since:
                service.due_first = (service.child.since, service.child.deadline)
            return silence.waits(contact, service.due_first[1], now)
        heard_at = max(service.current.beat_at, service.child.since)
        return not silence.is_own(contact, heard_at, service.spec.supervision.watchdog)

    def move(self, service: Service) -> None:
        """Restart a service on the node that was found for it."""
        self.apply(service, Event.STOP)
        self.apply(service, Event.START)
        self._restart_bound(service.name)

    def _leave_node(self, node: str) -> None:
        """Move what may move from a node that ends; the rest stops in order, and waits for it."""
        self._use.places.on_leaving(node)
        for service in self._use.places.on_node(node):
            if self._use.places.stays(service):
                self.move(service)

    # --- starting and stopping everything -----------------------------------------------------

    def start_next(self) -> None:
        """Start queued services whose dependencies run, as far as start slots are free."""
        if self.hold_starts:
            return
        self._use.places.settle()
        chosen, due = self._starts.next()
        self.due = min(self.due, due, self._use.places.due)
        for service in chosen:
            self.apply(service, Event.SLOT)

    def stop_next(self) -> bool:
        """Stop the services that no other depends on; return True once no process is left."""
        self._reloads.abandon_all()
        for service in next_stops(self._services):
            self.apply(service, Event.STOP)
        return not have_processes(self._services.all())

    def is_settling(self) -> bool:
        """Return True while a service is on its way to running or to being given up."""
        early = time.monotonic() < self._began + SETTLE_S
        return self.hold_starts or is_settling(self._services, early)

    def suspend_calls(self) -> None:
        """Publish that no service takes calls, so that they wait for the next supervisor."""
        for service in self._services:
            service.current.connected = False
            self._use.publisher.changed(service.name)

    # --- the start of an incarnation ----------------------------------------------------------

    def _start(self, service: Service) -> None:
        now, token = time.monotonic(), socket_paths.new_token()
        if service.next_watchdog is not None:  # an adopted incarnation kept its own until here
            spec = service_spec(service.spec, watchdog=service.next_watchdog)
            service.child, service.next_watchdog = replace(service.child, spec=spec), None
        led_by = service.restarted_by.chain
        service.current = Incarnation(token, started_at=now, led_by=led_by)
        service.ended_by = NO_ORDER
        self._services.by_token[token] = service
        self._use.bus.admit(token)
        self._use.crashes.on_start(service)
        self._use.log_unsupported_limits(service)
        try:
            prepared = self._use.assignments.prepare(service)
        except CannotStart as error:
            self._not_started(service, error.reason, error.permanent)
            return
        finally:
            service.terminal = 0  # it is for one incarnation
        service.current.uid, service.current.started = prepared.uid, prepared.record
        self._use.crashes.on_secrets(service.name, prepared.secrets)
        self._use.fork(service, prepared.assignment)

    def _not_started(self, service: Service, reason: str, permanent: bool) -> None:
        service.current.failing = messages.Failing("fork", reason, permanent=permanent)
        self._on_ended(service, None)
        service.last_exit = "was not forked"
        self._on_gone(service, ())

    # --- the engine's events ------------------------------------------------------------------

    def on_engine_event(self, event: WorkerEvent) -> None:
        """Take what the engine reports of a worker, or of a node."""
        if isinstance(event, engine.NodeChanged):
            self._use.log.record(f"node.{event.change}", node=event.node, reason=event.reason)
            if event.change == "leaving":
                self._leave_node(event.node)
            return
        if isinstance(event, engine.Died):
            self._use.bus.mark_ended(event.key, event.read)  # no more frames of it count
        service = self._services.by_token.get(event.key)
        if service is None:
            return
        current = service.current
        match event:
            case engine.Died():
                current.ended = True
                self._use.publisher.changed(service.name)
            case engine.Forked(key, handle, unsupported):
                current.handle = handle
                if handle.node:  # known by now in any case, also one that no snapshot has
                    self._use.endpoints.admit_remote(key)
                self._use.engine.watch(key, service.spec.limits)
                for problem in unsupported:
                    self._use.log_unsupported(service, problem)
                self._use.touch()
                self._check_ready(service)
            case engine.NotForked(_, reason, unusable):
                reason = reason if unusable else f"it could not be forked: {reason}"
                self._not_started(service, reason, permanent=False)
            case engine.Ended(_, status, user_s, system_s, rss_bytes, oom, paused, words):
                current.oom, current.paused = oom, paused
                current.used = (user_s, system_s, rss_bytes) if rss_bytes else None
                self._on_ended(service, status, words)
            case engine.Gone(_, left):
                self._on_gone(service, left)
            case engine.Usage(_, used):
                exceeded = self._reports.take_usage(service, used)
                if exceeded is not None:
                    self.apply(service, exceeded)
            case _:
                assert_never(event)

    def _on_ended(self, service: Service, status: int | None, words: str = "") -> None:
        words = words or process_tree.describe(status)
        cause = service.cause(words)
        service.record_exit(status, words, cause, time.time())
        self._use.publish_end(service, cause)

    def _on_gone(self, service: Service, left: tuple[Handle, ...]) -> None:
        if left:
            pids = " ".join(str(handle.pid) for handle in left)
            self._use.log.record("service.leftover", service.name, pids=pids)
            service.left = left
        ended = service.current
        event = service.outcome(time.monotonic())
        crash = self._use.crashes.on_exit(service, event, left)
        service.current = Incarnation()
        self._services.by_token.pop(ended.token, None)
        self._use.release(service.name, ended)
        self.apply(service, event, crash.id if crash is not None else "")
        self._use.crashes.on_restart_decided(crash, service)

    # --- the workers' messages ----------------------------------------------------------------

    def on_connected(self, token: Token) -> None:
        """Take a worker's bus connection."""
        service = self._services.by_token.get(token)
        if service is not None:
            service.current.connected = True
            self._check_ready(service)
            if service.state is State.RUNNING:  # an adopted one can be called again
                self._use.publisher.changed(service.name)
                self._use.wake()

    def on_probe(self, token: Token) -> bool:
        """Welcome an adopted worker that has found the new sockets; it answers with a Hello.

        It may have sent that to the former supervisor, whose Welcome it never read: so it cannot
        know by itself that this one has none. Returns False if the token is not that of an
        incarnation.
        """
        service = self._services.by_token.get(token)
        if service is None:
            return False
        current = service.current
        if current.adopting and not current.ended:
            current.welcomed = self._use.publisher.welcome(token, introduce=True)
        elif current.welcomed and self._use.endpoints.control.is_remote(token):
            self._use.publisher.welcome(token)  # its connection broke; by this it notices
        return True

    def on_message(self, token: Token, message: messages.Upward) -> bool:
        """Take a worker's message; return False if its sender is no running incarnation."""
        service = self._services.by_token.get(token)
        if service is None or service.current.ended:
            return False
        match message:
            case messages.Hello():
                self._on_hello(service, message)
            case messages.Initialized():
                self.apply(service, Event.INITIALIZED)
            case messages.Ready():
                self._on_ready(service, message)
            case messages.Beat() | messages.Health() | messages.Extend():
                event = self._reports.take(service, message)
                # A worker that beats and has no Hello is of no use to this supervisor.
                if event is not None and not service.current.adopting:
                    self.apply(service, event)
            case messages.Failing() | messages.Stopped():
                self._reports.take_last(service, message)
            case messages.Subscribe(events):
                if events != service.current.events:
                    service.current.events = events
                    self._use.publisher.listed(service.name)
                    self._use.wake()
            case messages.DirectOpen() | messages.DirectRoute():
                self._use.direct.on_message(token, message, time.monotonic())
            case Join() | Leave() | Order() | Stacks():
                pass  # not a worker's; the server and the loop take them
            case messages.PluginRead() | messages.PluginsRead():
                pass  # from what reads plugins
            case _:
                assert_never(message)
        return True

    def _on_hello(self, service: Service, hello: messages.Hello) -> None:
        publisher, current = self._use.publisher, service.current
        current.hello = hello
        if not hello.syncs:
            self._use.bus.connect_without_sync(current.token)
        if current.adopting:
            self._on_adopted_hello(service, hello)
        elif publisher.accepts_wire(current.token, hello.wire):
            if current.welcomed:  # a repeated Hello; a directory costs more than a Hello
                publisher.resend_directory(current.token)
                self._use.wake()
                return
            current.welcomed = True
            publisher.welcome(current.token)

    def _on_adopted_hello(self, service: Service, hello: messages.Hello) -> None:
        """Adopt a worker; it is replaced if it answers too late or has another wire version."""
        publisher, current = self._use.publisher, service.current
        if service.state is State.STOPPING and service.adoption_timed_out:
            publisher.reject(current.token, "it is being replaced")
            return
        current.adopting, current.beat_at = False, time.monotonic()  # its loop turns
        generation = max(service.child.generation, hello.generation)
        service.child = replace(service.child, generation=generation)
        data = {"pid": current.pid, "generation": generation, "state": service.state.value}
        self._use.log.record("service.adopted", service.name, **data)
        self.apply(service, Event.BEAT)
        publisher.changed(service.name)
        if hello.wire not in WIRES:
            reason = f"it speaks wire {hello.wire}"
            self._use.log.record("service.replaced", service.name, reason=reason)
            current.welcomed = False  # it would not understand a Drain; TERM makes it drain
            wanted = service.child.wanted
            self.apply(service, Event.STOP)
            if wanted:
                self.apply(service, Event.START)

    def _on_ready(self, service: Service, message: messages.Ready) -> None:
        service.current.note_code(message.code)
        if message.manifest != service.manifest:
            service.manifest = message.manifest
            self._use.publisher.listed(service.name)
            self._use.touch()
            self._use.wake()
        service.current.ready = True
        self._check_ready(service)

    def _check_ready(self, service: Service) -> None:
        """Apply READY once `start` returned and the bus connection was seen: a call needs both.

        On a busy machine the worker may be faster than what started it reports: what runs has a
        pid.
        """
        current = service.current
        if current.ready and current.connected and current.pid and not current.ended:
            self.apply(service, Event.READY)
