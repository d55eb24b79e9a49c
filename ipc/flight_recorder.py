"""The flight recorder: a worker's last calls, in and out, in a file that survives its SIGKILL.

One process writes to the file through a memory map; another reads it after that process ended, even
in the middle of an entry. A call is one entry, completed when the call ends, so an entry without an
outcome was in flight. Sizes are bytes, times are wall clock.
"""

import functools
import mmap
import os
import struct
import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from . import batches_read, messages
from .call_state import OpenCall
from .errors import CallError, RemoteError
from .flight_record import IN, LATE, OUT, UNKNOWN, RecordedCall, RecordedCalls
from .messages import Framed, Token, Value
from .tracing import trace_id

RING = 128  # calls; their begins and ends include the last 64 messages
KEPT = 256  # calls in flight that left the ring; more are only counted
VALUE_BYTES = 256  # of the arguments, and of the result, if values are recorded
VALUE_MOST = 4096  # a larger value is not decoded
NAMES_MOST = 4096  # callers and methods whose encoding is cached
SUFFIX = ".flight"
MAGIC = b"GARFLT01"

_HEADER = struct.Struct("<8sIIIQ")  # magic, ring, kept, stride, calls without an entry
_BEGIN = struct.Struct("<QdQQB64s64s60xQ")  # number, began, id, size, kind, peer, method, number
_END = struct.Struct("<dQI40s")  # ended, size, items, outcome: the 60 bytes above
_NUMBER = struct.Struct("<Q")
_TRACED = struct.Struct("<I")  # how many calls have room for a trace's id; 0 of former versions
_TRACE = struct.Struct("<Q16s")  # a call's number, and the id of its trace
_TURNED = struct.Struct("@Q")  # when the loop turned last, monotonic ns; one store, never half
_TRACED_AT, _TURNED_AT, _AT, _END_AT = 32, 40, 256, 161
_OUTCOME_AT = _END_AT + 20
_ENTRY = 232

OK, CANCELLED, REFUSED, DONE = b"ok", b"cancelled", b"refused", b"done"


@functools.cache
def _places(stride: int) -> tuple[int, ...]:
    """Return where the ring's entries are. A worker inherits it."""
    return tuple(range(_AT, _AT + RING * stride, stride))


_places(_ENTRY)


