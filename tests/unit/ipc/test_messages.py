"""The wire: messages are encoded and decoded, invalid ones rejected; how it may be extended."""

import json
from math import inf, nan
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from tests.support import wire_samples

from garrison.ipc import messages
from garrison.ipc.errors import WireError
from garrison.ipc.messages import (
    LONGEST_TIMEOUT,
    WIRE,
    WIRES,
    decode_assignment,
    decode_data,
    decode_downward,
    decode_upward,
    encode,
    encode_assignment,
)

MANIFEST, ENTRY = wire_samples.MANIFEST, wire_samples.ENTRY
DATA, UPWARD, DOWNWARD = wire_samples.DATA, wire_samples.UPWARD, wire_samples.DOWNWARD
ASSIGNMENT, READING = wire_samples.ASSIGNMENT, wire_samples.READING
NEW = {  # the release before does not know them
    *("Extend", "Sync", "Synced", "Stacks", "Barrier", "Passed"),
    *("DirectOpen", "DirectRoute", "AcceptDirect", "GrantDirect", "RevokeDirect", "PluginsRead"),
}
ADDED_TO_ASSIGNMENT = {"not_granted", "restarted_by", "task_errors", "threads", "tombstones"}
ADDED_TO_ASSIGNMENT |= {"traces", "curve", "lease", "mark"}
GOLDEN = json.loads(Path(__file__).with_name("golden_messages.json").read_text())


def array(*fields: Any) -> bytes:
    """Return a batch of one message with these fields."""
    return msgspec.msgpack.encode([list(fields)])


def table(**fields: Any) -> bytes:
    """Return a batch of one message with these keys."""
    return msgspec.msgpack.encode([fields])


def extends(now: Any, before: Any) -> bool:
    """Return whether a value has all that it had, in the same places, at any depth."""
    if isinstance(before, list):
        return len(now) >= len(before) and all(map(extends, now, before))
    if isinstance(before, dict):
        same = list(now)[: len(before)] == list(before)
        return same and all(extends(now[key], before[key]) for key in before)
    return bool(now == before)


# --- encoding and decoding ----------------------------------------------------------------


@pytest.mark.parametrize("message", DATA, ids=lambda m: type(m).__name__)
def test_a_data_message_comes_back(message: messages.Data) -> None:
    """Alone, and in a batch with every other, in order; what is raw is passed on as it is."""
    assert decode_data(encode([message])) == [message]
    assert encode(decode_data(encode(DATA))) == encode(DATA)


@pytest.mark.parametrize("message", UPWARD, ids=lambda m: type(m).__name__)
def test_a_message_to_the_supervisor_comes_back(message: messages.Upward) -> None:
    """Alone and in a batch."""
    assert decode_upward(encode([message])) == [message]
    assert decode_upward(encode(UPWARD)) == UPWARD


@pytest.mark.parametrize("message", DOWNWARD, ids=lambda m: type(m).__name__)
def test_a_message_from_the_supervisor_comes_back(message: messages.Downward) -> None:
    """Alone and in a batch."""
    assert decode_downward(encode([message])) == [message]
    assert decode_downward(encode(DOWNWARD)) == DOWNWARD


@pytest.mark.parametrize("message", [ASSIGNMENT, READING], ids=lambda m: type(m).__name__)
def test_an_assignment_comes_back(message: messages.Assignment | messages.Reading) -> None:
    """It is no batch: a worker has one assignment."""
    assert decode_assignment(encode_assignment(message)) == message


