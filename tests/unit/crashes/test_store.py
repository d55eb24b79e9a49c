"""Records of deaths: which ends have one, what is in it, and their bounds on disk."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.ipc.flight_record import IN, LATE, OUT, UNKNOWN, FlightRecord, RecordedCall
from garrison.ipc.messages import Failing, State, Stopped
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
from garrison.supervisor.crashes.store import (
    KEPT,
    KEPT_A_SERVICE,
    CrashStore,
)
from garrison.supervisor.lifecycle.policy import Child, Event, StopReason

KILLED, EXITED = 9, 3 << 8  # as wait() has them


def child(
    state: State = State.RUNNING,
    why: StopReason = StopReason.ORDER,
    restart: Restart = Restart.PERMANENT,
) -> Child:
    """Return a service as the policy has it."""
    spec = service_spec(name="chat", plugin="chat", service_type="chat", restart=restart)
    return Child(spec, state, True, why=why, generation=3)


def end(**fields: Any) -> ExitContext:
    """Return what was known of an end."""
    usual: dict[str, Any] = {
        "id": "chat-7",
        "n": 7,
        "at": 1_000_000_010.5,
        "before": child(),
        "after": child(State.QUEUED),
        "service_type": "chat",
        "kind": "signal",
        "cause": "its process was killed by SIGKILL",
        "exit": "was killed by SIGKILL",
        "status": KILLED,
        "pid": 4711,
        "began": 1_000_000_000.0,
        "broken": None,
        "used": (0.5, 0.25, 30 << 20),
        "beat_age_s": 0.2,
        "left": (),
        "events_before": 10,
        "log_file": "/h/logs/chat.log",
    }
    return ExitContext(**(usual | fields))


def composed(
    one: ExitContext,
    log: str = "",
    stacks: str = "",
    noted: tuple[RecordedCall, ...] = (),
    events: tuple[str, ...] = (),
    redact: Callable[[str], str] = lambda text: text,
) -> CrashReport:
    """Return the record of an end."""
    evidence = Evidence(log, stacks, FlightRecord(noted), events, lambda digits: "")
    return build_report(one, evidence, redact)


def noted(number: int, **fields: Any) -> RecordedCall:
    """Return a call as a flight recorder had it."""
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


# --- which ends, and what they are called -------------------------------------------------


@pytest.mark.parametrize(
    ("before", "event", "clean", "recorded"),
    [
        (child(), Event.CRASH, None, True),
        (child(), Event.REFUSED, None, True),
        (child(State.STARTING), Event.CRASH, None, True),
        (child(State.STOPPING), Event.CRASH, None, False),
        (child(State.STOPPING), Event.CLEAN_EXIT, Stopped("ordered"), False),
        (child(State.STOPPING, StopReason.WATCHDOG), Event.CRASH, None, True),
        (child(State.STOPPING, StopReason.START_TIMEOUT), Event.CLEAN_EXIT, Stopped(), True),
        (child(), Event.CLEAN_EXIT, Stopped("it asked to end"), True),
        (child(restart=Restart.TRANSIENT), Event.CLEAN_EXIT, Stopped("it asked to end"), False),
        (child(restart=Restart.TEMPORARY), Event.CLEAN_EXIT, Stopped("it asked to end"), False),
        (child(restart=Restart.TRANSIENT), Event.CLEAN_EXIT, Stopped("by SIGTERM"), True),
    ],
)
def test_an_end_that_nobody_asked_for_has_a_record(
    before: Child, event: Event, clean: Stopped | None, recorded: bool
) -> None:
    """An order asks for one, and a service that need not run for ever may end by itself."""
    assert is_crash(before, event, clean) is recorded


@pytest.mark.parametrize(
    ("before", "broken", "clean", "status", "kind"),
    [
        (child(), None, None, KILLED, "signal"),
        (child(), None, None, EXITED, "exit"),
        (child(), None, None, 0, "exit"),
        (child(), None, None, None, "unknown"),
        (child(), Failing("run", "LookupError"), None, 70 << 8, "exception"),
        (child(), None, Stopped("it asked to end"), 0, "clean"),
        (child(State.STOPPING, StopReason.WATCHDOG), None, None, KILLED, "watchdog"),
        (child(State.STOPPING, StopReason.HEALTH), None, Stopped("ordered"), 0, "health"),
        (child(State.STOPPING, StopReason.START_TIMEOUT), None, None, KILLED, "start"),
        (child(State.STARTING), None, None, EXITED, "start"),
        (child(State.INITIALIZING), Failing("fork", "no secret"), None, None, "start"),
    ],
)
def test_an_end_has_a_kind(
    before: Child, broken: Failing | None, clean: Stopped | None, status: int | None, kind: str
) -> None:
    """One word of what sort it was."""
    assert kind_of(before, broken, clean, status) == kind


def test_a_cause_is_a_sentence() -> None:
    """It stands alone, in a list of deaths."""
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
def test_what_comes_next_is_told(after: Child, words: str) -> None:
    """As the policy decided."""
    assert words in what_next(after, 10.0)


# --- what is in a record ------------------------------------------------------------------


def test_the_messages_are_the_last_in_order() -> None:
    """Both ways, the answers with the method of their call, those that began long ago too."""
    calls = (
        noted(1, outcome="", ended=0.0, method="hang"),
        noted(2, kind=OUT, peer="discord", outcome="ServiceLost", ended=1_000_000_009.0),
        noted(3, kind=OUT, outcome="ServiceUnavailable"),
        noted(4, kind=IN | LATE, began=5.0),
        noted(5, peer=f"{UNKNOWN}6700", outcome="RemoteError KeyError"),
    )
    death = composed(end(), noted=calls)
    shown = [(m.direction, m.kind, m.service, m.method, m.outcome) for m in death.messages]
    assert shown == [
        ("in", "call", "agent", "hang", "in flight"),
        ("out", "call", "discord", "say", "ServiceLost"),
        ("out", "call", "agent", "say", "ServiceUnavailable"),
        ("out", "reply", "agent", "say", "ok"),
        ("in", "call", "a program", "say", "RemoteError KeyError"),
        ("out", "failed", "a program", "say", "RemoteError KeyError"),
        ("in", "lost", "discord", "say", "ServiceLost"),
    ]
    assert [message.size for message in death.messages[:4]] == [10, 10, 10, 20]
    (flying,) = death.in_flight
    assert (flying.direction, flying.method, flying.age_s) == ("in", "hang", 9.5)
    many = composed(end(), noted=tuple(noted(n) for n in range(1, 100)))
    assert len(many.messages) == MESSAGES
    assert many.messages[-1].kind == "reply"


def test_all_text_passes_through_redact_before_it_is_cut() -> None:
    """Wherever a secret stands, also across a bound."""
    secret = "s3cr3t" * 10
    one = end(
        cause=f"ValueError: {secret}",
        broken=Failing("run", "x" * 1990 + secret, f"Traceback {secret}\n"),
    )
    death = composed(
        one,
        log="y" * 1000 + secret,
        stacks=secret,
        noted=(noted(1, method=secret, args=secret, outcome=""), noted(2, result=secret)),
        events=("z" * 490 + secret,),
        redact=lambda text: text.replace(secret, "***"),
    )
    assert "s3cr" not in encoded(death).decode()


def test_the_last_lines_are_bounded() -> None:
    """In number, each in length, and all together."""
    assert composed(end(), log="").log == []
    assert composed(end(), log="one\r\ntwo\n\nlast").log == ["one", "two", "", "last"]
    many = composed(end(), log="".join(f"line {n}\n" for n in range(1000))).log
    assert (len(many), many[-1]) == (LOG_LINES, "line 999")
    long = composed(end(), log="x" * 100_000 + "\n" + "last\n").log
    assert long[-1] == "last"
    assert long[-2].endswith("…")
    assert sum(map(len, composed(end(), log=("y" * 900 + "\n") * 60).log)) <= LOG_CHARS


def test_a_record_is_bounded() -> None:
    """Whatever it is made of: what is least missed gives way, and that is said."""
    control = "\x01" * 100_000  # six bytes each in JSON
    death = composed(
        end(broken=Failing("run", control, control), cause=control),
        log=("\x01" * 300 + "\n") * 60,
        stacks=control,
        noted=tuple(noted(n, args="\x01" * 256, result="\x01" * 256) for n in range(1, 300)),
        events=(control,) * 20,
    )
    data = encoded(death)
    assert len(data) <= RECORD_BYTES
    read = msgspec.json.decode(data, type=CrashReport)
    assert read.id == "chat-7"
    assert any("had to be cut" in fields for fields in read.unknown)


# --- the store ----------------------------------------------------------------------------


def record(store: CrashStore, service: str) -> CrashReport:
    """Write a death down."""
    n = store.next_number()
    death = CrashReport(
        f"{service}-{n}", n, service, "2026-11-23T12:00:00Z", "signal", "it was killed"
    )
    store.write(death)
    return death


def test_records_are_kept_and_found_again(tmp_path: Path) -> None:
    """By the next supervisor too, whose numbers go on; the folder is its user's alone."""
    folder = tmp_path / "deaths"
    store = CrashStore(folder)
    assert store.ids() == []
    first, second = record(store, "chat"), record(store, "chat-2")
    later = CrashStore(folder)
    assert later.ids() == ["chat-1", "chat-2-2"]
    assert later.ids({"chat-2"}) == ["chat-2-2"]
    assert later.read(first.id) == first
    assert [line.cause for line in later.lines([second.id])] == ["it was killed"]
    assert record(later, "chat").id == "chat-3"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "chat-1.json").stat().st_mode & 0o777 == 0o600


