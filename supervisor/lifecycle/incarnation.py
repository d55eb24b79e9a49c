"""One worker process of a service: what is known of it, from its order to its end. Pure."""

import msgspec

from garrison.ipc.messages import (
    Beat,
    CodeFile,
    Failing,
    Health,
    Held,
    Hello,
    Link,
    Stopped,
    ThreadUse,
    Token,
)

from .handle import NO_PROCESS, Handle
from .policy import Event
from .start_record import StartRecord
from .start_slots import StartSlot


class Incarnation(msgspec.Struct):
    """One worker process of a service, from its order to its end. The next start makes a new one.

    Without arguments it stands for "no process": its token is empty.
    """

    token: Token = b""
    started_at: float = 0.0  # monotonic time of the order to fork
    slot: StartSlot = msgspec.field(default_factory=StartSlot)  # while it starts
    handle: Handle = NO_PROCESS  # the engine's note of its process
    uid: int = -1  # the user that it runs as; -1: the host's own
    adopting: bool = False  # a former supervisor started it, and it has not answered this one yet
    welcomed: bool = False  # its Hello was answered
    ready: bool = False  # `Service.start` returned
    connected: bool = False  # its bus connection was seen
    events: tuple[str, ...] = ()  # names that it subscribed to
    in_flight: int = 0
    refused_frames: int = 0
    beat_at: float = 0.0
    facts: dict[str, float] = msgspec.field(
        default_factory=dict
    )  # figures that it reports about itself
    warnings: tuple[str, ...] = ()  # lines that it wants to be shown with a `!`
    threads: ThreadUse | None = None  # of its plain methods; None: not known
    link: Link | None = None  # of a platform, as it was at `beat_at`
    held_up_by: tuple[
        tuple[Held, str], ...
    ] = ()  # what its end waits for, each with its caller's NAME
    held_logged: bool = False
    drained: str = ""  # why it was drained, in words
    overdue: bool = False  # it did not end within its grace
    extended: str = ""  # why its start or stop takes longer, in its own words
    extension_logged_at: float = float("-inf")
    health: Health | None = None  # the last result of its own `health`
    health_at: float = 0.0
    excess: str = ""  # which limit it exceeded, in words, once it is being ended for that
    incident: int = 0  # number of its last incident that is recorded
    overrun: bool = False  # it exceeded a limit so far that it was killed
    paused: bool = False  # its process was stopped (SIGSTOP) when its stacks were requested
    failing: Failing | None = None  # its own report of a failure
    stopped: Stopped | None = None  # its own report of an orderly end
    ended: bool = False  # its process ended; descendants may still be running
    status: int | None = None  # exit status, as `os.wait` returns it
    used: tuple[float, float, int] | None = None  # user s, system s, peak bytes at its end
    oom: bool = False  # the kernel killed a process in its cgroup for lack of memory
    started: StartRecord | None = None  # what it was started with; None: not known
    hello: Hello | None = None  # with the versions that it runs; None: it has not reported in
    faulted: bool = False  # `garrison chaos` has injected a fault
    led_by: tuple[str, ...] = ()  # the services whose orders led to its start

    @property
    def pid(self) -> int:
        """Return its pid; 0 while it has no process."""
        return self.handle.pid

    def record_beat(self, beat: Beat, now: float) -> None:
        """Record what a heartbeat says."""
        self.in_flight, self.refused_frames = beat.in_flight, beat.refused
        self.facts, self.warnings, self.threads = beat.facts, beat.warnings, beat.threads
        self.beat_at, self.link = now, beat.link

    def note_code(self, code: tuple[CodeFile, ...]) -> None:
        """Record which files of an author's code this process has imported."""
        if self.started is not None:
            files = {one.path: (one.inode, one.mtime_ns, one.size) for one in code}
            self.started = msgspec.structs.replace(self.started, code=files)

    def outcome(self) -> Event:
        """Return the event that the end of this process is for the policy."""
        if self.failing is not None:
            if self.failing.retry_s is not None:
                return Event.POSTPONED
            return Event.REFUSED if self.failing.permanent else Event.CRASH
        return Event.CLEAN_EXIT if self.stopped is not None else Event.CRASH
