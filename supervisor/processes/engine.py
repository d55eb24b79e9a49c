"""The engine's interface: what runs workers for the supervisor, here or on another machine. Pure.

No method blocks, except `leave`. A method starts something; `turn` returns what has happened.
A worker is known by its key, the token of its incarnation. Times are monotonic seconds, sizes are
bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from garrison.ipc import flight_record
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import NO_PROCESS, Handle
from garrison.supervisor.lifecycle.limits import Used
from garrison.supervisor.lifecycle.silence import Contact
from garrison.supervisor.lifecycle.start_slots import StartWork

Key: TypeAlias = bytes  # the token of a worker's incarnation
SELF: Key = b""  # in place of a worker's key: this process
NO_LIMITS = ProcessLimits()


class Inherited(msgspec.Struct, frozen=True):
    """A worker of a former supervisor, from the snapshot."""

    key: Key
    name: str
    handle: Handle = NO_PROCESS
    uid: int = -1  # the user that it runs as; -1: the host's own


class Measured(msgspec.Struct, frozen=True):
    """What a worker uses, by the engine's latest measurement."""

    rss_bytes: int = 0  # of the worker's own process; of its command, if it runs one
    cpu_percent: float = 0.0  # of one processor, within the last 10 s or its life
    tree: Used | None = None  # the worker and all processes below it
    cpu_seconds: float = 0.0  # of processors, since its start


# --- what happened ------------------------------------------------------------------------


class Forked(msgspec.Struct, frozen=True):
    """A worker was forked, or was found again by `adopt`."""

    key: Key
    handle: Handle
    unsupported: tuple[str, ...] = ()  # limits that its cgroup does not enforce, in words


class NotForked(msgspec.Struct, frozen=True):
    """A worker could not be forked."""

    key: Key
    reason: str
    unusable: bool = False  # its interpreter is: nothing was tried with it


class Died(msgspec.Struct, frozen=True):
    """A worker's process has ended; frames that still arrive from it do not count."""

    key: Key
    read: Mapping[Key, int] | None = None  # batches that it had read, by sender; None: unknown


class Ended(msgspec.Struct, frozen=True):
    """How a worker's process ended. What it started is being ended."""

    key: Key
    status: int | None  # wait status; None: unknown
    user_s: float = 0.0
    system_s: float = 0.0
    rss_bytes: int = 0  # peak
    oom: bool = False  # the kernel's OOM killer killed in its cgroup
    paused: bool = False  # its process was stopped when its stacks were requested
    words: str = ""  # how it ended, where that is no exit status


class Gone(msgspec.Struct, frozen=True):
    """Every process of a worker has ended, except those in `left`, which could not be ended."""

    key: Key
    left: tuple[Handle, ...] = ()


class Lost(msgspec.Struct, frozen=True):
    """A launcher ended unexpectedly; its workers continue to run."""

    launcher: Handle
    workers: int
    importing: bool = False  # it was importing modules for a preload


class Found(msgspec.Struct, frozen=True):
    """The answer to `adopt`: what a former supervisor left running."""

    running: dict[Key, str] = msgspec.field(
        default_factory=dict
    )  # key → name that it was forked for
    reparented: frozenset[Key] = frozenset()  # those of `running` that no launcher has
    ended: frozenset[Key] = frozenset()  # ended while there was no supervisor
    ending: frozenset[Key] = frozenset()  # being ended: the orphan grace was over
    modules: tuple[str, ...] = ()  # preloaded in the launcher that forks from now on
    launchers: int = 0
    over: bool = True  # no launcher continues
    outdated: bool = False  # that launcher runs the code of another version
    refused: tuple[str, ...] = ()  # launchers that could not be adopted, and why


class Usage(msgspec.Struct, frozen=True):
    """What a worker with limits uses, with all processes below it."""

    key: Key
    used: Used


class FlightRecord(msgspec.Struct, frozen=True):
    """An answer to `report`: the last calls of an ended worker."""

    key: Key
    calls: flight_record.RecordedCalls


class LogTail(msgspec.Struct, frozen=True):
    """An answer to `report`: the end of an ended worker's log."""

    key: Key
    log: str
    stacks: str
    complete: bool = True  # False: where its log begins is unknown


class Preloaded(msgspec.Struct, frozen=True):
    """The answer to `preload` and `refresh`."""

    failed: Mapping[str, str]  # module → error
    threaded: tuple[str, ...] = ()  # modules whose import started threads
    took_s: float = 0.0
    opened: Mapping[str, str] = msgspec.field(
        default_factory=dict
    )  # module → what its import left open


