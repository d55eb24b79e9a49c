"""Assignments: what a new process is to do. Sent through a descriptor that only it can read.

An assignment has groups in memory and is flat on the wire, see `codec`. Durations are seconds,
sizes are bytes.
"""

from typing import Any

import msgspec
from msgspec import Raw

from garrison.ipc.tombstones import Tombstones

from .curve_keys import CurveKeys
from .types import NIL, Token


class Group(msgspec.Struct, frozen=True):
    """Fields that belong together. On the wire they stand beside those of the assignment."""


class CallLimits(Group, frozen=True):
    """Limits of the calls that a process makes, and of the messages that it accepts."""

    timeout: float = 30.0  # deadline of a call whose caller names none
    window: int = 256  # calls in flight to one service
    window_bytes: int = 16 * 1024 * 1024  # bytes of their arguments
    max_message: int = 64 * 1024 * 1024  # largest message


class Timing(Group, frozen=True):
    """How long a worker may take, and how often it reports."""

    watchdog: float  # longest silence of its loop; 0: no watchdog
    start_timeout: float  # for Plugin.init and Service.start together
    grace: float  # for drain and Service.stop
    orphan_grace: float  # how long it runs without a supervisor
    health_interval: float = 0.0  # between calls of the service's own `health`; 0: never


class Paths(Group, frozen=True):
    """Where a worker finds its sockets and files."""

    control: str  # socket; on a node tcp://HOST:PORT
    bus: str  # likewise
    lock: str  # file; empty: other incarnations may run at the same time
    recorder: str = ""  # the flight recorder's file; empty: none
    data: str = ""  # folder of the service's own
    curve: CurveKeys | None = None  # on a node: the keys of both sockets
    lease: str = ""  # on a node: the file that says until when it may run, see `ipc.lease_page`


class WorkerEnvironment(Group, frozen=True):
    """A worker's environment variables. Values need not be UTF-8."""

    env: dict[str, bytes]
    secrets: dict[str, bytes]


class AgentIdentity(Group, frozen=True):
    """The agent that a service belongs to."""

    agent: str = ""  # its NAME; empty: the service is shared by all agents
    character: Raw = NIL  # without the secrets that are not this service's
    withheld: tuple[str, ...] = ()  # names of the character's secrets that were left out


class PluginSource(msgspec.Struct, frozen=True):
    """Where a plugin's code is."""

    name: str
    use: str
    folder: str  # the config file's


class WorkerLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """Resource limits and user that a worker applies to itself before it runs a plugin's code.

    A field at its default leaves the launcher's value as it is.
    """

    open_files: int = 0  # RLIMIT_NOFILE
    nice: int | None = None
    oom_score_adj: int | None = None
    umask: int | None = None
    working_directory: str = ""
    uid: int = -1  # the user that it runs as; -1: the launcher's
    gid: int = -1
    groups: tuple[int, ...] = ()  # supplementary groups, with the uid
    no_new_privs: bool = False


class TraceSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a worker's traces go."""

    address: str = ""  # of an OTLP collector; empty: there are no traces
    ratio: float = 1.0  # of traces that begin in the worker: how many are recorded
    headers: bytes = b""  # a secret: "name=value,name=value"
    problem: str = ""  # why it has no headers


class RestartedBy(msgspec.Struct, frozen=True):
    """The order that an incarnation was started by."""

    who: str  # NAME of the service that gave it, or "operator"
    why: str  # in the words of who gave it; empty: they gave none
    when: float  # Unix seconds


class Assignment(msgspec.Struct, tag="serve", frozen=True, kw_only=True):
    """One service to run."""

    name: str
    source: PluginSource
    service_type: str
    generation: int
    token: Token
    paths: Paths
    environment: WorkerEnvironment
    config: dict[str, Any]
    plugin_config: dict[str, Any]
    timing: Timing
    calls: CallLimits
    identity: AgentIdentity = AgentIdentity()
    record_values: bool = False  # the flight recorder also keeps arguments and results
    with_parts: bool = False  # the plugin's components (actions, models …) are in this worker
    priority: int | None = None  # of its models, where the config sets one
    limits: WorkerLimits = WorkerLimits()
    chaos: bool = False  # whether it accepts the faults of `garrison chaos`
    restarted_by: RestartedBy | None = None  # None: its first start, or one after a crash
    terminal: int | msgspec.UnsetType = msgspec.UNSET  # pid of the process whose terminal it uses
    threads: int = 16  # plain methods that run at once
    task_errors: str = "log"  # what an exception that nothing retrieves does: "log", "crash"
    not_granted: tuple[str, ...] = ()  # names of variables that the supervisor has, and it has not
    tombstones: Tombstones = Tombstones()  # persons whom a restored backup must not bring back
    traces: TraceSettings = TraceSettings()
    mark: str = ""  # of the incarnation's processes; empty: made from the token


class Section(msgspec.Struct, frozen=True, omit_defaults=True):
    """A service's config values, to be checked against its class's `Config`."""

    name: str
    service_type: str  # empty: the NAME, or the only one that the plugin has
    config: dict[str, Any]
    bound: bool  # the section names this plugin; otherwise it may be another plugin's
    called: str = ""  # its NAME without its agent's
    exclusive: bool = True  # False: as set in the section


class PluginToRead(msgspec.Struct, frozen=True):
    """A plugin to inspect, and what is to fit it."""

    source: PluginSource
    plugin_config: dict[str, Any]
    sections: tuple[Section, ...]


class Reading(msgspec.Struct, tag="read", frozen=True, kw_only=True, omit_defaults=True):
    """One plugin to inspect: what it offers, and whether its config fits."""

    source: PluginSource
    token: Token
    control: str
    env: dict[str, bytes]
    plugin_config: dict[str, Any]
    sections: tuple[Section, ...]
    further: tuple[PluginToRead, ...] = ()  # read in the same process: answered by PluginsRead

    @property
    def plugins(self) -> list[PluginToRead]:
        """Return all plugins to inspect."""
        return [PluginToRead(self.source, self.plugin_config, self.sections), *self.further]
