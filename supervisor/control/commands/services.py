"""Commands about services: wait, start, stop, restart, reset."""

import time
from collections.abc import Collection, Generator

from garrison.ipc.messages import Order, State, Token
from garrison.supervisor.config.values import is_name
from garrison.supervisor.lifecycle.actions import (
    Action,
    Apply,
    Configure,
    EndFromInside,
    Ordered,
    RestartBound,
)
from garrison.supervisor.lifecycle.dependencies import bound_services
from garrison.supervisor.lifecycle.order_note import (
    LOOP_ORDERS,
    LOOP_S,
    OrderNote,
    is_loop,
    is_overtaken,
)
from garrison.supervisor.lifecycle.policy import Event, has_process
from garrison.supervisor.lifecycle.services import Service

from .base import (
    AnswerNow,
    Command,
    CommandContext,
    Refusal,
    command,
    load_config,
    matching,
    named_services,
    note_of,
    option,
    until_registered,
)
from .disk import add_from_disk, configure_from_disk, release_held, take_from_disk
from .stopping import stop_in_order


@command(waits=True)
def wait(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return when every named service is in a state."""
    yield from until_registered(context)
    names = matching(context, order)
    wanted = option(order, "state", State, None)
    while True:
        services = [context.services.services.get(name) for name in names]
        if all(service is not None and service.state is wanted for service in services):
            return {"services": dict.fromkeys(names, wanted.value)}
        yield True


@command()
def start(context: CommandContext, peer: Token, order: Order) -> Command:
    """Start the named services, and return when they run."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    new = [name for name in context.services.match(order.names)[1] if is_name(name)]
    if new:  # the config may have it by now
        yield from add_from_disk(context, note, new)
    names = matching(context, order)
    unreadable = yield from _read_again(context, names)
    yield from release_held(context, names)
    named = named_services(context, names)
    services = [one for one in named if not is_overtaken(note, one.order)]
    ends = bound(context, [one.name for one in services if not has_process(one.state)])
    inside = note.who in ends or any(
        one.name == note.who and one.state is not State.RUNNING for one in named
    )
    yield from note_order(context, note, services, ends)
    taken = list[Service]()
    for service in services:
        if not has_process(service.state) or service.state is State.STOPPING:
            yield from configure_from_disk(context, service)
            taken.append(service)
        context.record_order(service.name, note)
        was_at_rest = not has_process(service.state)
        yield Apply(service.name, Event.START, note=note)
        if was_at_rest:
            yield RestartBound(service.name)
    answer = yield from until_running(context, named, unreadable, note, inside=inside)
    context.plugins.accept(service.spec for service in taken)
    return answer


@command()
def stop(context: CommandContext, peer: Token, order: Order) -> Command:
    """Stop the named services, dependents first, and return when they have stopped."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    names = matching(context, order)
    unreadable = [name for name in names if name in context.services.unreadable]
    if unreadable:
        text = f"{unreadable[0]} is a plugin that cannot be read, so none of it can be stopped"
        raise Refusal("failed", text)
    if held := [name for name in names if name in context.services.held]:
        text = f"{held[0]} does not run, so it cannot be stopped; its config was rejected"
        raise Refusal("failed", f"{text}: {context.services.held[held[0]].reason}")
    services = named_services(context, names)
    for service in services:
        if not is_overtaken(note, service.order):
            yield Ordered(service.name, note)
            context.record_order(service.name, note)
    if note.who in names:
        yield EndFromInside(note.who, note)
        states = {service.name: service.state.value for service in services}
        yield AnswerNow({"services": states, "from_inside": note.who})
    yield from stop_in_order(context, note, names, "stopped by order")
    _check_not_overtaken(services, note)
    return {"services": {service.name: service.state.value for service in services}}


@command()
def restart(context: CommandContext, peer: Token, order: Order) -> Command:
    """Run what is on disk; if that is unusable, the running service stays."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    names = matching(context, order)
    ends = [*names, *bound(context, names)]
    _check_no_loop(context, note, ends)
    unreadable = yield from _read_again(context, names)
    known = named_services(context, names)
    yield from release_held(context, names)
    released = [one for one in named_services(context, names) if one not in known]
    specs = yield from take_from_disk(context, known)
    config = context.plugins.config
    generations = {service.name: service.child.generation for service in known}
    current = [one for one in known if not is_overtaken(note, one.order)]
    yield from note_order(context, note, [*current, *released], ends)
    for service in current:
        spec = specs[service.name]
        yield Configure(spec, config.plugins[spec.plugin])
        context.record_order(service.name, note)
        yield Apply(service.name, Event.STOP, note=note)
        yield Apply(service.name, Event.START, note=note)
        yield RestartBound(service.name)
    for service in released:
        context.record_order(service.name, note)
        yield Apply(service.name, Event.START, note=note)
    services, inside = [*known, *released], note.who in ends
    return (yield from until_running(context, services, unreadable, note, generations, inside))


@command()
def reset(context: CommandContext, peer: Token, order: Order) -> Command:
    """Forget the restarts of the named services; one that failed and is wanted starts at once."""
    yield from until_registered(context)
    names = matching(context, order)
    unreadable = yield from _read_again(context, names)
    services = named_services(context, names)
    for service in services:
        yield Apply(service.name, Event.RESET)
    if unreadable is not None:
        raise unreadable
    return {"services": {service.name: service.state.value for service in services}}


# --- parts of them ------------------------------------------------------------------------


def bound(context: CommandContext, names: list[str]) -> list[str]:
    """Return the services that are restarted with these."""
    children = context.services.children()
    return [bound for name in names for bound in bound_services(name, children)]


def _check_no_loop(context: CommandContext, note: OrderNote, ends: Collection[str]) -> None:
    """Refuse an order that restarts a service, if too many orders of its own have led to that.

    It may have sent them to other services, which then restarted it.
    """
    for name in note.chain:
        service = context.services.services.get(name)
        if name not in ends or service is None or not note.wanted:
            continue
        if is_loop(service.own_restarts, time.monotonic()):
            through = "" if name == note.who else f", the last time through {note.who}"
            text = (
                f"{name} has restarted itself {LOOP_ORDERS} times within {LOOP_S:g} s{through}, so "
                f"this order from inside {note.who} is refused as a loop; {name} runs on. Correct "
                f"why it does that, or run outside of it: garrison {note.verb} {name}"
            )
            raise Refusal("failed", text)


def note_order(
    context: CommandContext, note: OrderNote, services: list[Service], ends: Collection[str]
) -> Command:
    """Note an order on each service that it is about, and on its sender if it ends that."""
    _check_no_loop(context, note, ends)
    for service in services:
        yield Ordered(service.name, note)
    if note.who in ends:
        yield EndFromInside(note.who, note)


def _check_not_overtaken(services: list[Service], note: OrderNote) -> None:
    """Refuse an order that a later one has overtaken, for the services that it still concerns."""
    overtaken = [service for service in services if is_overtaken(note, service.order)]
    if overtaken:
        names = ", ".join(service.name for service in overtaken)
        later = overtaken[0].order.verb
        text = f"{note.verb}: a later order, `garrison {later}`, holds for {names}"
        raise Refusal("overtaken", text)


def _read_again(
    context: CommandContext, names: list[str]
) -> Generator[bool | Action, None, Refusal | None]:
    """Read the plugins again that could not be read, as the config on disk has them.

    Returns the refusal for the first that still cannot be read; the others are not affected.
    """
    refusal: Refusal | None = None
    for plugin in [name for name in names if name in context.services.unreadable]:
        yield from context.plugins.probe_again(plugin, load_config(context))
        unreadable = context.services.unreadable.get(plugin)
        if unreadable is not None and refusal is None:
            text = f"plugin {plugin} cannot be read: {unreadable.reason}"
            refusal = Refusal("StartError", text, {"traceback": unreadable.traceback})
    return refusal


def until_running(
    context: CommandContext,
    services: list[Service],
    unreadable: Refusal | None,
    note: OrderNote,
    generations: dict[str, int] | None = None,
    inside: bool = False,
) -> Command:
    """Wait until all services run, or one of them cannot run without a further command.

    An order from inside what it ends is not waited for: it would wait for itself.

    Args:
        context: The host.
        services: The services.
        unreadable: Raised at the end.
        note: The order.
        generations: The generations of the incarnations that are to be replaced.
        inside: Whether the order came from inside a service that it ends, or that is starting.
    """
    if inside:
        rows = [context.status.service_row(one, False) for one in services]
        return {"services": rows, "from_inside": note.who}
    before = generations or {}
    tries = {service.name: service.child.restarted for service in services}
    while True:
        _check_not_overtaken(services, note)
        left = [
            service
            for service in services
            if service.state is not State.RUNNING
            or service.child.generation == before.get(service.name)
            or service.current.ended
        ]
        if not left and unreadable is not None:
            raise unreadable
        if not left:
            return {"services": [context.status.service_row(one, False) for one in services]}
        for service in left:
            _check_can_run(context, service, tries[service.name])
        yield True


def _check_can_run(context: CommandContext, service: Service, tries: int) -> None:
    state = service.state
    if state is State.QUEUED and context.services.is_blocked(service):
        text = f"{service.name} is queued: it {context.services.waiting_reason(service)}"
        raise Refusal("StartError", text)
    failed = state in {State.FAILED, State.BACKOFF} or service.child.restarted > tries
    resting = state is State.STOPPED and not service.child.wanted
    if failed or resting:
        again = ""
        if state is State.BACKOFF:
            wait_s = service.child.deadline - time.monotonic()
            when = f"in {wait_s:.1f} s" if wait_s >= 0.05 else "at once"
            again = f"; it is tried again {when}"
        text = f"{service.name} did not start: {service.reason or state.value}{again}"
        raise Refusal("StartError", text, {"traceback": service.traceback})
