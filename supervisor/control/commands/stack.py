"""The command about the stacks of a worker that runs: stack."""

import time

from garrison.ipc.messages import Order, Token
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.processes.post_mortem import flight_path

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


@command(waits=True, reads=True)
def stack(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return the stacks of one service's threads and tasks, once its loop has answered.

    With `by_signal`, return where it writes those of its threads instead: a blocked loop does not
    answer.
    """
    yield from until_registered(context)
    names = matching(context, order)
    services = named_services(context, names)
    if not services and len(names) == 1:
        text = f"{names[0]} was never started: its plugin or config is unusable"
        raise Refusal("not_running", f"{text}; see: garrison status {names[0]}")
    if len(services) != 1:
        raise Refusal("usage", f"stack takes the NAME of one service, not {len(services)}")
    (service,) = services
    current = service.current
    if not has_process(service.state) or not current.pid or current.ended:
        text = f"{service.name} is {service.state.value}: it has no process, so there is no stack"
        raise Refusal("not_running", f"{text}; garrison why {service.name} says why")
    data = {
        "name": service.name,
        "pid": current.pid,
        "node": current.handle.node or None,
        "generation": service.child.generation,
        "state": service.state.value,
        "plugin": service.spec.plugin,
        "beat_age_s": time.monotonic() - current.beat_at if current.beat_at else None,
        "flight": str(flight_path(context.host.run, service.name, current.token)),
    }
    if option(order, "by_signal", bool, False):
        context.stacks.signal(current.token)
        return data | {"log": str(context.host.logs / f"{service.name}.log")}
    number = context.stacks.begin(current.token)
    try:
        while (answer := context.stacks.answer(number)) is None:
            if service.current is not current or current.ended:
                text = f"{service.name} has ended meanwhile: garrison death {service.name}"
                raise Refusal("failed", text)
            yield True
    finally:
        context.stacks.forget(number)
    return data | {
        "threads": list(answer.threads),
        "tasks": list(answer.tasks),
        "more_threads": answer.more_threads,
        "more_tasks": answer.more_tasks,
    }
