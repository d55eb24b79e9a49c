"""Commands that pause services and resume them."""

from typing import Any

from garrison.ipc.messages import Order, Token
from garrison.supervisor.lifecycle.actions import Apply, Pause
from garrison.supervisor.lifecycle.pausing import note_of_pause
from garrison.supervisor.lifecycle.policy import Event, has_process
from garrison.supervisor.lifecycle.services import Service

from .base import (
    Command,
    CommandContext,
    Refusal,
    command,
    matching,
    named_services,
    note_of,
    until_registered,
)


@command()
def pause(context: CommandContext, peer: Token, order: Order) -> Command:
    """Have the named services, or without names all, take nothing until they are resumed."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    named = _named(context, order)
    services = [one for one in named if not one.spec.plain.command]
    if order.names and len(services) < len(named):
        name = next(one.name for one in named if one.spec.plain.command)
        text = f"pause: {name} is a plain command, which has no calls or messages to hold back"
        raise Refusal("failed", f"{text}: garrison stop {name}")
    for service in services:
        if service.paused is None:
            context.record_pause(service.name, note_of_pause(note))
            yield Pause(service.name, note_of_pause(note), paused=True)
    return _rows(services)


@command()
def resume(context: CommandContext, peer: Token, order: Order) -> Command:
    """Have the named services, or without names all, take calls and messages again."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    services = _named(context, order)
    were = {service.name for service in services if service.paused is not None}
    for service in services:
        if service.name in were:
            context.record_pause(service.name, None)
            yield Pause(service.name, note_of_pause(note), paused=False)
            if service.spec.plain.command and not has_process(service.state):
                yield Apply(service.name, Event.START, note=note)  # its pause has held it back
    return _rows(services) | {"resumed": sorted(were)}


def _named(context: CommandContext, order: Order) -> list[Service]:
    """Return the services that an order is about; without names all."""
    if not order.names:
        return list(context.services)
    names = matching(context, order)
    for name in names:
        if name not in context.services.services:
            text = f"{order.verb}: {name} was never started: its plugin or config is unusable"
            raise Refusal("failed", f"{text}; see: garrison status {name}")
    return named_services(context, names)


def _rows(services: list[Service]) -> dict[str, Any]:
    return {
        "services": {
            one.name: {"state": one.state.value, "paused": one.paused is not None}
            for one in services
        }
    }
