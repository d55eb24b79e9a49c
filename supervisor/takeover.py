"""Continues where a former supervisor stopped: its services are restored, its workers found."""

import time
from collections.abc import Callable

from garrison.supervisor.config.load import Config
from garrison.supervisor.lifecycle.actions import Apply, Ordered
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.processes.engine import Engine, Found
from garrison.supervisor.state.adoption import (
    Adoptable,
    Adoption,
    inherited,
    restore_service,
)
from garrison.supervisor.state.orders import OrderStore
from garrison.supervisor.state.snapshot import Snapshot

from .manager import ServiceManager
from .plugins import PluginRegistry
from .tasks import Steps


class Takeover:
    """Restores services, and matches them with the workers that the engine finds.

    Args:
        former: The snapshot of the former supervisor; None: there was none.
        engine: Finds the workers.
        services: The services.
        manager: Restores them.
        plugins: Takes over what was read of plugins.
        adoption: Plans what the found workers mean.
        log: Where events are recorded.
        add_task: Starts a background task.
    """

    def __init__(
        self,
        former: Snapshot | None,
        engine: Engine,
        services: ServiceTable,
        manager: ServiceManager,
        plugins: PluginRegistry,
        adoption: Adoption,
        log: EventLog,
        add_task: Callable[[Steps], None],
    ) -> None:
        self._former, self._engine, self._services = former, engine, services
        self._manager, self._plugins, self._adoption = manager, plugins, adoption
        self._log, self._add_task = log, add_task

    def begin(self, config: Config, adoptable: Adoptable) -> None:
        """Restore the services, and have the engine find their workers.

        Called before the first turn of the loop, so that no worker's message comes too early.

        Args:
            config: The config in use.
            adoptable: The services of the snapshot that still exist.
        """
        now = time.monotonic()
        if self._former is not None:
            workers = [(one.name, one.current) for one in self._former.services]
            self._adoption.open_endpoints((name, own.token, own.uid) for name, own in workers)
            self._adoption.admit_remote(own.token for _, own in workers if own.handle.node)
            self._plugins.resume(self._former.plugins, self._former.config)
        for position, (one, spec) in enumerate(adoptable):
            plugin = config.plugins[spec.plugin]
            self._manager.roster.add(restore_service(one, spec, plugin, position, now))
        self._manager.hold_starts = True
        self._engine.adopt(inherited(self._former))

    def on_found(self, found: Found) -> None:
        """Match the restored services with the workers that were found."""
        for problem in found.refused:
            self._log.record("launcher.refused", problem=problem)
        stopping = self._former is not None and self._former.stopping
        plan = self._adoption.plan(list(self._services), found, stopping)
        self._manager.roster.adopt(plan, time.monotonic())
        for token, name in plan.unclaimed:
            is_known = self._former is not None
            self._add_task(self._adoption.end_unclaimed(token, name, is_known))
        self._plugins.resume_preload(found.modules, found.outdated)
        if self._former is not None and self._plugins.config.digest != self._former.config:
            self._manager.roster.retry_failed()
        if found.launchers or plan.adopted:
            self._log.record(
                "supervisor.adopts",
                services=plan.adopted,
                launchers=found.launchers,
                preloaded=len(found.modules),
            )
        self._manager.hold_starts, self._former = False, None

    def resume_orders(self, orders: OrderStore) -> None:
        """Carry out the orders that a former supervisor wrote down, and did not come to."""
        known = [
            (service.name, service.applied, service.spec.supervision.autostart)
            for service in self._services
        ]
        for name, wanted in orders.reconcile(known).items():
            note = OrderNote(orders.orders.numbers[name], "start" if wanted else "stop")
            self._log.record("service.order_resumed", name, order=note.verb)
            self._manager.perform(Ordered(name, note))
            event, reason = (Event.START, "") if wanted else (Event.STOP, "stopped by order")
            self._manager.perform(Apply(name, event, reason, note))

    def until_adopted(self) -> Steps:
        """Wait until no worker of a former supervisor is in the way of a start."""
        while self._manager.hold_starts:
            yield False
        yield from self._adoption.until_ended(self._plugins.config.former.values())
