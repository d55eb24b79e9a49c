"""What the manager performs effects with; nothing here changes a service."""

import signal
from collections.abc import Callable

import msgspec

from garrison.ipc import messages
from garrison.ipc.messages import Token
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.control.publisher import DirectoryPublisher
from garrison.supervisor.crashes.recorder import CrashRecorder
from garrison.supervisor.lifecycle.services import Incarnation, Service
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.processes.capabilities import (
    Capabilities,
    format_unsupported,
    unsupported_limits,
)
from garrison.supervisor.processes.engine import Engine

from .assignment import AssignmentBuilder
from .counters import Counters
from .direct_routing import DirectRouting
from .places import OneMachine, Places

INSIDE_S = 1.0  # for calls in a service that ends by an order from inside: one may wait for it
LIMIT_EVENTS_MOST = 10_000  # events about unsupported limits that are remembered


class Effects(msgspec.Struct):
    """The components that the manager acts through.

    Args:
        touch: The snapshot on disk is out of date.
        save: Writes the snapshot at once.
        acknowledge_saved: Acknowledges a worker's report of its end once the snapshot has it.
        wake: The next turn of the loop must not wait.
    """

    engine: Engine
    publisher: DirectoryPublisher
    bus: BusRouter
    endpoints: Endpoints
    log: EventLog
    crashes: CrashRecorder
    assignments: AssignmentBuilder
    machine: Capabilities
    counters: Counters
    direct: DirectRouting
    touch: Callable[[], None]
    save: Callable[[], object]
    acknowledge_saved: Callable[[Token], None]
    wake: Callable[[], None]
    places: Places = msgspec.field(default_factory=OneMachine)
    _logged_limits: set[tuple[str, str]] = msgspec.field(default_factory=set)

    def fork(self, service: Service, assignment: bytes) -> None:
        """Fork the worker of a service's current incarnation."""
        token, limits = service.current.token, service.spec.limits
        python = service.plugin.interpreter
        self.places.put(service)
        self.engine.fork(token, service.name, assignment, limits, python=python)

    def drain(self, service: Service) -> None:
        """Have a worker finish its calls and end."""
        token = service.current.token
        calls = INSIDE_S if service.ended_by.number else None
        grace, reason = service.spec.supervision.grace, service.current.drained
        drain = messages.Drain(grace, reason, calls)
        if not service.current.welcomed or not self.publisher.send(token, drain):
            self.engine.signal(token, signal.SIGTERM)

    def dump(self, token: Token) -> None:
        """Have a worker write its stacks into its log."""
        self.engine.dump(token)
        self.publisher.send(token, messages.ShowTasks())  # works only while its loop turns

    def log_unsupported_limits(self, service: Service) -> None:
        """Record what the machine does not support of a service's limits."""
        for limit in unsupported_limits(service.spec, self.machine):
            self.log_unsupported(service, format_unsupported(service.name, limit))

    def log_unsupported(self, service: Service, reason: str) -> None:
        """Record an unsupported limit, once for each service."""
        key = (service.name, reason)
        if key not in self._logged_limits and len(self._logged_limits) < LIMIT_EVENTS_MOST:
            self._logged_limits.add(key)
            self.log.record("limit.unheld", service.name, reason=reason)

    def removed(self, name: str) -> None:
        """Publish that a service was taken out of the host."""
        self.log.record("service.removed", name)
        self.counters.forget(name)
        self.publisher.removed(name)
        self.wake()
        self.touch()

    def publish_end(self, service: Service, cause: str) -> None:
        """Tell the peers of a worker why its process ended."""
        self.bus.mark_ended(service.current.token)
        self.counters.ended(service.name)
        self.bus.set_cause(service.current.token, cause)

    def release(self, name: str, ended: Incarnation) -> None:
        """Give up the addresses of an incarnation that is gone."""
        self.endpoints.control.forget(ended.token)
        self.direct.forget(name, ended.token)
        if ended.events:
            self.publisher.listed(name)
        if ended.token not in self.bus.connected:  # it sent nothing, so no peer needs a notice
            self.bus.drop(ended.token, "")
