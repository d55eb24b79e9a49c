"""Commands about the whole host: status, events, deaths, down, upgrade."""

import os
import time
from typing import Any

from garrison.ipc.messages import Order, Token
from garrison.supervisor.control.status import held_row, unreadable_row
from garrison.supervisor.lifecycle.actions import EndFromInside

from .base import (
    AnswerNow,
    Command,
    CommandContext,
    Refusal,
    command,
    matching,
    note_of,
    option,
    until_recorded,
    until_registered,
)

EVENTS_MOST = 4096
# What operators of a team are not shown: the config, and where secrets are
OF_HOST: dict[str, Any] = {
    "config": "",
    "config_paths": [],
    "config_rejected": [],
    "not_preloaded": {},
}
OF_SERVICE: dict[str, Any] = {
    "started_with": None,
    "secrets": {},
    "differs": [],
    "log": None,
    "command": None,  # its arguments are config
    "python": None,
}


@command(reads=True)
def status(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return the supervisor's row and those of the named services, or of all."""
    table = context.services
    names, detail = table.names(), option(order, "detail", bool, bool(order.names))
    restricted = option(order, "restricted", bool, False)
    if order.names:
        names = matching(context, order)
    if detail:
        yield from until_recorded(context)
        context.status.read_disk()
    rows = []
    for name in names:
        if name in table.services:
            rows.append(context.status.service_row(table.services[name], detail))
        elif name in table.unreadable:
            rows.append(unreadable_row(table.unreadable[name], detail))
        elif name in table.held:
            rows.append(held_row(table.held[name]))
    head = context.status.supervisor_row()
    if restricted:
        head, rows = head | OF_HOST, [row | OF_SERVICE for row in rows]
    return {"supervisor": head, "services": rows}


@command(reads=True)
def counters(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return the totals of calls and deaths since the supervisor's process began."""
    return context.counters.totals(context.boot, time.monotonic())
    yield False


@command()
def events(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return the last events; with `follow`, send every later one as well."""
    names = frozenset(matching(context, order)) if order.names else frozenset[str]()
    number = min(option(order, "number", int, 50), EVENTS_MOST)
    last = context.log.last(number, names)
    if order.options.get("follow"):
        context.follow(peer, order, names)
    return last
    yield False


@command()
def deaths(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return once every crash report is on disk, where the client reads them."""
    names = matching(context, order) if order.names else context.services.names()
    yield from until_recorded(context)
    return {"services": names}


@command(ends_host=True)
def down(context: CommandContext, peer: Token, order: Order) -> Command:
    """Stop everything; answered by the supervisor's last act, or at once if a service orders it:
    the service would wait for its own end."""
    note = note_of(context, peer, order)
    sender = context.services.services.get(note.who)
    if sender is not None:
        yield EndFromInside(sender.name, note)
    context.stop_host(note)
    if sender is not None:
        yield AnswerNow({"from_inside": sender.name})
    while True:
        yield False


@command()
def upgrade(context: CommandContext, peer: Token, order: Order) -> Command:
    """Make this process a new supervisor once this has been answered."""
    yield from until_registered(context)
    python = order.options.get("python")
    if not isinstance(python, str) or not os.access(python, os.X_OK):
        raise Refusal("failed", f"{python} is no interpreter that could be run")
    problem = yield from context.check_successor(python, context.plugins.config)
    if problem:
        raise Refusal("failed", f"the installed garrison cannot take over: {problem}")
    yield from until_registered(context)  # a while has passed
    while context.held:  # for a backup; the next supervisor would not know of it
        yield False
    if problem := context.write_snapshot():
        text = f"the state cannot be written: {problem}; correct that and try again"
        raise Refusal("failed", text)
    context.begin_upgrade(python)
    return {"boot": context.boot}
