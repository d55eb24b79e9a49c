"""The services of this host: configuration, lifecycle state and current process of each. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

import msgspec

from garrison.ipc.messages import (
    Changed,
    Entry,
    Health,
    Link,
    Manifest,
    Paused,
    State,
    Token,
    held_words,
)
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec, WhenPaused

from .dependencies import blocking_dependencies
from .handle import Handle
from .incarnation import Incarnation as Incarnation
from .limits import oom_words
from .order_note import LOOP_ORDERS, NO_ORDER, OPERATOR, OrderNote
from .pausing import PauseNote, published
from .policy import Child, Event, StopReason, has_process, postpone

REASON_MOST = 300  # characters of a reason that callers receive
BROKEN = frozenset({State.BACKOFF, State.FAILED})
UNWELL_LOG_S = 60.0  # between two events of a service that is well and unwell in turns


class Service(msgspec.Struct, eq=False):
    """One service of this host and its current incarnation."""

    child: Child
    plugin: PluginSpec
    manifest: Manifest
    position: int
    current: Incarnation = msgspec.field(default_factory=Incarnation)
    terminal: int = 0  # pid of the process whose terminal the next incarnation uses
    next_watchdog: float | None = None  # replaces the spec's at the next start
    unwell_logged_at: float = float("-inf")
    unwell_shown: bool = False  # the last event of its health is that it is unwell
    due_first: tuple[float, float] = (0.0, 0.0)  # since when it is in a state, its first deadline
    deaf: str = ""  # why it receives nothing, as the last event of its link says
    reason: str = ""  # why it does not run, or why its last process ended
    traceback: str = ""
    left: tuple[Handle, ...] = ()  # processes that could not be ended
    last_exit: str = ""  # how its last process ended, in words
    last_exit_at: float = 0.0  # wall clock
    order: OrderNote = NO_ORDER  # the last order that it was given
    applied: OrderNote = NO_ORDER  # the last one that was carried out; on disk, so that the
    # next supervisor can tell whether `orders.json` is newer
    ended_by: OrderNote = NO_ORDER  # the order from inside that ends its incarnation
    restarted_by: OrderNote = NO_ORDER  # the order that its next incarnation is started by
    own_restarts: tuple[float, ...] = ()  # when its own orders last led to its restart
    is_second: bool = False  # it stands for a second incarnation, see `reloading`
    paused: PauseNote | None = None  # it runs and takes nothing; None: it is not paused

    @property
    def name(self) -> str:
        """Return its NAME."""
        return self.child.spec.name

    @property
    def spec(self) -> ServiceSpec:
        """Return its configuration."""
        return self.child.spec

    @property
    def state(self) -> State:
        """Return its lifecycle state."""
        return self.child.state

    @property
    def open_token(self) -> Token:
        """Return the address for calls; empty unless the service can take them."""
        held = self.paused is not None and not self.manifest.serves_paused
        return b"" if held else self._reachable_token

    @property
    def _reachable_token(self) -> Token:
        now = self.current
        reachable = now.connected and not now.adopting and not now.ended
        return now.token if self.state is State.RUNNING and reachable else b""

    @property
    def published_pause(self) -> Paused | None:
        """Return what its callers are shown of its pause; None: it is not paused.

        Its address is empty then, so that the calls of older releases wait as well.
        """
        refuses = self.spec.supervision.when_paused is WhenPaused.REFUSE
        refuses = refuses and not self.manifest.serves_paused
        return published(self.name, self.paused, refuses, self._reachable_token)

    @property
    def adoption_timed_out(self) -> bool:
        """Return True if it is being ended because it did not answer the new supervisor."""
        late = self.child.why in {StopReason.WATCHDOG, StopReason.START_TIMEOUT}
        return self.current.adopting and late

    def outcome(self, now: float) -> Event:
        """Return the event that the end of its process is; note until when a start is postponed."""
        failing, event = self.current.failing, self.current.outcome()
        if event is Event.POSTPONED and failing is not None and failing.retry_s is not None:
            self.child = postpone(self.child, now + failing.retry_s)
        return event

    def entry(self, former: tuple[str, ...] = ()) -> Entry:
        """Return its entry in the directory.

        Args:
            former: The NAMEs that it had before.
        """
        child = self.child
        return Entry(
            self.name,
            child.spec.plugin,
            self.position,
            self.manifest,
            child.state,
            child.wanted,
            child.generation,
            self.open_token,
            self.current.events,
            child.spec.agent.name,
            self.published_reason,
            former,
            self.published_pause,
        )

    def changed(self) -> Changed:
        """Return its state as an update of the directory."""
        child = self.child
        return Changed(
            self.name,
            child.state,
            child.wanted,
            child.generation,
            self.open_token,
            self.published_reason,
            self.published_pause,
        )

    @property
    def published_reason(self) -> str:
        """Return why it does not run, for its callers; empty if it does."""
        return self.reason[:REASON_MOST] if self.child.state in BROKEN else ""

    def note_order(self, note: OrderNote, now: float) -> bool:
        """Note an order before it is carried out; return True if an event is to be recorded."""
        if note.number >= self.order.number:
            self.order = note
        if self.name in note.chain[1:]:  # an order of its own led to this one of another
            self._count_own(note, now)
        return note.who != OPERATOR or bool(note.why)

    def end_from_inside(self, note: OrderNote, now: float) -> None:
        """Note that an order from inside ends this incarnation."""
        self.ended_by = note
        self._count_own(note, now)

    def _count_own(self, note: OrderNote, now: float) -> None:
        if note.wanted:
            self.own_restarts = (*self.own_restarts, now)[-LOOP_ORDERS:]

    def carry_out(self, note: OrderNote, event: Event, reason: str) -> None:
        """Note an order whose event was applied, for the next supervisor and incarnation."""
        self.reason = reason or self.reason
        if note.number:
            self.applied = note
        if event is Event.START and self.state in {State.QUEUED, State.STOPPING}:
            self.restarted_by = note

    def take_along(self, other: "Service", at: float) -> None:
        """Note that it is restarted because of a service that it is bound to."""
        why, chain = f"it is bound to {other.name}", other.restarted_by.chain
        self.restarted_by = OrderNote(0, "restart", other.name, why, at, chain)

    def record_exit(self, status: int | None, words: str, cause: str, at: float) -> None:
        """Record how the current process ended.

        Args:
            status: The exit status, as `os.wait` returns it; None: unknown.
            words: The same in words.
            cause: Why it ended, in words.
            at: The time, of the wall clock.
        """
        current = self.current
        current.ended, current.status = True, status
        self.last_exit, self.last_exit_at = words, at
        ordered = self.state is State.STOPPING and self.child.why is StopReason.ORDER
        announced = current.stopped is not None and current.stopped.reason in {"", "ordered"}
        if not (ordered and announced):
            self.reason = cause
        if current.failing is not None:
            self.traceback = current.failing.traceback

    def record_health(self, health: Health, now: float) -> str:
        """Record a result of its own `health`; return the event to be recorded, empty for none.

        A service that is well and unwell in turns has few events.
        """
        before = self.current.health
        self.current.health, self.current.health_at = health, now
        if not health.problem:
            was_shown, self.unwell_shown = self.unwell_shown, False
            return "service.well" if was_shown else ""
        if (before is not None and before.problem) or now < self.unwell_logged_at + UNWELL_LOG_S:
            return ""
        self.unwell_logged_at, self.unwell_shown = now, True
        return "service.unwell"

    def record_link(self, link: Link | None) -> str:
        """Note what a platform says of its connection; return the event, likewise."""
        if link is None:
            return ""
        problem = link.problem or link.probe_problem
        if problem and not self.deaf:
            self.deaf = problem
            return "platform.deaf"
        if self.deaf and not problem and link.alive_s is not None:
            self.deaf = ""
            return "platform.receives"
        return ""

    def cause(self, exit_words: str) -> str:
        """Return why the process ended, in words.

        The supervisor's own reason comes first, then the worker's report, then the exit status.

        Args:
            exit_words: The exit status in words.
        """
        now = self.current
        if self.state is State.STOPPING and (reason := self._ended_by_supervisor()):
            return reason
        if now.adopting and now.failing is None and now.stopped is None:
            words = f"{exit_words}," if now.status is None else exit_words
            return f"its process {words} while there was no supervisor"
        if self.state is State.STOPPING and (reason := self._ended_by_policy()):
            return reason
        if now.failing is not None:
            oom = now.oom and now.failing.of_process
            return now.failing.reason + (f": {oom_words(self.spec.limits)}" if oom else "")
        if now.stopped is not None and now.stopped.reason:
            by_order = now.stopped.reason == "ordered" and now.drained
            return now.drained if by_order else now.stopped.reason
        if now.oom:
            return f"its process {exit_words}: {oom_words(self.spec.limits)}"
        return f"its process {exit_words}"

    def drain_reason(self, stopping: bool) -> str:
        """Return why it is drained, for the callers whose calls are cut short.

        Args:
            stopping: Whether everything is being stopped.
        """
        if self.child.why is not StopReason.ORDER:
            return self.current.excess or self._ended_by_policy()
        if self.ended_by.number:
            return self.ended_by.words(self.name)
        if stopping:
            return "the host was stopped"
        taken_along = self.restarted_by.verb and not self.restarted_by.number
        if taken_along and self.order.wanted:
            return f"it was restarted, because {self.restarted_by.why}"
        return self.order.words(self.name) if self.order.number else "it was ended by order"

    def held_words(self) -> str:
        """Return what its end waits for; empty if it does not end, or that is not known."""
        held = self.current.held_up_by if self.state is State.STOPPING else ()
        return "; ".join(held_words(one, caller) for one, caller in held)

    def _ended_by_supervisor(self) -> str:
        if self.adoption_timed_out:
            paused = "was stopped, and " if self.current.paused else ""
            return f"it {paused}did not answer the new supervisor in time, so it was ended"
        return self.current.excess

    def _ended_by_policy(self) -> str:
        now, spec = self.current, self.spec
        match self.child.why:
            case StopReason.WATCHDOG:
                silent = "its process was stopped, and" if now.paused else "its loop was"
                return f"{silent} silent for {spec.supervision.watchdog:g} s, so it was ended"
            case StopReason.START_TIMEOUT:
                paused = "was stopped, and " if now.paused else ""
                limit = spec.supervision.start_timeout
                return f"it {paused}did not start within {limit:g} s, so it was ended"
            case StopReason.HEALTH:
                problem = f" ({now.health.problem})" if now.health is not None else ""
                return f"its health was not good twice in a row{problem}, so it was ended"
            case StopReason.ORDER if now.overdue:
                held = f"; it waits for {words}" if (words := self.held_words()) else ""
                return f"it did not end within its grace of {spec.supervision.grace:g} s{held}"
            case StopReason.ORDER | StopReason.LIMIT:
                return ""


class UnreadablePlugin(msgspec.Struct, eq=False):
    """A plugin whose code could not be read, or is being read."""

    name: str
    position: int
    reading: bool = True
    reason: str = "its plugin is being read"
    traceback: str = ""
    tries: int = 0
    again_at: float = float("inf")


class HeldService(msgspec.Struct, frozen=True):
    """A service of the config that is not started: its section, or its plugin's, never fitted."""

    name: str
    reason: str


