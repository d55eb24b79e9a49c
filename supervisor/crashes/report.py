"""The record of one death: what it holds, and how it is put together. Pure.

Times of the record are UTC text, RFC 3339; durations are seconds, sizes are bytes. All text that
a service may have had a hand in passes through `redact` before it is cut to its bound.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import inf
from typing import Any, TypeAlias

import msgspec

from garrison.ipc.flight_record import IN, LATE, UNKNOWN, FlightRecord, RecordedCall
from garrison.ipc.messages import Failing, State, Stopped
from garrison.supervisor.config.spec import Restart
from garrison.supervisor.lifecycle.policy import Child, Event, StopReason

FORMAT = 1
RECORD_BYTES = 256 * 1024  # of one record as JSON
LOG_LINES, LOG_CHARS, LINE_CHARS = 50, 16 * 1024, 1024
STACK_CHARS = 48 * 1024
TRACEBACK_CHARS = 16 * 1024
CAUSE_CHARS = 2000
MESSAGES = 64
IN_FLIGHT = 64  # that are told one by one
BEFORE = 20  # events
EVENT_CHARS = 500

Redact: TypeAlias = Callable[[str], str]


class Message(msgspec.Struct, omit_defaults=True):
    """One message that a service sent or was sent, without what it held."""

    time: str
    direction: str  # "in", "out"
    kind: str  # "call", "reply", "failed", "cancel", "items", "done", "refused", "lost", "timeout"
    service: str  # whom it was from, or went to; "a program" where that is none
    method: str
    size: int
    outcome: str  # of its call: "ok", an error's name, "in flight"
    call: int
    value: str = ""  # only where `record_values` says so


class InFlight(msgspec.Struct, omit_defaults=True):
    """A call that had not ended."""

    direction: str  # "in": it was being served; "out": it was waited for
    service: str
    method: str
    size: int
    since: str
    age_s: float
    call: int
    items: int = 0  # of a stream
    value: str = ""


class Failure(msgspec.Struct):
    """The exception that a worker said it ended of."""

    phase: str  # "init", "start", "run", "stop", "fork"
    reason: str
    traceback: str = ""
    permanent: bool = False


class Policy(msgspec.Struct, frozen=True):
    """Where the restart policy stood after it."""

    restart: str = ""
    crashes: int = 0  # within the period, this one included
    intensity: int = 0
    period: float = 0.0
    restarts: int = 0  # in all
    next: str = ""  # in words


class CrashSummary(msgspec.Struct):
    """A death in a line."""

    id: str
    n: int
    service: str
    at: str
    kind: str  # "signal", "exit", "exception", "clean", "start", "lost", "unknown", and of KINDS
    cause: str
    uptime_s: float | None = None
    generation: int = 0
    pid: int = 0
    format: int = FORMAT


class CrashReport(CrashSummary, kw_only=True):
    """An end that nobody asked for, and all that is known of it."""

    service_type: str = ""
    plugin: str = ""
    state: str = ""  # that it was in
    exit: str = ""  # how its process ended, in words
    exit_code: int | None = None
    signal: int | None = None
    began: str = ""  # when its process was ordered
    exception: Failure | None = None
    in_flight: list[InFlight] = []
    in_flight_count: int = 0
    messages: list[Message] = []  # oldest first
    calls: int = 0  # in and out, in its whole life
    stacks: str = ""
    log: list[str] = []  # its last lines, what is in `stacks` aside
    log_file: str = ""
    user_s: float | None = None  # processor time
    system_s: float | None = None
    rss_bytes: int | None = None  # at its peak
    beat_age_s: float | None = None  # how long before its end its loop last turned
    policy: Policy = Policy()
    before: list[str] = []  # what happened to it and to what it depends on, oldest first
    left: list[int] = []  # pids that it started and that could not be ended
    unknown: list[str] = []  # what could not be found out


@dataclass(slots=True, eq=False)
class ExitContext:
    """What the supervisor knew when a process was gone, kept from what comes next."""

    id: str
    n: int
    at: float  # wall clock
    before: Child  # as the policy had it before this end
    after: Child  # and after it
    service_type: str
    kind: str
    cause: str
    exit: str
    status: int | None  # as wait() has it
    pid: int
    began: float  # wall clock; 0 where that is not known
    broken: Failing | None
    used: tuple[float, float, int] | None  # user s, system s, peak bytes
    beat_age_s: float | None
    left: tuple[int, ...]
    events_before: int  # how many events were recorded before it
    log_file: str
    ready: bool = False  # it had said that it had started
    decided: float = 0.0  # monotonic, when the policy had `after`
    problems: list[str] = field(default_factory=list)


def is_crash(before: Child, event: Event, clean: Stopped | None) -> bool:
    """Tell whether nobody asked for an end: no order, nor a service that may end by itself."""
    if before.state is State.STOPPING:
        return before.why is not StopReason.ORDER
    if event is not Event.CLEAN_EXIT:
        return True
    by_itself = clean is not None and clean.reason in {"", "ordered", "it asked to end"}
    return not by_itself or before.spec.supervision.restart is Restart.PERMANENT


# Of what was ended for its own fault
KINDS = {StopReason.WATCHDOG: "watchdog", StopReason.HEALTH: "health", StopReason.LIMIT: "limit"}


def kind_of(
    before: Child,
    broken: Failing | None,
    clean: Stopped | None,
    status: int | None,
    oom: bool = False,
) -> str:
    """Return what sort of end it was, in one word."""
    if before.state is State.STOPPING and before.why in KINDS:
        return KINDS[before.why]
    if oom and broken is None and clean is None:
        return "limit"
    started = before.state is State.RUNNING and (broken is None or broken.phase in {"run", "stop"})
    if not started:
        return "start"
    if broken is not None:
        return "exception"
    if clean is not None:
        return "clean"
    if status is None:
        return "unknown"
    return "signal" if status & 0x7F else "exit"


def cause_of(kind: str, cause: str) -> str:
    """Return why it ended as a sentence that can stand alone."""
    if kind == "start" and not cause.startswith("it did not start"):
        return f"it did not start: {cause}"
    return f"an exception ended it: {cause}" if kind == "exception" else cause


def what_next(after: Child, now: float) -> str:
    """Return what the policy does about it, in words."""
    wait = after.deadline - now
    match after.state:
        case State.QUEUED:
            return "started again at once"
        case State.BACKOFF:
            return f"started again {max(wait, 0.0):.1f} s later"
        case State.FAILED if after.deadline < inf:
            return f"failed for now, and tried again {max(wait, 0.0):.0f} s later"
        case State.FAILED:
            return "failed until somebody acts: trying again is no use"
        case State.STOPPED if after.spec.supervision.restart is not Restart.PERMANENT:
            return f'stays stopped: restart = "{after.spec.supervision.restart.value}"'
    return f"stays {after.state.value}"


@dataclass(slots=True, eq=False)
class Evidence:
    """What was found out after a process had ended."""

    log: str  # the end of its log, without stacks
    stacks: str  # of its threads and tasks
    calls: FlightRecord
    events: Sequence[str]  # before its end, oldest first
    name_of: Callable[[str], str]  # token in hexadecimal digits → NAME; empty if unknown


def build_report(end: ExitContext, evidence: Evidence, redact: Redact) -> CrashReport:
    """Build a crash report.

    Args:
        end: What was known at once.
        evidence: What was found out afterwards.
        redact: Removes secrets from a text.
    """
    child, spec = end.before, end.before.spec
    calls = [_with_peer_name(call, evidence.name_of) for call in evidence.calls.noted]
    open_calls = [call for call in calls if not call.outcome]
    problem = evidence.calls.problem
    report = CrashReport(
        id=end.id,
        n=end.n,
        service=spec.name,
        at=utc(end.at),
        kind=end.kind,
        cause=_cut(redact(end.cause), CAUSE_CHARS),
        uptime_s=end.at - end.began if end.began else None,
        generation=child.generation,
        pid=end.pid,
        service_type=end.service_type,
        plugin=spec.plugin,
        state=_state_before(child, end.ready),
        exit=end.exit,
        exit_code=_exit_code(end.status),
        signal=_signal(end.status),
        began=utc(end.began) if end.began else "",
        exception=_failure(end.broken, redact),
        in_flight=[_in_flight(one, end.at, redact) for one in open_calls[-IN_FLIGHT:]],
        in_flight_count=len(open_calls) + evidence.calls.without,
        messages=_messages(calls, redact),
        calls=calls[-1].number if calls else 0,
        stacks=_cut(redact(evidence.stacks), STACK_CHARS),
        log=last_lines(redact(evidence.log)),
        log_file=end.log_file,
        policy=_policy(end),
        before=[_cut(redact(text), EVENT_CHARS) for text in evidence.events],
        left=list(end.left[:100]),
        beat_age_s=end.beat_age_s,
        unknown=[*end.problems, *([problem] if problem else [])],
    )
    if end.used is not None:
        report.user_s, report.system_s, report.rss_bytes = end.used
    return report


def _policy(end: ExitContext) -> Policy:
    supervision = end.before.spec.supervision
    return Policy(
        supervision.restart.value,
        len(end.after.restarts),
        supervision.intensity,
        supervision.period,
        end.after.restarted,
        what_next(end.after, end.decided),
    )


def _exit_code(status: int | None) -> int | None:
    return None if status is None or status & 0x7F else status >> 8


def _signal(status: int | None) -> int | None:
    return None if status is None else status & 0x7F or None


def encoded(death: CrashReport) -> bytes:
    """Return a record as JSON within its bound; what is least missed gives way."""
    data = msgspec.json.encode(death)
    steps: tuple[tuple[str, Any], ...] = (
        ("before", []),
        ("stacks", death.stacks[: STACK_CHARS // 8]),
        ("in_flight", death.in_flight[-8:]),
        ("messages", death.messages[-16:]),
        ("log", death.log[-10:]),
        ("exception", None),
        ("messages", []),
        ("log", []),
    )
    for name, less in steps:
        if len(data) <= RECORD_BYTES:
            break
        setattr(death, name, less)
        death.unknown.append(f"{name} had to be cut: the record was too large")
        data = msgspec.json.encode(death)
    return data


def last_lines(text: str) -> list[str]:
    """Return the last lines of a text, each of them and all together bounded."""
    lines = [_cut(line.rstrip("\r"), LINE_CHARS) for line in text.split("\n")]
    if lines and not lines[-1]:
        del lines[-1]
    lines = lines[-LOG_LINES:]
    while lines and sum(map(len, lines)) > LOG_CHARS:
        del lines[0]
    return lines


def utc(seconds: float) -> str:
    """Return a wall clock time as text."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _state_before(child: Child, ready: bool) -> str:
    """Return what state it was in, before it was being ended."""
    state = child.state
    if state is State.STOPPING:
        ran = ready or child.why in {StopReason.WATCHDOG, StopReason.HEALTH}
        state = State.RUNNING if ran else State.STARTING
    was: str = state.value
    return was


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _failure(broken: Failing | None, redact: Redact) -> Failure | None:
    if broken is None:
        return None
    reason = _cut(redact(broken.reason), CAUSE_CHARS)
    traceback = redact(broken.traceback)[-TRACEBACK_CHARS:]
    return Failure(broken.phase[:20], reason, traceback, broken.permanent)


