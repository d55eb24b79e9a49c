"""Large values travel as frames of their own: taken out of their message, and put back. Pure.

A message that has a `Large` where a `Raw` would be leaves as `[batch][frame …]`: in the batch
stands the number of the frame instead, and a `Frames` behind the message tells how many follow.
The router carries them uncopied; at both ends `bytes` are what the socket takes and gives.
Sizes are bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw
from msgspec.msgpack import Ext

from .errors import WireError
from .messages import (
    BAD_BYTES,
    Call,
    Data,
    Frame,
    Framed,
    Frames,
    Item,
    Reply,
    Value,
    decode_data,
)

LARGE = 1 << 20  # from here on a value is a frame; below it, one more frame costs more than copying
LENT = 4 << 20  # from here on a frame is better lent to libzmq, where a thread may be, than copied
FRAMES_MOST = 60  # of one message; what is beyond them stays in the batch
PLACE = 103  # our code of msgpack's extension types, where a frame's number stands

Encode: TypeAlias = Callable[[Any], bytes]
_Place: TypeAlias = int  # n: `bytes`, the frame n as it is; ~n: what the frame n is the encoding of


class _Apart(msgspec.Struct, array_like=True, frozen=True):
    """Arguments of which some are frames; in `rest` is nil for each of them."""

    places: list[tuple[int | str, _Place]]
    rest: Raw


_encode = msgspec.msgpack.Encoder().encode
_listed = msgspec.msgpack.Decoder(list[Raw]).decode
_mapped = msgspec.msgpack.Decoder(dict[str, Raw]).decode
_ext = msgspec.msgpack.Decoder(Ext).decode
_place = msgspec.msgpack.Decoder(int | _Apart).decode
_NIL = Raw(b"\xc0")
_EXTENSIONS = frozenset({0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)})  # first bytes of msgpack's


# --- on the way out -----------------------------------------------------------------------


def arguments(given: tuple[Any, ...] | dict[str, Any], encode: Encode) -> Value:
    """Return arguments as they travel. Raises what `encode` does."""
    for value in given.values() if type(given) is dict else given:
        if type(value) is bytes and len(value) >= LARGE:
            return _apart(given, encode)
    return _encoded(encode(given))


def result(value: Any, encode: Encode, frames: bool = True) -> Value:
    """Return a result, or an item of a stream, as it travels to who takes frames, or does not.
    Raises what `encode` does."""
    if not frames:
        return Raw(encode(value))
    if type(value) is bytes and len(value) >= LARGE:
        return Framed(value)
    return _encoded(encode(value))


def _encoded(encoded: bytes) -> Value:
    return Raw(encoded) if len(encoded) < LARGE else Framed(Raw(encoded))


def _apart(given: tuple[Any, ...] | dict[str, Any], encode: Encode) -> Framed:
    def part(value: Any) -> Frame:
        return value if type(value) is bytes and len(value) >= LARGE else Raw(encode(value))

    if isinstance(given, dict):
        return Framed({name: part(value) for name, value in given.items()})
    return Framed([part(value) for value in given])


class Packer:
    """Makes frames of batches. Belongs to one thread."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._leave_out).encode

    def pack(self, batch: list[Any]) -> list[Any]:
        """Return a batch's bytes, and the frames that follow it."""
        self._frames = []  # of a batch that could not be encoded
        encoded = self._encode(batch)
        if not self._frames:
            return [encoded]
        count = Frames(len(self._frames))
        self._frames = []
        encoded = self._encode([*batch, count])
        frames, self._frames = self._frames, []
        return [encoded, *frames]

    def _leave_out(self, large: Framed) -> Any:
        """Return what stands in the batch for what is a frame of its own."""
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


# --- on the way in ------------------------------------------------------------------------


def unpack(frames: Sequence[bytes], most: int) -> list[Data]:
    """Return the one message that came with frames of its own.

    Args:
        frames: The batch, and what follows it.
        most: How large all of it may be.

    Raises:
        WireError: It is none of ours.
    """
    batch, blobs = frames[0], frames[1:]
    try:
        message, count = decode_data(batch)
        if not isinstance(count, Frames) or count.count != len(blobs):
            raise WireError("it tells of other frames", batch)
        if sum(map(len, frames)) > most:
            raise WireError(f"all its frames have more than {most} bytes", batch)
        whole = _put_back(message, _Blobs(blobs))
    except (*BAD_BYTES, LookupError, TypeError) as error:
        raise WireError(str(error), batch) from error
    return [whole]


class _Blobs:
    """The frames of one message: each is taken once, and in the end all are."""

    def __init__(self, frames: Sequence[bytes]) -> None:
        self._frames = dict(enumerate(frames))

    def __bool__(self) -> bool:
        return bool(self._frames)

    def at(self, place: _Place) -> Frame:
        """Return what stands for a place. Raises LookupError."""
        return self._frames.pop(place) if place >= 0 else Raw(self._frames.pop(~place))

    def value(self, raw: Any) -> Value:
        """Return the value that a frame is."""
        place = _place_in(raw)
        if not isinstance(place, int):
            raise LookupError("a single value has no parts")
        found = self.at(place)
        return Framed(found) if type(found) is bytes else Raw(found)

    def arguments(self, raw: Any, named: bool) -> Value:
        """Return arguments with those that are frames, if any are."""
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
        raise LookupError(f"{ext.code} is no code of ours")
    place: _Place | _Apart = _place(ext.data)
    return place


def _put_back(message: Data, blobs: _Blobs) -> Data:
    whole: Data
    match message:
        case Call(id, method, args, kwargs, timeout, credit, taken):
            args, kwargs = blobs.arguments(args, False), blobs.arguments(kwargs, True)
            whole = Call(id, method, args, kwargs, timeout, credit, taken)
        case Reply(id, result):
            whole = Reply(id, blobs.value(result))
        case Item(id, value):
            whole = Item(id, blobs.value(value))
        case _:
            raise LookupError(f"a {type(message).__name__} has no frames")
    if blobs:
        raise LookupError("a frame belongs nowhere")
    return whole


# --- for who takes it ---------------------------------------------------------------------


def joined(value: Value) -> Raw:
    """Return a value's encoding, in one piece."""
    return value.joined() if isinstance(value, Framed) else value


def decoded(decode: Callable[[Any], Any], value: Value) -> Any:
    """Return what a decoder makes of a value. Raises what it does."""
    if not isinstance(value, Framed):
        return decode(value)
    # A decoder of anything, or of bytes, would make these very bytes, by copying them.
    wanted = getattr(getattr(decode, "__self__", None), "type", None)
    if type(value.value) is bytes and (wanted is Any or wanted is bytes):
        return value.value
    return decode(value.joined())


def decode_args(args: Value) -> list[Any]:
    """Return positional arguments as builtins. Raises what decoding does."""
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
