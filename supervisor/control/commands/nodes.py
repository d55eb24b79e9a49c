"""Commands about nodes: which there are, and to drain one."""

from garrison.ipc.messages import Order, State, Token
from garrison.supervisor.lifecycle.services import Service

from .base import Command, CommandContext, Refusal, command, note_of, option, until_registered

NO_NODES = 'this host has one machine: [engine] kind is "local"'


@command(reads=True)
def nodes(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return every node."""
    yield from ()
    engine = context.host.engine
    return {
        "kind": engine.kind.value,
        "lease_s": engine.lease,
        "problem": context.places.problem or None,
        "nodes": context.places.nodes(),
    }


@command()
def drain(context: CommandContext, peer: Token, order: Order) -> Command:
    """Have a node take nothing more, and move what may move; or take services again."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    if not context.host.engine.has_nodes:
        raise Refusal("failed", f"drain: {NO_NODES}")
    node = _known(context, order)
    places = context.places
    if option(order, "back", bool, False):
        if places.undrain(node):
            context.log.record("node.undrained", node=node, by=note.who)
        return {"node": node, "drained": False}
    places.drain(node)
    context.log.record("node.drained", node=node, by=note.who)
    there = places.on_node(node)
    stays = {one.name: why for one in there if (why := places.stays(one))}
    moving = [one for one in there if one.name not in stays]
    for service in moving:
        places.leave(service)
    yield from _until_moved(context, node, moving)
    stuck = {one.name: why for one in moving if (why := places.stuck(one))}
    moved = {one.name: places.shown_node(one) for one in moving if one.name not in stuck}
    return {"node": node, "drained": True, "moved": moved, "stays": stays, "stuck": stuck}


def _known(context: CommandContext, order: Order) -> str:
    """Return the node that an order is about."""
    if len(order.names) != 1:
        raise Refusal("usage", f"{order.verb}: name one node")
    known = [row["name"] for row in context.places.nodes()]
    if order.names[0] not in known:
        text = f"no node {order.names[0][:80]}; there are: {', '.join(known)}"
        raise Refusal("failed", text)
    return order.names[0]


def _until_moved(context: CommandContext, node: str, moving: list[Service]) -> Command:
    """Wait until each runs elsewhere, has no place to go, or cannot run there."""
    while any(_is_moving(context, node, service) for service in moving):
        yield True


def _is_moving(context: CommandContext, node: str, service: Service) -> bool:
    places = context.places
    if context.services.services.get(service.name) is not service or places.stuck(service):
        return False
    at_rest = {State.BACKOFF, State.FAILED, State.STOPPED, State.REGISTERED}
    if service.state is State.QUEUED:
        return not context.services.is_blocked(service)
    if service.state in at_rest:
        return False
    return service.state is not State.RUNNING or places.shown_node(service) == node
