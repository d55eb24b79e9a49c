"""The flight recorder: a worker's last calls, in and out, in memory that survives its SIGKILL.

One process writes, into a file that it maps; whoever has the path reads it after the end, also
where that came in the middle of an entry. A call is one entry, which its end completes, so what
has no outcome was in flight. Sizes are bytes, times are wall clock.
"""

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

from . import messages
from .calls import Call
from .errors import CallError, RemoteError
from .flight_record import IN, LATE, OUT, UNKNOWN, FlightRecord, RecordedCall
from .messages import Framed, Token, Value

RING = 128  # calls; the last 64 messages are always among their beginnings and ends
KEPT = 256  # calls that are in flight for longer than that; more are only counted
VALUE_BYTES = 256  # of the arguments, and of the result, where values are recorded
VALUE_MOST = 4096  # a larger one is not looked at
NAMES_MOST = 4096  # callers and methods that are remembered as bytes
SUFFIX = ".flight"
MAGIC = b"GARFLT01"

_HEADER = struct.Struct("<8sIIIQ")  # magic, ring, kept, stride, calls without an entry
_BEGIN = struct.Struct("<QdQQB64s64s60xQ")  # number, began, id, size, kind, peer, method, number
_END = struct.Struct("<dQI40s")  # ended, size, items, outcome: the 60 bytes above
_NUMBER = struct.Struct("<Q")
_AT, _END_AT = 256, 161
_OUTCOME_AT = _END_AT + 20
_ENTRY = 232

OK, CANCELLED, REFUSED, DONE = b"ok", b"cancelled", b"refused", b"done"


class Recorder:
    """What one process has called and was called for.

    Belongs to its loop. Without a path, or where the file cannot be made, it records for nobody.
    Every call passes through here twice, so `called`, `answered`, `asked` and `settled` are written
    out rather than made of parts.

    Args:
        path: Of the file that is made; empty for none.
        naming: Returns the NAME that a token stands for, or an empty text.
    """

    _stride = _ENTRY

    def __init__(self, path: str = "", naming: Callable[[Token], str] = lambda token: "") -> None:
        self._naming = naming
        past = _AT + RING * self._stride
        size = past + KEPT * self._stride
        self.problem = ""
        try:
            self._map = _mapped(path, size)
        except OSError as error:  # a full disk stops no service
            self.problem = f"{path} cannot be made: {error.strerror}"
            self._map = mmap.mmap(-1, size)
        _HEADER.pack_into(self._map, 0, MAGIC, RING, KEPT, self._stride, 0)
        self._number = 0
        self._places = [_AT + n * self._stride for n in range(RING)]
        self._open: dict[tuple[Token, int], int] = {}  # calls that are served: their numbers
        self._items: dict[int, int] = {}  # of streams
        self._kept: dict[int, int] = {}  # entries that were moved: number → place
        self._free = [past + n * self._stride for n in reversed(range(KEPT))]
        self._without: set[int] = set()  # numbers of calls that found no place
        self._names: dict[Token, bytes] = {}
        self._methods: dict[str, bytes] = {}  # NAMEs of services, too

    # --- calls that this process serves -----------------------------------------------------

    def called(self, source: Token, call: messages.Call) -> int:
        """Note a call that came in; return its number, or 0 where it is there already."""
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
        return number

    def answered(self, to: Token, message: messages.Data) -> None:
        """Note what goes to a caller."""
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
        """Note that a caller no longer waits."""
        if number := self._open.pop((source, call_id), 0):
            self._end(number, CANCELLED)

    def caller_ended(self, source: Token) -> None:
        """Note that a caller is gone, with all that it waited for."""
        for key in [key for key in self._open if key[0] == source]:
            self._end(self._open.pop(key), CANCELLED)

    # --- calls that this process makes ------------------------------------------------------

    def asked(self, call: Call) -> int:
        """Note a call that goes out, or waits to; return its number."""
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
        """Note how a call that went out has ended; None is a cancellation."""
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
        """Note a stream's next value."""
        place = self.place_of(number)
        if number:
            self._items[number] = items = self._items.get(number, 0) + 1
            if place:
                _pack_end(self._map, place + _END_AT, _now(), len(value), items, b"")

    def close(self) -> None:
        """Let go of the memory; the file stays for whoever reads it."""
        self._map.close()

    # --- entries ----------------------------------------------------------------------------

    def place_of(self, number: int) -> int:
        """Return where a call's entry is; 0 where there is none."""
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
        """Move an entry out of the ring's way: its call is still in flight."""
        number: int = _NUMBER.unpack_from(self._map, place)[0]
        if not self._free:
            self._without.add(number)
            self._count()
            return
        kept = self._free.pop()
        self._map[kept : kept + self._stride] = self._map[place : place + self._stride]
        self._kept[number] = kept

    def _late(self, number: int) -> int:
        """Make a new entry for the end of a call whose first one has left the ring."""
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
        name = self._naming(token)
        peer = _as_bytes(name, 64) if name else UNKNOWN.encode() + token[:62]
        self._names[token] = peer
        return peer

    def _cut(self, text: str) -> bytes:
        if len(self._methods) >= NAMES_MOST:
            self._methods.clear()
        cut = self._methods[text] = _as_bytes(text, 64)
        return cut


