"""The flight recorder: what it has after any end, and after any damage."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from garrison.ipc import call_state, flight_recorder
from garrison.ipc.errors import CallError, CallTimeout, RemoteError, ServiceLost
from garrison.ipc.flight_record import IN, LATE, OUT, UNKNOWN
from garrison.ipc.flight_recorder import KEPT, RING, Recorder, ValueRecorder, read
from garrison.ipc.messages import EMPTY_MAP, Call, Done, Failed, Item, Refused, Reply, Token

CALLER = b"g" + bytes(range(1, 16))
ARGS = Raw(msgspec.msgpack.encode(["a canary"]))
RESULT = Raw(msgspec.msgpack.encode("another canary"))


def called(call_id: int, method: str = "echo") -> Call:
    """Return a call as it arrives."""
    return Call(call_id, method, ARGS, EMPTY_MAP, 5.0)


def asking(call_id: int, method: str = "m", args: Raw = ARGS) -> call_state.OpenCall:
    """Return a call as it goes out to `echo`."""
    size = len(args) + len(EMPTY_MAP)
    return call_state.OpenCall(
        call_id, "echo", method, args, EMPTY_MAP, size, 5.0, 5.0, lambda _: None
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the recorder's file is."""
    return tmp_path / "echo.flight"


@pytest.fixture
def made(path: Path) -> Iterator[Recorder]:
    """Return a recorder that knows its one caller."""
    recorder = Recorder(str(path), lambda token: "chat" if token == CALLER else "")
    assert recorder.problem == ""
    yield recorder
    recorder.close()


def test_a_call_has_the_id_of_its_trace(made: Recorder, path: Path) -> None:
    """Also once it has left the ring. A call without one, or whose place had one, has none."""
    ids = [f"{number:032x}" for number in range(1, 4)]
    traces = [f"00-{one}-00000000000000ab-01" for one in ids]
    for call_id, trace in enumerate([*traces, "no trace", ""], 1):
        made.received(CALLER, msgspec.structs.replace(called(call_id), trace=trace))
    made.answered(CALLER, Reply(2, RESULT))
    assert [one.trace for one in read(path).noted] == [*ids, "", ""]
    for call_id in range(10, 10 + RING):
        made.received(CALLER, called(call_id))
    found = {one.call: one.trace for one in read(path).noted}
    assert [found[1], found[3], found.get(2)] == [ids[0], ids[2], None]
    assert {trace for call, trace in found.items() if call >= 4} == {""}


def test_the_file_of_a_former_version_has_no_traces(made: Recorder, path: Path) -> None:
    """It has none where they would be."""
    made.received(CALLER, msgspec.structs.replace(called(1), trace=f"00-{1:032x}-{2:016x}-01"))
    with path.open("r+b") as file:
        file.seek(32)
        file.write(bytes(4))
    assert [one.trace for one in read(path).noted] == [""]


def test_a_call_is_one_entry_that_its_end_completes(made: Recorder, path: Path) -> None:
    """Peer, method, size, times and outcome; without an outcome it is in flight."""
    made.received(CALLER, called(1))
    made.answered(CALLER, Reply(1, RESULT))
    made.received(CALLER, called(2, "hang"))
    first, second = read(path).noted
    assert (first.kind, first.peer, first.method, first.call) == (IN, "chat", "echo", 1)
    assert (first.size, first.result_size) == (len(ARGS) + 1, len(RESULT))
    assert first.outcome == "ok"
    assert 0 < first.began <= first.ended
    assert (second.method, second.outcome, second.ended) == ("hang", "", 0.0)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Done(1), "done"),
        (Refused(1), "refused"),
        (Failed(1, RemoteError("echo", "m", "ValueError: a canary").fault()), None),
    ],
)
def test_an_answer_says_how_it_ended(
    made: Recorder, path: Path, answer: Done | Refused | Failed, outcome: str | None
) -> None:
    """Of an exception its type alone: its text may hold anything."""
    made.received(CALLER, called(1))
    made.answered(CALLER, answer)
    (noted,) = read(path).noted
    assert noted.outcome == (outcome or "RemoteError ValueError")