class Recorder:
    """Records the calls that one process makes and serves. It belongs to that process's loop.

    Without a path, or if the file cannot be created, it writes to memory alone. Every call passes
    through here twice, so `received`, `answered`, `started` and `settled` are inlined by hand.

    Args:
        path: Of the file to create; empty for none.
        name_of: Returns the NAME of a token, or an empty string.
    """

    _stride = _ENTRY

    def __init__(self, path: str = "", name_of: Callable[[Token], str] = lambda token: "") -> None:
        self._name_of = name_of
        past = _AT + RING * self._stride
        self._traces = past + KEPT * self._stride
        size = self._traces + (RING + KEPT) * _TRACE.size + batches_read.SIZE
        self.problem = ""
        try:
            self._map = _mapped(path, size)
        except OSError as error:  # a full disk must not stop a service
            self.problem = f"{path} cannot be created: {error.strerror}"
            self._map = mmap.mmap(-1, size)
        _HEADER.pack_into(self._map, 0, MAGIC, RING, KEPT, self._stride, 0)
        _TRACED.pack_into(self._map, _TRACED_AT, RING + KEPT)
        self.batches = batches_read.BatchesRead(self._map)
        self._number = 0
        self._places = _places(self._stride)
        self._open: dict[tuple[Token, int], int] = {}  # calls that are served → their numbers
        self._items: dict[int, int] = {}  # items of streams
        self._kept: dict[int, int] = {}  # entries that left the ring: number → place
        self._unused = iter(range(past, self._traces, self._stride))  # places besides the ring
        self._free: list[int] = []  # those that were used before
        self._without: set[int] = set()  # numbers of calls for which there was no room
        self._names: dict[Token, bytes] = {}
        self._methods: dict[str, bytes] = {}  # also NAMEs of services

    def note_turn(self) -> None:
        """Note that the loop turns, for `read_turn` of another process."""
        _TURNED.pack_into(self._map, _TURNED_AT, time.monotonic_ns())

    # --- calls that this process serves -----------------------------------------------------

    def received(self, source: Token, call: messages.Call) -> int:
        """Record a call that arrived; return its number, or 0 if it is recorded already."""
        call_id = call.id
        number = self._number + 1
        if self._open.setdefault((source, call_id), number) != number:
            return 0
        self._number = number
        try:
            peer = self._names[source]
        except KeyError:
            peer = self._name(source)
        try:
            method = self._methods[call.method]
        except KeyError:
            method = self._cut(call.method)
        place = self._places[number % RING]
        if number > RING and not self._map[place + _OUTCOME_AT]:
            self._keep(place)
        size = len(call.args) + len(call.kwargs)
        _pack(self._map, place, number, _now(), call_id, size, IN, peer, method, number)
        if call.trace:
            self._note_trace(place, number, call.trace)
        return number

    def answered(self, to: Token, message: messages.Data) -> None:
        """Record a message to a caller."""
        if type(message) is messages.Reply:
            number = self._open.pop((to, message.id), 0)
            if self._number - number < RING and number:
                place = self._places[number % RING] + _END_AT
                _pack_end(self._map, place, _now(), len(message.result), 0, OK)
            elif number:
                self._end(number, OK, len(message.result))
        elif isinstance(message, messages.Item):
            self.item(self._open.get((to, message.id), 0), message.value)
        elif isinstance(message, messages.Failed | messages.Done | messages.Refused):
            number = self._open.pop((to, message.id), 0)
            if number:
                self._end(number, _outcome(message))

    def cancelled(self, source: Token, call_id: int) -> None:
        """Record that a caller cancelled a call."""
        if number := self._open.pop((source, call_id), 0):
            self._end(number, CANCELLED)

    def caller_ended(self, source: Token) -> None:
        """Record that a caller ended, which cancels its calls."""
        self.batches.forget(source)
        for key in [key for key in self._open if key[0] == source]:
            self._end(self._open.pop(key), CANCELLED)

    # --- calls that this process makes ------------------------------------------------------

    def started(self, call: OpenCall) -> int:
        """Record a call that this process makes; return its number."""
        try:
            peer, method = self._methods[call.name], self._methods[call.method]
        except KeyError:
            peer, method = self._cut(call.name), self._cut(call.method)
        number = self._number = self._number + 1
        place = self._places[number % RING]
        if number > RING and not self._map[place + _OUTCOME_AT]:
            self._keep(place)
        _pack(self._map, place, number, _now(), call.id, call.size, OUT, peer, method, number)
        return number

    def settled(self, number: int, outcome: Value | CallError | None) -> None:
        """Record the outcome of a call that this process made; None: it was cancelled."""
        if type(outcome) is Raw:
            if self._number - number < RING and not self._items:
                place = self._places[number % RING] + _END_AT
                _pack_end(self._map, place, _now(), len(outcome), 0, OK)
            else:
                self._end(number, OK, len(outcome))
        elif outcome is None:
            self._end(number, CANCELLED)
        elif isinstance(outcome, Framed):
            self._end(number, OK, len(outcome))
        elif isinstance(outcome, RemoteError):
            self._end(number, _as_bytes(f"RemoteError {outcome.type_name}", 40))
        else:
            self._end(number, type(outcome).__name__.encode())

    def item(self, number: int, value: Value) -> None:
        """Record the next item of a stream."""
        place = self.place_of(number)
        if number:
            self._items[number] = items = self._items.get(number, 0) + 1
            if place:
                _pack_end(self._map, place + _END_AT, _now(), len(value), items, b"")

    def close(self) -> None:
        """Unmap the file, which stays."""
        self.batches.close()
        self._map.close()

    # --- entries ----------------------------------------------------------------------------

    def place_of(self, number: int) -> int:
        """Return the place of a call's entry; 0: it has none."""
        if self._number - number < RING:
            return self._places[number % RING] if number else 0
        return self._kept.get(number, 0)

    def _end(self, number: int, outcome: bytes, size: int = 0) -> None:
        items = self._items.pop(number, 0) if self._items else 0
        place = self._places[number % RING]
        if self._number - number >= RING and not (place := self._late(number)):
            return
        _pack_end(self._map, place + _END_AT, _now(), size, items, outcome)

    def _keep(self, place: int) -> None:
        """Move an entry out of the ring, because its call is still in flight."""
        number: int = _NUMBER.unpack_from(self._map, place)[0]
        kept = self._free.pop() if self._free else next(self._unused, 0)
        if not kept:
            self._without.add(number)
            self._count()
            return
        self._map[kept : kept + self._stride] = self._map[place : place + self._stride]
        before, after = self._trace_place(place), self._trace_place(kept)
        self._map[after : after + _TRACE.size] = self._map[before : before + _TRACE.size]
        self._kept[number] = kept

    def _note_trace(self, place: int, number: int, trace: str) -> None:
        found = bytes.fromhex(trace_id(trace))
        _TRACE.pack_into(self._map, self._trace_place(place), number if found else 0, found)

    def _trace_place(self, place: int) -> int:
        return self._traces + (place - _AT) // self._stride * _TRACE.size

    def _late(self, number: int) -> int:
        """Create an entry for the end of a call whose first entry has left the ring."""
        kept = self._kept.pop(number, 0)
        if not kept:
            if number in self._without:
                self._without.discard(number)
                self._count()
            return 0
        entry = bytearray(self._map[kept : kept + self._stride])
        self._map[kept : kept + _NUMBER.size] = bytes(_NUMBER.size)
        self._free.append(kept)
        number = self._number = self._number + 1
        place = self._places[number % RING]
        if not self._map[place + _OUTCOME_AT]:
            self._keep(place)
        entry[:8] = entry[221:229] = _NUMBER.pack(number)
        entry[32] |= LATE
        self._map[place : place + self._stride] = bytes(entry)
        return place

    def _count(self) -> None:
        _HEADER.pack_into(self._map, 0, MAGIC, RING, KEPT, self._stride, len(self._without))

    def _name(self, token: Token) -> bytes:
        if len(self._names) >= NAMES_MOST:
            self._names.clear()
        name = self._name_of(token)
        peer = _as_bytes(name, 64) if name else UNKNOWN.encode() + token[:62]
        self._names[token] = peer
        return peer

    def _cut(self, text: str) -> bytes:
        if len(self._methods) >= NAMES_MOST:
            self._methods.clear()
        cut = self._methods[text] = _as_bytes(text, 64)
        return cut