class ValueRecorder(Recorder):
    """One that also has the first bytes of arguments and results.

    Args:
        path: Of the file that is made; empty for none.
        naming: Returns the NAME that a token stands for, or an empty text.
        redact: What each value passes through before it is cut.
    """

    _stride = _ENTRY + 2 * VALUE_BYTES

    def __init__(
        self,
        path: str = "",
        naming: Callable[[Token], str] = lambda token: "",
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        super().__init__(path, naming)
        self._redact = redact

    def called(self, source: Token, call: messages.Call) -> int:
        number = super().called(source, call)
        self._note(number, 0, call.args, call.kwargs)
        return number

    def asked(self, call: Call) -> int:
        number = super().asked(call)
        self._note(number, 0, call.args, call.kwargs)
        return number

    def answered(self, to: Token, message: messages.Data) -> None:
        if isinstance(message, messages.Reply):  # before its end, which may move it
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
        except Exception:  # noqa: BLE001 (a call is not lost for what is noted of it)
            shown = b"(not shown)"
        first = place + _ENTRY + part
        self._map[first : first + VALUE_BYTES] = shown.ljust(VALUE_BYTES, b"\0")


_pack, _pack_end, _now = _BEGIN.pack_into, _END.pack_into, time.time


def _mapped(path: str, size: int) -> mmap.mmap:
    if not path:
        return mmap.mmap(-1, size)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)  # on a full disk a hole in it would kill
        return mmap.mmap(descriptor, size)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _as_bytes(text: str, most: int) -> bytes:
    """Return text in so many bytes at most, cut between characters."""
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
    """Return a value as text; one that is no JSON, as what msgpack made of it."""
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


def read(path: Path) -> FlightRecord:
    """Return what was recorded; of a damaged file, what can be read. Raises nothing."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, 4 << 20))
    except OSError as error:
        return FlightRecord(problem=f"no messages were recorded: {error.strerror}")
    if len(data) < _AT:
        return FlightRecord(problem="no messages were recorded: the file is cut")
    magic, ring, kept, stride, without = _HEADER.unpack_from(data)
    if magic != MAGIC or not _ENTRY <= stride <= _ENTRY + 2 * VALUE_BYTES:
        return FlightRecord(problem="no messages were recorded: the file is of another format")
    found: dict[int, RecordedCall] = {}
    places = min((len(data) - _AT) // stride, ring + kept)
    for n in range(places):
        noted = _read_entry(data, _AT + n * stride, stride > _ENTRY)
        if noted is not None:
            found[noted.number] = noted
    whole = places == ring + kept
    cut = "" if whole else "the file of messages is cut: some are missing"
    return FlightRecord(tuple(found[n] for n in sorted(found)), min(without, 1 << 20), cut)


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


def _is_time(seconds: Any) -> bool:
    return isfinite(seconds) and 0 <= seconds < 1e11


def _peer(field: bytes) -> str:
    if field.startswith(UNKNOWN.encode()):
        return UNKNOWN + field[1:].rstrip(b"\0").hex()
    return _text(field)


def _text(field: bytes) -> str:
    text = field.rstrip(b"\0").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "�" for c in text)
