"""Control messages: between the supervisor and workers, and between it and programs.

A frame of the control socket is `[peer][batch]`; a batch is a list of messages. A field that is
added later comes last and has a default. Durations are seconds, sizes are bytes.
"""

from typing import Self, TypeAlias

import msgspec

from garrison.ipc.marks import Identifier, Text

from .assignment import CallLimits
from .manifest import Entry, Manifest, Paused, State
from .orders import Answer, Identify, Leave, Order
from .types import Count, Duration, Generation, Token

# --- from workers and programs to the supervisor ------------------------------------------


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """A worker reports in. Its routing id is its token."""

    wire: int
    name: Identifier
    generation: Generation
    pid: int
    syncs: bool = False  # it sends a Sync for each Welcome; an older release leaves this out
    python: Text = ""  # the version of its Python; an older release leaves this out
    garrison: Text = ""  # the version of its garrison, likewise
    direct: bool = False  # it takes part in direct routes; an older release leaves this out


class Join(msgspec.Struct, tag="join", frozen=True):
    """A program requests the directory, and will make calls."""

    wire: int
    pid: int
    syncs: bool = False  # as in Hello
    pid_namespace: int | msgspec.UnsetType = msgspec.UNSET  # in which the pid means something


class Initialized(msgspec.Struct, tag="initialized", frozen=True):
    """`Plugin.init` returned; `Service.start` is next."""


class CodeFile(msgspec.Struct, frozen=True):
    """A file of an author's code that a worker has imported, as it was on disk."""

    path: Identifier
    inode: int
    mtime_ns: int
    size: int


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """`Service.start` returned. Sent again when the manifest changes."""

    manifest: Manifest
    code: tuple[CodeFile, ...] = ()


class Held(msgspec.Struct, frozen=True):
    """What the end of a worker waits for."""

    kind: Identifier  # "call", "stream", "stop" (the service's own), or "task"
    name: Text  # of the method or the task
    source: Token = b""  # the caller's incarnation
    age_s: Duration = 0.0
    cancelled: bool = False  # it goes on although it was cancelled


def held_words(held: Held, caller: str) -> str:
    """Return what an end waits for in words.

    Args:
        held: What it waits for.
        caller: Who called it, in words; empty: unknown.
    """
    age = f" for {held.age_s:.1f} s" if held.age_s else ""
    resists = ", which does not end though it was cancelled" if held.cancelled else ""
    match held.kind:
        case "stop":
            return f"its stop(), running{age}"
        case "task":
            return f"task {held.name}{resists}"
        case kind:
            who = f", called by {caller or 'another process'}"
            return f"{kind} {held.name}{who}, running{age}{resists}"


class ThreadUse(msgspec.Struct, frozen=True):
    """The threads that run a worker's plain methods."""

    most: int
    busy: int
    stuck: int = 0  # of the busy ones: their callers gave up, and they go on
    waiting: int = 0  # calls that wait for a thread


class Link(msgspec.Struct, frozen=True):
    """A platform's connection. Ages are seconds; None: not since the start."""

    problem: Text = ""  # why it is disconnected for good; empty: it is not, as far as is known
    in_s: float | None = None  # since a message was received
    out_s: float | None = None  # since the platform took one
    alive_s: float | None = None  # since the receiving side was last known to be alive
    probe_s: float | None = None  # since it was last probed
    probe_problem: Text = ""  # why it is deaf, by that probe


class CallCount(msgspec.Struct, frozen=True):
    """Calls of one method that a worker has made and that ended, see `ipc.call_counts`."""

    service: Identifier
    method: Identifier
    outcomes: tuple[Count, ...] = ()  # how many, in the order of `call_counts.OUTCOMES`
    buckets: dict[int, Count] = {}  # how many took so long: bucket → calls
    micros: Count = 0  # what they took in sum, in whole microseconds each


# What a service may report for its operator: an event of the host.
INCIDENTS = frozenset({"answer.failed", "budget.reached", "mail.dead", "task.paused"})


class Incident(msgspec.Struct, frozen=True):
    """What a service reports for its operator; in several heartbeats, one of which may be lost."""

    n: int  # its number in this incarnation, from 1
    event: Identifier  # of INCIDENTS
    reason: Text = ""
    service: Identifier = ""  # NAME of the service that it concerns; empty: its own
    data: dict[Identifier, Text] = {}


