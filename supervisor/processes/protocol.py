"""Messages between the supervisor and a launcher, over a SOCK_SEQPACKET Unix socket. Pure.

A launcher may be older than the supervisor that adopts it. So tags and the names on the wire stay
(`name=` where the attribute has another one); a new field comes last and has a default.
"""

import sys
from typing import TypeAlias

import msgspec

from garrison.ipc.system import process_tree
from garrison.supervisor.config.cgroup_limits import CgroupLimits

VERSION = 1  # of this protocol
FRAME_BYTES = 256 * 1024
TREE_WAIT = 5.0  # seconds until processes that do not end are reported as left over
# Identifies the code that workers run: another interpreter or installation has another one.
CODE = f"{sys.executable} {process_tree.__file__}"


class EarlySettings(msgspec.Struct, frozen=True):
    """What a launcher that was started early is sent first. The descriptor of its log is attached.

    It is of the same code as its supervisor.
    """

    path: str  # of its socket
    orphan_grace: float
    cgroups: bool  # whether to make one for each worker, where possible
    plugins: tuple[str, ...] = ()  # to be imported, where they are bundled


class Fork(msgspec.Struct, tag="fork", frozen=True, omit_defaults=True):
    """Fork a worker. A descriptor of its assignment is attached."""

    key: bytes
    name: str
    log: str
    limits: CgroupLimits = msgspec.field(default=CgroupLimits(), name="walls")
    brief: bool = False  # it ends soon, so it may be a copy of the launcher


class Signal(msgspec.Struct, tag="signal", frozen=True):
    """Signal a worker's process group, or the worker alone."""

    key: bytes
    number: int
    group: bool = True


class Preload(msgspec.Struct, tag="preload", frozen=True):
    """Import these modules, so that workers forked from now on have them."""

    modules: tuple[str, ...]


class CheckFresh(msgspec.Struct, tag="check_fresh", frozen=True):
    """Report which preloaded files have changed on disk."""


class LeaveCommand(msgspec.Struct, tag="leave", frozen=True):
    """End: at once with all workers, or after the last worker has ended."""

    kill: bool = False


Command: TypeAlias = Fork | Signal | Preload | CheckFresh | LeaveCommand


class ForkedReport(msgspec.Struct, tag="forked", frozen=True):
    """A worker was forked. Its pidfd is attached."""

    key: bytes
    pid: int
    name: str = ""
    unsupported: tuple[str, ...] = msgspec.field(default=(), name="unheld")  # by its cgroup


class NotForkedReport(msgspec.Struct, tag="not_forked", frozen=True):
    """A worker could not be forked."""

    key: bytes
    reason: str


class EndedReport(msgspec.Struct, tag="ended", frozen=True):
    """A worker ended. The processes that it started are being ended."""

    key: bytes
    status: int | None  # wait status; None: unknown
    user_s: float = 0.0
    system_s: float = 0.0
    rss_bytes: int = 0  # peak
    oom: bool = False  # the kernel's OOM killer killed in its cgroup


class GoneReport(msgspec.Struct, tag="gone", frozen=True):
    """Every process of a worker has ended, except those in `left`, which could not be ended."""

    key: bytes
    left: tuple[int, ...] = ()


class PreloadedReport(msgspec.Struct, tag="preloaded", frozen=True):
    """The modules are imported, except those in `failed`."""

    failed: dict[str, str] = {}  # module → error
    threaded: tuple[str, ...] = ()  # modules whose import started threads
    took_s: float = 0.0
    opened: dict[str, str] = {}  # module → what its import left open, as "a socket"


class FreshReport(msgspec.Struct, tag="fresh", frozen=True):
    """Preloaded files that have changed on disk."""

    changed: tuple[str, ...]


class InventoryEnd(msgspec.Struct, tag="here", frozen=True):
    """The end of what a launcher reports to a new supervisor. Its own pidfd is attached."""

    pid: int
    version: int = msgspec.field(name="spoken")
    code: str  # CODE of the launcher
    modules: tuple[str, ...] = ()  # preloaded
    retired: bool = False  # it forks no more
    ending: bool = False  # its orphan grace is over: it is ending its workers


Report: TypeAlias = (
    ForkedReport
    | NotForkedReport
    | EndedReport
    | GoneReport
    | PreloadedReport
    | FreshReport
    | InventoryEnd
)

encode = msgspec.msgpack.Encoder().encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_settings = msgspec.msgpack.Decoder(EarlySettings).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