def test_calls_that_go_out_end_as_their_callers_see_it(made: Recorder, path: Path) -> None:
    """A result, each error by its name, or a cancellation."""
    outcomes: dict[str, Raw | CallError | None] = {
        "ok": RESULT,
        "CallTimeout": CallTimeout("echo", "m", "1"),
        "ServiceLost": ServiceLost("echo", "m", "gone"),
        "RemoteError KeyError": RemoteError("echo", "m", "KeyError: 'a canary'"),
        "cancelled": None,
    }
    for outcome in outcomes.values():
        made.settled(made.started(asking(7)), outcome)
    noted = read(path).noted
    assert [one.outcome for one in noted] == list(outcomes)
    assert {(one.kind, one.peer) for one in noted} == {(OUT, "echo")}


def test_a_stream_counts_its_items(made: Recorder, path: Path) -> None:
    """Streams that it sends, and streams that it consumes."""
    made.received(CALLER, called(1))
    number = made.started(asking(1, "count"))
    for _ in range(3):
        made.answered(CALLER, Item(1, RESULT))
        made.item(number, RESULT)
    given, taken = read(path).noted
    assert (given.items, given.outcome, taken.items, taken.outcome) == (3, "", 3, "")
    made.answered(CALLER, Done(1))
    assert (read(path).noted[0].items, read(path).noted[0].outcome) == (3, "done")


def test_cancelled_calls_and_those_of_a_caller_that_is_gone_are_not_in_flight(
    made: Recorder, path: Path
) -> None:
    """No caller waits for them."""
    for n in range(3):
        made.received(CALLER, called(n))
    made.cancelled(CALLER, 0)
    made.caller_ended(CALLER)
    made.answered(CALLER, Reply(2, RESULT))  # too late
    assert [one.outcome for one in read(path).noted] == ["cancelled"] * 3


def test_the_ring_goes_round_and_keeps_what_is_in_flight(made: Recorder, path: Path) -> None:
    """The last calls are there, and of the older ones those that have not ended; the end of such
    a one is among the last."""
    made.received(CALLER, called(10_000, "old"))
    number = made.started(asking(1, "older"))
    for n in range(5 * RING):
        made.received(CALLER, called(n))
        made.answered(CALLER, Reply(n, RESULT))
    noted = read(path).noted
    assert [one.method for one in noted if not one.outcome] == ["old", "older"]
    assert [one.call for one in noted if one.method == "echo"] == list(range(4 * RING, 5 * RING))
    made.answered(CALLER, Reply(10_000, RESULT))
    made.settled(number, None)
    *_, old, older = read(path).noted
    assert (old.method, old.kind, old.outcome, old.call) == ("old", IN | LATE, "ok", 10_000)
    assert (older.method, older.kind, older.outcome) == ("older", OUT | LATE, "cancelled")
    assert not [one for one in read(path).noted if not one.outcome]


def test_more_in_flight_than_there_is_room_for_is_counted(made: Recorder, path: Path) -> None:
    """The file does not grow, and the number is right, also when they end."""
    size, most = path.stat().st_size, RING + KEPT
    for n in range(most + 10):
        made.received(CALLER, called(n))
    flight = read(path)
    assert (len(flight.noted), flight.without) == (most, 10)
    for n in random.Random(1).sample(range(most + 10), most + 10):
        made.answered(CALLER, Reply(n, RESULT))
    flight = read(path)
    assert flight.without == 0
    assert not [one for one in flight.noted if not one.outcome]
    assert path.stat().st_size == size


def test_an_id_is_used_once(made: Recorder, path: Path) -> None:
    """The same call twice is one entry."""
    made.received(CALLER, called(1))
    made.received(CALLER, called(1))
    made.answered(CALLER, Reply(1, RESULT))
    assert [one.outcome for one in read(path).noted] == ["ok"]


def test_a_caller_without_a_name_is_told_by_its_token(made: Recorder, path: Path) -> None:
    """The reader may know the token's NAME."""
    unknown: Token = b"g-unknown"
    made.received(unknown, called(1))
    assert read(path).noted[0].peer == UNKNOWN + unknown.hex()