class Beat(msgspec.Struct, tag="beat", frozen=True):
    """Heartbeat of the service's own loop."""

    seq: int
    in_flight: int = 0  # calls that it is serving
    refused: int = 0  # frames that it could not decode
    facts: dict[Identifier, float] = {}  # numbers that the service reports, for `status`
    held: tuple[Held, ...] = ()  # while it ends: what it waits for
    warnings: tuple[Text, ...] = ()  # lines that `status` shows with a `!`
    threads: ThreadUse | None = None  # None: an older release
    link: Link | None = None  # of a platform
    calls: tuple[CallCount, ...] = ()  # that ended since the last heartbeat
    awaiting: dict[Identifier, Count] = {}  # NAME → calls to it that have not ended
    incidents: tuple[Incident, ...] = ()


class Failing(msgspec.Struct, tag="broken", frozen=True):
    """The worker is about to exit because of an error of its own."""

    phase: Identifier  # "init", "start", "run", "stop"
    reason: Text
    traceback: Text = ""
    permanent: bool = False  # a retry cannot succeed
    retry_s: Duration | None = None  # of a start: it is tried again then, and not before
    of_process: bool = False  # a process that the service consists of ended: no exception


ENDED_ITSELF = "it asked to end"  # reason of a Stopped
PROCESS_DONE = "its command exited with code 0"  # likewise


class Stopped(msgspec.Struct, tag="stopped", frozen=True):
    """The worker drained, stopped its service, and exits now: a clean end."""

    reason: Text = ""


class Health(msgspec.Struct, tag="health", frozen=True):
    """The result of one call of the service's own `health`."""

    problem: Text = ""  # empty: the service is well
    took_s: Duration = 0.0


class Extend(msgspec.Struct, tag="extend", frozen=True):
    """A start or a stop that advances: its deadline is so many seconds from now, or later."""

    seconds: Duration
    reason: Text = ""


class Subscribe(msgspec.Struct, tag="subscribe", frozen=True):
    """All events that the service subscribes to."""

    events: tuple[Identifier, ...]


class ConfigProblem(msgspec.Struct, frozen=True):
    """A value that does not fit a service's or plugin's `Config`."""

    keys: tuple[Identifier, ...]  # key path: ("services", "discord", "config", "intents")
    problem: Text


class PluginRead(msgspec.Struct, tag="plugin_read", frozen=True):
    """What a probe process found in a plugin."""

    services: tuple[Manifest, ...]
    preload: tuple[Identifier, ...] = ()
    dependencies: tuple[Identifier, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()


class ReadResult(msgspec.Struct, frozen=True):
    """What a probe process found in one of several plugins, or why it found nothing."""

    read: PluginRead | None = None
    failing: Failing | None = None

    @classmethod
    def of(cls, result: PluginRead | Failing) -> Self:
        """Return a result as it travels."""
        return cls(result) if isinstance(result, PluginRead) else cls(failing=result)

    @property
    def found(self) -> PluginRead | Failing:
        """Return the result."""
        return self.read or self.failing or Failing("read", "it reported nothing")


class PluginsRead(msgspec.Struct, tag="plugins_read", frozen=True):
    """What a probe process found in each of several plugins, in the order of its `Reading`."""

    results: tuple[ReadResult, ...]


class StackFrame(msgspec.Struct, frozen=True):
    """One call on a stack."""

    file: Identifier
    line: int
    function: Identifier


class StackOf(msgspec.Struct, frozen=True):
    """The stack of a thread or of an asyncio task, the innermost frame last."""

    name: Text
    frames: tuple[StackFrame, ...] = ()
    left_out: int = 0  # outer frames beyond those that are sent
    ident: int = 0  # of a thread, as the kernel names it
    waits_for: Text = ""  # what a task awaits, where it has no frame


class Stacks(msgspec.Struct, tag="stacks", frozen=True):
    """The answer to a `ShowTasks` with a number: where the threads and the tasks are."""

    number: int
    threads: tuple[StackOf, ...] = ()
    tasks: tuple[StackOf, ...] = ()
    more_threads: int = 0  # beyond those that are sent
    more_tasks: int = 0


class DirectOpen(msgspec.Struct, tag="direct_open", frozen=True):
    """The answer to an `AcceptDirect`: the worker listens for that caller."""

    address: Token
    problem: Text = ""  # why it does not


class DirectRoute(msgspec.Struct, tag="direct_route", frozen=True):
    """The state of a direct route, from its caller. Sent again to each next supervisor."""

    address: Token
    callee: Token
    active: bool  # its calls go that way; False: the route is closed
    problem: Text = ""  # why it was closed, where that was no order


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
    | Extend
    | Subscribe
    | PluginRead
    | PluginsRead
    | Order
    | Stacks
    | DirectOpen
    | DirectRoute
)


