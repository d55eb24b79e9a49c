"""Which queued services start now: measures those that start, and has them give their slots up."""

import time
from collections.abc import Callable
from math import inf

from garrison.ipc.messages import State, Token
from garrison.supervisor.lifecycle.ordering import STARTING, next_starts
from garrison.supervisor.lifecycle.policy import Child, Event, StopReason, extend
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.lifecycle.start_slots import StartLimit, StartWork, look_again_at
from garrison.supervisor.processes.processors import processor_count

EACH = 2  # starts at once for a processor, where the config leaves their number to that


def default_starts() -> int:
    """Return how many services start at once by default: two for each processor.

    A start waits for the supervisor, the launcher and files in between.
    """
    return EACH * processor_count()


class StartScheduler:
    """Chooses the services that start.

    Args:
        services: All services.
        most: How many may start at the same time; 0: as `default_starts` says.
        measure: Returns what a start has used; None: unknown.
    """

    def __init__(
        self,
        services: ServiceTable,
        most: int,
        measure: Callable[[Token], StartWork | None],
    ) -> None:
        self._services, self._measure = services, measure
        self._limit = StartLimit(most or default_starts())

    def next(self) -> tuple[list[Service], float]:
        """Return the services to start now, and when to call this again at the latest."""
        now = time.monotonic()
        chosen, waiting = next_starts(self._services, self._limit.now)
        if not waiting:
            return chosen, inf
        due = [
            service
            for service in self._services
            if service.state in STARTING and service.current.slot.is_due(now)
        ]
        for service in due:
            service.current.slot.look(self._measure(service.current.token))
        if due:
            chosen, waiting = next_starts(self._services, self._limit.now)
        return chosen, look_again_at(now, waiting)

    def put_off(self, service: Service) -> Child | None:
        """Return a service with a later deadline of its start, by as long as it has waited for a
        processor; None: it has not waited."""
        if service.state not in STARTING:
            return None
        by = service.current.slot.put_off_by(self._measure(service.current.token))
        return extend(service.child, service.child.deadline + by) if by else None

    def note(self, service: Service, before: Child, event: Event) -> None:
        """Take a step of a start; after one that was too long, fewer start at the same time."""
        plain = service.spec.plain
        if service.state is State.STARTING and plain.command and not plain.ready:
            service.current.slot.give_up()
        if before.state in STARTING and service.state is State.RUNNING:
            self._limit.succeeded()
        late = event is Event.DEADLINE and service.child.why is StopReason.START_TIMEOUT
        if before.state in STARTING and late:
            self._limit.timed_out(service.current.slot)
