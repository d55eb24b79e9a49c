"""The snapshot of all services on disk, `living.json`, for a supervisor that comes after a crash.

In memory a snapshot consists of `Child` and `Incarnation`; the file is flat. It need not be synced:
a power cut ends the processes as well. Times are monotonic seconds, which mean something until the
machine starts again.
"""

import sys
from collections.abc import Iterable
from math import inf
from pathlib import Path

import msgspec
from msgspec.structs import replace

from garrison.ipc.messages import Failing, Manifest, PluginRead, State, Stopped
from garrison.supervisor.config.spec import AgentSpec, ServiceSpec, service_spec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.order_note import NO_ORDER, OrderNote
from garrison.supervisor.lifecycle.policy import Child, Effect, StopReason, has_process
from garrison.supervisor.lifecycle.services import Incarnation, Service
from garrison.supervisor.lifecycle.start_record import StartRecord

from .atomic import write_atomic
from .stored import FORMAT, read_stored

BOOT = Path("/proc/sys/kernel/random/boot_id")


class ServiceSnapshot(msgspec.Struct, frozen=True):
    """One service as it was when the snapshot was written.

    Of its spec, the snapshot has the names, the agent and the watchdog.
    """

    child: Child
    manifest: Manifest
    current: Incarnation = msgspec.field(default_factory=Incarnation)
    reason: str = ""
    traceback: str = ""
    last_exit: str = ""
    last_exit_at: float = 0.0
    applied: OrderNote = NO_ORDER
    restarted_by: OrderNote = NO_ORDER
    own_restarts: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Return its NAME."""
        return self.child.spec.name

    def is_of(self, spec: ServiceSpec) -> bool:
        """Return True if a spec is still that of the same service."""
        own = self.child.spec
        same = (spec.plugin, spec.service_type) == (own.plugin, own.service_type)
        return same and spec.agent.name == own.agent.name


class Snapshot(msgspec.Struct, frozen=True):
    """All services."""

    machine: str  # this run of the machine; pids and times of another one mean nothing
    config: str = ""  # the config's digest
    plugins: dict[str, PluginRead] = msgspec.field(default_factory=dict)
    services: list[ServiceSnapshot] = msgspec.field(default_factory=list)
    stopping: bool = False  # it was ordered that everything ends


# --- the flat form on disk ----------------------------------------------------------------


class StoredService(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One service in `living.json`, format 1."""

    name: str
    plugin: str
    service_type: str
    manifest: Manifest
    state: State
    wanted: bool
    since: float
    generation: int
    deadline: float | None = None  # None: there is none
    attempts: int = 0
    restarts: tuple[float, ...] = ()
    restarted: int = 0
    probes: int = 0
    why: StopReason = StopReason.ORDER
    harder: Effect = Effect.TERM
    token: str = ""  # of its incarnation, in hex; empty: it has no process
    pid: int = 0
    watchdog: float | None = None  # of its incarnation, in seconds
    ticks: int = 0
    started_at: float = 0.0
    reason: str = ""
    traceback: str = ""
    last_exit: str = ""
    last_exit_at: float = 0.0
    log_began: tuple[int, int] | None = None
    agent: str = ""
    uid: int = -1
    started: StartRecord | None = None  # of its incarnation
    order: int = 0  # number and verb of the last order that was carried out
    order_verb: str = ""
    extended: str = ""  # why its start or stop takes longer
    restarted_by: OrderNote = NO_ORDER  # the order that its next incarnation is started by
    own_restarts: tuple[float, ...] = ()
    led_by: tuple[str, ...] = ()  # of its incarnation
    node: str = ""  # that its incarnation runs on
    stopped: Stopped | None = None  # its incarnation's own report of an orderly end, …
    failing: Failing | None = None  # … or of a failure


class StoredSnapshot(msgspec.Struct, kw_only=True):
    """The content of `living.json`, format 1."""

    format: int = FORMAT
    machine: str
    config: str = ""
    plugins: dict[str, PluginRead] = {}
    services: list[StoredService] = []
    stopping: bool = False


def to_stored(one: ServiceSnapshot) -> StoredService:
    """Return the flat form of a service."""
    child, spec, current = one.child, one.child.spec, one.current
    return StoredService(
        name=spec.name,
        plugin=spec.plugin,
        service_type=spec.service_type,
        manifest=one.manifest,
        state=child.state,
        wanted=child.wanted,
        since=child.since,
        generation=child.generation,
        deadline=None if child.deadline == inf else child.deadline,
        attempts=child.attempts,
        restarts=child.restarts,
        restarted=child.restarted,
        probes=child.probes,
        why=child.why,
        harder=child.escalation,
        token=current.token.hex(),
        pid=current.pid,
        watchdog=spec.supervision.watchdog,
        ticks=current.handle.ticks,
        started_at=current.started_at,
        reason=one.reason,
        traceback=one.traceback,
        last_exit=one.last_exit,
        last_exit_at=one.last_exit_at,
        log_began=current.handle.log_began,
        node=current.handle.node,
        agent=spec.agent.name,
        uid=current.uid,
        started=current.started,
        order=one.applied.number,
        order_verb=one.applied.verb,
        extended=current.extended,
        restarted_by=one.restarted_by,
        own_restarts=one.own_restarts,
        led_by=current.led_by,
        stopped=current.stopped,
        failing=current.failing,
    )


