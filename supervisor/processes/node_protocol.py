"""Messages between the supervisor and a node's process, over one connection. Pure.

Each message is two frames: a header and a body. A message that must not be lost has a number, and
is kept until the other side has received it, see `node_stream`; number 0 is a message that is not
repeated. Tags are never used twice; a new field comes last and has a default. Durations are
seconds, sizes are bytes.
"""

from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from garrison.ipc.errors import WireError
from garrison.ipc.messages import BAD_BYTES
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle

from . import engine
from .engine import Happened, Key, Measured

VERSION = 1  # of this protocol
INSTANCE_BYTES = 8
SESSION_BYTES = 8
NO_SESSION = b""


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What stands before each message."""

    session: bytes  # of one supervisor with one process of the node; empty: there is none yet
    number: int = 0  # of the message; 0: it is not repeated
    received: int = 0  # the last number that the sender has received in this session


# --- from the supervisor ------------------------------------------------------------------


class KnownWorker(msgspec.Struct, frozen=True):
    """A worker that the supervisor knows to be on the node."""

    key: Key
    name: str
    handle: Handle


class Adopt(msgspec.Struct, tag="adopt", frozen=True):
    """A session begins: the node's process is accepted. Answered by Inventory."""

    lease: float  # for which the node runs on without contact
    orphan_grace: float  # for which workers outlive the node's process
    cgroups: bool  # whether each worker has a cgroup of its own
    log_bytes: int  # that the node keeps of each log until they are sent
    modules: tuple[str, ...] = ()  # to preload
    known: tuple[KnownWorker, ...] = ()


class Identify(msgspec.Struct, tag="identify", frozen=True):
    """The supervisor does not know the session in the header: the node answers with NodeHello."""


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The node's process is not accepted for now."""

    reason: str


class Renewed(msgspec.Struct, tag="renewed", frozen=True):
    """The lease runs anew from the moment at which the Renew of this number was sent."""

    number: int


class Received(msgspec.Struct, tag="received", frozen=True):
    """What its header says: the sender has received the other side's messages up to a number."""


class Fork(msgspec.Struct, tag="fork", frozen=True):
    """Fork a worker."""

    key: Key
    name: str
    assignment: bytes
    limits: ProcessLimits
    log: str
    python: str
    shared: dict[str, str] = {}  # variables of the supervisor's machine that all workers there have


class Watch(msgspec.Struct, tag="watch", frozen=True):
    """Measure a worker against these limits."""

    key: Key
    limits: ProcessLimits


class SignalWorker(msgspec.Struct, tag="signal", frozen=True):
    """Signal a worker's process group, or the worker alone."""

    key: Key
    number: int
    group: bool


class Preload(msgspec.Struct, tag="preload", frozen=True):
    """Import modules for all later workers; `renew` forks from a new launcher from now on."""

    modules: tuple[str, ...]
    renew: bool


class Dump(msgspec.Struct, tag="dump", frozen=True):
    """Have a worker write its stacks."""

    key: Key
    is_last: bool


class Report(msgspec.Struct, tag="report", frozen=True):
    """Read what a gone worker left; answered by FlightRecord and LogTail."""

    key: Key


class Discard(msgspec.Struct, tag="discard", frozen=True):
    """Remove what a gone worker left."""

    key: Key


class MeasureCommand(msgspec.Struct, tag="command", frozen=True):
    """Measure the command that a worker runs in its place."""

    key: Key


class Leave(msgspec.Struct, tag="leave", frozen=True):
    """End all workers and launchers; answered by Left."""

    kill: bool


Command: TypeAlias = (
    Fork | Watch | SignalWorker | Preload | Dump | Report | Discard | MeasureCommand
)
Downward: TypeAlias = Adopt | Identify | Refused | Renewed | Received | Leave | Command


# --- from a node --------------------------------------------------------------------------


class NodeHello(msgspec.Struct, tag="hello", frozen=True):
    """A node's process reports in; answered by Adopt or Refused."""

    name: str
    version: int  # of this protocol
    instance: bytes  # of the home on this run of the machine: the same after the process's restart
    process: bytes  # of this process
    host: str = ""  # the machine's name
    python: str = ""
    garrison: str = ""
    packages: dict[str, str] = {}  # name → version of what is installed
    pid: int = 0


class Renew(msgspec.Struct, tag="renew", frozen=True):
    """Request that the lease runs anew; answered by Renewed."""

    number: int


