"""Takes over the workers that a former supervisor left running.

Every service is restored where it was, the launchers are taken over with their workers, and each
worker answers once it has found the new sockets. Times are monotonic seconds.
"""

import contextlib
import signal
import time
from collections.abc import Iterable, Sequence
from math import inf
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import State, Token, WorkerLimits
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import (
    PluginSpec,
    Restart,
    ServiceSpec,
    service_spec,
)
from garrison.supervisor.fitting import configured_services
from garrison.supervisor.lifecycle.policy import Child, Effect, StopReason, has_process
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.processes.engine import Engine, Found, Inherited
from garrison.supervisor.processes.users import resolve_user
from garrison.supervisor.tasks import Steps

from .snapshot import ServiceSnapshot, Snapshot

EXTENSION_S = 3600.0  # the longest that a start or stop can have requested, see `Runtime.extend`
HELLO_S = 10.0  # for an adopted worker that is still starting to answer
UNCLAIMED_S = 5.0  # from TERM to KILL, for a worker that belongs to no service of this host


Adoptable: TypeAlias = list[tuple[ServiceSnapshot, ServiceSpec]]


def adoptable(config: Config, snapshot: Snapshot) -> tuple[Config, Adoptable]:
    """Return every service of a snapshot that still exists, with its present spec.

    Returns:
        The config that fits the services that run, and these services.

    Raises:
        ConfigError: The config does not fit the services that run; nothing has been changed yet.
    """
    provides = {
        name: [manifest.service_type for manifest in read.services]
        for name, read in snapshot.plugins.items()
    }
    config, services = configured_services(config, provides)
    _check_nodes(config, snapshot)
    specs = {spec.name: spec for spec in services}
    return config, [
        (one, spec)
        for one in snapshot.services
        if (spec := specs.get(one.name)) is not None and one.is_of(spec)
    ]


def _check_nodes(config: Config, snapshot: Snapshot) -> None:
    """Raise ConfigError if services run on nodes that the config has no longer."""
    there = [one for one in snapshot.services if one.current.token and one.current.handle.node]
    if there and not config.host.engine.has_nodes:
        named = ", ".join(f"{one.name} on {one.current.handle.node}" for one in there[:3])
        raise ConfigError(
            f"{named}: services run on nodes, so kind under [engine] must stay as it was until "
            "garrison down",
            path=config.shown,
            key="engine.kind",
        )


# --- what the policy goes on with ---------------------------------------------------------


def restored(one: ServiceSnapshot, spec: ServiceSpec, now: float) -> Child:
    """Return a service as the policy goes on with it.

    A worker must answer within its watchdog: a silent one is ended by the rule for a blocked loop.
    A service without a process is restored as it was.
    """
    saved, has_worker = one.child, bool(one.current.token)
    own = saved.spec.supervision.watchdog
    if spec.supervision.watchdog and own and has_worker:  # it sends its beats by its own watchdog
        spec = service_spec(spec, watchdog=max(spec.supervision.watchdog, own))
    supervision, state, deadline = spec.supervision, saved.state, saved.deadline
    match state:
        case State.RUNNING:
            deadline = now + supervision.watchdog if supervision.watchdog else inf
        case State.INITIALIZING | State.STARTING:
            longest = EXTENSION_S if one.current.extended else supervision.start_timeout
            deadline = max(min(deadline, now + longest), now + HELLO_S)
        case State.STOPPING:
            longest = EXTENSION_S if one.current.extended else supervision.grace
            deadline = min(deadline, now + longest)
    if has_process(state) and not has_worker:  # it was about to be started
        state, deadline = State.QUEUED if saved.wanted else State.STOPPED, inf
    if state is State.STOPPED and saved.wanted:  # by a host that was killed while it stopped
        state = State.QUEUED
    return replace(
        saved,
        spec=spec,
        state=state,
        since=min(saved.since, now),
        deadline=deadline,
        restarts=tuple(at for at in saved.restarts if at <= now),
    )


def respecified(service: Service, spec: ServiceSpec) -> tuple[Child, float | None]:
    """Return a restored service with another spec, and its watchdog from its next start on.

    A running one keeps the watchdog that it sends its beats by.
    """
    own, wanted = service.spec.supervision.watchdog, spec.supervision.watchdog
    if not service.current.token or own == wanted:
        return replace(service.child, spec=spec), None
    return replace(service.child, spec=service_spec(spec, watchdog=own)), wanted


def started_after_snapshot(child: Child, now: float) -> Child:
    """Return a service whose next incarnation was started after the snapshot was written."""
    deadline = now + max(child.spec.supervision.start_timeout, HELLO_S)
    return replace(
        child,
        state=State.INITIALIZING,
        since=now,
        deadline=deadline,
        generation=child.generation + 1,
    )


def ending_unattended(child: Child, now: float) -> Child:
    """Return a service whose worker ends because it had no supervisor for too long.

    That is no clean end after which the service has done its part: if wanted, it is started again.
    """
    return replace(
        child,
        state=State.STOPPING,
        deadline=now + UNCLAIMED_S,
        why=StopReason.ORDER,
        escalation=Effect.KILL,
    )


def restore_service(
    one: ServiceSnapshot, spec: ServiceSpec, plugin: PluginSpec, position: int, now: float
) -> Service:
    """Return a service of a snapshot; if it had a worker, that has yet to answer."""
    child, watchdog = restored(one, spec, now), spec.supervision.watchdog
    return Service(
        child,
        plugin,
        one.manifest,
        position,
        one.current,
        next_watchdog=watchdog if child.spec.supervision.watchdog != watchdog else None,
        reason=one.reason,
        traceback=one.traceback,
        last_exit=one.last_exit,
        last_exit_at=one.last_exit_at,
        order=one.applied,
        applied=one.applied,
        restarted_by=one.restarted_by,
        own_restarts=one.own_restarts,
    )


