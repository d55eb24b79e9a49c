"""Crash reports: which exits have one, and what is in it."""

from collections.abc import Callable
from math import inf
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from garrison.ipc.flight_record import IN, LATE, OUT, UNKNOWN, RecordedCall, RecordedCalls
from garrison.ipc.messages import PROCESS_DONE, Failing, State, Stopped
from garrison.supervisor.config.spec import Restart, service_spec
from garrison.supervisor.crashes.report import (
    LOG_CHARS,
    LOG_LINES,
    MESSAGES,
    RECORD_BYTES,
    CrashReport,
    Evidence,
    ExitContext,
    build_report,
    cause_of,
    encoded,
    is_crash,
    kind_of,
    what_next,
)
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.policy import Child, Event, StopReason
from garrison.supervisor.lifecycle.services import Incarnation

KILLED, EXITED = 9, 3 << 8  # wait statuses


def child(
    state: State = State.RUNNING,
    why: StopReason = StopReason.ORDER,
    restart: Restart = Restart.PERMANENT,
) -> Child:
    """Return a service as the policy has it."""
    spec = service_spec(name="chat", plugin="chat", service_type="chat", restart=restart)
    return Child(spec, state, True, why=why, generation=3)


def incarnation(**fields: Any) -> Incarnation:
    """Return an incarnation that has ended."""
    usual: dict[str, Any] = {
        "started_at": 89.5,
        "handle": Handle(4711),
        "status": KILLED,
        "used": (0.5, 0.25, 30 << 20),
        "beat_at": 99.8,
    }
    return Incarnation(b"t" * 16, **(usual | fields))


def end(current: Incarnation | None = None, **fields: Any) -> ExitContext:
    """Return what was known of an exit at once."""
    usual: dict[str, Any] = {
        "id": "chat-7",
        "n": 7,
        "at": 1_000_000_010.5,
        "now": 100.0,
        "before": child(),
        "after": child(State.QUEUED),
        "current": current or incarnation(),
        "kind": "signal",
        "cause": "its process was killed by SIGKILL",
        "exit": "was killed by SIGKILL",
        "left": (),
        "events_before": 10,
        "log_file": "/h/logs/chat.log",
    }
    return ExitContext(**(usual | fields))


def report(
    one: ExitContext,
    log: str = "",
    stacks: str = "",
    calls: tuple[RecordedCall, ...] = (),
    events: tuple[str, ...] = (),
    redact: Callable[[str], str] = lambda text: text,
) -> CrashReport:
    """Return the report of an exit."""
    evidence = Evidence(log, stacks, RecordedCalls(calls), events, lambda digits: "")
    return build_report(one, evidence, redact)


def recorded(number: int, **fields: Any) -> RecordedCall:
    """Return a call of a flight record."""
    usual: dict[str, Any] = {
        "kind": IN,
        "peer": "agent",
        "method": "say",
        "call": number,
        "began": 1_000_000_000.0 + number,
        "size": 10,
        "ended": 1_000_000_000.5 + number,
        "result_size": 20,
        "outcome": "ok",
    }
    return RecordedCall(number, **(usual | fields))


# --- which exits, and their kinds -------------------------------------------------


@pytest.mark.parametrize(
    ("before", "event", "clean", "recorded"),
    [
        (child(), Event.CRASH, None, True),
        (child(), Event.REFUSED, None, True),
        (child(State.STARTING), Event.CRASH, None, True),
        (child(State.STARTING), Event.POSTPONED, None, False),
        (child(State.STOPPING, StopReason.START_TIMEOUT), Event.POSTPONED, None, True),
        (child(State.STOPPING), Event.CRASH, None, False),
        (child(State.STOPPING), Event.CLEAN_EXIT, Stopped("ordered"), False),
        (child(State.STOPPING, StopReason.WATCHDOG), Event.CRASH, None, True),
        (child(State.STOPPING, StopReason.START_TIMEOUT), Event.CLEAN_EXIT, Stopped(), True),
        (child(), Event.CLEAN_EXIT, Stopped("it asked to end"), True),
        (child(restart=Restart.TRANSIENT), Event.CLEAN_EXIT, Stopped("it asked to end"), False),
        (child(restart=Restart.TEMPORARY), Event.CLEAN_EXIT, Stopped("it asked to end"), False),
        (child(restart=Restart.TRANSIENT), Event.CLEAN_EXIT, Stopped(PROCESS_DONE), False),
        (child(restart=Restart.TRANSIENT), Event.CLEAN_EXIT, Stopped("by SIGTERM"), True),
    ],
)
def test_an_unexpected_exit_has_a_report(
    before: Child, event: Event, clean: Stopped | None, recorded: bool
) -> None:
    """An ordered exit is expected, and so is that of a service that need not run for ever."""
    assert is_crash(before, event, clean) is recorded