# --- from the supervisor ------------------------------------------------------------------


class Welcome(msgspec.Struct, tag="welcome", frozen=True):
    """The supervisor accepts the peer and sends the directory. After it, only changes follow."""

    wire: int
    boot: str  # id of this supervisor process
    pid: int  # the supervisor's
    entries: tuple[Entry, ...]
    timeout: float = 30.0  # this and the next three: the limits of a program's calls
    window: int = 256
    window_bytes: int = 16 * 1024 * 1024
    max_message: int = 64 * 1024 * 1024
    orphan_grace: float = 10.0  # how long to wait for the next supervisor once this one is gone
    syncs: bool = False  # the router answers a Sync; an older release leaves this out
    logs: str | msgspec.UnsetType = msgspec.UNSET  # the folder of logs; older: not named
    pid_namespace: int | msgspec.UnsetType = msgspec.UNSET  # in which the pid means something
    introduce: bool = False  # this supervisor has no Hello of the worker, and wants one

    @property
    def limits(self) -> CallLimits:
        """Return the limits of a program's calls."""
        return CallLimits(self.timeout, self.window, self.window_bytes, self.max_message)


class Farewell(msgspec.Struct, tag="farewell", frozen=True):
    """The supervisor shuts down in order; no other will replace it."""


class Rejected(msgspec.Struct, tag="turned_away", frozen=True):
    """The supervisor does not accept this peer."""

    reason: str


class Listed(msgspec.Struct, tag="listed", frozen=True):
    """A new entry, or one with another manifest or other subscriptions."""

    entry: Entry


class Delisted(msgspec.Struct, tag="delisted", frozen=True):
    """An entry was removed."""

    name: str


class Changed(msgspec.Struct, tag="changed", frozen=True):
    """A service's state changed."""

    name: str
    state: State
    wanted: bool
    generation: int
    token: Token
    reason: Text = ""  # why it does not run
    paused: Paused | None = None


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """Finish the calls in progress, accept no new ones, stop, and send `Stopped`."""

    grace: float
    reason: str = ""  # why, in words: calls that take too long end with it
    calls: float | None = None  # longest time for the calls, where it is not a share of the grace


class ShowTasks(msgspec.Struct, tag="show_tasks", frozen=True):
    """Heartbeats are missing: write the stacks of all asyncio tasks to the log.

    With a number, send them as `Stacks` instead. An older release writes them to the log.
    """

    number: int = 0


class Acknowledged(msgspec.Struct, tag="noted", frozen=True):
    """`Stopped` or `Failing` has arrived: exit now.

    Without it the supervisor could see the process end before it reads its last message.
    """


class AcceptDirect(msgspec.Struct, tag="accept_direct", frozen=True):
    """To a callee: accept what one caller sends directly. Sent again by each next supervisor."""

    address: Token  # of the route, random: the routing id that the caller connects under
    caller: Token
    path: str  # where this incarnation listens, the same for all callers


class GrantDirect(msgspec.Struct, tag="grant_direct", frozen=True):
    """To a caller: send the calls to one incarnation directly, once it answers there."""

    address: Token
    callee: Token
    path: str


class RevokeDirect(msgspec.Struct, tag="revoke_direct", frozen=True):
    """To a caller: give up a direct route. To a callee: its caller has closed it."""

    address: Token


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
    | AcceptDirect
    | GrantDirect
    | RevokeDirect
)
