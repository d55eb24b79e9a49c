"""Large values become frames and return to their places; forged frames are rejected."""

import contextlib
import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.msgpack import Ext
from tests.support.examples import examples

from garrison.ipc import frames as large
from garrison.ipc import messages
from garrison.ipc.errors import WireError
from garrison.ipc.frames import FRAMES_MOST, PLACE, Packer
from garrison.ipc.messages import EMPTY_MAP, Call, Framed, Frames, Item, Reply
from garrison.workers.process.methods import InvalidArguments, Method

MOST = 1 << 20
SMALL = 8  # from this size a value is large here
encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode


class Box(msgspec.Struct):
    """A struct with bytes."""

    data: bytes
    n: int = 0


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat short values as large ones."""
    monkeypatch.setattr(large, "LARGE", SMALL)


def sent(message: messages.Data) -> list[bytes]:
    """Return the frames of a message."""
    return [bytes(frame) for frame in Packer().pack([message])]


def carried(message: messages.Data) -> messages.Data:
    """Return a message as it is received."""
    frames = sent(message)
    found = messages.decode_data(frames[0]) if len(frames) == 1 else large.unpack(frames, MOST)
    assert len(found) == 1
    return found[0]


def call(*args: Any, **kwargs: Any) -> Call:
    """Return a call as its caller creates it."""
    named = large.arguments(kwargs, encode) if kwargs else EMPTY_MAP
    return Call(1, "m", large.arguments(args, encode), named, 1.0)


VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    args=st.lists(VALUES, max_size=5).map(tuple),
    kwargs=st.dictionaries(st.text(max_size=9), VALUES, max_size=4),
)
def test_a_call_comes_back(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """With large values in any place."""
    arrived = carried(call(*args, **kwargs))
    assert isinstance(arrived, Call)
    assert large.decode_args(arrived.args) == list(args)
    assert large.decode_kwargs(arrived.kwargs) == kwargs
    assert bytes(large.joined(arrived.args)) == encode(args)
    assert bytes(large.joined(arrived.kwargs)) == encode(kwargs)


@given(value=VALUES)
def test_a_result_and_an_item_come_back(value: Any) -> None:
    """With the annotated type, or as builtins."""
    for message in (
        Reply(1, large.result(value, encode)),
        Item(1, large.result(value, encode)),
    ):
        arrived = carried(message)
        assert isinstance(arrived, Reply | Item)
        raw = arrived.result if isinstance(arrived, Reply) else arrived.value
        assert large.decoded(msgspec.msgpack.Decoder().decode, raw) == value
        assert decode(large.joined(raw)) == value


def test_bytes_travel_uncopied() -> None:
    """The sent object is the author's, and the received one is the socket's."""
    data = bytes(range(20))
    frames = Packer().pack([Reply(1, large.result(data, encode))])
    assert frames[1] is data
    (arrived,) = large.unpack(frames, MOST)
    assert isinstance(arrived, Reply)
    for wanted in (bytes, Any):
        decoder = msgspec.msgpack.Decoder(wanted)
        assert large.decoded(decoder.decode, arrived.result) is data
    frames = Packer().pack([call(data, data)])
    assert frames[1] is frames[2] is data
    (taken,) = large.unpack(frames, MOST)
    assert isinstance(taken, Call)
    assert Method("m", _takes_two).bind(taken) == ((data, data), {})
    assert Method("m", _takes_two).bind(taken)[0][0] is data


def _takes_two(self: Any, a: bytes, b: Any = None) -> None: ...


def test_few_frames_follow_one_message() -> None:
    """Values beyond the bound stay in the batch."""
    values = tuple(bytes([n]) * 20 for n in range(FRAMES_MOST + 10))
    frames = sent(call(*values))
    assert len(frames) == 1 + FRAMES_MOST
    arrived = carried(call(*values))
    assert isinstance(arrived, Call)
    assert large.decode_args(arrived.args) == list(values)


def test_an_author_s_extension_type_is_no_place() -> None:
    """An extension type with our code is a value, beside frames and without them."""
    own = Ext(PLACE, encode(0))
    for value in ((own,), (own, b"x" * 20), (own, "x" * 20)):
        arrived = carried(call(*value, k=own))
        assert isinstance(arrived, Call)
        found = large.decode_args(arrived.args)
        assert isinstance(found[0], Ext)
        assert (found[0].code, found[0].data) == (PLACE, own.data)
        assert isinstance(large.decode_kwargs(arrived.kwargs)["k"], Ext)


def test_a_batch_that_cannot_be_encoded_leaves_no_frame_behind() -> None:
    """The next batch has its own frames alone."""
    packer = Packer()
    with pytest.raises(UnicodeEncodeError):
        packer.pack([Reply(1, Framed(b"x" * 20)), Call(2, "\ud800", NOTHING, EMPTY_MAP, 1.0)])
    assert len(packer.pack([messages.Done(3)])) == 1
    frames = packer.pack([Reply(4, Framed(b"y" * 20))])
    assert frames[1:] == [b"y" * 20]


def test_a_caller_without_frame_support_gets_one_piece() -> None:
    """A caller of an older release does not announce frames."""
    assert isinstance(large.result(b"x" * 20, encode), Framed)
    assert large.result(b"x" * 20, encode, False) == Raw(encode(b"x" * 20))
    older = [0, 1, "m", [], {}, 1.0, 0]
    assert not decode(encode(older), type=Call).frames


# --- validation of arguments --------------------------------------------------------------

DATA = b"0123456789" * 2
MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "annotation",
    [
        bytes,
        bytearray,
        memoryview,
        Any,
        str,
        int,
        bytes | None,
        bytes | int,
        list[bytes],
        dict[str, bytes],
        dict[int, bytes],
        Box,
        Box | None,
        datetime.datetime,
        msgspec.Raw,
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "value",
    [
        DATA,
        "A" * 20,
        [DATA, DATA],
        [DATA, "A" * 20],
        {"a": DATA},
        {1: DATA},
        {"data": DATA, "n": 3},
        {"data": DATA, "n": DATA},
        MOMENT,
        1,
        None,
    ],
    ids=lambda value: f"{value!r:.20}",
)
@pytest.mark.parametrize("named", [False, True])
def test_arguments_fit_as_without_frames(
    annotation: Any, value: Any, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By position and by name: the same values, or the same error text."""

    def takes(self: Any, first: Any, other: Any = None) -> None: ...

    takes.__annotations__["first"] = annotation
    method = Method("takes", takes)

    def outcome(message: messages.Data) -> Any:
        assert isinstance(message, Call)
        try:
            args, kwargs = method.bind(message)
        except InvalidArguments as error:
            return str(error)
        values = [*args, *kwargs.values()]
        if any(isinstance(one, Raw | memoryview) for one in values):
            return [bytes(one) if isinstance(one, Raw | memoryview) else one for one in values]
        return [(type(one), one) for one in values]

    def made() -> Call:
        return call(first=value, other=DATA) if named else call(value, DATA)

    with_frames = made()
    assert isinstance(with_frames.kwargs if named else with_frames.args, Framed)
    found = outcome(carried(with_frames))
    monkeypatch.setattr(large, "LARGE", 1000)
    assert found == outcome(carried(made()))