@pytest.mark.parametrize(
    ("before", "broken", "clean", "status", "kind"),
    [
        (child(), None, None, KILLED, "signal"),
        (child(), None, None, EXITED, "exit"),
        (child(), None, None, 0, "exit"),
        (child(), None, None, None, "unknown"),
        (child(), Failing("run", "LookupError"), None, 70 << 8, "exception"),
        (child(), Failing("run", "its command", of_process=True), None, EXITED, "exit"),
        (child(), Failing("run", "its command", of_process=True), None, KILLED, "signal"),
        (child(), None, Stopped("it asked to end"), 0, "clean"),
        (child(State.STOPPING, StopReason.WATCHDOG), None, None, KILLED, "watchdog"),
        (child(State.STOPPING, StopReason.HEALTH), None, Stopped("ordered"), 0, "health"),
        (child(State.STOPPING, StopReason.START_TIMEOUT), None, None, KILLED, "start"),
        (child(State.STARTING), None, None, EXITED, "start"),
        (child(State.INITIALIZING), Failing("fork", "no secret"), None, None, "start"),
    ],
)
def test_an_exit_has_a_kind(
    before: Child, broken: Failing | None, clean: Stopped | None, status: int | None, kind: str
) -> None:
    """In one word."""
    assert kind_of(before, incarnation(failing=broken, stopped=clean, status=status)) == kind


def test_a_cause_is_a_sentence() -> None:
    """It stands alone, in a list of crashes."""
    assert cause_of("start", "RuntimeError: no") == "it did not start: RuntimeError: no"
    assert cause_of("start", "it did not start within 1 s") == "it did not start within 1 s"
    assert cause_of("exception", "KeyError: 1") == "an exception ended it: KeyError: 1"
    assert cause_of("signal", "its process was killed") == "its process was killed"


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (child(State.QUEUED), "started again at once"),
        (replace(child(State.BACKOFF), deadline=12.5), "started again 2.5 s later"),
        (replace(child(State.FAILED), deadline=25.0), "failed for now, and tried again 15 s later"),
        (replace(child(State.FAILED), deadline=inf), "trying again is no use"),
        (child(State.STOPPED, restart=Restart.TEMPORARY), 'restart = "temporary"'),
        (child(State.STOPPED), "stays stopped"),
    ],
)
def test_the_next_step_is_in_the_report(after: Child, words: str) -> None:
    """As the policy decided."""
    assert words in what_next(after, 10.0)


# --- what is in a report ------------------------------------------------------------------


def test_the_messages_are_the_last_in_order() -> None:
    """In both directions; replies have the method of their call, also if it began long ago."""
    calls = (
        recorded(1, outcome="", ended=0.0, method="hang"),
        recorded(2, kind=OUT, peer="discord", outcome="ServiceLost", ended=1_000_000_009.0),
        recorded(3, kind=OUT, outcome="ServiceUnavailable"),
        recorded(4, kind=IN | LATE, began=5.0),
        recorded(5, peer=f"{UNKNOWN}6700", outcome="RemoteError KeyError"),
    )
    crash = report(end(), calls=calls)
    shown = [(m.direction, m.kind, m.service, m.method, m.outcome) for m in crash.messages]
    assert shown == [
        ("in", "call", "agent", "hang", "in flight"),
        ("out", "call", "discord", "say", "ServiceLost"),
        ("out", "call", "agent", "say", "ServiceUnavailable"),
        ("out", "reply", "agent", "say", "ok"),
        ("in", "call", "a program", "say", "RemoteError KeyError"),
        ("out", "failed", "a program", "say", "RemoteError KeyError"),
        ("in", "lost", "discord", "say", "ServiceLost"),
    ]
    assert [message.size for message in crash.messages[:4]] == [10, 10, 10, 20]
    (flying,) = crash.in_flight
    assert (flying.direction, flying.method, flying.age_s) == ("in", "hang", 9.5)
    many = report(end(), calls=tuple(recorded(n) for n in range(1, 100)))
    assert len(many.messages) == MESSAGES
    assert many.messages[-1].kind == "reply"


def test_all_text_passes_through_redact_before_it_is_cut() -> None:
    """Wherever a secret stands, also across a limit."""
    secret = "s3cr3t" * 10
    one = end(
        cause=f"ValueError: {secret}",
        current=incarnation(failing=Failing("run", "x" * 1990 + secret, f"Traceback {secret}\n")),
    )
    crash = report(
        one,
        log="y" * 1000 + secret,
        stacks=secret,
        calls=(recorded(1, method=secret, args=secret, outcome=""), recorded(2, result=secret)),
        events=("z" * 490 + secret,),
        redact=lambda text: text.replace(secret, "***"),
    )
    assert "s3cr" not in encoded(crash).decode()


def test_the_last_lines_are_bounded() -> None:
    """In number, in length of each, and in total."""
    assert report(end(), log="").log == []
    assert report(end(), log="one\r\ntwo\n\nlast").log == ["one", "two", "", "last"]
    many = report(end(), log="".join(f"line {n}\n" for n in range(1000))).log
    assert (len(many), many[-1]) == (LOG_LINES, "line 999")
    long = report(end(), log="x" * 100_000 + "\n" + "last\n").log
    assert long[-1] == "last"
    assert long[-2].endswith("…")
    assert sum(map(len, report(end(), log=("y" * 900 + "\n") * 60).log)) <= LOG_CHARS


def test_the_size_of_a_report_is_limited() -> None:
    """Whatever it contains: the least important parts are cut, and the report mentions that."""
    control = "\x01" * 100_000  # six bytes each in JSON
    crash = report(
        end(incarnation(failing=Failing("run", control, control)), cause=control),
        log=("\x01" * 300 + "\n") * 60,
        stacks=control,
        calls=tuple(recorded(n, args="\x01" * 256, result="\x01" * 256) for n in range(1, 300)),
        events=(control,) * 20,
    )
    data = encoded(crash)
    assert len(data) <= RECORD_BYTES
    read = msgspec.json.decode(data, type=CrashReport)
    assert read.id == "chat-7"
    assert any("had to be cut" in text for text in read.unknown)