def inherited(snapshot: Snapshot | None) -> list[Inherited]:
    """Return the workers of a snapshot, for the engine to find."""
    services = snapshot.services if snapshot is not None else []
    return [
        Inherited(one.current.token, one.name, one.current.handle, one.current.uid)
        for one in services
        if one.current.token
    ]


def is_ending(spec: ServiceSpec, token: Token, found: Found) -> bool:
    """Return True if a worker ends, or has ended, because it had no supervisor for too long."""
    if token in found.running:
        return token in found.ending
    temporary = spec.supervision.restart is Restart.TEMPORARY
    return bool(token) and found.over and temporary


class AdoptionPlan(msgspec.Struct):
    """What the processes that were found mean for the restored services."""

    adopted: int = 0
    started_later: list[tuple[Service, Token, int]] = msgspec.field(
        default_factory=list
    )  # with its uid
    ending: list[Service] = msgspec.field(default_factory=list)  # by an end without a supervisor
    unclaimed: list[tuple[Token, str]] = msgspec.field(
        default_factory=list
    )  # of no service, with a name


class Adoption:
    """Takes over workers.

    Args:
        host: The settings of the host.
        engine: Has the workers.
        endpoints: The sockets.
        log: Where events are recorded.

    Attributes:
        unclaimed: Workers that belong to no service, and that are being ended.
    """

    def __init__(self, host: HostSpec, engine: Engine, endpoints: Endpoints, log: EventLog) -> None:
        self._host, self._engine, self._endpoints, self._log = host, engine, endpoints, log
        self._unknown: list[Token] = []  # workers that no snapshot has
        self._ending: dict[str, Token] = {}  # by the name that they were started for
        self.unclaimed: set[Token] = set()

    def admit_remote(self, tokens: Iterable[Token]) -> None:
        """Let workers on nodes connect again."""
        if self._endpoints.nodes is not None:
            for token in tokens:
                self._endpoints.admit_remote(token)

    def open_endpoints(self, services: Iterable[tuple[str, Token, int]]) -> None:
        """Open the sockets of workers that run as other users, before they connect again.

        Args:
            services: NAME, token and uid of each.
        """
        for name, token, uid in services:
            try:
                if token:
                    self._endpoints.admit(token, uid)
            except OSError as error:  # it cannot connect, and is replaced
                self._log.record("user.not_let_in", name, uid=uid, error=str(error))

    def plan(
        self, services: Sequence[Service], found: Found, stopping: bool = False
    ) -> AdoptionPlan:
        """Compare the restored services with the workers that were found.

        Args:
            services: The services.
            found: What the engine has found.
            stopping: Whether the former supervisor was stopping everything by order. Then an end
                meanwhile is no crash.
        """
        plan = AdoptionPlan()
        named = {name: token for token, name in found.running.items()}
        known: set[Token] = set()
        for service in services:
            token = service.current.token
            if token not in found.running and service.name in named:
                token = named[service.name]
                uid = self._uid_of(service.spec)
                self.open_endpoints([(service.name, token, uid)])
                plan.started_later.append((service, token, uid))
            known.add(token)
            plan.adopted += token in found.running
            ended = stopping and bool(token) and token not in found.running
            if ended or is_ending(service.spec, token, found):
                plan.ending.append(service)
        plan.unclaimed = [one for one in found.running.items() if one[0] not in known]
        return plan

    def _uid_of(self, spec: ServiceSpec) -> int:
        """Return the user that a service runs as by its config; the snapshot is older."""
        data = self._host.state / "services" / spec.name
        with contextlib.suppress(StartError):
            if (account := resolve_user(spec, data)) is not None:
                return account.put_on(WorkerLimits()).uid
        return -1

    # --- workers of no service --------------------------------------------------------------

    def end_unclaimed(self, token: Token, name: str, is_known: bool) -> Steps:
        """End a worker that belongs to no service of this host.

        Args:
            token: Its token.
            name: The name that it was started for.
            is_known: Whether a snapshot has it, so that its service was taken out of the config.
        """
        if not is_known:
            self._unknown.append(token)
        self.unclaimed.add(token)
        self._ending[name] = token
        number = signal.SIGTERM if is_known else signal.SIGKILL
        self._log.record("worker.unclaimed", name, ended=number.name)
        self._engine.signal(token, number)
        return self._until_killed(token)

    def _until_killed(self, token: Token) -> Steps:
        until = time.monotonic() + UNCLAIMED_S
        while self._engine.has(token) and time.monotonic() < until:
            yield False
        self._engine.signal(token, signal.SIGKILL)
        self._engine.discard(token)
        self.unclaimed.discard(token)
        self._endpoints.control.forget(token)
        self._endpoints.bus.forget(token)

    def until_ended(self, names: Iterable[str]) -> Steps:
        """Wait until no service can run twice: the workers that no snapshot has are gone, and
        those of the names that a service had before."""
        until = time.monotonic() + UNCLAIMED_S
        renamed = [self._ending[name] for name in names if name in self._ending]
        while any(map(self._engine.has, self._unknown)) and time.monotonic() < until:
            yield False
        until += UNCLAIMED_S  # they are killed after `UNCLAIMED_S`
        while any(map(self._engine.has, renamed)) and time.monotonic() < until:
            yield False
