"""No bytes break a decoder: they are a valid message, or a WireError."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.support.examples import examples

from garrison.ipc import messages
from garrison.ipc.declared_errors import ModelError, RetryLater
from garrison.ipc.errors import CLASSES, CallError, Fault, WireError, from_fault
from garrison.ipc.messages import (
    EMPTY_MAP,
    LONGEST_TIMEOUT,
    Entry,
    Manifest,
    MethodInfo,
    PluginSource,
    State,
    decode_assignment,
    decode_data,
    decode_downward,
    decode_upward,
    encode,
)

DECODERS: list[Callable[[bytes], Any]] = [
    decode_data,
    decode_upward,
    decode_downward,
    decode_assignment,
]

text = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
whole = st.integers(-(2**63), 2**64 - 1)
ids = st.integers(0, 2**63 - 1)
seconds = st.floats(1e-9, LONGEST_TIMEOUT)
tokens = st.binary(max_size=16)
leaves = st.one_of(st.none(), st.booleans(), whole, st.floats(), text, st.binary(max_size=8))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(text, whole, st.binary(max_size=4)), inner, max_size=4),
    ),
    max_leaves=12,
)
fields = st.dictionaries(text, values, max_size=3)
raws = values.map(lambda value: Raw(msgspec.msgpack.encode(value)))
manifests = st.builds(
    Manifest,
    text,
    text,
    st.lists(st.builds(MethodInfo, text, st.booleans(), text, text), max_size=2).map(tuple),
    st.dictionaries(text, text, max_size=2),
)
entries = st.builds(
    Entry,
    text,
    text,
    whole,
    manifests,
    st.sampled_from(State),
    st.booleans(),
    whole,
    tokens,
    st.lists(text, max_size=2).map(tuple),
)

data = st.one_of(
    st.builds(messages.Call, ids, names, raws, st.just(EMPTY_MAP), seconds, st.integers(0, 2**16)),
    st.builds(messages.Reply, ids, raws),
    st.builds(messages.Failed, ids, st.builds(Fault, text, text, text, text, text, fields)),
    st.builds(messages.Refused, ids),
    st.builds(messages.Cancel, ids),
    st.builds(messages.Item, ids, raws),
    st.builds(messages.Done, ids),
    st.builds(messages.Credit, ids, st.integers(0, 2**16)),
    st.builds(messages.Ended, tokens, text),
)
plain = st.dictionaries(text, st.one_of(st.none(), st.booleans(), whole, text), max_size=3)
upward = st.one_of(
    st.builds(messages.Hello, whole, text, st.integers(0, 2**53), whole),
    st.builds(messages.Health, text, st.floats(0, 1e7)),
    st.builds(messages.Ready, manifests),
    st.builds(messages.Beat, whole, whole, whole),
    st.builds(messages.Failing, text, text, text, st.booleans()),
    st.builds(
        messages.Order,
        whole,
        text,
        st.lists(text, max_size=2).map(tuple),
        st.floats(allow_nan=False),
        plain,
    ),
)
downward = st.one_of(
    st.builds(messages.Welcome, whole, text, whole, st.lists(entries, max_size=2).map(tuple)),
    st.builds(messages.Listed, entries),
    st.builds(
        messages.Changed, text, st.sampled_from(State), st.booleans(), st.integers(0, 99), tokens
    ),
    st.builds(messages.Answer, whole, st.booleans(), plain, text, text, st.booleans()),
)
readings = st.builds(
    messages.Reading,
    source=st.builds(PluginSource, text, text, text),
    token=tokens,
    control=text,
    env=st.dictionaries(text, tokens, max_size=2),
    plugin_config=plain,
    sections=st.lists(
        st.builds(messages.Section, text, text, plain, st.booleans()), max_size=2
    ).map(tuple),
)
batches = st.one_of(*(st.lists(kind, max_size=3) for kind in (data, upward, downward)))
frames = st.one_of(batches.map(encode), readings.map(encode))


def decoded(frame: bytes) -> None:
    """Decode bytes with every decoder; only WireError may be raised."""
    for decode in DECODERS:
        try:
            message = decode(frame)
        except WireError:
            continue
        for call in message if isinstance(message, list) else ():
            if isinstance(call, messages.Call):
                assert 0 < call.timeout <= LONGEST_TIMEOUT  # and no NaN, which is neither


@given(batch=st.lists(data, max_size=4))
@settings(max_examples=examples(150))
def test_any_batch_of_the_bus_comes_back(batch: list[messages.Data]) -> None:
    """Byte for byte, in order."""
    assert encode(decode_data(encode(batch))) == encode(batch)


@given(timeout=st.floats())
@settings(max_examples=examples(200))
def test_a_timeout_is_valid_or_rejected(timeout: float) -> None:
    """No NaN, infinity, zero or negative number."""
    call = messages.Call(1, "m", Raw(b"\x90"), EMPTY_MAP, timeout)
    try:
        (taken,) = decode_data(encode([call]))
    except WireError:
        assert not 0 < timeout <= LONGEST_TIMEOUT
    else:
        assert taken == call or encode([taken]) == encode([call])
        assert 0 < timeout <= LONGEST_TIMEOUT


@given(batch=st.lists(upward, max_size=4))
@settings(max_examples=examples(100))
def test_any_batch_to_the_supervisor_comes_back(batch: list[messages.Upward]) -> None:
    """Field for field, in order."""
    assert decode_upward(encode(batch)) == batch


@given(batch=st.lists(downward, max_size=4))
@settings(max_examples=examples(100))
def test_any_batch_from_the_supervisor_comes_back(batch: list[messages.Downward]) -> None:
    """Field for field, in order."""
    assert decode_downward(encode(batch)) == batch


@given(reading=readings)
@settings(max_examples=examples(50))
def test_any_assignment_comes_back(reading: messages.Reading) -> None:
    """Field for field."""
    assert decode_assignment(encode(reading)) == reading


@given(frame=st.binary(max_size=64))
@settings(max_examples=examples(300))
def test_no_bytes_break_a_decoder(frame: bytes) -> None:
    """Random bytes."""
    decoded(frame)


@given(value=values)
@settings(max_examples=examples(200))
def test_no_value_breaks_a_decoder(value: object) -> None:
    """MessagePack of another protocol, alone and as a batch."""
    decoded(msgspec.msgpack.encode(value))
    decoded(msgspec.msgpack.encode([value]))


@given(frame=frames, at=st.floats(0, 1), cut=st.integers(0, 4), put=st.binary(max_size=4))
@settings(max_examples=examples(500))
def test_no_mutation_breaks_a_decoder(frame: bytes, at: float, cut: int, put: bytes) -> None:
    """A valid frame with some bytes removed, inserted or replaced."""
    place = int(at * len(frame))
    decoded(frame[:place] + put + frame[place + cut :])


@given(frame=frames, at=st.floats(0, 1), mask=st.integers(1, 255))
@settings(max_examples=examples(500))
def test_no_flipped_bits_break_a_decoder(frame: bytes, at: float, mask: int) -> None:
    """A valid frame with one byte changed."""
    place = min(int(at * len(frame)), len(frame) - 1)
    decoded(frame[:place] + bytes([frame[place] ^ mask]) + frame[place + 1 :])


@given(frame=frames)
@settings(max_examples=examples(50))
def test_no_truncation_breaks_a_decoder(frame: bytes) -> None:
    """A valid frame, truncated at any byte, is rejected."""
    for end in range(len(frame)):
        for decode in DECODERS:
            try:
                decode(frame[:end])
            except WireError:
                continue
            raise AssertionError(f"{frame[:end]!r} was taken for a message")


@given(
    start=st.sampled_from([b"", b"\x91", b"\x91\x93\x01\x05"]),
    level=st.binary(min_size=1, max_size=3),
)
@settings(max_examples=examples(100))
def test_no_depth_breaks_a_decoder(start: bytes, level: bytes) -> None:
    """The same bytes repeated open nested levels."""
    decoded(start + level * 20_000)


@given(
    names=st.one_of(
        values, st.lists(st.sampled_from(["ModelError", "RetryLater", "Busy", "X"]), max_size=3)
    ),
    data=st.dictionaries(
        st.one_of(text, st.sampled_from(["kind", "retry_after", "seconds", CLASSES])),
        st.one_of(values, st.sampled_from(["busy", "auth"]), st.just("x" * 2000)),
        max_size=4,
    ),
    detail=text,
)
@settings(max_examples=300)
def test_no_fields_break_an_error(names: object, data: dict[str, Any], detail: str) -> None:
    """Whatever `Fault.data` has: a call error comes of it, of a declared class only if it fits."""
    fault = Fault("RemoteError", "a", "m", detail, "", {CLASSES: names, **data})
    (failed,) = decode_data(encode([messages.Failed(1, fault)]))
    assert isinstance(failed, messages.Failed)

    error = from_fault(failed.fault)

    assert isinstance(error, CallError)
    assert (error.service, error.method) == ("a", "m")
    assert str(error)
    if isinstance(error, ModelError):
        assert error.kind in {"busy", "refused", "auth", "context", "invalid"}
    if isinstance(error, RetryLater):
        assert isinstance(error.seconds, float)
