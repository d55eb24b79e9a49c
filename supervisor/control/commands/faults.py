"""Commands of chaos testing: chaos, fault."""

import signal
from typing import Any

from garrison.ipc.messages import Order, State, Token
from garrison.supervisor.lifecycle.actions import Apply, InjectFault
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import Service

from .base import (
    Command,
    CommandContext,
    Refusal,
    command,
    matching,
    named_services,
    option,
    until_registered,
)

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}  # other faults a worker does itself


@command()
def chaos(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return what `garrison chaos` needs to know of the named services, or of all."""
    _check_chaos(context)
    yield from until_registered(context)
    names = matching(context, order) if order.names else context.services.names()
    return {
        "orphan_grace_s": context.host.orphan_grace,
        "logs": str(context.host.logs),
        "services": [_target(context, service) for service in named_services(context, names)],
    }


@command()
def fault(context: CommandContext, peer: Token, order: Order) -> Command:
    """Inject a fault into one running service: signal its process, or record that its own code is
    about to be sent one.

    Its restarts are forgotten first, so that it is not given up because of the faults.
    """
    _check_chaos(context)
    yield from until_registered(context)
    kind = option(order, "kind", str, "")
    services = named_services(context, matching(context, order))
    if len(services) != 1:
        raise Refusal("usage", f"fault: one service at a time, not {len(services)}")
    (service,) = services
    if service.state is not State.RUNNING or service.current.ended:
        text = f"{service.name} is {service.state.value}, so no fault was injected"
        raise Refusal("failed", text)
    target = _target(context, service)
    yield Apply(service.name, Event.RESET)
    yield InjectFault(service.name, kind, SIGNALS.get(kind))
    return target


def _check_chaos(context: CommandContext) -> None:
    if not context.host.chaos:
        text = (
            f"this host takes no faults; to allow them write `chaos = true` under [host] in "
            f"{context.plugins.config.path}, and start the host again"
        )
        raise Refusal("ConfigError", text)


def _target(context: CommandContext, service: Service) -> dict[str, Any]:
    spec, current = service.spec, service.current
    return {
        "name": service.name,
        "state": service.state.value,
        "generation": service.child.generation,
        "pid": current.pid or None,
        "ticks": current.handle.ticks,  # when it started: a pid may be reused
        "restart": spec.supervision.restart.value,
        "watchdog": spec.supervision.watchdog,
        "memory_max": spec.limits.memory_max,
        "data": str(context.host.state / "services" / service.name),
    }
