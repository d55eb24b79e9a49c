"""Builds the components of a supervisor and connects them; each gets only what it uses."""

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import zmq

from garrison.ipc.messages import Acknowledged, Token
from garrison.ipc.system import process_tree
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.control.commands.base import CommandContext, PersonStores
from garrison.supervisor.control.consoles import Consoles
from garrison.supervisor.control.gate import OrderGate, open_for_operators
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.control.requests import EventFollowers, RequestHooks, RequestQueue
from garrison.supervisor.control.server import CONTROL_BYTES, ControlServer
from garrison.supervisor.control.stack_requests import StackRequests
from garrison.supervisor.control.status import HostState, StatusReport
from garrison.supervisor.crashes.recorder import CrashRecorder
from garrison.supervisor.crashes.store import CrashStore
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.processes.detect import detect_capabilities
from garrison.supervisor.processes.early_launcher import EarlyLauncher
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.processes.local import LocalEngine
from garrison.supervisor.processes.preload import Preloader
from garrison.supervisor.state.accepted_store import AcceptedStore
from garrison.supervisor.state.adoption import Adoption
from garrison.supervisor.state.forgotten import ForgottenStore
from garrison.supervisor.state.handover import Handover, Upgrade
from garrison.supervisor.state.orders import OrderStore
from garrison.supervisor.state.renames import RenameStore
from garrison.supervisor.state.snapshot import Snapshot
from garrison.supervisor.state.snapshot_writer import SnapshotWriter

from .assignment import AssignmentBuilder
from .counters import Counters
from .direct_routing import FOR_TESTS, DirectRouting, mode_of
from .dispatch import InputDispatcher
from .effects import Effects
from .helpers import HelperProcesses
from .holding import HeldProcesses
from .manager import ServiceManager
from .places import OneMachine, Places
from .plugins import PluginRegistry, RegistryHooks
from .starts import StartScheduler
from .takeover import Takeover
from .tasks import Steps

if TYPE_CHECKING:
    from garrison.supervisor.bus.node_endpoints import NodeEndpoints


class LoopHooks(msgspec.Struct, frozen=True):
    """What components have done by the loop."""

    add_task: Callable[[Steps], None]
    wake: Callable[[], None]
    report_error: Callable[[str, Exception], None]
    report_unsaved: Callable[[str], None]
    add_services: Callable[[list[ServiceSpec]], None]
    on_program_left: Callable[[Token], None]
    host_state: Callable[[], HostState]
    stop_host: Callable[[OrderNote], None]
    begin_upgrade: Callable[[str], None]
    publish_now: Callable[[], None]


class Stores(msgspec.Struct, frozen=True):
    """What earlier runs of the host have left on disk."""

    orders: OrderStore
    accepted: AcceptedStore
    renames: RenameStore
    former: Snapshot | None  # of a former supervisor; None: there was none


