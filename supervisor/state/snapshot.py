"""What is on disk about the living, and what a new supervisor makes of it; orders that outlive it.

Files are written whole to a temporary name and renamed, and carry their format. What is remembered
for good is synced; what is about living processes need not be: a power cut ends those too.
Times are monotonic seconds, which mean something until the machine starts again.
"""

from collections.abc import Container
from enum import Enum
from math import inf
from pathlib import Path
from typing import TypeVar

import msgspec

from garrison.ipc.messages import BAD_BYTES, Manifest, PluginRead, State, Token
from garrison.supervisor.config.spec import ServiceSpec, service_spec
from garrison.supervisor.lifecycle.policy import Child, Effect, StopReason, has_process
from garrison.supervisor.lifecycle.services import Service

from .atomic import write_atomic

FORMAT = 1
HELLO_S = 10.0  # for an adopted worker that is still starting to say that it is there
BOOT = Path("/proc/sys/kernel/random/boot_id")

T = TypeVar("T", bound=msgspec.Struct)


class OperatorOrders(msgspec.Struct):
    """What is remembered from one supervisor to the next."""

    format: int = FORMAT
    stopped: list[str] = []  # NAMEs that `garrison stop` keeps from running
    started: list[str] = []  # NAMEs without autostart that `garrison start` keeps running

    def order(self, name: str, wanted: bool, autostart: bool) -> bool:
        """Take an order to start or stop a service; tell whether that is anything new."""
        before = ([*self.stopped], [*self.started])
        for names in (self.stopped, self.started):
            if name in names:
                names.remove(name)
        if wanted and not autostart:
            self.started.append(name)
        if not wanted and autostart:
            self.stopped.append(name)
        return (self.stopped, self.started) != before


