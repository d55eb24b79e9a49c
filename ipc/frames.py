"""Moves large values out of a message into frames of their own, and back. Pure.

A message with a `Framed` in place of a `Raw` is sent as `[batch][frame …]`. In the batch, a number
stands for the frame, and a `Frames` behind the message has their count. The router forwards frames
without copying them. Sizes are bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, assert_never

import msgspec
from msgspec import Raw
from msgspec.msgpack import Ext

from .errors import WireError
from .messages import (
    BAD_BYTES,
    Barrier,
    Call,
    Cancel,
    Credit,
    Data,
    Done,
    Ended,
    Failed,
    Frame,
    Framed,
    Frames,
    Item,
    Passed,
    Refused,
    Reply,
    Sync,
    Synced,
    Value,
    decode_data,
)

LARGE = 1 << 20  # from this size a value is a frame; below it, a frame costs more than a copy
LENT = 4 << 20  # from this size lending a frame to libzmq, on a node, is faster than a copy
FRAMES_MOST = 60  # of one message; further values stay in the batch
PLACE = 103  # our code of msgpack's extension types: a frame's number

Encode: TypeAlias = Callable[[Any], bytes]
_Place: TypeAlias = int  # n: the bytes of frame n; ~n: the value that frame n encodes


class _Apart(msgspec.Struct, array_like=True, frozen=True):
    """Arguments of which some are frames; `rest` has nil in their place."""

    places: list[tuple[int | str, _Place]]
    rest: Raw


_encode = msgspec.msgpack.Encoder().encode
_listed = msgspec.msgpack.Decoder(list[Raw]).decode
_mapped = msgspec.msgpack.Decoder(dict[str, Raw]).decode
_ext = msgspec.msgpack.Decoder(Ext).decode
_place = msgspec.msgpack.Decoder(int | _Apart).decode
_NIL = Raw(b"\xc0")
_EXTENSIONS = frozenset({0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)})  # first bytes of extension types


# --- sending ------------------------------------------------------------------------------


def arguments(given: tuple[Any, ...] | dict[str, Any], encode: Encode) -> Value:
    """Encode arguments, large ones as frames. Raises what `encode` raises."""
    for value in given.values() if type(given) is dict else given:
        if type(value) is bytes and len(value) >= LARGE:
            return _apart(given, encode)
    encoded = encode(given)
    return Raw(encoded) if len(encoded) < LARGE else Framed(Raw(encoded))


def result(value: Any, encode: Encode, frames: bool = True) -> Value:
    """Encode a result, or an item of a stream, for a peer with or without frame support.

    Raises what `encode` raises.
    """
    if not frames:
        return Raw(encode(value))
    if type(value) is bytes and len(value) >= LARGE:
        return Framed(value)
    encoded = encode(value)
    return Raw(encoded) if len(encoded) < LARGE else Framed(Raw(encoded))


def _apart(given: tuple[Any, ...] | dict[str, Any], encode: Encode) -> Framed:
    def part(value: Any) -> Frame:
        return value if type(value) is bytes and len(value) >= LARGE else Raw(encode(value))

    if isinstance(given, dict):
        return Framed({name: part(value) for name, value in given.items()})
    return Framed([part(value) for value in given])


class Packer:
    """Encodes batches as frames. It belongs to one thread."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._leave_out).encode

    def pack(self, batch: list[Any]) -> list[Any]:
        """Return a batch's bytes, and the frames that follow it."""
        self._frames = []  # those of a batch that could not be encoded
        encoded = self._encode(batch)
        if not self._frames:
            return [encoded]
        count = Frames(len(self._frames))
        self._frames = []
        encoded = self._encode([*batch, count])
        frames, self._frames = self._frames, []
        return [encoded, *frames]

    def _leave_out(self, large: Framed) -> Any:
        """Return what takes a value's place in the batch."""
        value = large.value
        if isinstance(value, list):
            rest, places = self._parts(list(enumerate(value)))
            apart = _Apart(places, Raw(_encode([part for _, part in rest])))
        elif isinstance(value, dict):
            rest, places = self._parts(list(value.items()))
            apart = _Apart(places, Raw(_encode(dict(rest))))
        else:
            place = self._frame(value)
            return value if place is None else Ext(PLACE, _encode(place))
        return Ext(PLACE, _encode(apart)) if places else apart.rest

    def _parts(
        self, parts: Sequence[tuple[int | str, Frame]]
    ) -> tuple[list[tuple[int | str, Frame]], list[tuple[int | str, _Place]]]:
        rest: list[tuple[int | str, Frame]] = []
        places: list[tuple[int | str, _Place]] = []
        for key, part in parts:
            place = self._frame(part) if len(part) >= LARGE else None
            rest.append((key, part if place is None else _NIL))
            if place is not None:
                places.append((key, place))
        return rest, places

    def _frame(self, value: Frame) -> _Place | None:
        number = len(self._frames)
        if number >= FRAMES_MOST:
            return None
        self._frames.append(value)
        return number if isinstance(value, bytes) else ~number