def test_one_service_that_dies_over_and_over_does_not_push_out_the_others(tmp_path: Path) -> None:
    """Each keeps its last ones, and all together are bounded; no number comes twice."""
    store = CrashStore(tmp_path / "deaths")
    record(store, "quiet")
    for _ in range(3 * KEPT_A_SERVICE):
        record(store, "loop")
    assert store.ids({"quiet"}) == ["quiet-1"]
    numbers = [int(one.rpartition("-")[2]) for one in store.ids({"loop"})]
    last = 3 * KEPT_A_SERVICE + 1
    assert numbers == list(range(last - KEPT_A_SERVICE + 1, last + 1))
    for n in range(KEPT + 10):
        record(store, f"s{n}")
    assert len(store.ids()) == KEPT == len(list((tmp_path / "deaths").iterdir()))
    assert len(CrashStore(tmp_path / "deaths").ids()) == KEPT
    assert CrashStore(tmp_path / "deaths").next_number() == last + KEPT + 11


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"id": 3}', b"\xff\xfe", b"x" * (3 * RECORD_BYTES)]
)
def test_a_damaged_record_is_left_out(tmp_path: Path, content: bytes) -> None:
    """And does no harm to the others."""
    store = CrashStore(tmp_path)
    whole, damaged = record(store, "chat"), record(store, "chat")
    (tmp_path / f"{damaged.id}.json").write_bytes(content)
    store = CrashStore(tmp_path)
    assert [line.id for line in store.lines(store.ids())] == [whole.id]
    assert store.read(damaged.id) is None
    assert record(store, "chat").n == 3


def test_a_record_cut_at_any_byte_is_no_error(tmp_path: Path) -> None:
    """As after a power cut."""
    store = CrashStore(tmp_path)
    death = record(store, "chat")
    path = tmp_path / f"{death.id}.json"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert store.read(death.id) is None


def test_records_of_a_newer_format_are_left_out(tmp_path: Path) -> None:
    """Fields that are not known are no reason for it."""
    store = CrashStore(tmp_path)
    newer, older = record(store, "chat"), record(store, "chat")
    for death, change in ((newer, {"format": 2}), (older, {"later": 1})):
        path = tmp_path / f"{death.id}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert store.read(newer.id) is None
    assert store.read(older.id) == older


def test_what_a_killed_supervisor_left_half_written_is_removed(tmp_path: Path) -> None:
    """And other files stay."""
    (tmp_path / "chat-1.new").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    assert CrashStore(tmp_path).ids() == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