class ServiceSnapshot(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One service as it was when it was last written down."""

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
    watchdog: float | None = None  # that its present incarnation was given, in seconds
    ticks: int = 0  # when that process started, so that a pid used again is not taken for it
    started_at: float = 0.0
    reason: str = ""
    traceback: str = ""
    last_exit: str = ""
    last_exit_at: float = 0.0
    log_began: tuple[int, int] | None = None  # its log's inode and size then; None: nobody knows
    agent: str = ""  # that it belongs to
    uid: int = -1  # of the user that its incarnation runs as, where that is not the host's own


class Snapshot(msgspec.Struct, kw_only=True):
    """Every service, for whoever comes after this supervisor."""

    format: int = FORMAT
    machine: str  # this run of it: pids and monotonic times are of no use in another
    config: str = ""  # the config's digest
    plugins: dict[str, PluginRead] = {}
    services: list[ServiceSnapshot] = []


class Format(msgspec.Struct):
    """What every format says first."""

    format: int = FORMAT


# --- files --------------------------------------------------------------------------------


def load(state: Path) -> tuple[OperatorOrders, str]:
    """Return what is remembered, and a problem in words where the file was no use."""
    found, problem = _load(state / "orders.json", OperatorOrders)
    return found or OperatorOrders(), problem


def save(state: Path, saved: OperatorOrders) -> None:
    """Write down what is to be remembered for good."""
    content = msgspec.json.format(msgspec.json.encode(saved))
    write_atomic(state / "orders.json", content, sync=True)


def load_living(state: Path, aside: bool = True) -> tuple[Snapshot | None, str]:
    """Return what a former supervisor left, and a problem in words where the file was no use.

    None: there was none, it ended in order, or the machine has been started again since.

    Args:
        state: The folder of what is remembered.
        aside: Whether a file that is no use is set aside; not by those who only look.
    """
    found, problem = _load(state / "living.json", Snapshot, aside)
    if found is not None and found.machine != this_machine():
        return None, problem
    return found, problem


def save_living(state: Path, living: Snapshot) -> None:
    """Write down who lives."""
    write_atomic(state / "living.json", msgspec.json.encode(living))


def forget_living(state: Path) -> None:
    """Take that away: everything has ended in order."""
    (state / "living.json").unlink(missing_ok=True)


def this_machine() -> str:
    """Return what tells this run of the machine from all others."""
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def _load(file: Path, kind: type[T], aside: bool = True) -> tuple[T | None, str]:
    try:
        content = file.read_bytes()
        number = msgspec.json.decode(content, type=Format).format
        if number > FORMAT:
            problem = f"{file} is of format {number}, and this version reads {FORMAT}"
            return None, problem + (_set_aside(file, "newer") if aside else "")
        return msgspec.json.decode(content, type=kind), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, *BAD_BYTES) as error:
        problem = f"{file} cannot be read ({error})"
        return None, problem + (_set_aside(file, "damaged") if aside else "")


def _set_aside(file: Path, suffix: str) -> str:
    """Move a file out of the way, so that somebody can look at it; return that in words."""
    try:
        file.rename(file.with_suffix(f".{suffix}"))
    except OSError as error:
        return f"; nor can it be set aside ({error.strerror})"
    return f"; it was set aside as {file.stem}.{suffix}"


# --- what is made of it -------------------------------------------------------------------


def kept(post: Service, ticks: int, wanted: bool) -> ServiceSnapshot:
    """Return a service as it is written down."""
    child = post.child
    return ServiceSnapshot(
        name=post.name,
        plugin=post.spec.plugin,
        service_type=post.spec.service_type,
        manifest=post.manifest,
        state=child.state,
        wanted=wanted,
        since=child.since,
        generation=child.generation,
        deadline=None if child.deadline == inf else child.deadline,
        attempts=child.attempts,
        restarts=child.restarts,
        restarted=child.restarted,
        probes=child.probes,
        why=child.why,
        harder=child.harder,
        token=post.current.token.hex(),
        pid=post.current.pid,
        watchdog=post.spec.supervision.watchdog,
        ticks=ticks,
        started_at=post.current.started_at,
        reason=post.reason,
        traceback=post.traceback,
        last_exit=post.last_exit,
        last_exit_at=post.last_exit_at,
        log_began=post.current.handle.log_began,
        agent=post.spec.agent.name,
        uid=post.current.uid,
    )


class WorkerFate(Enum):
    """What became of a service's process, as far as can be told without looking for it."""

    NONE = "it had none"
    LAUNCHED = "its launcher has it"
    ENDED = "its launcher saw its end"
    UNSEEN = "no launcher knows it"  # it may live as nobody's child


def token_of(one: ServiceSnapshot) -> Token:
    """Return the token of a service's incarnation; empty where there was none, or none readable."""
    try:
        return bytes.fromhex(one.token) if has_process(one.state) else b""
    except ValueError:
        return b""


def fate(one: ServiceSnapshot, living: Container[Token], ended: Container[Token]) -> WorkerFate:
    """Return what became of a service's process, by what the launchers say."""
    token = token_of(one)
    if not token:
        return WorkerFate.NONE
    if token in living:
        return WorkerFate.LAUNCHED
    return WorkerFate.ENDED if token in ended else WorkerFate.UNSEEN


def started_after_snapshot(one: ServiceSnapshot, token: Token, now: float) -> ServiceSnapshot:
    """Return a service whose next incarnation was begun after it was last written down."""
    return msgspec.structs.replace(
        one,
        token=token.hex(),
        state=State.INITIALIZING,
        since=now,
        started_at=now,
        deadline=None,
        generation=one.generation + 1,
        pid=0,
        uid=-1,
        ticks=0,
        log_began=None,
    )


def restored(one: ServiceSnapshot, spec: ServiceSpec, now: float) -> Child:
    """Return a service as the policy goes on with it.

    A worker must say within its watchdog that it is there; a silent one is ended by the same rule
    as one whose loop is blocked. A state without a process is taken up as it was.
    """
    if (
        spec.supervision.watchdog and one.watchdog and token_of(one)
    ):  # its beats are as rare as it was told
        spec = service_spec(spec, watchdog=max(spec.supervision.watchdog, one.watchdog))
    deadline = inf if one.deadline is None else one.deadline
    match one.state:
        case State.RUNNING:
            deadline = now + spec.supervision.watchdog if spec.supervision.watchdog else inf
        case State.INITIALIZING | State.STARTING:
            deadline = max(min(deadline, now + spec.supervision.start_timeout), now + HELLO_S)
        case State.STOPPING:
            deadline = min(deadline, now + spec.supervision.grace)
    state = one.state
    if has_process(state) and not token_of(one):  # it was to be started
        state, deadline = State.QUEUED if one.wanted else State.STOPPED, inf
    if state is State.STOPPED and one.wanted:  # by a host that was killed while it ended
        state = State.QUEUED
    return Child(
        spec,
        state,
        one.wanted,
        min(one.since, now),
        deadline,
        one.generation,
        one.attempts,
        tuple(at for at in one.restarts if at <= now),
        one.restarted,
        one.probes,
        one.why,
        one.harder,
    )