def _with_peer_name(noted: RecordedCall, names: Callable[[str], str]) -> RecordedCall:
    if not noted.peer.startswith(UNKNOWN):
        return noted
    return replace(noted, peer=names(noted.peer[1:]) or "a program")


def _in_flight(noted: RecordedCall, at: float, redact: Redact) -> InFlight:
    return InFlight(
        _direction(noted),
        redact(noted.peer),
        redact(noted.method),
        noted.size,
        utc(noted.began),
        max(at - noted.began, 0.0),
        noted.call,
        noted.items,
        redact(noted.args),
    )


def _direction(noted: RecordedCall) -> str:
    return "in" if noted.kind & ~LATE == IN else "out"


# outcome → the message that brought it, and whether it went the way of the call
LAST = {
    "ok": ("reply", False),
    "done": ("done", False),
    "refused": ("refused", False),
    "cancelled": ("cancel", True),
    "CallTimeout": ("timeout", True),
    "ServiceLost": ("lost", False),
}
UNSENT = frozenset({"ServiceUnavailable", "Overloaded"})  # of a call that was made: no message


def _messages(noted: Iterable[RecordedCall], redact: Redact) -> list[Message]:
    """Return the last messages, from the calls that they began and ended."""
    found: list[tuple[float, Message]] = []
    for one in noted:
        shown = (redact(one.peer), redact(one.method), redact(one.outcome) or "in flight")
        if not one.kind & LATE:
            found.append(_message(one, shown, "call", True, redact(one.args)))
        if one.items and one.ended:
            found.append(_message(one, shown, f"items ({one.items})", False, redact(one.result)))
        if one.outcome and not (one.outcome in UNSENT and _direction(one) == "out"):
            kind, same_way = LAST.get(one.outcome, ("failed", False))
            value = "" if one.items else redact(one.result)
            found.append(_message(one, shown, kind, same_way, value))
    found.sort(key=lambda entry: entry[0])
    return [message for _, message in found[-MESSAGES:]]


def _message(
    one: RecordedCall, shown: tuple[str, str, str], kind: str, same_way: bool, value: str
) -> tuple[float, Message]:
    begins = kind == "call"
    at, size = (one.began, one.size) if begins else (one.ended, one.result_size)
    way = (_direction(one) == "in") == same_way
    peer, method, outcome = shown
    direction = "in" if way else "out"
    return at, Message(utc(at), direction, kind, peer, method, size, outcome, one.call, value)
