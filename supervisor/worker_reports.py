"""What workers report of themselves while they run, start and end. Times are monotonic seconds."""

import time
from collections.abc import Sequence
from typing import assert_never

from garrison.ipc import messages
from garrison.ipc.messages import INCIDENTS, State
from garrison.supervisor.lifecycle.limits import Used, check_limits, excess_words
from garrison.supervisor.lifecycle.policy import WHY_DRAINED, Event, can_extend, extend
from garrison.supervisor.lifecycle.services import Service, ServiceTable

from .effects import Effects

EXTENDED_S = 5.0  # between two events of one start or stop that is extended
HELD_S = 1.0  # of an end: then an event says what it waits for


class WorkerReports:
    """Takes the reports that workers repeat.

    Args:
        services: The services.
        use: Where events are recorded.
    """

    def __init__(self, services: ServiceTable, use: Effects) -> None:
        self._services, self._use = services, use

    def take(
        self, service: Service, message: messages.Beat | messages.Health | messages.Extend
    ) -> Event | None:
        """Note a report; return the policy's event, if it is one."""
        match message:
            case messages.Beat():
                return self._on_beat(service, message)
            case messages.Health():
                return self._on_health(service, message)
            case messages.Extend():
                self._on_extend(service, message)
                return None
            case _:
                assert_never(message)

    def take_last(self, service: Service, message: messages.Failing | messages.Stopped) -> None:
        """Note a worker's report of its end, and acknowledge it: then the process ends.

        An end that is neither ordered nor a crash is on disk before. Otherwise a supervisor that
        is killed now leaves the next one a process that is gone, which counts as crashed.
        """
        token = service.current.token
        match message:
            case messages.Failing():
                service.current.failing = message
                is_crash = not message.permanent and message.retry_s is None
            case messages.Stopped():
                service.current.stopped, is_crash = message, False
            case _:
                assert_never(message)
        if is_crash or service.state is State.STOPPING:
            self._use.publisher.send(token, messages.Acknowledged())
        else:
            self._use.acknowledge_saved(token)

    def take_usage(self, service: Service, used: Used) -> Event | None:
        """Compare what a worker's process tree uses with the limits of its service."""
        limits = service.spec.limits
        event, draining = check_limits(limits, used), service.state is State.STOPPING
        if event is None or (draining and event is not Event.OVERRUN):
            return None
        current, first = service.current, not service.current.overrun
        current.overrun = event is Event.OVERRUN
        current.excess = excess_words(limits, used, current.overrun)
        if draining and first:  # the state does not change, so no transition records it
            self._use.log.record("service.overrun", service.name, reason=current.excess)
        return event

    def _on_beat(self, service: Service, beat: messages.Beat) -> Event:
        current, by_token = service.current, self._services.by_token
        now = time.monotonic()
        current.record_beat(beat, now)
        self._use.counters.add(service.name, beat.calls, beat.awaiting, now)
        self._use.direct.on_beat(service, beat.calls, now)
        current.held_up_by = tuple(
            (one, by_token[one.source].name if one.source in by_token else "") for one in beat.held
        )
        if now >= service.child.since + HELD_S:
            self._log_held(service)
        if event := service.record_link(beat.link):
            data = {"reason": service.deaf} if service.deaf else {}
            self._use.log.record(event, service.name, **data)
        self._record_incidents(service, beat.incidents)
        return Event.BEAT

    def _record_incidents(self, service: Service, found: Sequence[messages.Incident]) -> None:
        """Record what a worker reports for its operator; each is in several heartbeats."""
        for one in found:
            if one.n <= service.current.incident or one.event not in INCIDENTS:
                continue
            service.current.incident = one.n
            about = one.service if one.service in self._services.services else service.name
            data = {"by": service.name} if about != service.name else {}
            self._use.log.record(one.event, about, **{**one.data, **data, "reason": one.reason})

    def _on_health(self, service: Service, health: messages.Health) -> Event | None:
        if service.current.adopting or service.state is not State.RUNNING:  # outdated
            return None
        if event := service.record_health(health, time.monotonic()):
            data = {"problem": health.problem} if health.problem else {}
            self._use.log.record(event, service.name, **data, took_s=health.took_s)
        return Event.UNWELL if health.problem else Event.WELL

    def _on_extend(self, service: Service, message: messages.Extend) -> None:
        """Move the deadline of a start or a stop that advances."""
        current, now = service.current, time.monotonic()
        if not can_extend(service.child):
            return
        service.child = extend(service.child, now + message.seconds)
        current.extended = message.reason or "it needs longer"
        self._use.touch()
        if now >= current.extension_logged_at + EXTENDED_S:
            current.extension_logged_at = now
            data = {"seconds": message.seconds, "reason": message.reason}
            self._use.log.record("service.extended", service.name, **data)

    def on_overdue(self, service: Service) -> None:
        """Note that a service has not ended within its grace, and have it show where it is."""
        if service.child.why in WHY_DRAINED.values():
            service.current.overdue = True
            self._log_held(service)
            self._use.dump(service.current.token)

    def _log_held(self, service: Service) -> None:
        """Record once what the end of a worker waits for."""
        words = service.held_words()
        if words and not service.current.held_logged:
            service.current.held_logged = True
            self._use.log.record("service.held_up", service.name, by=words)