def from_stored(one: StoredService) -> ServiceSnapshot:
    """Return a service from its flat form.

    A token that is none, or that belongs to a state without a process, is dropped.
    """
    spec = service_spec(
        name=one.name,
        plugin=one.plugin,
        service_type=one.service_type,
        watchdog=one.watchdog or 0.0,
        agent=AgentSpec(name=one.agent),
    )
    child = Child(
        spec,
        one.state,
        one.wanted,
        one.since,
        inf if one.deadline is None else one.deadline,
        one.generation,
        one.attempts,
        one.restarts,
        one.restarted,
        one.probes,
        one.why,
        one.harder,
    )
    return ServiceSnapshot(
        child,
        one.manifest,
        _stored_incarnation(one),
        one.reason,
        one.traceback,
        one.last_exit,
        one.last_exit_at,
        OrderNote(one.order, one.order_verb),
        one.restarted_by,
        one.own_restarts,
    )


def _stored_incarnation(one: StoredService) -> Incarnation:
    try:
        token = bytes.fromhex(one.token) if has_process(one.state) else b""
    except ValueError:
        token = b""
    if not token:
        return Incarnation()
    return Incarnation(
        token,
        one.started_at,
        handle=Handle(one.pid, one.ticks, one.log_began, one.node),
        uid=one.uid,
        adopting=True,
        started=_by_own_interpreter(one.started),
        extended=one.extended,
        led_by=one.led_by,
        stopped=one.stopped,
        failing=one.failing,
    )


def _by_own_interpreter(started: StartRecord | None) -> StartRecord | None:
    """Return a record without its interpreter, if that is the host's own by now: `update` has moved
    its service to what this supervisor runs by."""
    path = "" if started is None else started.settings.get("python")
    own = Path(sys.executable).parent
    if started is None or not path or Path(path).parent.resolve() != own.resolve():
        return started
    settings = {key: value for key, value in started.settings.items() if key != "python"}
    return replace(started, settings=settings, interpreter="")


# --- files --------------------------------------------------------------------------------


def snapshot_path(state: Path) -> Path:
    """Return the path of the file."""
    return state / "living.json"


def load_snapshot(state: Path, set_aside: bool = True) -> tuple[Snapshot | None, str]:
    """Return what a former supervisor left, and a problem in words if the file cannot be used.

    None: there was none, it ended in order, or the machine has been started again since.

    Args:
        state: The folder of the file.
        set_aside: Whether to rename a file that cannot be used.
    """
    found, problem = read_stored(snapshot_path(state), StoredSnapshot, set_aside)
    if found is None or found.machine != this_machine():
        return None, problem
    services = [from_stored(one) for one in found.services]
    known = Snapshot(found.machine, found.config, found.plugins, services, found.stopping)
    return known, problem


def save_snapshot(state: Path, snapshot: Snapshot) -> None:
    """Write the snapshot."""
    stored = StoredSnapshot(
        machine=snapshot.machine,
        config=snapshot.config,
        plugins=snapshot.plugins,
        services=[to_stored(one) for one in snapshot.services],
        stopping=snapshot.stopping,
    )
    write_atomic(snapshot_path(state), msgspec.json.encode(stored))


def remove_snapshot(state: Path) -> None:
    """Remove the file: everything has ended in order."""
    (snapshot_path(state)).unlink(missing_ok=True)


def this_machine() -> str:
    """Return what distinguishes this run of the machine from all others."""
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def take_snapshot(
    services: Iterable[Service], wanted: dict[str, bool] | None
) -> list[ServiceSnapshot]:
    """Return the services as they are now.

    Args:
        services: The services.
        wanted: What was wanted before everything was stopped, if it is being stopped.
    """
    return [
        ServiceSnapshot(
            _with_wanted(service.child, wanted),
            service.manifest,
            service.current,
            service.reason,
            service.traceback,
            service.last_exit,
            service.last_exit_at,
            service.applied,
            service.restarted_by,
            service.own_restarts,
        )
        for service in services
    ]


def _with_wanted(child: Child, wanted: dict[str, bool] | None) -> Child:
    if wanted is None:
        return child
    return replace(child, wanted=wanted.get(child.spec.name, False))
