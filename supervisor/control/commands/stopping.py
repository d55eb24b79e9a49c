"""Stops services in order, for the commands that stop some."""

from collections.abc import Generator

from garrison.supervisor.lifecycle.actions import Action, Apply
from garrison.supervisor.lifecycle.dependencies import in_start_order
from garrison.supervisor.lifecycle.order_note import OrderNote, is_overtaken
from garrison.supervisor.lifecycle.policy import Event, has_process

from .base import CommandContext


def stop_in_order(
    context: CommandContext, note: OrderNote, names: list[str], reason: str
) -> Generator[bool | Action, None, None]:
    """Stop services, dependents first; return once each has stopped, or got a later order."""
    specs = {service.name: service.spec for service in context.services}
    services, table = context.services, context.services.services
    pending = list(reversed(in_start_order(names, specs)))
    while pending:
        pending = [name for name in pending if not is_overtaken(note, table[name].order)]
        busy = [table[name].spec for name in pending if services.has_process(name)]
        for name in pending:
            child = table[name].child
            is_needed = any(name in spec.supervision.depends_on for spec in busy)
            if not is_needed and (child.wanted or not has_process(child.state)):
                yield Apply(name, Event.STOP, reason=reason, note=note)
        pending = [name for name in pending if services.has_process(name)]
        if pending:
            yield False
