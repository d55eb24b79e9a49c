"""Carries out reloads: starts second incarnations, exchanges them, and ends what is left over.

A part of the manager. Times are monotonic seconds.
"""

from collections.abc import Callable
from typing import assert_never

from garrison.supervisor.lifecycle.actions import Reload
from garrison.supervisor.lifecycle.policy import Event, has_process
from garrison.supervisor.lifecycle.reloading import ReloadStep, exchange, next_step, second_of
from garrison.supervisor.lifecycle.services import Service, ServiceTable

from .effects import Effects


class Reloads:
    """The second incarnations.

    Args:
        services: The services.
        effects: What effects are performed with.
        apply: Applies an event to a service, or to a second incarnation.
        restart_bound: Restarts what is bound to a service.
    """

    def __init__(
        self,
        services: ServiceTable,
        effects: Effects,
        apply: Callable[[Service, Event], None],
        restart_bound: Callable[[str], None],
    ) -> None:
        self._services, self._use = services, effects
        self._apply, self._restart_bound = apply, restart_bound

    def begin(self, action: Reload) -> None:
        """Start a second incarnation beside the running one."""
        service = self._services.services[action.spec.name]
        second = second_of(service, action.spec, action.plugin, action.note)
        self._services.second[service.name] = second
        self._apply(second, Event.SLOT)

    def abandon(self, name: str) -> None:
        """End a second incarnation that starts: the service was ordered to stop, or to restart."""
        second = self._services.second.get(name)
        if second is not None and second.child.wanted:
            self._apply(second, Event.STOP)

    def abandon_all(self) -> None:
        """End every second incarnation: everything is being stopped."""
        for name in list(self._services.second):
            self.abandon(name)

    def follow(self, second: Service) -> None:
        """Do what follows for a second incarnation after an event."""
        if self._services.second.get(second.name) is not second:
            return  # it was dropped by an event within that one
        match next_step(second.child):
            case ReloadStep.WAIT:
                pass
            case ReloadStep.TAKE_OVER:
                self._take_over(self._services.services[second.name], second)
            case ReloadStep.DROP:
                self._drop(second)
            case step:
                assert_never(step)

    def _take_over(self, service: Service, second: Service) -> None:
        exchange(service, second)
        for one in (service, second):
            if one.current.token:
                self._services.by_token[one.current.token] = one
        current, child = service.current, service.child
        took_s = child.since - current.started_at
        data = {"pid": current.pid, "generation": child.generation, "took_s": took_s}
        self._use.log.record("service.reloaded", service.name, **data)
        self._use.publisher.listed(service.name)
        self._use.save()  # a supervisor that comes now must not take the former one for it
        self._use.wake()
        if has_process(second.state):
            self._apply(second, Event.STOP)
        else:
            self._drop(second)
        self._restart_bound(service.name)

    def _drop(self, second: Service) -> None:
        service = self._services.services.get(second.name)
        del self._services.second[second.name]
        if service is not None and second.child.generation > service.child.generation:
            reason = second.reason or "it was ended"
            self._use.log.record("service.not_reloaded", second.name, reason=reason)
        self._use.wake()
