"""Every message, control and data, as tagged unions; `encode`, `decode`; the wire's version.

Data messages go between services over the bus, control messages between the supervisor and
everybody else, assignments from the supervisor to one worker. Frames of both sockets are
`[peer][batch]`, a batch being a list of messages; behind it may come large values of a data
message (`large`). Durations are seconds, sizes are bytes.
A field added later comes last and has a default.
"""

import os
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Raw

from .errors import Fault, WireError

if TYPE_CHECKING:
    from .frames import Framed

    Value: TypeAlias = Raw | Framed  # what stands for it in its own process, until it is encoded
else:
    Value: TypeAlias = Raw

WIRE = 1  # this version of the language; a supervisor also speaks the one before
WIRES = frozenset({WIRE, WIRE - 1} - {0})

Token: TypeAlias = bytes  # routing id of one incarnation, random
SUPERVISOR: Token = b""  # the peer that stands for the supervisor itself
GONE: Token = b"\x00"  # instead of a source: handed back, nobody has that address
FULL: Token = b"\x01"  # instead of a source: handed back, no room there just now
TOKEN_BYTES = 16

EMPTY_MAP = Raw(b"\x80")
NIL = Raw(b"\xc0")
LONGEST_TIMEOUT = 366 * 86_400.0

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Timeout = Annotated[float, Meta(gt=0, le=LONGEST_TIMEOUT)]
Duration = Annotated[float, Meta(ge=0, le=LONGEST_TIMEOUT)]
CallId = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Generation = Annotated[int, Meta(ge=0, le=2**53)]  # the next ones can still be written down
Credits = Annotated[int, Meta(ge=0, le=2**16)]


# --- data: between services ---------------------------------------------------------------


class Call(msgspec.Struct, tag=0, array_like=True, frozen=True):
    """Run a method; `credit` items may come before the next `Credit` where it is a stream."""

    id: CallId
    method: Name
    args: Value  # a list
    kwargs: Value  # a map
    timeout: Timeout  # what is left of the caller's deadline
    credit: Credits = 0
    frames: bool = False  # its caller takes frames; one of an older release says nothing