class Inventory(msgspec.Struct, tag="inventory", frozen=True):
    """The workers that the node has, at the begin of a session."""

    workers: tuple[KnownWorker, ...]
    ended: frozenset[Key] = frozenset()  # whose ends are reported next


class Reported(msgspec.Struct, tag="reported", frozen=True):
    """Something that the node's engine reports; see `event_of`."""

    kind: str
    event: msgspec.Raw


class WorkerSample(msgspec.Struct, frozen=True):
    """What one worker uses."""

    key: Key
    measured: Measured
    loop_s: float | None = None  # since its loop turned last, while the node's process ran


class Machine(msgspec.Struct, frozen=True):
    """What a node's machine has, and how much of it is used."""

    processors: int = 0
    load: float = 0.0  # runnable processes, on average over a minute
    memory_bytes: int = 0
    memory_free_bytes: int = 0  # that can be used without swapping
    data: tuple[str, ...] = ()  # services that have files in their data folder there


class Sample(msgspec.Struct, tag="sample", frozen=True):
    """What the workers and the machine use now."""

    workers: tuple[WorkerSample, ...]
    machine: Machine
    left: tuple[Handle, ...] = ()  # processes of gone workers that could not be ended


class LogChunk(msgspec.Struct, tag="log", frozen=True):
    """Bytes that were appended to a worker's log."""

    log: str  # its name
    data: bytes
    dropped: int = 0  # bytes before these that were not sent, because too many waited
    file: tuple[int, int] = (0, 0)  # its inode, and how many of this log were before it
    offset: int = 0  # of the bytes in that file: what was received before may be sent again


class Leaving(msgspec.Struct, tag="leaving", frozen=True):
    """The node's process was ordered to end: its services are to run elsewhere."""


class Left(msgspec.Struct, tag="left", frozen=True):
    """Everything on the node has ended."""


Upward: TypeAlias = (
    NodeHello | Renew | Received | Inventory | Reported | Sample | LogChunk | Leaving | Left
)


# --- encoding -----------------------------------------------------------------------------


def _to_plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"no form on the wire for {type(value).__name__}")


def _from_plain(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return kind(value)
    raise NotImplementedError(f"no form on the wire for {kind.__name__}")


encode = msgspec.msgpack.Encoder(enc_hook=_to_plain).encode
_header = msgspec.msgpack.Decoder(Header)
_downward = msgspec.msgpack.Decoder(Downward, dec_hook=_from_plain)
_upward = msgspec.msgpack.Decoder(Upward, dec_hook=_from_plain)
_EVENTS: dict[str, Any] = {
    kind.__name__: msgspec.msgpack.Decoder(kind)
    for kind in (
        engine.Forked,
        engine.NotForked,
        engine.Died,
        engine.Ended,
        engine.Gone,
        engine.Lost,
        engine.Usage,
        engine.FlightRecord,
        engine.LogTail,
        engine.Preloaded,
    )
}


def decode_header(frame: bytes) -> Header:
    """Return a header. Raises WireError for any other bytes."""
    try:
        return _header.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_downward(frame: bytes) -> Downward:
    """Return a message of the supervisor. Raises WireError for any other bytes."""
    try:
        return _downward.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_upward(frame: bytes) -> Upward:
    """Return a message of a node. Raises WireError for any other bytes."""
    try:
        return _upward.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def report_of(event: Happened) -> Reported | None:
    """Return an event of an engine as a message; None: it is of no concern elsewhere."""
    kind = type(event).__name__
    if kind not in _EVENTS:
        return None
    return Reported(kind, msgspec.Raw(encode(event)))


def event_of(message: Reported) -> Happened:
    """Return the event in a message. Raises WireError for one that is not known."""
    decoder = _EVENTS.get(message.kind)
    if decoder is None:
        raise WireError(f"an unknown event {message.kind}", bytes(message.event))
    try:
        event: Happened = decoder.decode(message.event)
    except BAD_BYTES as error:
        raise WireError(str(error), bytes(message.event)) from error
    return event


# --- routing ids --------------------------------------------------------------------------


def routing_id(name: str, process: bytes) -> bytes:
    """Return the routing id of a node's process: no two processes share one."""
    return b"n" + name.encode() + b"\0" + process


def name_in(identity: bytes) -> str:
    """Return the node's name in a routing id; empty: it is none of a node's process."""
    name, mark, process = identity[1:].partition(b"\0")
    if identity[:1] != b"n" or not mark or len(process) != INSTANCE_BYTES:
        # a random part may begin with the mark: the name has none, so the first one separates
        return ""
    return name.decode("utf-8", "replace")