def test_long_names_are_cut(made: Recorder, path: Path) -> None:
    """Between characters, and so that it shows."""
    made.received(CALLER, called(1, "ä" * 100))
    method = read(path).noted[0].method
    assert method == "ä" * 30 + "…"


def test_values_are_recorded_only_where_that_is_said(path: Path, tmp_path: Path) -> None:
    """Their first bytes, after what `redact` makes of them; otherwise not one byte."""
    loud = ValueRecorder(str(tmp_path / "loud"), redact=lambda t: t.replace("another", "*"))
    quiet = Recorder(str(path))
    for one in (loud, quiet):
        one.received(CALLER, called(1))
        one.answered(CALLER, Reply(1, RESULT))
        number = one.started(asking(1, args=Raw(msgspec.msgpack.encode(["x" * 1000]))))
        one.settled(number, Raw(msgspec.msgpack.encode("y" * 10_000)))
        one.close()
    first, second = read(tmp_path / "loud").noted
    assert (first.args, first.result) == ('["a canary"]', '"* canary"')
    assert second.args.startswith('["xxx')
    assert second.args.endswith("x…")
    assert second.result == "(10003 bytes)"
    assert b"canary" not in path.read_bytes()
    assert {one.args + one.result for one in read(path).noted} == {""}


def test_a_torn_entry_is_left_out(made: Recorder, path: Path) -> None:
    """SIGKILL in the middle of a write: the two numbers of the entry differ."""
    for n in range(3):
        made.received(CALLER, called(n))
    data = bytearray(path.read_bytes())
    place = flight_recorder._AT + 3 * flight_recorder._ENTRY
    data[place + 221] ^= 0xFF
    path.write_bytes(data)
    assert [one.call for one in read(path).noted] == [0, 1]


def test_any_damage_is_read_without_an_error(made: Recorder, path: Path) -> None:
    """Cut anywhere, bytes changed anywhere, or another file altogether."""
    for n in range(RING + 20):
        made.received(CALLER, called(n))
        if n % 3:
            made.answered(CALLER, Reply(n, RESULT))
    good, chance = path.read_bytes(), random.Random(7)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.choice([1, 10, 1000])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        flight = read(path)
        assert len(flight.noted) <= RING + KEPT
        for one in flight.noted:
            assert one.method.isprintable()
            assert one.outcome.isprintable()
            assert 0 <= one.began < 1e11
    path.write_bytes(good[: flight_recorder._AT + 3 * flight_recorder._ENTRY + 5])
    assert "cut" in read(path).problem
    assert len(read(path).noted) == 3
    for other in (b"", b"x" * 5000):
        path.write_bytes(other)
        assert read(path).problem
    path.unlink()
    assert "No such file" in read(path).problem


def test_where_no_file_can_be_made_nothing_stops(tmp_path: Path) -> None:
    """It writes to memory alone and has the reason; an existing file is not overwritten."""
    there = tmp_path / "there"
    there.write_text("kept")
    for path in (tmp_path / "no" / "folder", there):
        made = Recorder(str(path))
        assert str(path) in made.problem
        made.received(CALLER, called(1))
        made.answered(CALLER, Reply(1, RESULT))
        made.close()
    assert there.read_text() == "kept"


def test_its_file_is_its_users_alone(made: Recorder, path: Path) -> None:
    """And whole from the beginning: a hole would kill where the disk is full."""
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_what_was_written_survives_a_kill(path: Path) -> None:
    """The memory is the file's."""
    pid = os.fork()
    if not pid:
        made = Recorder(str(path))
        made.received(CALLER, called(1))
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert [one.call for one in read(path).noted] == [1]


def test_another_process_reads_when_the_loop_turned(made: Recorder, path: Path) -> None:
    """It is not known before the loop has turned, or without the file."""
    assert flight_recorder.read_turn(path) is None
    before = time.monotonic()
    made.note_turn()
    turned = flight_recorder.read_turn(path)
    assert turned is not None
    assert before <= turned <= time.monotonic()
    made.received(CALLER, called(1))
    assert flight_recorder.read_turn(path) == turned
    assert flight_recorder.read_turn(path.with_name("none")) is None