@pytest.mark.parametrize(
    ("union", "message"),
    [("data", m) for m in DATA]
    + [("upward", m) for m in UPWARD]
    + [("downward", m) for m in DOWNWARD],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_message_has_all_that_it_had_before(union: str, message: Any) -> None:
    """A running host of the release before understands each: tags, keys and order stay, and what
    is new comes last."""
    golden = GOLDEN[union].get(type(message).__name__)
    if golden is None:
        assert type(message).__name__ in NEW
        return
    (before,) = msgspec.msgpack.decode(bytes.fromhex(golden))
    (now,) = msgspec.msgpack.decode(encode([message]))

    assert extends(now, before)


@pytest.mark.parametrize("union", ["data", "upward", "downward"])
def test_a_message_of_the_release_before_is_understood(union: str) -> None:
    """A field that it lacks has its default."""
    decode: Any = {"data": decode_data, "upward": decode_upward, "downward": decode_downward}[union]
    for name, golden in GOLDEN[union].items():
        assert [type(message).__name__ for message in decode(bytes.fromhex(golden))] == [name]


def test_the_version_is_the_same_as_before() -> None:
    """Another version would end every worker at an upgrade."""
    assert GOLDEN["wire"] == WIRE


def test_an_assignment_is_as_flat_as_before() -> None:
    """Groups exist in memory alone. The order of keys has no meaning; what the release before
    lacks has its default."""
    golden = bytes.fromhex(GOLDEN["assignment"])
    before = msgspec.msgpack.decode(golden)
    now = msgspec.msgpack.decode(encode_assignment(ASSIGNMENT))

    assert {key: now[key] for key in before} == before
    assert now.keys() - before.keys() == ADDED_TO_ASSIGNMENT
    understood = decode_assignment(golden)
    plain = messages.Assignment.__struct_fields__
    unknown = {key: getattr(understood, key) for key in ADDED_TO_ASSIGNMENT if key in plain}
    assert msgspec.structs.replace(ASSIGNMENT, **unknown) == understood
    assert encode_assignment(READING).hex() == GOLDEN["reading"]


def test_there_is_a_sample_of_every_message() -> None:
    """A new message is tested."""
    for union, examples in (
        (messages.Data, DATA),
        (messages.Upward, UPWARD),
        (messages.Downward, DOWNWARD),
    ):
        assert set(get_args(union)) == {type(example) for example in examples}


def test_an_empty_batch_is_one() -> None:
    """It is valid, and has no effect."""
    empty = encode([])
    assert decode_data(empty) == []
    assert decode_upward(empty) == []
    assert decode_downward(empty) == []


def test_the_own_version_is_supported() -> None:
    """This one and the one before; there is no version 0."""
    assert WIRE in WIRES
    assert 0 not in WIRES
    assert {WIRE, WIRE - 1} - {0} == WIRES


def test_data_messages_are_arrays() -> None:
    """They are the most frequent, and carry no names of fields."""
    for message in DATA:
        assert encode([message])[1] & 0xF0 == 0x90


# --- invalid messages ---------------------------------------------------------------------


def call(**changes: Any) -> bytes:
    """Return a batch of one call with some fields changed."""
    fields: dict[str, Any] = {
        "tag": 0,
        "id": 1,
        "method": "m",
        "args": [],
        "kwargs": {},
        "timeout": 1.0,
        "credit": 0,
    }
    return array(*(fields | changes).values())


def test_a_valid_call_is_accepted() -> None:
    """So the tests below fail because of the one field that they change."""
    (taken,) = decode_data(call())

    assert isinstance(taken, messages.Call)
    assert (taken.id, taken.method, taken.timeout, taken.credit) == (1, "m", 1.0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", nan),
        ("timeout", inf),
        ("timeout", -inf),
        ("timeout", 0.0),
        ("timeout", -0.0),
        ("timeout", -1.0),
        ("timeout", LONGEST_TIMEOUT * 1.01),
        ("timeout", "1"),
        ("timeout", None),
        ("timeout", True),
        ("id", -1),
        ("id", 2**63),
        ("id", 1.5),
        ("id", "1"),
        ("id", None),
        ("method", ""),
        ("method", "x" * 201),
        ("method", 1),
        ("method", b"m"),
        ("credit", -1),
        ("credit", 2**16 + 1),
        ("tag", 99),
        ("tag", -1),
        ("tag", "0"),
        ("tag", None),
    ],
)
def test_a_field_out_of_bounds_is_rejected(field: str, value: object) -> None:
    """NaN, zero, too long, and values of another type are invalid."""
    with pytest.raises(WireError):
        decode_data(call(**{field: value}))


@pytest.mark.parametrize("generation", [-1, 2**64 - 1])
def test_a_generation_without_a_next_one_is_rejected(generation: int) -> None:
    """It is saved with those of all services, which a number too large would make unreadable."""
    with pytest.raises(WireError):
        decode_upward(encode([messages.Hello(messages.WIRE, "bot", generation, 1)]))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x90\x90",
        b"\xc0",
        b"\x80",
        b"\x00",
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode([[]]),
        msgspec.msgpack.encode([{}]),
        msgspec.msgpack.encode([{"type": "nothing"}]),
        msgspec.msgpack.encode([None]),
        msgspec.msgpack.encode("hello"),
        b"\x91\x92\x03\xa1\xff",
        b"\x91\x81\xa4type\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x91\x93\x01\x05" + b"\x91" * 100_000,
        b"\x91\x93\x01\x05" + b"\x91" * 100_000 + b"\xc0",
        b"\x91\x82\xa4type\xa5order\xa7options" + b"\x81\xa1a" * 100_000,
        b"\x91\x82\xa4type\xa6answer\xa4data" + b"\x91" * 100_000,
        b"\x91\x84\xa4type\xa5order\xa2id\x01\xa4verb\xa1x\xa7options\x81\xa1a\x81\x80\x01",
        b"\x91\x84\xa4type\xa6answer\xa2id\x01\xa2ok\xc3\xa4data\x81\x80\x01",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=lambda frame: frame[:12].hex(),
)
def test_bytes_that_are_no_message_are_rejected(frame: bytes) -> None:
    """Truncated, too deep, no UTF-8, invalid keys, or another protocol."""
    for decode in (decode_data, decode_upward, decode_downward, decode_assignment):
        with pytest.raises(WireError):
            decode(frame)


