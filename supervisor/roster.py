"""Which services there are, by the config and by what a former supervisor left; which are paused.

Times are monotonic seconds.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec
from garrison.supervisor.lifecycle.dependencies import placed
from garrison.supervisor.lifecycle.pausing import PauseNote
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable
from garrison.supervisor.state.adoption import (
    AdoptionPlan,
    ending_unattended,
    respecified,
    started_after_snapshot,
)
from garrison.supervisor.state.orders import OrderStore

from .effects import Effects


class ServiceRoster:
    """Adds services, and changes what does not concern their processes; a part of the manager.

    Args:
        services: The services.
        effects: What effects are performed with.
        apply: Applies an event to a service.
        note_due: Called with the time of a service's next deadline.
    """

    def __init__(
        self,
        services: ServiceTable,
        effects: Effects,
        apply: Callable[[Service, Event], None],
        note_due: Callable[[float], None],
    ) -> None:
        self._services, self._use = services, effects
        self._apply, self._note_due = apply, note_due

    def add(self, service: Service) -> None:
        """Add a service; one that was restored with its incarnation keeps its address."""
        self._services.services[service.name] = service
        service.paused = self._services.pause_of(service.name)
        if token := service.current.token:
            self._services.by_token[token] = service
            self._use.bus.admit(token)
        self._note_due(service.child.deadline)

    def add_configured(
        self, new: list[Service], specs: list[ServiceSpec], orders: OrderStore
    ) -> None:
        """Add services of the config, and start those that are to run.

        Args:
            new: The services.
            specs: All services, in the order of the config.
            orders: The operator's commands of earlier runs of the host.
        """
        # Restored ones without a command too: the default of an earlier config was no order.
        unordered = [one for one in self._services if one.state is State.REGISTERED]
        for service in new:
            self.add(service)
        self._services.reorder(specs)
        for service in unordered:
            if not _is_held_back(service) and orders.wants_start(
                service.name, service.spec.supervision.autostart
            ):
                self._apply(service, Event.START)
        for service in new:
            self._use.publisher.listed(service.name)
            if _is_held_back(service):
                service.reason = f"paused; to start it: garrison resume {service.name}"
            elif orders.wants_start(service.name, service.spec.supervision.autostart):
                self._apply(service, Event.START)
            elif orders.is_stopped(service.name):
                self._apply(service, Event.STOP)
                service.reason = "stopped by order"
                self._use.log.record("service.stays_stopped", service.name)

    def adopt(self, plan: AdoptionPlan, now: float) -> None:
        """Bring the restored services in line with the processes that were found."""
        for service, token, uid in plan.started_later:
            self._services.by_token.pop(service.current.token, None)
            service.child = started_after_snapshot(service.child, now)
            service.current = Incarnation(token, started_at=now, uid=uid, adopting=True)
            self.add(service)
        for service in plan.ending:
            service.child = ending_unattended(service.child, now)
            self._note_due(service.child.deadline)

    def retry_failed(self) -> None:
        """Start what was given up once more: the config may be better now."""
        for service in self._services:
            if service.state is State.FAILED and service.child.wanted:
                self._apply(service, Event.START)

    def refuse(self, service: Service, reason: str) -> None:
        """Fail a service whose config is unusable, before a process is started for it."""
        service.reason = reason
        self._apply(service, Event.REFUSED)

    def take_specs(self, specs: Iterable[ServiceSpec]) -> None:
        """Take dependencies and placement from a new config: they hold for all services at once,
        so that there is one order. All else is taken when a service is started by a command."""
        by_name = {spec.name: spec for spec in specs}
        for service in self._services:
            if (new := by_name.get(service.name)) is not None:
                service.child = replace(service.child, spec=placed(service.spec, new))

    def respecify(self, specs: Iterable[ServiceSpec], plugins: Mapping[str, PluginSpec]) -> None:
        """Give restored services another spec: theirs does not fit their plugins."""
        for spec in specs:
            service = self._services.services.get(spec.name)
            if service and service.spec != spec:
                service.child, service.next_watchdog = respecified(service, spec)
                service.plugin = plugins[spec.plugin]

    def pause(self, service: Service, note: PauseNote, paused: bool) -> None:
        """Have a service take nothing from now on, or take everything again."""
        service.paused = note if paused else None
        event = "service.paused" if paused else "service.resumed"
        self._use.log.record(event, service.name, by=note.by, why=note.why)
        self._use.publisher.changed(service.name)
        self._use.wake()


def _is_held_back(service: Service) -> bool:
    """Return True for a plain command that is paused, as after a restore: it cannot run and take
    nothing."""
    return service.paused is not None and bool(service.spec.plain.command)
