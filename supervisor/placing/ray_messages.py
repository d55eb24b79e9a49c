"""What the supervisor and the program that speaks to Ray say to each other. Pure.

Each side sends all that it wants or knows, after each change: what was lost with the other side's
process is there again with the next message. A message is its length, four bytes, and its body.
"""

from typing import TypeVar

import msgspec

from garrison.ipc.messages import BAD_BYTES

LENGTH_BYTES = 4
MESSAGE_BYTES = 8 << 20  # the largest message; more is an error of the other side
LEAST_CPU = 0.001  # what a service without resources takes: Ray places nothing that takes nothing


class Want(msgspec.Struct, frozen=True):
    """One service, for which Ray is to hold resources."""

    service: str
    epoch: int
    resources: dict[str, float]
    node: str = ""  # only there; empty: anywhere
    holds: bool = False  # it runs there already: what Ray holds for it from before is kept
    prefer: str = ""  # there, if it has room; empty: it does not matter


class Wanted(msgspec.Struct, frozen=True):
    """All that is wanted of Ray."""

    services: tuple[Want, ...] = ()
    avoid: tuple[str, ...] = ()  # nodes on which nothing new is to be placed
    problems: dict[str, str] = {}  # node → why nothing starts there


class RayNode(msgspec.Struct, frozen=True):
    """A machine of the cluster."""

    id: str
    name: str = ""  # NAME of its node; empty: it has none
    problem: str = ""  # why it has none
    resources: dict[str, float] = {}


class Known(msgspec.Struct, frozen=True):
    """All that is known of Ray."""

    placed: dict[str, tuple[int, str]] = {}  # service → epoch, NAME of its node
    waits: dict[str, tuple[int, str]] = {}  # service → epoch, why it waits
    nodes: tuple[RayNode, ...] = ()
    devices: dict[str, tuple[int, ...]] = {}  # of placed services: numbers of their GPUs


T = TypeVar("T", Wanted, Known)


class MessageError(Exception):
    """The other side has sent something else than messages."""


def encoded(message: Wanted | Known) -> bytes:
    """Return a message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


class MessageReader:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        self._bytes += data

    def last(self, kind: type[T]) -> T | None:
        """Return the newest complete message; None: there is none.

        Raises:
            MessageError: It is no message.
        """
        found: T | None = None
        while len(self._bytes) >= LENGTH_BYTES:
            size = int.from_bytes(self._bytes[:LENGTH_BYTES], "big")
            if size > MESSAGE_BYTES:
                raise MessageError(f"a message of {size:,} bytes")
            if len(self._bytes) < LENGTH_BYTES + size:
                break
            body = bytes(self._bytes[LENGTH_BYTES : LENGTH_BYTES + size])
            del self._bytes[: LENGTH_BYTES + size]
            try:
                found = msgspec.msgpack.decode(body, type=kind)
            except BAD_BYTES as error:
                raise MessageError(str(error)) from None
        return found