# --- receiving ----------------------------------------------------------------------------


def unpack(frames: Sequence[bytes], max_message: int) -> list[Data]:
    """Return the one message that has frames of its own.

    Args:
        frames: The batch, and the frames that follow it.
        max_message: Bytes of all of them.

    Raises:
        WireError: They are no valid message.
    """
    batch, blobs = frames[0], frames[1:]
    try:
        message, count = decode_data(batch)
        if not isinstance(count, Frames) or count.count != len(blobs):
            raise WireError("its count of frames is wrong", batch)
        if sum(map(len, frames)) > max_message:
            raise WireError(f"its frames have more than {max_message} bytes", batch)
        whole = _put_back(message, _Blobs(blobs))
    except (*BAD_BYTES, LookupError, TypeError) as error:
        raise WireError(str(error), batch) from error
    return [whole]


class _Blobs:
    """The frames of one message. Each must be used exactly once."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = dict(enumerate(frames))

    def __bool__(self) -> bool:
        return bool(self._frames)

    def at(self, place: _Place) -> Frame:
        """Return the frame of a place. Raises LookupError."""
        return self._frames.pop(place) if place >= 0 else Raw(self._frames.pop(~place))

    def value(self, raw: Any) -> Value:
        """Return the value that stands in a frame."""
        place = _place_in(raw)
        if not isinstance(place, int):
            raise LookupError("a single value has no parts")
        found = self.at(place)
        return Framed(found) if type(found) is bytes else Raw(found)

    def arguments(self, raw: Any, named: bool) -> Value:
        """Return arguments with their frames, if there are any."""
        if memoryview(raw)[0] not in _EXTENSIONS:
            plain: Raw = raw
            return plain
        place = _place_in(raw)
        if isinstance(place, int):
            if place >= 0:
                raise LookupError("bytes are no arguments")
            return Raw(self.at(place))
        parts: Any = _mapped(place.rest) if named else _listed(place.rest)
        for key, one in place.places:
            if parts[key] != _NIL or (isinstance(key, int) and key < 0):
                raise LookupError(f"{key!r} is no place for a frame")
            parts[key] = self.at(one)
        return Framed(parts)


def _place_in(raw: Raw) -> _Place | _Apart:
    ext = _ext(raw)
    if ext.code != PLACE:
        raise LookupError(f"{ext.code} is not the code of a place")
    place: _Place | _Apart = _place(ext.data)
    return place


def _put_back(message: Data, blobs: _Blobs) -> Data:
    whole: Data
    match message:
        case Call(args=args, kwargs=kwargs):
            args, kwargs = blobs.arguments(args, False), blobs.arguments(kwargs, True)
            whole = msgspec.structs.replace(message, args=args, kwargs=kwargs)
        case Reply(id, result):
            whole = Reply(id, blobs.value(result))
        case Item(id, value):
            whole = Item(id, blobs.value(value))
        case (
            Failed()
            | Refused()
            | Cancel()
            | Done()
            | Credit()
            | Ended()
            | Frames()
            | Sync()
            | Synced()
            | Barrier()
            | Passed()
        ):
            raise LookupError(f"a {type(message).__name__} has no frames")
        case _:
            assert_never(message)
    if blobs:
        raise LookupError("a frame is not used")
    return whole


# --- decoding -----------------------------------------------------------------------------


def joined(value: Value) -> Raw:
    """Return a value's encoding, in one piece."""
    return value.joined() if isinstance(value, Framed) else value


def decoded(decode: Callable[[Any], Any], value: Value) -> Any:
    """Decode a value. Raises what the decoder raises."""
    if not isinstance(value, Framed):
        return decode(value)
    # A decoder of Any or bytes would return the same bytes, but copied.
    wanted = getattr(getattr(decode, "__self__", None), "type", None)
    if type(value.value) is bytes and (wanted is Any or wanted is bytes):
        return value.value
    return decode(value.joined())


def decode_args(args: Value) -> list[Any]:
    """Return positional arguments as builtins. Raises what decoding raises."""
    if isinstance(args, Framed) and isinstance(args.value, list):
        return [_built(part) for part in args.value]
    found: list[Any] = msgspec.msgpack.decode(joined(args), type=list[Any])
    return found


def decode_kwargs(kwargs: Value) -> dict[str, Any]:
    """Return named arguments likewise."""
    if isinstance(kwargs, Framed) and isinstance(kwargs.value, dict):
        return {name: _built(part) for name, part in kwargs.value.items()}
    found: dict[str, Any] = msgspec.msgpack.decode(joined(kwargs), type=dict[str, Any])
    return found


def _built(part: Frame) -> Any:
    return part if type(part) is bytes else msgspec.msgpack.decode(part)