def test_an_error_has_the_place_and_the_reason() -> None:
    """The error has the path; its cause is msgspec's."""
    with pytest.raises(WireError, match=r"\$\[0\]\[5\]") as caught:
        decode_data(call(timeout=-1.0))

    assert caught.value.frame == call(timeout=-1.0)[:64]
    assert isinstance(caught.value.__cause__, msgspec.ValidationError)


def test_a_message_of_one_plane_is_invalid_on_another() -> None:
    """A worker cannot send the supervisor's messages, nor the bus those of the control plane."""
    with pytest.raises(WireError):
        decode_upward(encode(DOWNWARD))
    with pytest.raises(WireError):
        decode_downward(encode(UPWARD))
    with pytest.raises(WireError):
        decode_data(encode(UPWARD))
    with pytest.raises(WireError):
        decode_upward(encode(DATA))


def test_one_invalid_message_rejects_its_batch() -> None:
    """A batch has one sender, so no other sender's messages are affected."""
    batch = msgspec.msgpack.encode([[4, 1], [99, 1], [4, 2]])

    with pytest.raises(WireError):
        decode_data(batch)


# --- extensions ---------------------------------------------------------------------------


@pytest.mark.parametrize("message", DATA, ids=lambda m: type(m).__name__)
def test_a_field_that_a_later_version_adds_last_is_ignored(message: messages.Data) -> None:
    """An array may have more at its end than this version knows, a fault inside it as well."""
    (fields,) = msgspec.msgpack.decode(encode([message]))
    if isinstance(message, messages.Failed):
        fields[2].append("later")

    assert encode(decode_data(array(*fields, "later", {"more": 1}))) == encode([message])


@pytest.mark.parametrize("message", UPWARD, ids=lambda m: type(m).__name__)
def test_a_key_that_a_later_version_adds_is_ignored(message: messages.Upward) -> None:
    """A map may have keys that this version does not know."""
    (fields,) = msgspec.msgpack.decode(encode([message]))

    assert decode_upward(table(**fields, later={"more": [1]})) == [message]


@pytest.mark.parametrize("message", DOWNWARD, ids=lambda m: type(m).__name__)
def test_a_key_that_a_later_supervisor_adds_is_ignored(message: messages.Downward) -> None:
    """Likewise the other way."""
    (fields,) = msgspec.msgpack.decode(encode([message]))

    assert decode_downward(table(**fields, later={"more": [1]})) == [message]


def test_a_field_that_an_earlier_version_lacks_has_its_default() -> None:
    """What was added last may be absent; what was there from the start may not."""
    (taken,) = decode_data(array(0, 1, "m", [], {}, 1.0))
    assert isinstance(taken, messages.Call)
    assert taken.credit == 0
    assert decode_upward(table(type="beat", seq=1)) == [messages.Beat(1, 0, 0)]
    (answer,) = decode_downward(table(type="answer", id=1, ok=True))
    assert answer == messages.Answer(1, True)
    with pytest.raises(WireError, match="length 6"):
        decode_data(array(0, 1, "m", [], {}))
    with pytest.raises(WireError, match="seq"):
        decode_upward(table(type="beat"))


def test_every_field_with_a_default_comes_after_those_without() -> None:
    """So a release that does not know a new field can leave it out."""
    for cls in {type(message) for message in [*DATA, *UPWARD, *DOWNWARD, MANIFEST, ENTRY]}:
        required = [field.required for field in msgspec.structs.fields(cls)]
        assert required == sorted(required, reverse=True), cls


def test_messages_do_not_change() -> None:
    """They are frozen: a decoded message may be shared."""
    for message in [*DATA, *UPWARD, *DOWNWARD, ASSIGNMENT, READING]:
        assert type(message).__struct_config__.frozen, message


def test_the_tags_of_data_messages_are_fixed() -> None:
    """A tag is never reused."""
    assert {type(m).__name__: type(m).__struct_config__.tag for m in DATA} == {
        "Call": 0,
        "Reply": 1,
        "Failed": 2,
        "Refused": 3,
        "Cancel": 4,
        "Item": 5,
        "Done": 6,
        "Credit": 7,
        "Ended": 8,
        "Frames": 9,
        "Sync": 10,
        "Synced": 11,
        "Barrier": 12,
        "Passed": 13,
    }


@pytest.mark.parametrize("took_s", [float("nan"), float("inf"), -1.0])
def test_a_health_check_took_a_time(took_s: float) -> None:
    """It is shown as JSON, which has no NaN."""
    with pytest.raises(WireError):
        decode_upward(encode([messages.Health("", took_s)]))


@pytest.mark.parametrize("other", [messages.Farewell(), messages.Rejected("no")])
def test_a_command_reads_whatever_the_supervisor_sends(other: messages.Downward) -> None:
    """Its decoder knows orders and their answers alone, and leaves others to the whole one."""
    sent = [messages.Identify(), messages.Answer(1, True, data={"a": 1})]

    assert messages.decode_answers(messages.encode(sent)) == sent
    assert messages.decode_answers(messages.encode([*sent, other])) == [*sent, other]
    with pytest.raises(WireError):
        messages.decode_answers(b"\xc1")
