"""Restart policy: what happens next to one service, as a pure function.

Times are seconds of one monotonic clock and arrive as `now`. The random part of waits arrives as
`jitter`, from 0 up to 1. This module only decides: `supervisor.manager` performs the effects.
"""

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import Restart, ServiceSpec, service_spec

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 60.0  # doubled each time, with full jitter
PROBE_FIRST, PROBE_MOST = 15.0, 300.0  # doubled each time: until a failed service is retried
FORGOTTEN_AFTER = 60.0  # of running: then earlier crashes no longer count
DUMP_WAIT = 0.5  # from the request for stacks until TERM
UNWELL_MOST = 2  # bad health results in a row; then the service is restarted
TERM_WAIT = 2.0  # from TERM until KILL
KILL_WAIT = 5.0  # until KILL is sent again


class Event(Enum):
    """What can happen to a service."""

    START = "start"  # by command
    STOP = "stop"  # by command
    RESET = "reset"  # by command: forget the restarts
    SLOT = "slot"  # its dependencies run, and a start slot is free
    INITIALIZED = "initialized"
    READY = "ready"
    BEAT = "beat"
    CLEAN_EXIT = "clean_exit"  # its process announced its end and is gone with its process tree
    CRASH = "crash"  # any other end
    REFUSED = "refused"  # its process ended with a PermanentFailure
    POSTPONED = "postponed"  # its start ended with a RetryLater; see `postpone`
    WELL = "well"  # its `health` reported no problem
    UNWELL = "unwell"  # its `health` reported a problem, or did not answer in time
    EXCESS = "excess"  # it exceeds a limit of memory or processes
    OVERRUN = "overrun"  # it exceeds one so far that there is no time to drain
    DEADLINE = "deadline"


class Effect(Enum):
    """What the manager is to do."""

    SPAWN = "spawn"
    DRAIN = "drain"
    DUMP = "dump"  # write all stacks into the service's log
    TERM = "term"
    KILL = "kill"


class StopReason(Enum):
    """Why a service is being ended."""

    ORDER = "order"
    WATCHDOG = "watchdog"
    START_TIMEOUT = "start_timeout"
    HEALTH = "health"
    LIMIT = "limit"


class Child(msgspec.Struct, frozen=True):
    """One service: its spec and its lifecycle state."""

    spec: ServiceSpec
    state: State = State.REGISTERED
    wanted: bool = False  # the last command was START, not STOP
    since: float = 0.0  # when it entered this state
    deadline: float = inf  # when Event.DEADLINE is due
    generation: int = 0  # the number of its incarnation
    attempts: int = 0  # exits in a row without a minute of running between them
    restarts: tuple[float, ...] = ()  # when it crashed within the period
    restarted: int = 0  # how often it was restarted without a command
    probes: int = 0  # how often it was given up since it last ran for a minute
    why: StopReason = StopReason.ORDER  # while stopping
    escalation: Effect = Effect.TERM  # while stopping: the effect of the next DEADLINE
    unwell: int = 0  # bad health results in a row
    not_before: float = 0.0  # of its next start without a command, as its last start requested


Step: TypeAlias = tuple[Child, Effect | None]
Rule: TypeAlias = Callable[[Child, Event, float, float], Step]


def step(child: Child, event: Event, now: float, jitter: float = 0.5) -> Step:
    """Return the child after an event, and the one effect to perform.

    A pair that is not in `TRANSITIONS` changes nothing: late messages are normal.

    Args:
        child: The service before the event.
        event: What happened.
        now: The time.
        jitter: The random part of a wait, from 0 up to 1.
    """
    if event in {Event.START, Event.STOP}:
        child = replace(child, wanted=event is Event.START)
    rule = TRANSITIONS[child.state].get(event)
    return (child, None) if rule is None else rule(child, event, now, jitter)


