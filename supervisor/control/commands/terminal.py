"""The command that runs one service on the terminal of a command line: run."""

from garrison.ipc.messages import Order, State, Token
from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import Restart, ServiceSpec, service_spec
from garrison.supervisor.lifecycle.actions import Apply, Attach, Configure
from garrison.supervisor.lifecycle.policy import Event, has_process
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

PATIENT_S = 1e9  # in place of a deadline


@command()
def run(context: CommandContext, peer: Token, order: Order) -> Command:
    """Run a service on the terminal of a process, until either ends; then as before.

    It has no watchdog, no deadline for its start, no health check, and is not restarted.
    """
    yield from until_registered(context)
    names = matching(context, order)
    services = named_services(context, names)
    if len(names) != 1 or not services:
        raise Refusal("usage", "run: name one service, whose plugin can be read")
    service, pid = services[0], option(order, "pid", int, 0)
    ticks = process_tree.start_ticks(pid) if pid > 0 else 0
    if not ticks:
        raise Refusal("failed", f"run: the supervisor sees no process {pid}, so not its terminal")
    wanted, spec = service.child.wanted, service.spec
    yield Apply(service.name, Event.STOP)
    while has_process(service.state):
        yield False
    attended = _attended(spec)
    yield Configure(attended, service.plugin)
    yield Attach(service.name, pid)
    yield Apply(service.name, Event.START)
    while service.spec is attended and _is_under_way(service):
        if not process_tree.is_alive(pid, ticks) and service.child.wanted:
            yield Apply(service.name, Event.STOP, reason="its terminal was closed")
        yield False
    outcome = {"service": service.name, "exit": service.last_exit, "reason": service.reason}
    if service.spec is attended:  # unless an order has configured it again
        yield Configure(spec, service.plugin)
        if wanted and not context.is_stopping():
            yield Apply(service.name, Event.START)
    return {**outcome, "wanted": service.child.wanted}


def _attended(spec: ServiceSpec) -> ServiceSpec:
    return service_spec(
        spec,
        watchdog=0.0,
        start_timeout=PATIENT_S,
        health_interval=0.0,
        restart=Restart.TEMPORARY,
    )


def _is_under_way(service: Service) -> bool:
    return has_process(service.state) or service.state is State.QUEUED