class Reply(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The method returned."""

    id: CallId
    result: Value


class Failed(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """The method raised, or the call did not fit it."""

    id: CallId
    fault: Fault


class Refused(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """The call was not run: its receiver is draining."""

    id: CallId


class Cancel(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """The caller no longer waits."""

    id: CallId


class Item(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """The next value of a stream."""

    id: CallId
    value: Value


class Done(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """A stream came to its end."""

    id: CallId


class Credit(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """So many more items of a stream may come."""

    id: CallId
    items: Credits


class Ended(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """An incarnation is gone, after all that it still sent; the supervisor alone says so."""

    token: Token
    cause: str


class Frames(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """So many frames follow this batch, and belong to the message before; see `large`."""

    count: int  # who knows nothing of them refuses the batch by this message


Data: TypeAlias = Call | Reply | Failed | Refused | Cancel | Item | Done | Credit | Ended | Frames


# --- what services are like ---------------------------------------------------------------


class State(Enum):
    """Where a service is in life."""

    REGISTERED = "registered"  # known, and never asked to run
    QUEUED = "queued"  # waits for what it depends on, and for a start slot
    INITIALIZING = "initializing"  # its process imports the plugin and runs Plugin.init
    STARTING = "starting"  # Service.start runs
    RUNNING = "running"
    STOPPING = "stopping"  # drains, or is being ended
    STOPPED = "stopped"
    BACKOFF = "backoff"  # waits to be started again
    FAILED = "failed"  # given up for now


class MethodInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One method that others can call."""

    name: str
    stream: bool = False
    signature: str = ""
    summary: str = ""  # the first line of its docstring
    idempotent: bool = False  # to run it twice does no harm: a lost call is sent again


class ActionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action that a plugin has, as others see it."""

    name: str
    description: str = ""
    similes: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()
    priority: int = 0


class ProviderInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One provider of context."""

    name: str
    description: str = ""
    position: int = 0
    dynamic: bool = False
    private: bool = False


class EvaluatorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One evaluator."""

    name: str
    description: str = ""
    similes: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()
    always_run: bool = False


class ModelInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model that a worker offers."""

    model_type: str
    provider: str = ""
    priority: int = 0
    stream: bool = False


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one service offers; its plugin's parts are in one of its services' alone."""

    service_type: str
    description: str = ""
    methods: tuple[MethodInfo, ...] = ()
    left_out: dict[str, str] = {}  # method → why it cannot travel
    actions: tuple[ActionInfo, ...] = ()
    providers: tuple[ProviderInfo, ...] = ()
    evaluators: tuple[EvaluatorInfo, ...] = ()
    models: tuple[ModelInfo, ...] = ()
    sends_for: tuple[str, ...] = ()  # sources that it registered a send handler for
    mail_window: int = 1  # posted messages that may be on their way to it at the same time
    notes: tuple[str, ...] = ()  # what its author should know
    frames: bool = False  # it takes calls with frames; one of an older release says nothing


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service in the directory; entries are told in config order, by `position`."""

    name: str
    plugin: str
    position: int
    manifest: Manifest
    state: State
    wanted: bool
    generation: int = 0
    token: Token = b""  # where calls go; empty while none can be taken
    events: tuple[str, ...] = ()  # what it subscribed to
    agent: str = ""  # NAME of the agent that it belongs to; empty: it is everybody's


# --- control: from workers and programs to the supervisor ---------------------------------


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """A worker is there; its routing id is its token."""

    wire: int
    name: str
    generation: Generation
    pid: int


class Join(msgspec.Struct, tag="join", frozen=True):
    """A program wants the directory, and to make calls."""

    wire: int
    pid: int


class Leave(msgspec.Struct, tag="bye", frozen=True):
    """A program leaves."""


class Initialized(msgspec.Struct, tag="initialized", frozen=True):
    """`Plugin.init` returned; `Service.start` is next."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """`Service.start` returned."""

    manifest: Manifest


class Beat(msgspec.Struct, tag="beat", frozen=True):
    """The service's own loop turned."""

    seq: int
    in_flight: int = 0  # calls that it is serving
    refused: int = 0  # frames that it could not read
    facts: dict[str, float] = {}  # what it has to say of itself, for `status`


class Failing(msgspec.Struct, tag="broken", frozen=True):
    """The worker is about to end of its own failure."""

    phase: str  # "init", "start", "run", "stop"
    reason: str
    traceback: str = ""
    permanent: bool = False  # no retry can help


class Stopped(msgspec.Struct, tag="stopped", frozen=True):
    """The worker drained, stopped its service, and ends now: a clean end."""

    reason: str = ""


class Health(msgspec.Struct, tag="health", frozen=True):
    """What the service's own `health` said, once for each time it was called."""

    problem: str = ""  # why it is not well; empty: it is
    took_s: Duration = 0.0


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    """The service listens to these events, all of them."""

    events: tuple[str, ...]


class ConfigProblem(msgspec.Struct, frozen=True):
    """A value that does not fit a service's or plugin's `Config`."""

    keys: tuple[str, ...]  # from the top of the file: ("services", "discord", "config", "intents")
    problem: str


class PluginRead(msgspec.Struct, tag="plugin_read", frozen=True):
    """What a throwaway process found in a plugin."""

    services: tuple[Manifest, ...]
    preload: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()


class Order(msgspec.Struct, tag="order", frozen=True):
    """Something that the command line asks for; answered by one `Answer`, or by several."""

    id: int
    verb: str
    names: tuple[str, ...] = ()
    wait: float = 0.0  # seconds until "timed out" is the answer
    options: dict[str, Any] = {}


Upward: TypeAlias = (
    Hello
    | Join
    | Leave
    | Initialized
    | Ready
    | Beat
    | Failing
    | Stopped
    | Health
    | Subscribe
    | PluginRead
    | Order
)


# --- control: from the supervisor ---------------------------------------------------------


class Welcome(msgspec.Struct, tag="welcome", frozen=True):
    """You are known; here is the directory. Its changes follow, never the whole again."""

    wire: int
    boot: str  # one supervisor's life
    pid: int  # the supervisor's
    entries: tuple[Entry, ...]
    timeout: float = 30.0  # for programs: the default deadline of a call
    window: int = 256
    window_bytes: int = 16 * 1024 * 1024
    max_message: int = 64 * 1024 * 1024
    orphan_grace: float = 10.0  # so long after this supervisor's end another one may come


class Identify(msgspec.Struct, tag="introduce", frozen=True):
    """Who are you? Said to every connection that is not known, as after a supervisor's death."""


class Farewell(msgspec.Struct, tag="farewell", frozen=True):
    """This supervisor ends in order: no other will take its place."""


class Rejected(msgspec.Struct, tag="turned_away", frozen=True):
    """You are not known here, and why."""

    reason: str


class Listed(msgspec.Struct, tag="listed", frozen=True):
    """A new entry, or one whose manifest or subscriptions changed."""

    entry: Entry


class Delisted(msgspec.Struct, tag="delisted", frozen=True):
    """An entry is no more."""

    name: str


class Changed(msgspec.Struct, tag="changed", frozen=True):
    """A service's state changed."""

    name: str
    state: State
    wanted: bool
    generation: int
    token: Token


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """Finish what is under way, take no more, stop, and say `Stopped`."""

    grace: float


class ShowTasks(msgspec.Struct, tag="show_tasks", frozen=True):
    """Write the stacks of all asyncio tasks into your log: you are late."""


class Acknowledged(msgspec.Struct, tag="noted", frozen=True):
    """Your last words were heard; end. Without it, an end could be seen before they were read."""


class Answer(msgspec.Struct, tag="answer", frozen=True):
    """What came of an order; `more` where others follow."""

    id: int
    ok: bool
    data: Any = None
    code: str = ""
    message: str = ""
    more: bool = False


Downward: TypeAlias = (
    Welcome
    | Identify
    | Farewell
    | Rejected
    | Listed
    | Delisted
    | Changed
    | Drain
    | ShowTasks
    | Acknowledged
    | Answer
)


# --- assignments: to one worker, through a descriptor that nobody else reads ---------------


class PluginSource(msgspec.Struct, frozen=True):
    """Where a plugin's code is."""

    name: str
    use: str
    folder: str  # the config file's


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker puts itself under before any of its plugin's code runs.

    None, 0 and nothing leave it as its launcher is.
    """

    open_files: int = 0  # RLIMIT_NOFILE
    nice: int | None = None
    oom_score_adj: int | None = None
    umask: int | None = None
    working_directory: str = ""
    uid: int = -1  # whom it runs as; -1: as its launcher
    gid: int = -1
    groups: tuple[int, ...] = ()  # supplementary ones, with the uid
    no_new_privs: bool = False


class Assignment(msgspec.Struct, tag="serve", frozen=True, kw_only=True):
    """What a worker is to be: one service."""

    name: str
    source: PluginSource
    service_type: str
    generation: int
    token: Token
    control: str  # path of the socket
    bus: str
    lock: str
    env: dict[str, bytes]
    secrets: dict[str, bytes]
    config: dict[str, Any]
    plugin_config: dict[str, Any]
    watchdog: float
    start_timeout: float
    grace: float
    orphan_grace: float
    timeout: float
    window: int
    window_bytes: int
    max_message: int
    recorder: str = ""  # path of the flight recorder's file; empty for none
    record_values: bool = False
    agent: str = ""  # NAME of the agent that it belongs to
    character: Raw = NIL  # that agent's, without the secrets that are not this service's
    with_parts: bool = False  # its plugin's actions, models and the like live in this worker
    priority: int | None = None  # of its models, where the config says so
    withheld: tuple[str, ...] = ()  # names of its character's secrets that it was not given
    data: str = ""  # path of a folder of its own
    limits: Limits = Limits()
    health_interval: float = 0.0  # seconds between calls of the service's own `health`; 0: never
    chaos: bool = False  # whether it takes the faults of `garrison chaos`


class Section(msgspec.Struct, frozen=True):
    """A service's config values, to be held against its class's `Config`."""

    name: str
    service_type: str  # empty: the NAME, or the only one that the plugin has
    config: dict[str, Any]
    bound: bool  # it names this plugin; otherwise it may be another's
    called: str = ""  # its NAME without its agent's


class Reading(msgspec.Struct, tag="read", frozen=True, kw_only=True):
    """What a throwaway process is to find out: what a plugin has, and whether its config fits."""

    source: PluginSource
    token: Token
    control: str
    env: dict[str, bytes]
    plugin_config: dict[str, Any]
    sections: tuple[Section, ...]


# --- bytes --------------------------------------------------------------------------------

encode = msgspec.msgpack.Encoder().encode


def packed(env: Mapping[str, str]) -> dict[str, bytes]:
    """Return an environment as it travels: its values need not be UTF-8, its names do."""
    return {name: os.fsencode(value) for name, value in env.items() if name == encodable(name)}


def should_log(count: int) -> bool:
    """Tell whether one of many alike is logged, by its number: the first ten, then each
    thousandth."""
    return count <= 10 or count % 1000 == 0


def encodable(text: str) -> str:
    """Return text that can be encoded: a lone surrogate, as in an odd file name, is spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()


_data = msgspec.msgpack.Decoder(list[Data])
_upward = msgspec.msgpack.Decoder(list[Upward])
_downward = msgspec.msgpack.Decoder(list[Downward])
_assignment = msgspec.msgpack.Decoder(Assignment | Reading)

# What msgspec raises on bytes that it cannot read, its own errors aside
BAD_BYTES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


def decode_data(frame: bytes) -> list[Data]:
    """Return a batch of the bus. Raises WireError for any other bytes."""
    try:
        return _data.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_upward(frame: bytes) -> list[Upward]:
    """Return a batch to the supervisor. Raises WireError for any other bytes."""
    try:
        return _upward.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_downward(frame: bytes) -> list[Downward]:
    """Return a batch from the supervisor. Raises WireError for any other bytes."""
    try:
        return _downward.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_assignment(frame: bytes) -> Assignment | Reading:
    """Return what a worker is to be. Raises WireError for any other bytes."""
    try:
        decoded: Assignment | Reading = _assignment.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error
    return decoded