class ValueRecorder(Recorder):
    """Also records the first bytes of arguments and results.

    Args:
        path: Of the file to create; empty for none.
        name_of: Returns the NAME of a token, or an empty string.
        redact: Removes secrets from a value before it is truncated.
    """

    _stride = _ENTRY + 2 * VALUE_BYTES

    def __init__(
        self,
        path: str = "",
        name_of: Callable[[Token], str] = lambda token: "",
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        super().__init__(path, name_of)
        self._redact = redact

    def received(self, source: Token, call: messages.Call) -> int:
        number = super().received(source, call)
        self._note(number, 0, call.args, call.kwargs)
        return number

    def started(self, call: OpenCall) -> int:
        number = super().started(call)
        self._note(number, 0, call.args, call.kwargs)
        return number

    def answered(self, to: Token, message: messages.Data) -> None:
        if isinstance(
            message, messages.Reply
        ):  # before the end is recorded, which may move the entry
            self._note(self._open.get((to, message.id), 0), VALUE_BYTES, message.result)
        super().answered(to, message)

    def settled(self, number: int, outcome: Value | CallError | None) -> None:
        if isinstance(outcome, Raw | Framed) and outcome:
            self._note(number, VALUE_BYTES, outcome)
        super().settled(number, outcome)

    def item(self, number: int, value: Value) -> None:
        super().item(number, value)
        self._note(number, VALUE_BYTES, value)

    def _note(self, number: int, part: int, *values: Value) -> None:
        place = self.place_of(number)
        if not place:
            return
        text = " ".join(_shown(value) for value in values if value != messages.EMPTY_MAP)
        try:
            shown = _as_bytes(self._redact(text), VALUE_BYTES)
        except Exception:  # noqa: BLE001 (recording must not fail a call)
            shown = b"(not shown)"
        first = place + _ENTRY + part
        self._map[first : first + VALUE_BYTES] = shown.ljust(VALUE_BYTES, b"\0")


_pack, _pack_end, _now = _BEGIN.pack_into, _END.pack_into, time.time


def _mapped(path: str, size: int) -> mmap.mmap:
    if not path:
        return mmap.mmap(-1, size)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(
            descriptor, 0, size
        )  # on a full disk, a write to a hole would end this process
        return mmap.mmap(descriptor, size)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _as_bytes(text: str, most: int) -> bytes:
    """Return text as at most that many bytes, truncated between characters."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= most:
        return encoded
    return encoded[: most - 3].decode("utf-8", "ignore").encode() + "…".encode()


def _outcome(message: messages.Failed | messages.Done | messages.Refused) -> bytes:
    if isinstance(message, messages.Done):
        return DONE
    if isinstance(message, messages.Refused):
        return REFUSED
    fault = message.fault
    if fault.kind != "RemoteError":
        return _as_bytes(fault.kind, 40)
    return _as_bytes(f"RemoteError {fault.detail.partition(':')[0]}", 40)


def _shown(part: Value) -> str:
    """Return a value as JSON, or as its repr if it is none."""
    if isinstance(part, Framed) or len(part) > VALUE_MOST:
        return f"({len(part)} bytes)"
    try:
        value = msgspec.msgpack.decode(part)
    except Exception:  # noqa: BLE001 (whatever a service sends)
        return f"({len(part)} bytes, unreadable)"
    try:
        return msgspec.json.encode(value).decode()
    except Exception:  # noqa: BLE001 (a map whose keys are no text, and the like)
        return repr(value)


# --- reading ------------------------------------------------------------------------------


def read(path: Path) -> RecordedCalls:
    """Return what was recorded; of a damaged file, what is readable. Never raises."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, 4 << 20))
    except OSError as error:
        return RecordedCalls(problem=f"no messages were recorded: {error.strerror}")
    if len(data) < _AT:
        return RecordedCalls(problem="no messages were recorded: the file is cut")
    magic, ring, kept, stride, without = _HEADER.unpack_from(data)
    if magic != MAGIC or not _ENTRY <= stride <= _ENTRY + 2 * VALUE_BYTES:
        return RecordedCalls(problem="no messages were recorded: the file is of another format")
    found: dict[int, RecordedCall] = {}
    places = min((len(data) - _AT) // stride, ring + kept)
    (traced,) = _TRACED.unpack_from(data, _TRACED_AT)
    for n in range(places):
        entry = _read_entry(data, _AT + n * stride, stride > _ENTRY)
        if entry is not None:
            trace = _read_trace(data, _AT + traced * stride + n * _TRACE.size, entry.number)
            found[entry.number] = replace(entry, trace=trace) if traced and trace else entry
    whole = places == ring + kept
    cut = "" if whole else "the file of messages is cut: some are missing"
    return RecordedCalls(tuple(found[n] for n in sorted(found)), min(without, 1 << 20), cut)


def read_turn(path: Path) -> float | None:
    """Return when the loop of a process turned last, in monotonic seconds; None: it is unknown."""
    try:
        with path.open("rb") as file:
            data = os.pread(file.fileno(), _TURNED.size, _TURNED_AT)
    except OSError:
        return None
    return _TURNED.unpack(data)[0] / 1e9 or None if len(data) == _TURNED.size else None


def _read_entry(data: bytes, place: int, values: bool) -> RecordedCall | None:
    number, began, call, size, kind, peer, method, again = _BEGIN.unpack_from(data, place)
    ended, result_size, items, outcome = _END.unpack_from(data, place + _END_AT)
    torn = number != again or number == 0
    if torn or kind & ~LATE not in {IN, OUT} or not (_is_time(began) and _is_time(ended)):
        return None
    args = result = ""
    if values:
        first = place + _ENTRY
        args = _text(data[first : first + VALUE_BYTES])
        result = _text(data[first + VALUE_BYTES : first + 2 * VALUE_BYTES])
    return RecordedCall(
        number,
        kind,
        _peer(peer),
        _text(method),
        call,
        began,
        size,
        ended,
        result_size,
        items,
        _text(outcome),
        args,
        result,
    )


def _read_trace(data: bytes, place: int, number: int) -> str:
    """Return the id of a call's trace; empty: it has none."""
    if place + _TRACE.size > len(data):
        return ""
    of, found = _TRACE.unpack_from(data, place)
    return found.hex() if of == number else ""


def _is_time(seconds: Any) -> bool:
    return isfinite(seconds) and 0 <= seconds < 1e11


def _peer(field: bytes) -> str:
    if field.startswith(UNKNOWN.encode()):
        return UNKNOWN + field[1:].rstrip(b"\0").hex()
    return _text(field)


def _text(field: bytes) -> str:
    text = field.rstrip(b"\0").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "�" for c in text)
