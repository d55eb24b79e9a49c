"""Crash reports: what a report contains, and how it is built. Pure.

Times in a report are UTC text, RFC 3339; durations are seconds, sizes are bytes. All text that a
service may have produced passes through `redact` before it is cut to its limit.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from garrison.ipc.flight_record import IN, LATE, UNKNOWN, RecordedCall, RecordedCalls
from garrison.ipc.messages import ENDED_ITSELF, PROCESS_DONE, Failing, State, Stopped
from garrison.supervisor.config.spec import Restart
from garrison.supervisor.lifecycle.policy import Child, Event, StopReason
from garrison.supervisor.lifecycle.services import Incarnation

FORMAT = 1
RECORD_BYTES = 256 * 1024  # of one report as JSON
LOG_LINES, LOG_CHARS, LINE_CHARS = 50, 16 * 1024, 1024
STACK_CHARS = 48 * 1024
TRACEBACK_CHARS = 16 * 1024
CAUSE_CHARS = 2000
MESSAGES = 64
IN_FLIGHT = 64  # calls that are listed; further ones are only counted
BEFORE = 20  # events
EVENT_CHARS = 500
LEFT = 100  # pids

Redact: TypeAlias = Callable[[str], str]


class RecentMessage(msgspec.Struct, omit_defaults=True):
    """One message that a service sent or received, without its content."""

    time: str
    direction: str  # "in", "out"
    kind: str  # "call", "reply", "failed", "cancel", "items", "done", "refused", "lost", "timeout"
    service: str  # the sender or receiver; "a program" if it is no service
    method: str
    size: int
    outcome: str  # of its call: "ok", an error's name, "in flight"
    call: int
    value: str = ""  # only with `record_values`


class InFlight(msgspec.Struct, omit_defaults=True):
    """A call that had not ended."""

    direction: str  # "in": the service was handling it; "out": the service was waiting for it
    service: str
    method: str
    size: int
    since: str
    age_s: float
    call: int
    items: int = 0  # of a stream
    value: str = ""
    trace: str = ""  # id of its trace, 32 hexadecimal digits; empty: it has none


class Failure(msgspec.Struct):
    """The exception that a worker reported as the reason of its end."""

    phase: str  # "init", "start", "run", "stop", "fork"
    reason: str
    traceback: str = ""
    permanent: bool = False


class Policy(msgspec.Struct, frozen=True):
    """The restart policy after the exit."""

    restart: str = ""
    crashes: int = 0  # within the period, including this one
    intensity: int = 0
    period: float = 0.0
    restarts: int = 0  # in all
    next: str = ""  # in words


class CrashSummary(msgspec.Struct):
    """One crash in a line."""

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
    node: str = ""  # where it ran; empty: on the supervisor's machine


class CrashReport(CrashSummary, kw_only=True):
    """One unexpected exit, and everything that is known about it. The format of its file."""

    service_type: str = ""
    plugin: str = ""
    state: str = ""  # before its end
    exit: str = ""  # how its process ended, in words
    exit_code: int | None = None
    signal: int | None = None
    began: str = ""  # when its process was started
    exception: Failure | None = None
    in_flight: list[InFlight] = []
    in_flight_count: int = 0
    messages: list[RecentMessage] = []  # oldest first
    calls: int = 0  # in and out, since its start
    stacks: str = ""
    log: list[str] = []  # its last lines, without `stacks`
    log_file: str = ""
    user_s: float | None = None  # processor time
    system_s: float | None = None
    rss_bytes: int | None = None  # peak
    beat_age_s: float | None = None  # from its last heartbeat to its end
    policy: Policy = Policy()
    before: list[str] = []  # events of it and of its dependencies, oldest first
    left: list[int] = []  # pids of its processes that could not be ended
    unknown: list[str] = []  # what could not be found out


class ExitContext(msgspec.Struct, eq=False):
    """What the supervisor knew about an exit when the process was gone."""

    id: str
    n: int
    at: float  # wall clock
    now: float  # the same moment by the monotonic clock
    before: Child  # before the exit
    after: Child  # as the policy decided
    current: Incarnation  # that ended
    kind: str
    cause: str
    exit: str
    left: tuple[int, ...]
    events_before: int  # number of the last event before the exit
    log_file: str
    decided: float = 0.0  # monotonic, when the policy decided
    problems: list[str] = msgspec.field(default_factory=list)

    @property
    def began(self) -> float | None:
        """Return when its process was started, by the wall clock; None if unknown."""
        started = self.current.started_at
        return self.at - (self.now - started) if started else None


BY_ITSELF = frozenset({"", "ordered", ENDED_ITSELF, PROCESS_DONE})


def is_crash(before: Child, event: Event, stopped: Stopped | None) -> bool:
    """Return whether an exit was unexpected.

    It was expected if an operator ordered it, if its start is to be tried again at a time that it
    named, or if the service ended itself and need not run for ever.
    """
    if before.state is State.STOPPING:
        return before.why is not StopReason.ORDER
    if event is Event.POSTPONED:
        return False
    if event is not Event.CLEAN_EXIT:
        return True
    by_itself = stopped is not None and stopped.reason in BY_ITSELF
    return not by_itself or before.spec.supervision.restart is Restart.PERMANENT


# Reasons for which the supervisor ends a service that is at fault
KINDS = {StopReason.WATCHDOG: "watchdog", StopReason.HEALTH: "health", StopReason.LIMIT: "limit"}


def kind_of(before: Child, current: Incarnation) -> str:
    """Return the kind of an exit, in one word."""
    failing, stopped, status = current.failing, current.stopped, current.status
    if before.state is State.STOPPING and before.why in KINDS:
        return KINDS[before.why]
    of_process = failing is not None and failing.of_process
    if current.oom and (failing is None or of_process) and stopped is None:
        return "limit"
    ran = failing is None or failing.phase in {"run", "stop"}
    if before.state is not State.RUNNING or not ran:
        return "start"
    if failing is not None and not of_process:
        return "exception"
    if stopped is not None:
        return "clean"
    if status is None:
        return "unknown"
    return "signal" if status & 0x7F else "exit"


def cause_of(kind: str, cause: str) -> str:
    """Return the cause of an exit as a sentence that can stand alone."""
    if kind == "start" and not cause.startswith("it did not start"):
        return f"it did not start: {cause}"
    return f"an exception ended it: {cause}" if kind == "exception" else cause


def what_next(after: Child, now: float) -> str:
    """Return what the policy does next, in words."""
    wait = after.deadline - now
    match after.state:
        case State.QUEUED:
            return "started again at once"
        case State.BACKOFF:
            return f"started again {max(wait, 0.0):.1f} s later"
        case State.FAILED if after.deadline < inf:
            return f"failed for now, and tried again {max(wait, 0.0):.0f} s later"
        case State.FAILED:
            return "failed until an operator starts it: trying again is no use"
        case State.STOPPED if after.spec.supervision.restart is not Restart.PERMANENT:
            return f'stays stopped: restart = "{after.spec.supervision.restart.value}"'
        case _:
            return f"stays {after.state.value}"


class Evidence(msgspec.Struct, eq=False):
    """What was found out after a process had ended."""

    log: str  # the end of its log, without stacks
    stacks: str  # of its threads and tasks
    calls: RecordedCalls
    events: Sequence[str]  # before its end, oldest first
    name_of: Callable[[str], str]  # token in hexadecimal digits → NAME; empty if unknown


def build_report(end: ExitContext, evidence: Evidence, redact: Redact) -> CrashReport:
    """Build a crash report.

    Args:
        end: What was known at once.
        evidence: What was found out afterwards.
        redact: Removes secrets from a text.
    """
    spec, current = end.before.spec, end.current
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
        uptime_s=end.at - end.began if end.began is not None else None,
        generation=end.before.generation,
        pid=current.pid,
        node=current.handle.node,
        service_type=spec.service_type,
        plugin=spec.plugin,
        state=_state_before(end.before, current.ready),
        exit=end.exit,
        exit_code=_exit_code(current.status),
        signal=_signal(current.status),
        began=utc(end.began) if end.began is not None else "",
        exception=_failure(current.failing, redact),
        in_flight=[_in_flight(one, end.at, redact) for one in open_calls[-IN_FLIGHT:]],
        in_flight_count=len(open_calls) + evidence.calls.without,
        messages=_messages(calls, redact),
        calls=calls[-1].number if calls else 0,
        stacks=_cut(redact(evidence.stacks), STACK_CHARS),
        log=last_lines(redact(evidence.log)),
        log_file=end.log_file,
        policy=_policy(end),
        before=[_cut(redact(text), EVENT_CHARS) for text in evidence.events],
        left=list(end.left[:LEFT]),
        beat_age_s=end.now - current.beat_at if current.beat_at else None,
        unknown=[*end.problems, *([problem] if problem else [])],
    )
    if current.used is not None:
        report.user_s, report.system_s, report.rss_bytes = current.used
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


def encoded(report: CrashReport) -> bytes:
    """Return a report as JSON of `RECORD_BYTES` at most; the least important parts are cut."""
    data = msgspec.json.encode(report)
    steps: tuple[tuple[str, Any], ...] = (
        ("before", []),
        ("stacks", report.stacks[: STACK_CHARS // 8]),
        ("in_flight", report.in_flight[-8:]),
        ("messages", report.messages[-16:]),
        ("log", report.log[-10:]),
        ("exception", None),
        ("messages", []),
        ("log", []),
    )
    for name, less in steps:
        if len(data) <= RECORD_BYTES:
            break
        setattr(report, name, less)
        report.unknown.append(f"{name} had to be cut: the report was too large")
        data = msgspec.json.encode(report)
    return data


def last_lines(text: str) -> list[str]:
    """Return the last lines of a text, of `LOG_CHARS` at most together."""
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
    """Return the state before the exit; for a service that was being ended, the one before that."""
    state = child.state
    if state is State.STOPPING:
        ran = child.why in {StopReason.WATCHDOG, StopReason.HEALTH}
        ran = ran or (ready and child.why is not StopReason.START_TIMEOUT)
        state = State.RUNNING if ran else State.STARTING
    value: str = state.value
    return value


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _failure(failing: Failing | None, redact: Redact) -> Failure | None:
    if failing is None or failing.of_process:
        return None
    reason = _cut(redact(failing.reason), CAUSE_CHARS)
    traceback = redact(failing.traceback)[-TRACEBACK_CHARS:]
    return Failure(failing.phase[:20], reason, traceback, failing.permanent)


def _with_peer_name(call: RecordedCall, name_of: Callable[[str], str]) -> RecordedCall:
    if not call.peer.startswith(UNKNOWN):
        return call
    return replace(call, peer=name_of(call.peer[1:]) or "a program")


def _in_flight(call: RecordedCall, at: float, redact: Redact) -> InFlight:
    return InFlight(
        _direction(call),
        redact(call.peer),
        redact(call.method),
        call.size,
        utc(call.began),
        max(at - call.began, 0.0),
        call.call,
        call.items,
        redact(call.args),
        call.trace,
    )


def _direction(call: RecordedCall) -> str:
    return "in" if call.kind & ~LATE == IN else "out"


# outcome → the message that ended the call, and whether it had the direction of the call
LAST = {
    "ok": ("reply", False),
    "done": ("done", False),
    "refused": ("refused", False),
    "cancelled": ("cancel", True),
    "CallTimeout": ("timeout", True),
    "ServiceLost": ("lost", False),
}
# Outcomes of outgoing calls that no message brought
UNSENT = frozenset({"ServiceUnavailable", "Overloaded"})


def _messages(calls: Iterable[RecordedCall], redact: Redact) -> list[RecentMessage]:
    """Return the last messages: those that began and ended these calls."""
    found: list[tuple[float, RecentMessage]] = []
    for call in calls:
        texts = (redact(call.peer), redact(call.method), redact(call.outcome) or "in flight")
        if not call.kind & LATE:
            found.append(_message(call, texts, "call", True, redact(call.args)))
        if call.items and call.ended:
            kind = f"items ({call.items})"
            found.append(_message(call, texts, kind, False, redact(call.result)))
        if call.outcome and not (call.outcome in UNSENT and _direction(call) == "out"):
            kind, same_way = LAST.get(call.outcome, ("failed", False))
            value = "" if call.items else redact(call.result)
            found.append(_message(call, texts, kind, same_way, value))
    found.sort(key=lambda entry: entry[0])
    return [message for _, message in found[-MESSAGES:]]


def _message(
    call: RecordedCall, texts: tuple[str, str, str], kind: str, same_way: bool, value: str
) -> tuple[float, RecentMessage]:
    """Return one message of a call, with its time.

    Args:
        call: The call.
        texts: Peer, method and outcome, redacted.
        kind: The message's kind.
        same_way: Whether the message had the direction of the call.
        value: What it contained, redacted; empty if that is not recorded.
    """
    begins = kind == "call"
    at, size = (call.began, call.size) if begins else (call.ended, call.result_size)
    inward = (_direction(call) == "in") == same_way
    peer, method, outcome = texts
    direction = "in" if inward else "out"
    return at, RecentMessage(
        utc(at), direction, kind, peer, method, size, outcome, call.call, value
    )