def never_renamed(name: str) -> tuple[str, ...]:
    """Return the NAMEs that a service had before, where there were none."""
    return ()


def never_paused(name: str) -> PauseNote | None:
    """Return a service's pause, where there is none."""
    return None


class Unplaced(msgspec.Struct, frozen=True):
    """Why a queued service has no node yet."""

    reason: str  # "waits for …"
    soon: bool  # it is decided within seconds


class ServiceTable(msgspec.Struct):
    """Every service, every plugin whose services are not known yet, and what is held back.

    Attributes:
        former_names: Returns the NAMEs that a service had before.
        copied: NAMEs whose data is being copied or put back, with the order's number: they start
            after that.
        unplaced: NAMEs of services that no node takes now, on a host with nodes.
    """

    services: dict[str, Service] = msgspec.field(default_factory=dict)
    unreadable: dict[str, UnreadablePlugin] = msgspec.field(default_factory=dict)
    by_token: dict[Token, Service] = msgspec.field(default_factory=dict)
    held: dict[str, HeldService] = msgspec.field(default_factory=dict)
    former_names: Callable[[str], tuple[str, ...]] = never_renamed
    pause_of: Callable[[str], PauseNote | None] = never_paused
    second: dict[str, Service] = msgspec.field(
        default_factory=dict
    )  # NAME → its other one, in a reload
    copied: dict[str, int] = msgspec.field(default_factory=dict)
    unplaced: dict[str, Unplaced] = msgspec.field(default_factory=dict)

    def __iter__(self) -> Iterator[Service]:
        return iter(self.services.values())

    def entries(self, names: Iterable[str] | None = None) -> tuple[Entry, ...]:
        """Return the entries of services in the directory; None: of all."""
        chosen = self.services if names is None else names
        return tuple(self.services[name].entry(self.former_names(name)) for name in chosen)

    def all(self) -> list[Service]:
        """Return every service and every second incarnation."""
        return [*self.services.values(), *self.second.values()]

    def has_process(self, name: str) -> bool:
        """Return True while an incarnation of a service has a process."""
        return has_process(self.services[name].state) or name in self.second

    def children(self) -> Mapping[str, Child]:
        """Return the policy's view of every service."""
        return {name: service.child for name, service in self.services.items()}

    def manifest_of(self, name: str) -> Manifest | None:
        """Return what a service offers; None: it is not configured."""
        service = self.services.get(name)
        return None if service is None else service.manifest

    def remove(self, name: str) -> str:
        """Take a service out, which has no process; return its NAME."""
        self.by_token.pop(self.services.pop(name).current.token, None)
        self.unplaced.pop(name, None)
        return name

    def names(self) -> list[str]:
        """Return every NAME that a command accepts."""
        return list(dict.fromkeys([*self.services, *self.unreadable, *self.held]))

    def match(self, patterns: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the NAMEs that match names or globs, and the patterns that match nothing."""
        found: dict[str, None] = {}
        missing: list[str] = []
        known = self.names()
        for pattern in patterns:
            if pattern in known:
                found[pattern] = None
                continue
            matching = [name for name in known if fnmatchcase(name, pattern)]
            if not matching:
                missing.append(pattern)
            found.update(dict.fromkeys(matching))
        return list(found), missing

    def unknown(self, name: str) -> str:
        """Return the error text for a NAME that does not exist."""
        from difflib import get_close_matches  # seldom needed, and large

        known = self.names()
        if any(one.startswith(f"{name}.") for one in known):
            return f"no service {name}; that agent's are '{name}.*'"
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
        return f"no service {name}; {hint}"

    def reorder(self, specs: Iterable[ServiceSpec]) -> None:
        """Put the services in the order of the config."""
        for position, spec in enumerate(specs):
            if spec.name in self.services:
                self.services[spec.name].position = position
        ordered = sorted(self.services.items(), key=lambda pair: pair[1].position)
        self.services = dict(ordered)

    def waiting_reason(self, service: Service) -> str:
        """Return what a queued service waits for, in words; empty if only for a start slot."""
        if service.name in self.copied:
            return "waits until its data is copied"
        if (unplaced := self.unplaced.get(service.name)) is not None:
            return unplaced.reason
        blockers = blocking_dependencies(service.child, self.children())
        return ", ".join(f"waits for {name}, which is {self._is(name)}" for name in blockers)

    def is_blocked(self, service: Service) -> bool:
        """Return True if a queued service waits for one that cannot start by itself, or for a
        node."""
        children = self.children()
        seen, pending = {service.name}, [service]
        while pending:
            waiting = pending.pop()
            if waiting.state is not State.QUEUED:
                continue
            unplaced = self.unplaced.get(waiting.name)
            if unplaced is not None and not unplaced.soon:
                return True
            for name in blocking_dependencies(waiting.child, children):
                other = self.services.get(name)
                if other is None or other.state is State.FAILED or not other.child.wanted:
                    return True
                if name not in seen:
                    seen.add(name)
                    pending.append(other)
        return False

    def _is(self, name: str) -> str:
        service = self.services.get(name)
        if service is None:
            return "not there: its plugin cannot be read"
        return service.state.value