def can_extend(child: Child) -> bool:
    """Return True if a service starts, or is drained and within its grace."""
    if child.state in {State.INITIALIZING, State.STARTING}:
        return True
    draining = child.state is State.STOPPING and child.why in WHY_DRAINED.values()
    return draining and child.escalation is Effect.TERM


def extend(child: Child, until: float) -> Child:
    """Return a child whose start or drain may last until then. No deadline is ever shortened."""
    later = can_extend(child) and until > child.deadline
    return replace(child, deadline=until) if later else child


def postpone(child: Child, until: float) -> Child:
    """Return a child whose start is not to be tried again before then; `POSTPONED` follows."""
    return replace(child, not_before=until)


def has_process(state: State) -> bool:
    """Return True if a service in this state has a process."""
    return state in LIVE_STATES


# --- rules --------------------------------------------------------------------------------


def _to(child: Child, state: State, now: float, deadline: float = inf) -> Child:
    return replace(child, state=state, since=now, deadline=deadline)


def _queue(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _to(child, State.QUEUED, now), None


def _reset_and_queue(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _to(_without_history(child), State.QUEUED, now), None


def _forget(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _without_history(child), None


def _without_history(child: Child) -> Child:
    return replace(child, attempts=0, restarts=(), probes=0)


def _forget_if_stable(child: Child, now: float) -> Child:
    stable = child.state is State.RUNNING and now - child.since >= FORGOTTEN_AFTER
    return _without_history(child) if stable else child


def _stop(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _to(child, State.STOPPED, now), None


def _spawn(child: Child, event: Event, now: float, jitter: float) -> Step:
    child = replace(child, generation=child.generation + 1, unwell=0)
    return _to(
        child, State.INITIALIZING, now, now + child.spec.supervision.start_timeout
    ), Effect.SPAWN


def _enter_starting(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _to(child, State.STARTING, now, child.deadline), None


def _enter_running(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _renew_watchdog(_to(child, State.RUNNING, now), event, now, jitter)


def _renew_watchdog(child: Child, event: Event, now: float, jitter: float) -> Step:
    return replace(
        child,
        deadline=now + child.spec.supervision.watchdog if child.spec.supervision.watchdog else inf,
    ), None


def _drain(child: Child, event: Event, now: float, jitter: float) -> Step:
    child = replace(child, why=WHY_DRAINED[event], escalation=Effect.TERM)
    return _to(child, State.STOPPING, now, now + child.spec.supervision.grace), Effect.DRAIN


def _note_well(child: Child, event: Event, now: float, jitter: float) -> Step:
    return replace(child, unwell=0), None


def _note_unwell(child: Child, event: Event, now: float, jitter: float) -> Step:
    child = replace(child, unwell=child.unwell + 1)
    return (child, None) if child.unwell < UNWELL_MOST else _drain(child, event, now, jitter)


def _overrun(child: Child, event: Event, now: float, jitter: float) -> Step:
    """Kill at once. A service that is being stopped keeps the reason that it is stopped for."""
    if child.state is not State.STOPPING:
        child = replace(_to(child, State.STOPPING, now), why=StopReason.LIMIT)
    return replace(child, escalation=Effect.KILL, deadline=now + KILL_WAIT), Effect.KILL


def _end_silent(child: Child, event: Event, now: float, jitter: float) -> Step:
    why = StopReason.WATCHDOG if child.state is State.RUNNING else StopReason.START_TIMEOUT
    child = _forget_if_stable(child, now - child.spec.supervision.watchdog)  # silence is no health
    child = replace(child, why=why, escalation=Effect.TERM)
    return _to(child, State.STOPPING, now, now + DUMP_WAIT), Effect.DUMP


def _escalate(child: Child, event: Event, now: float, jitter: float) -> Step:
    if child.escalation is Effect.TERM:
        return replace(child, escalation=Effect.KILL, deadline=now + TERM_WAIT), Effect.TERM
    return replace(child, deadline=now + KILL_WAIT), Effect.KILL


def _note_order(child: Child, event: Event, now: float, jitter: float) -> Step:
    return replace(child, why=StopReason.ORDER), None


def _settle(child: Child, event: Event, now: float, jitter: float) -> Step:
    if not child.wanted:
        return _stop(child, event, now, jitter)
    if child.why in AS_CRASHED:
        return _crashed(child, Event.CRASH, now, jitter)
    if child.why is StopReason.START_TIMEOUT:
        return _unstarted(child, Event.CRASH, now, jitter)
    return _reset_and_queue(child, event, now, jitter)


def _crashed(child: Child, event: Event, now: float, jitter: float) -> Step:
    """Restart after an exit in RUNNING: at once, then with backoff; give up past the intensity."""
    if event not in RESTARTED_AFTER[child.spec.supervision.restart]:
        return _to(replace(child, wanted=False), State.STOPPED, now), None
    child = _forget_if_stable(child, now)
    recent = tuple(at for at in child.restarts if now - at < child.spec.supervision.period)
    child = replace(child, restarts=(*recent, now)[-1000:])
    too_many = 0 < child.spec.supervision.intensity < len(child.restarts)
    if child.probes or too_many:
        return _give_up(child, now), None
    wait = 0.0 if child.attempts == 0 else jitter * _backoff(child.attempts - 1)
    return _again(child, wait, now), None


def _unstarted(child: Child, event: Event, now: float, jitter: float) -> Step:
    """Restart after an exit before RUNNING: with backoff; it does not count as a crash."""
    if child.spec.supervision.restart is Restart.TEMPORARY:
        return _to(child, State.FAILED, now), None
    if child.probes:
        return _give_up(child, now), None
    return _again(child, jitter * _backoff(child.attempts), now), None


def _postponed(child: Child, event: Event, now: float, jitter: float) -> Step:
    """Start again when the start requested it. It counts neither as a crash nor as an attempt."""
    if child.spec.supervision.restart is Restart.TEMPORARY:
        return _to(child, State.FAILED, now), None
    child = replace(child, restarted=child.restarted + 1)
    return _to(child, State.BACKOFF, now, max(child.not_before, now + BACKOFF_FIRST)), None


def _settle_postponed(child: Child, event: Event, now: float, jitter: float) -> Step:
    if not child.wanted:
        return _stop(child, event, now, jitter)
    if child.why is StopReason.ORDER:  # a restart by command starts at once
        return _reset_and_queue(child, event, now, jitter)
    return _postponed(child, event, now, jitter)


def _again(child: Child, wait: float, now: float) -> Child:
    child = replace(child, attempts=child.attempts + 1, restarted=child.restarted + 1)
    if wait == 0.0:
        return _to(child, State.QUEUED, now)
    return _to(child, State.BACKOFF, now, now + wait)


def _backoff(doublings: int) -> float:
    return min(BACKOFF_FIRST * 2.0 ** min(doublings, 32), BACKOFF_MOST)


def _give_up(child: Child, now: float) -> Child:
    wait = min(PROBE_FIRST * 2.0 ** min(child.probes, 32), PROBE_MOST)
    return _to(replace(child, probes=child.probes + 1), State.FAILED, now, now + wait)


def _probe(child: Child, event: Event, now: float, jitter: float) -> Step:
    child = replace(child, restarted=child.restarted + 1)
    return _to(child, State.QUEUED, now), None


def _refused(child: Child, event: Event, now: float, jitter: float) -> Step:
    return _to(child, State.FAILED, now), None


def _settle_refused(child: Child, event: Event, now: float, jitter: float) -> Step:
    if not child.wanted:
        return _stop(child, event, now, jitter)
    if child.why is StopReason.ORDER:  # a restart by command: the config may be correct now
        return _reset_and_queue(child, event, now, jitter)
    return _refused(child, event, now, jitter)


RESTARTED_AFTER: dict[Restart, frozenset[Event]] = {
    Restart.PERMANENT: frozenset({Event.CLEAN_EXIT, Event.CRASH}),
    Restart.TRANSIENT: frozenset({Event.CRASH}),
    Restart.TEMPORARY: frozenset(),
}
WHY_DRAINED = {
    Event.STOP: StopReason.ORDER,
    Event.UNWELL: StopReason.HEALTH,
    Event.EXCESS: StopReason.LIMIT,
}
AS_CRASHED = frozenset(
    {StopReason.WATCHDOG, StopReason.HEALTH, StopReason.LIMIT}
)  # reasons that lie in the service itself
LIVE_STATES = frozenset({State.INITIALIZING, State.STARTING, State.RUNNING, State.STOPPING})

_UNREADY: dict[Event, Rule] = {
    Event.CLEAN_EXIT: _unstarted,
    Event.CRASH: _unstarted,
    Event.REFUSED: _refused,
    Event.POSTPONED: _postponed,
    Event.DEADLINE: _end_silent,
    Event.STOP: _drain,
    Event.RESET: _forget,
    Event.READY: _enter_running,
    Event.EXCESS: _drain,
    Event.OVERRUN: _overrun,
}
TRANSITIONS: dict[State, dict[Event, Rule]] = {
    State.REGISTERED: {Event.START: _reset_and_queue, Event.STOP: _stop},
    State.QUEUED: {
        Event.SLOT: _spawn,
        Event.STOP: _stop,
        Event.RESET: _forget,
        Event.REFUSED: _refused,  # its config is unusable
    },
    State.INITIALIZING: _UNREADY | {Event.INITIALIZED: _enter_starting},
    State.STARTING: _UNREADY,
    State.RUNNING: {
        Event.BEAT: _renew_watchdog,
        Event.CLEAN_EXIT: _crashed,
        Event.CRASH: _crashed,
        Event.REFUSED: _refused,
        Event.POSTPONED: _postponed,  # its Ready was lost
        Event.DEADLINE: _end_silent,
        Event.STOP: _drain,
        Event.RESET: _forget,
        Event.WELL: _note_well,
        Event.UNWELL: _note_unwell,
        Event.EXCESS: _drain,
        Event.OVERRUN: _overrun,
    },
    State.STOPPING: {
        Event.CLEAN_EXIT: _settle,
        Event.CRASH: _settle,
        Event.REFUSED: _settle_refused,
        Event.POSTPONED: _settle_postponed,
        Event.DEADLINE: _escalate,
        Event.START: _note_order,
        Event.RESET: _forget,
        Event.OVERRUN: _overrun,
    },
    State.STOPPED: {Event.START: _reset_and_queue},
    State.BACKOFF: {
        Event.DEADLINE: _queue,
        Event.START: _reset_and_queue,
        Event.RESET: _reset_and_queue,
        Event.STOP: _stop,
    },
    State.FAILED: {
        Event.DEADLINE: _probe,
        Event.START: _reset_and_queue,
        Event.RESET: _reset_and_queue,
        Event.STOP: _stop,
    },
}


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> registered"]
    for before, rules in TRANSITIONS.items():
        edges: dict[str, list[str]] = {}
        for event in rules:
            for after in _reachable(before, event):
                edges.setdefault(after.value, []).append(event.value)
        lines += [
            f"    {before.value} --> {after}: {', '.join(events)}"
            for after, events in edges.items()
            if after != before.value
        ]
    return "\n".join(lines)


def _reachable(before: State, event: Event) -> list[State]:
    found: dict[State, None] = {}
    for restart in Restart:
        spec = service_spec(name="x", plugin="x", service_type="x", restart=restart, intensity=2)
        for wanted in (True, False):
            for why in StopReason:
                for attempts, restarts in ((0, ()), (1, ()), (3, (9.0, 9.5, 9.9))):
                    child = Child(
                        spec, before, wanted, 9.0, why=why, attempts=attempts, restarts=restarts
                    )
                    found[step(child, event, 10.0)[0].state] = None
    return list(found)