class Fresh(msgspec.Struct, frozen=True):
    """The answer to `check_fresh`."""

    changed: tuple[str, ...]  # preloaded files that have changed on disk


class NodeChanged(msgspec.Struct, frozen=True):
    """The state of a node has changed.

    `change` is "joined", "lost" (there is no contact; its workers may run on), "fenced" (its lease
    is over, so nothing runs there), "leaving" (it was ordered to end), "left", "removed" (its
    key was), "refused", or "launcher_lost".
    """

    node: str
    change: str
    reason: str = ""


Happened: TypeAlias = (
    Forked
    | NotForked
    | Died
    | Ended
    | Gone
    | Lost
    | Found
    | Usage
    | FlightRecord
    | LogTail
    | Preloaded
    | Fresh
    | NodeChanged
)


# --- the interface ------------------------------------------------------------------------


class Engine(Protocol):
    """Starts, watches and ends workers."""

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        ...

    @property
    def busy(self) -> bool:
        """Return whether `turn` is to be called soon, though no descriptor is ready."""
        ...

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        ...

    def turn(self) -> list[Happened]:
        """Return what has happened since the last call. Takes a few milliseconds at most."""
        ...

    def fork(
        self,
        key: Key,
        name: str,
        assignment: bytes,
        limits: ProcessLimits = NO_LIMITS,
        log: str = "",
        python: str = "",
        brief: bool = False,
    ) -> None:
        """Fork a worker; answered by Forked or NotForked.

        Args:
            key: The token of its incarnation.
            name: What is forked, as the inventory of a launcher names it.
            assignment: What the worker reads first.
            limits: What its cgroup enforces, and what is measured as after `watch`.
            log: The name of its log; `name` by default.
            python: The path of the interpreter that it runs under; empty: the host's own.
            brief: Whether it ends soon: it is forked at once then, with less memory shared.
        """
        ...

    def watch(self, key: Key, limits: ProcessLimits) -> None:
        """Measure a worker against these limits from now on, if there are any."""
        ...

    def signal(self, key: Key, number: int, group: bool = True) -> None:
        """Signal a worker's process group, or the worker alone."""
        ...

    def has(self, key: Key) -> bool:
        """Return whether anything of a worker is left."""
        ...

    def contact(self, key: Key) -> Contact | None:
        """Return what is known of a worker on another machine; None: it is on this one."""
        ...

    def left(self, handles: Sequence[Handle]) -> list[Handle]:
        """Return those of these processes that still run, as far as the engine knows."""
        ...

    def measure(self, key: Key, tree: bool = False, command: bool = False) -> Measured:
        """Return what a worker uses, from what the engine knows now.

        Args:
            key: The worker; `SELF` is this process.
            tree: Whether to measure all processes below it too, where that is quick.
            command: It runs a plain command: that is measured, without the worker.
        """
        ...

    def measure_start(self, key: Key) -> StartWork | None:
        """Return what a worker has used of the processor; None where that is not known."""
        ...

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules once, for all later workers; answered by Preloaded."""
        ...

    def check_fresh(self) -> None:
        """Check whether a preloaded file has changed; answered by Fresh."""
        ...

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Fork from a new launcher from now on; answered by Preloaded if there are modules."""
        ...

    def abandon(self) -> None:
        """End a launcher that hangs in an import; reported as Lost."""
        ...

    def adopt(self, known: Sequence[Inherited]) -> None:
        """Start to take over what a former supervisor left running; answered by one Found.

        After Found come Forked for each worker in it, and Ended and Gone for each known one that
        has ended. Commands that are given before Found are carried out after it.
        """
        ...

    def reap(self) -> None:
        """Reap ended children of this process that are not the engine's; called at each SIGCHLD."""
        ...

    def dump(self, key: Key, is_last: bool = True) -> None:
        """Make a worker write its stacks to its log.

        Args:
            key: The worker.
            is_last: It is about to be ended: what follows belongs into its crash report.
        """
        ...

    def report(self, key: Key) -> None:
        """Read what a gone worker left for its crash report, then remove it.

        Answered by FlightRecord and LogTail, in this order, also if there is nothing.
        """
        ...

    def discard(self, key: Key) -> None:
        """Remove what a gone worker left for its crash report."""
        ...

    def status(self) -> Mapping[str, int | None]:
        """Return what `garrison status` shows of the engine itself."""
        ...

    def close(self) -> None:
        """Release descriptors and threads; workers and launchers continue, for a successor."""
        ...

    def leave(self, kill: bool) -> None:
        """End all workers and launchers; the one method that may wait, for some seconds.

        Args:
            kill: Whether to kill workers that still run.
        """
        ...