# --- forged -------------------------------------------------------------------------------


def forged(message: Any, *frames: bytes, count: int | None = None) -> list[bytes]:
    """Return frames that no client sends."""
    return [encode([message, Frames(len(frames) if count is None else count)]), *frames]


def place(at: Any) -> Raw:
    """Return a place in a batch."""
    return Raw(encode(Ext(PLACE, encode(at))))


NOTHING = Raw(encode([]))


@pytest.mark.parametrize(
    "frames",
    [
        forged(Reply(1, place(0)), b"x", count=2),
        forged(Reply(1, place(0)), b"x", b"y"),
        forged(Reply(1, place(1)), b"x"),
        forged(Reply(1, place(-2)), b"x"),
        forged(Reply(1, place(2**63)), b"x"),
        forged(Reply(1, place("x")), b"x"),
        forged(Reply(1, place([[[0, 0]], [None]])), b"x"),
        forged(Reply(1, Raw(encode(Ext(3, b"\0")))), b"x"),
        forged(Reply(1, Raw(encode(Ext(PLACE, b"")))), b"x"),
        forged(Reply(1, NOTHING), b"x"),
        forged(Call(1, "m", place(0), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", place([[[0, 0]], []]), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", place([[[-1, 0]], [None]]), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", place([[["a", 0]], [None]]), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", place([[[0, 0]], [7]]), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", place([[[0, 0], [1, 0]], [None, None]]), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", place([[[0, 0]], {}]), EMPTY_MAP, 1.0), b"x"),
        forged(Call(1, "m", NOTHING, place([[[0, 0]], [None]]), 1.0), b"x"),
        forged(messages.Done(1), b"x"),
        forged(Frames(1), b"x"),
        [encode([Reply(1, place(0))]), b"x"],
        [encode([]), b"x"],
        [encode([Reply(1, place(0)), Reply(2, NOTHING), Frames(1)]), b"x"],
        [b"", b"x"],
        [b"\xc1", b"x"],
        forged(Reply(1, place(0)), bytes(MOST)),
    ],
)
def test_forged_frames_are_rejected(frames: list[bytes]) -> None:
    """It is one class of error, whatever is wrong."""
    with pytest.raises(WireError):
        large.unpack(frames, MOST)


@settings(max_examples=examples(300))
@given(st.data())
def test_a_damaged_batch_is_refused_or_read(data: st.DataObject) -> None:
    """No other error is raised, by decoding it or its arguments."""
    frames = sent(call(1, DATA, "x" * 20, k=DATA))
    batch = bytearray(frames[0])
    for _ in range(data.draw(st.integers(1, 3))):
        batch[data.draw(st.integers(0, len(batch) - 1))] = data.draw(st.integers(0, 255))
    try:
        (message,) = large.unpack([bytes(batch), *frames[1:]], MOST)
    except WireError:
        return
    if isinstance(message, Call):
        with contextlib.suppress(InvalidArguments):
            Method("m", _takes_two).bind(message)