class Sockets(msgspec.Struct, frozen=True):
    """The components that send and receive."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    endpoints: Endpoints
    control: ControlServer
    bus: BusRouter
    publisher: DirectoryPublisher
    followers: EventFollowers
    direct: DirectRouting


class Components(msgspec.Struct, frozen=True):
    """The components of a supervisor."""

    services: ServiceTable
    engine: Engine
    sockets: Sockets
    crashes: CrashRecorder
    plugins: PluginRegistry
    snapshots: SnapshotWriter
    manager: ServiceManager
    takeover: Takeover
    upgrade: Upgrade
    requests: RequestQueue
    dispatcher: InputDispatcher
    places: Places


# Makes an engine for a host: its settings, the environment of workers, and the pids of children of
# this process that are not the engine's.
EngineFactory: TypeAlias = Callable[[HostSpec, Mapping[str, str], set[int]], Engine]


def local_engine(
    host: HostSpec,
    environment: Mapping[str, str],
    others: set[int],
    early: EarlyLauncher | None = None,
) -> Engine:
    """Return the engine that runs workers on this machine.

    Args:
        host: The settings of the host.
        environment: The environment of its workers.
        others: Pids of children of this process that are not the engine's.
        early: The first launcher, if it was started already.
    """
    grace, each_cgroup = host.orphan_grace, host.cgroups
    if early is not None:
        others.discard(early.pid)
    return LocalEngine(host.run, host.logs, environment, grace, each_cgroup, others, early)


def nodes_engine(
    local: Engine,
    endpoints: "NodeEndpoints",
    host: HostSpec,
    environment: Mapping[str, str],
) -> Engine:
    """Return the engine that runs workers on this machine and on nodes.

    Args:
        local: Runs those of this machine.
        endpoints: What nodes connect to.
        host: The settings of the host.
        environment: The environment of its workers.
    """
    from .processes.node_set import NodeSettings  # not loaded by a host of one machine
    from .processes.nodes import NodesEngine

    settings = NodeSettings(
        host.engine.lease,
        host.orphan_grace,
        host.cgroups,
        host.log_bytes,
        host.state,
        host.logs,
        environment,
    )
    engine = NodesEngine(local, settings)
    engine.attach(endpoints.engine, endpoints.node_of, endpoints.disconnect)
    return engine


def build(
    config: Config,
    environ: Mapping[str, str],
    log: EventLog,
    handover: Handover,
    stores: Stores,
    loop: LoopHooks,
    make_engine: EngineFactory,
) -> Components:
    """Build all components.

    Args:
        config: The config that the host is started with.
        environ: The environment at the start; secrets are taken from it.
        log: The event log.
        handover: What the supervisor before an upgrade has left.
        stores: What earlier runs of the host have left on disk.
        loop: What the loop does for components.
        make_engine: Makes the engine.
    """
    services = ServiceTable(former_names=stores.renames.former, pause_of=stores.orders.pause_of)
    return _Builder(config, environ, log, handover, loop, services, make_engine).build(stores)


class _Builder:
    """Builds components in the order in which they need each other."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        log: EventLog,
        handover: Handover,
        loop: LoopHooks,
        services: ServiceTable,
        make_engine: EngineFactory,
    ) -> None:
        host = config.host
        self._config, self._host, self._environ = config, host, environ
        self._log, self._loop = log, loop
        self._boot, self._services = os.urandom(8).hex(), services
        self._counters = Counters(self._services.manifest_of, time.monotonic())
        self._machine = detect_capabilities(host.cgroups, process_tree.below())
        self._others = set(process_tree.children())  # children of this process, not the host's
        if handover.locks:
            self._others &= set(handover.others)
        environment = base_environment(environ)
        self._engine = make_engine(host, environment, self._others)
        self._sockets = self._build_sockets()
        if (endpoints := self._sockets.endpoints.nodes) is not None:
            self._engine = nodes_engine(self._engine, endpoints, host, environment)
        self._places = self._build_places()
        self._stacks = StackRequests(
            self._sockets.publisher.send, lambda token: self._engine.dump(token, is_last=False)
        )
        self._forgotten = ForgottenStore(host.home)
        self._crashes = CrashRecorder(
            CrashStore(host.state / "deaths"),
            host.logs,
            self._engine,
            log,
            environ,
            self._services.by_token,
            loop.add_task,
            loop.report_error,
            self._counters.add_death,
        )

    def build(self, stores: Stores) -> Components:
        """Build the components that decide, and return all."""
        host, loop, sockets = self._host, self._loop, self._sockets
        self._plugins = self._build_plugins(stores.accepted)
        snapshots = SnapshotWriter(
            host.state,
            self._services,
            stores.orders,
            lambda: (self._plugins.config.digest, self._plugins.read),
            loop.report_unsaved,
            lambda token: sockets.publisher.send(token, Acknowledged()),
        )
        self._manager = self._build_manager(snapshots)
        adoption = Adoption(host, self._engine, sockets.endpoints, self._log)
        helpers = HelperProcesses(self._environ, self._others)
        upgrade = Upgrade(self._environ, self._others, helpers, sockets.bus)
        requests = self._build_requests(stores, snapshots, upgrade, helpers)
        return Components(
            self._services,
            self._engine,
            sockets,
            self._crashes,
            self._plugins,
            snapshots,
            self._manager,
            self._build_takeover(stores.former, adoption),
            upgrade,
            requests,
            self._build_dispatcher(adoption, requests),
            self._places,
        )

    def _build_places(self) -> Places:
        """Return where services run. Without nodes, nothing of placing is imported."""
        if not self._host.engine.has_nodes:
            return OneMachine()
        from .placing import building

        if not isinstance(self._engine, building.EngineOfNodes):
            return OneMachine()
        loop = self._loop
        return building.build_placement(
            self._host,
            self._services,
            self._engine,
            self._log.record,
            lambda service: self._manager.move(service),
            loop.wake,
            loop.report_unsaved,
            self._environ,
            self._others,
        )

    def _build_sockets(self) -> Sockets:
        host, log = self._host, self._log
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        endpoints = Endpoints(context, host, min(host.max_message, CONTROL_BYTES))
        if host.engine.has_nodes:
            endpoints.open_nodes(log.record)
        open_for_operators(host, endpoints, log)
        control = ControlServer(endpoints.control, log)
        limit, streams = host.max_message, endpoints.streams
        streams.reject = control.reject
        bus = BusRouter(endpoints.bus, control.reject, limit, self._boot, streams)
        publisher = DirectoryPublisher(
            endpoints.control,
            self._services,
            host,
            self._boot,
            lambda: self._plugins.config.default_spec.calls,
            log,
            self._loop.on_program_left,
        )
        mode = mode_of(host.direct, self._environ.get(FOR_TESTS))
        direct = DirectRouting(mode, host.run, self._services, bus, publisher.send)
        self._counters.direct_pairs = direct.pairs
        followers = EventFollowers(publisher.send)
        log.listeners.append(followers.publish_event)
        return Sockets(context, endpoints, control, bus, publisher, followers, direct)

    def _build_plugins(self, accepted: AcceptedStore) -> PluginRegistry:
        loop, publisher = self._loop, self._sockets.publisher
        hooks = RegistryHooks(
            loop.add_services,
            lambda specs: self._manager.roster.take_specs(specs),
            lambda specs, plugins: self._manager.roster.respecify(specs, plugins),
            lambda token: publisher.send(token, Acknowledged()),
            loop.add_task,
            loop.wake,
            lambda: self._manager.stopping,
        )
        preloader = Preloader(self._engine, self._log.record)
        return PluginRegistry(
            self._config,
            self._environ,
            self._engine,
            preloader,
            self._services,
            self._log,
            hooks,
            accepted,
        )

    def _build_manager(self, snapshots: SnapshotWriter) -> ServiceManager:
        loop, sockets = self._loop, self._sockets
        assignments = AssignmentBuilder(
            self._host,
            self._environ,
            sockets.endpoints,
            self._plugins.source,
            self._engine.left,
            loop.report_error,
            lambda: self._forgotten.tombstones,
            self._places.node_of,
            self._places.devices,
        )
        effects = Effects(
            self._engine,
            sockets.publisher,
            sockets.bus,
            sockets.endpoints,
            self._log,
            self._crashes,
            assignments,
            self._machine,
            self._counters,
            sockets.direct,
            snapshots.touch,
            snapshots.write,
            snapshots.acknowledge_saved,
            loop.wake,
            self._places,
        )
        most, measure = self._host.starts_at_once, self._engine.measure_start
        return ServiceManager(
            self._services, StartScheduler(self._services, most, measure), effects
        )

    def _build_takeover(self, former: Snapshot | None, adoption: Adoption) -> Takeover:
        return Takeover(
            former,
            self._engine,
            self._services,
            self._manager,
            self._plugins,
            adoption,
            self._log,
            self._loop.add_task,
        )

    def _build_requests(
        self,
        stores: Stores,
        snapshots: SnapshotWriter,
        upgrade: Upgrade,
        helpers: HelperProcesses,
    ) -> RequestQueue:
        loop, sockets = self._loop, self._sockets
        status = StatusReport(
            self._host,
            self._boot,
            self._services,
            self._engine,
            sockets.bus,
            self._machine,
            loop.host_state,
            self._crashes.recent,
            self._plugins.read_disk,
            sockets.direct.pairs,
            self._places,
        )
        context = CommandContext(
            self._host,
            self._boot,
            self._environ,
            self._services,
            self._plugins,
            status,
            self._log,
            lambda: self._manager.stopping,
            self._crashes.until_written,
            snapshots.next_order,
            snapshots.record_order,
            snapshots.record_pause,
            stores.accepted,
            sockets.followers.add,
            loop.stop_host,
            upgrade.check_successor,
            snapshots.write,
            loop.begin_upgrade,
            PersonStores(self._forgotten, self._crashes.store),
            self._stacks,
            stores.renames,
            self._counters,
            HeldProcesses(self._services),
            Consoles(),
            helpers,
            self._places,
        )
        hooks = RequestHooks(
            sockets.publisher.send,
            self._manager.perform,
            snapshots.write_pending,
            loop.publish_now,
            loop.wake,
            loop.report_error,
        )
        return RequestQueue(context, hooks, OrderGate(self._host, self._services, self._log).admit)

    def _build_dispatcher(self, adoption: Adoption, requests: RequestQueue) -> InputDispatcher:
        sockets, loop = self._sockets, self._loop
        return InputDispatcher(
            sockets.control,
            sockets.publisher,
            sockets.followers,
            sockets.bus,
            self._services,
            self._manager,
            self._plugins,
            adoption,
            requests,
            self._stacks,
            loop.add_task,
            loop.wake,
            loop.report_error,
        )
