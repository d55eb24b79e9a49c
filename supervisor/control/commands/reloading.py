"""The command that reloads services: the next process runs before the former one drains."""

from typing import Any

from garrison.ipc.messages import Order, Token
from garrison.supervisor.lifecycle.actions import Reload
from garrison.supervisor.lifecycle.dependencies import in_start_order
from garrison.supervisor.lifecycle.order_note import OrderNote, is_overtaken
from garrison.supervisor.lifecycle.reloading import is_newer, why_not
from garrison.supervisor.lifecycle.services import Service

from .base import (
    Command,
    CommandContext,
    Refusal,
    command,
    load_config,
    matching,
    named_services,
    note_of,
    until_registered,
)
from .disk import take_from_disk
from .services import note_order


@command()
def reload(context: CommandContext, peer: Token, order: Order) -> Command:
    """Replace the named services one after another, each by a process that runs already.

    Stops at the first that does not come up; its former process runs on.
    """
    note = note_of(context, peer, order)
    yield from until_registered(context)
    names = in_start_order(matching(context, order), _specs(context))
    services = named_services(context, names)
    _check(context, services)
    done = list[str]()
    for service in services:
        try:
            yield from _reload_one(context, note, service)
        except Refusal as refusal:
            left = [name for name in names if name not in {*done, service.name}]
            raise _with_rest(refusal, done, left) from refusal
        done.append(service.name)
    return {"services": [context.status.service_row(one, False) for one in services]}


def _specs(context: CommandContext) -> dict[str, Any]:
    return {service.name: service.spec for service in context.services}


def _check(context: CommandContext, services: list[Service]) -> None:
    """Refuse a reload of what cannot be reloaded, before any of them is."""
    _, fitting = context.plugins.fit(load_config(context))
    on_disk = {spec.name: spec for spec in fitting}
    for service in services:
        spec = on_disk.get(service.name, service.spec)
        starts = is_newer(context.services.second.get(service.name), service)
        if problem := why_not(service, spec, starts):
            raise Refusal("failed", problem)


def _reload_one(context: CommandContext, note: OrderNote, service: Service) -> Command:
    """Start a second incarnation, and return once it is the service's own."""
    name = service.name
    _check(context, [service])  # it may have stopped meanwhile
    specs = yield from take_from_disk(context, [service], accepts=False)
    _check(context, [service])
    while name in context.services.second:  # the former one of the reload before drains
        yield True
        _check(context, [service])
    if is_overtaken(note, service.order):
        later = service.order.verb
        raise Refusal("overtaken", f"reload: a later order, `garrison {later}`, holds for {name}")
    yield from note_order(context, note, [service], [name])
    spec = specs[name]
    yield Reload(spec, context.plugins.config.plugins[spec.plugin], note)
    second = context.services.second.get(name)
    token = second.current.token if second is not None else b""
    while second is not None and service.current.token != token:
        if context.services.second.get(name) is not second:
            break
        yield True
    if second is None or service.current.token != token:
        reason = second.reason if second is not None else ""
        traceback = second.traceback if second is not None else ""
        stays = f"the former process runs on (pid {service.current.pid})"
        if not service.current.token:
            stays = f"{name} is {service.state.value}"
        text = f"{name} was not reloaded: {reason or 'it was ended by a later order'}; {stays}"
        raise Refusal("StartError", text, {"traceback": traceback})
    context.plugins.accept([spec])


def _with_rest(refusal: Refusal, done: list[str], left: list[str]) -> Refusal:
    """Return a refusal that also says what was done before, and what was not begun."""
    text = str(refusal)
    if done:
        text += f"; reloaded before: {', '.join(done)}"
    if left:
        text += f"; not begun: {', '.join(left)}"
    data = {**(refusal.data or {}), "reloaded": done, "not_begun": left}
    return Refusal(refusal.code, text, data)
