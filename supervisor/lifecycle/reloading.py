"""A reload: a second incarnation of a service starts, and takes the place of the first. Pure.

Until the second runs, it is the newer one. Then both change places: the service has the new one,
and the second is the former one, which is drained. At most these two exist.
"""

from enum import Enum

from msgspec.structs import replace

from garrison.ipc.messages import State
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec

from .order_note import NO_ORDER, OrderNote
from .policy import Child, has_process
from .services import Service


class ReloadStep(Enum):
    """What follows for a second incarnation after an event."""

    WAIT = "wait"
    TAKE_OVER = "take_over"  # it runs: it takes the place of the first
    DROP = "drop"  # its process is gone, so that the service has one again


def next_step(second: Child) -> ReloadStep:
    """Return what follows for a second incarnation.

    One that did not start is not tried again: the first one runs on.
    """
    if second.state is State.RUNNING and second.wanted:
        return ReloadStep.TAKE_OVER
    return ReloadStep.WAIT if has_process(second.state) else ReloadStep.DROP


def second_of(service: Service, spec: ServiceSpec, plugin: PluginSpec, note: OrderNote) -> Service:
    """Return a second incarnation that is about to start.

    Args:
        service: The service.
        spec: What the second one runs by.
        plugin: Its plugin.
        note: The order.
    """
    child = Child(spec, State.QUEUED, wanted=True, generation=service.child.generation)
    second = Service(child, plugin, service.manifest, service.position, is_second=True)
    second.order, second.restarted_by = service.order, note
    return second


def exchange(service: Service, second: Service) -> None:
    """Have a second incarnation that runs take the place of the first, which is the second then.

    An order starts without a history of crashes, as a restart does.
    """
    restarted = service.child.restarted
    service.child, second.child = second.child, service.child
    service.child = replace(service.child, restarted=restarted)
    service.current, second.current = second.current, service.current
    service.plugin, second.plugin = second.plugin, service.plugin
    service.manifest, second.manifest = second.manifest, service.manifest
    service.next_watchdog = None
    service.reason = service.traceback = ""
    second.order = service.order
    second.ended_by, service.ended_by = service.ended_by, NO_ORDER


def is_newer(second: Service | None, service: Service) -> bool:
    """Return True if a second incarnation is to take the place of the first, which waits for it."""
    return second is not None and second.child.generation > service.child.generation


def why_not(service: Service, spec: ServiceSpec, reloading: bool) -> str:
    """Return why a service cannot be reloaded, and what to do; empty if it can.

    Args:
        service: The service, as it runs.
        spec: As the config on disk has it.
        reloading: A reload of it is under way.
    """
    name, restart = service.name, f"garrison restart {service.name}"
    if service.manifest.platform:
        return (
            f"{name} cannot be reloaded: it is a chat platform, and two of its processes would "
            f"answer each message twice; {restart} ends the running one first"
        )
    for one, where in ((service.spec, "it runs"), (spec, "the config has it")):
        if one.supervision.exclusive:
            return (
                f"{name} cannot be reloaded: {where} with exclusive = true, so its next process "
                f"starts only when this one is gone; {restart} does that. Set exclusive = false "
                "where two processes of it may run side by side for a moment"
            )
    if reloading:
        return f"{name} is being reloaded already; garrison status {name} shows how far it is"
    if service.state is not State.RUNNING:
        return f"{name} cannot be reloaded: it is {service.state.value}; garrison start {name}"
    return ""
