"""Which services start or stop next, and whether all have come to rest. Pure."""

from collections.abc import Iterable
from itertools import islice
from math import inf

from garrison.ipc.messages import State

from .dependencies import blocking_dependencies, can_stop
from .policy import has_process
from .reloading import is_newer
from .services import Service, ServiceTable

# Tuples, which are searched by identity: the hash of an enum's member is computed in Python.
STARTING = (State.INITIALIZING, State.STARTING)
MOVING = (*STARTING, State.QUEUED)


def next_starts(services: ServiceTable, most: int) -> tuple[list[Service], bool]:
    """Return the queued services to start now, and whether others wait for a slot alone.

    Args:
        services: All services.
        most: How many starts may count at the same time: `init` and `start`.
    """
    queued, free = [], most
    for one in services:  # once, as this runs in every turn
        state = one.state
        if state is State.QUEUED:
            queued.append(one)
        elif state in STARTING and one.current.slot.counts:
            free -= 1
    if not queued:
        return [], False
    waiting = services.copied.keys() | services.unplaced.keys()
    children, free = services.children(), max(free, 0)
    ready = (
        one
        for one in queued
        if one.name not in waiting
        and not is_newer(services.second.get(one.name), one)
        and not blocking_dependencies(one.child, children)
    )
    chosen = list(islice(ready, free))
    return chosen, next(ready, None) is not None


def next_stops(services: ServiceTable) -> list[Service]:
    """Return the services to stop now, while everything is being stopped: dependents come first."""
    left = [one for one in services if one.child.wanted or has_process(one.state)]
    under_way = [one for one in left if one.state is State.STOPPING and not one.child.wanted]
    children = services.children()
    ready = [one for one in left if one not in under_way and can_stop(one.name, children)]
    return ready or ([] if under_way else left)  # left: a cycle, which must stop too


def is_settling(services: ServiceTable, early: bool) -> bool:
    """Return True while a service is on its way to running or to being given up.

    Args:
        services: All services.
        early: Whether adopted workers without a watchdog are still waited for.
    """
    return any(_is_settling(services, service, early) for service in services)


def _is_settling(services: ServiceTable, service: Service, early: bool) -> bool:
    if service.current.adopting and (service.child.deadline < inf or early):
        return True
    if service.state is State.STOPPING:
        return service.child.wanted
    return service.state in MOVING and not services.is_blocked(service)


def have_processes(services: Iterable[Service]) -> bool:
    """Return True while any service has a process."""
    return any(has_process(service.state) for service in services)
