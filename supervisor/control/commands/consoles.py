"""The commands by which a browser enters a console: console, console_listens, console_enter."""

import os
import time

from garrison.ipc.messages import Order, State, Token
from garrison.supervisor.control.accounts import operator_of, peer_of
from garrison.supervisor.control.consoles import TICKET_S
from garrison.supervisor.control.operators import permissions
from garrison.supervisor.lifecycle.services import Service

from .base import Command, CommandContext, Refusal, command, option, until_registered

TYPE = "console"  # service type of consoles
TICKET_BYTES = 32
LISTENS_S = 5.0  # for a console that starts, until it says where it listens


@command()
def console(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return a ticket for one login of the order's sender, and where the console listens."""
    yield from until_registered(context)
    wanted, uid = option(order, "service", str, ""), option(order, "uid", int, -1)
    service = _chosen(context, wanted)
    until = time.monotonic() + LISTENS_S
    while not (address := context.consoles.address(service.name, service.current.token)):
        comes = service.child.wanted and service.state is not State.FAILED
        if time.monotonic() >= until or not comes:
            text = f"{service.name} is {service.state.value}, and has no address yet"
            raise Refusal("not_running", f"{text}; garrison why {service.name} says why")
        yield True
    ticket = os.urandom(TICKET_BYTES).hex()
    context.consoles.issue(ticket, uid, service.name, time.monotonic())
    return {
        "service": service.name,
        "address": address,
        "ticket": ticket,
        "expires_s": TICKET_S,
    }


@command()
def console_listens(context: CommandContext, peer: Token, order: Order) -> Command:
    """Note where the console listens that sends this."""
    service = _sender(context, peer, order)
    address = option(order, "address", str, "")
    context.consoles.listens(service.name, service.current.token, address)
    return {}
    yield False


@command()
def console_enter(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return whose a ticket is and what they may do, or what a user may do now."""
    service = _sender(context, peer, order)
    ticket = option(order, "ticket", str, "")
    if ticket:
        found = context.consoles.take(ticket, service.name, time.monotonic())
        if found is None:
            raise Refusal("not_allowed", "this link was used already, or its time is over")
        uid = found
    else:
        uid = option(order, "of", int, -1)
    operator = operator_of(peer_of(uid), context.host.operators, False)
    if ticket:
        data = {"uid": uid, "user": operator.user}
        context.log.record("console.entered", service=service.name, **data)
    return {
        "uid": uid,
        "user": operator.user,
        "trusted": operator.trusted,
        "may": permissions(operator),
    }
    yield False


def _sender(context: CommandContext, peer: Token, order: Order) -> Service:
    service = context.services.by_token.get(peer)
    if service is None or service.spec.service_type != TYPE:
        raise Refusal("not_allowed", f"{order.verb} is for services of the type {TYPE} alone")
    return service


def _chosen(context: CommandContext, wanted: str) -> Service:
    """Return the console that a link is wanted for."""
    there = [one for one in context.services.all() if one.spec.service_type == TYPE]
    names = ", ".join(one.name for one in there)
    if not there:
        text = "this host has no console: add [plugins.console] to the config, then garrison apply"
        raise Refusal("no_such_service", text)
    if wanted:
        for one in there:
            if one.name == wanted:
                return one
        raise Refusal("no_such_service", f"no console {wanted}; there is {names}")
    running = [one for one in there if one.state is State.RUNNING]
    if len(running) > 1:
        names = ", ".join(one.name for one in running)
        raise Refusal("usage", f"there are several consoles, name one of them: {names}")
    return running[0] if running else there[0]
