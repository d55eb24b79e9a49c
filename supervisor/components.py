"""Builds the components of a supervisor and connects them; each gets only what it uses."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zmq

from garrison.ipc.messages import Acknowledged, Token
from garrison.ipc.system import process_tree
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.control.commands.base import CommandContext
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.control.requests import EventFollowers, RequestHooks, RequestQueue
from garrison.supervisor.control.server import CONTROL_BYTES, ControlServer
from garrison.supervisor.control.status import HostState, StatusReport
from garrison.supervisor.crashes.recorder import CrashRecorder
from garrison.supervisor.crashes.store import CrashStore
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.processes.local import LocalEngine
from garrison.supervisor.processes.machine import detect_capabilities
from garrison.supervisor.processes.preload import Preloader
from garrison.supervisor.state.adoption import Adoption
from garrison.supervisor.state.handover import Handover, Upgrade
from garrison.supervisor.state.orders import OrderStore
from garrison.supervisor.state.snapshot_writer import SnapshotWriter

from .assignment import AssignmentBuilder
from .manager import Collaborators, ServiceManager
from .plugins import PluginRegistry, RegistryHooks
from .tasks import Steps


@dataclass(frozen=True, slots=True)
class LoopHooks:
    """What components have done by the loop."""

    add_task: Callable[[Steps], None]
    wake: Callable[[], None]
    report_error: Callable[[str, Exception], None]
    report_unsaved: Callable[[str], None]
    add_services: Callable[[list[ServiceSpec]], None]
    on_program_left: Callable[[Token], None]
    host_state: Callable[[], HostState]
    stop_host: Callable[[], None]
    begin_upgrade: Callable[[str], None]
    publish_now: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Sockets:
    """The components that send and receive."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    endpoints: Endpoints
    control: ControlServer
    bus: BusRouter
    publisher: DirectoryPublisher
    followers: EventFollowers


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a supervisor."""

    services: ServiceTable
    engine: Engine
    sockets: Sockets
    crashes: CrashRecorder
    plugins: PluginRegistry
    snapshots: SnapshotWriter
    manager: ServiceManager
    adoption: Adoption
    upgrade: Upgrade
    requests: RequestQueue


def build(
    config: Config,
    environ: Mapping[str, str],
    log: EventLog,
    handover: Handover,
    orders: OrderStore,
    loop: LoopHooks,
) -> Components:
    """Build all components.

    Args:
        config: The config that the host is started with.
        environ: The environment at the start; secrets are taken from it.
        log: The event log.
        handover: What the supervisor before an upgrade has left.
        orders: The operator's commands of earlier runs of the host.
        loop: What the loop does for components.
    """
    host, services, boot = config.host, ServiceTable(), secrets.token_hex(8)
    others = set(process_tree.children())  # children of this process, but not the host's
    if handover.locks:
        others &= set(handover.others)
    engine: Engine = LocalEngine(
        host.run,
        host.logs,
        base_environment(environ),
        host.orphan_grace,
        host.cgroups,
        others,
    )
    sockets = _build_sockets(config, boot, services, log, lambda: plugins.config, loop)
    crashes = CrashRecorder(
        CrashStore(host.state / "deaths"),
        host.logs,
        engine,
        log,
        environ,
        services.by_token,
        loop.add_task,
        loop.report_error,
    )
    hooks = RegistryHooks(
        loop.add_services,
        lambda specs: manager.take_specs(specs),
        lambda token: sockets.publisher.send(token, Acknowledged()),
        loop.add_task,
        loop.wake,
        lambda: manager.stopping,
    )
    preloader = Preloader(engine, log.record)
    plugins = PluginRegistry(config, environ, engine, preloader, services, log, hooks)
    snapshots = SnapshotWriter(
        host.state,
        services,
        orders,
        lambda: (plugins.config.digest, plugins.read),
        loop.report_unsaved,
    )
    machine = detect_capabilities(host.cgroups, process_tree.children())
    assignments = AssignmentBuilder(
        host, environ, sockets.endpoints, plugins.source, engine.left, loop.report_error
    )
    use = Collaborators(
        engine,
        sockets.publisher,
        sockets.bus,
        sockets.endpoints,
        log,
        crashes,
        assignments,
        machine,
        snapshots.touch,
        loop.wake,
    )
    manager = ServiceManager(services, host.starts_at_once, use)
    adoption = Adoption(host, engine, sockets.endpoints, log)
    upgrade = Upgrade(environ, others, sockets.bus)
    status = StatusReport(
        host, boot, services, engine, sockets.bus, machine, loop.host_state, crashes.recent
    )
    context = CommandContext(
        host,
        boot,
        environ,
        services,
        plugins,
        status,
        log,
        lambda: manager.stopping,
        crashes.until_written,
        snapshots.record_order,
        sockets.followers.add,
        loop.stop_host,
        upgrade.check_successor,
        snapshots.write,
        loop.begin_upgrade,
    )
    requests = _build_requests(context, sockets, manager, snapshots, loop)
    return Components(
        services,
        engine,
        sockets,
        crashes,
        plugins,
        snapshots,
        manager,
        adoption,
        upgrade,
        requests,
    )


def _build_sockets(
    config: Config,
    boot: str,
    services: ServiceTable,
    log: EventLog,
    current_config: Callable[[], Config],
    loop: LoopHooks,
) -> Sockets:
    host = config.host
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    endpoints = Endpoints(context, host, min(host.max_message, CONTROL_BYTES))
    control = ControlServer(endpoints.control, log)
    bus = BusRouter(endpoints.bus, control.reject, host.max_message)
    publisher = DirectoryPublisher(
        endpoints.control,
        services,
        host,
        boot,
        lambda: current_config().default_spec.calls,
        log,
        loop.on_program_left,
    )
    followers = EventFollowers(publisher.send)
    log.listeners.append(followers.publish_event)
    return Sockets(context, endpoints, control, bus, publisher, followers)


def _build_requests(
    context: CommandContext,
    sockets: Sockets,
    manager: ServiceManager,
    snapshots: SnapshotWriter,
    loop: LoopHooks,
) -> RequestQueue:
    hooks = RequestHooks(
        sockets.publisher.send,
        manager.perform,
        snapshots.write_pending,
        loop.publish_now,
        loop.wake,
        loop.report_error,
    )
    return RequestQueue(context, hooks)
