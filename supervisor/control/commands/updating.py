"""The command of `garrison update`: moves one service to another version, and watches its client.

Durations are seconds.
"""

import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.messages import Order, State, Token
from garrison.ipc.system.locks import is_locked
from garrison.supervisor.lifecycle.actions import Action, Apply, Configure, RestartBound
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.lifecycle.trials import Tried
from garrison.supervisor.update.data import BEFORE, FAILED, put_back
from garrison.supervisor.update.journal import Recovery, recovery
from garrison.supervisor.update.journal_file import LOCK, data_folder, read_update

from .base import (
    AnswerNow,
    Command,
    CommandContext,
    Refusal,
    command,
    matching,
    named_services,
    note_of,
    option,
    until_registered,
)
from .services import note_order

COPY_S = 1800.0  # for a service's data
RESUME_S = 3600.0  # for the process that puts an update back
LOOK_S = 1.0  # between two looks at the lock of the client
PERIOD_MOST_S = 3600.0
STEPS = ("move", "event", "watch")
COPY, RESTORE, KEEP = "copy", "restore", "keep"  # what is done with the data


@command()
def update(context: CommandContext, peer: Token, order: Order) -> Command:
    """Take one step of an update: move a service, record an event, or watch the client."""
    step = option(order, "step", str, "")
    if step == "event":
        name, data = option(order, "event", str, ""), option(order, "data", dict[str, Any], {})
        context.log.record(f"update.{name}", *order.names[:1], **data)
        return {}
    if step == "watch":
        return (yield from _watch_client(context))
    if step != "move":
        raise Refusal("usage", f"update: no step {step}; there are: {', '.join(STEPS)}")
    note = note_of(context, peer, order)
    yield from until_registered(context)
    services = named_services(context, matching(context, order))
    if len(services) != 1:
        raise Refusal("usage", "update: one service is moved at a time")
    return (yield from _move(context, note, services[0], order))


def _move(context: CommandContext, note: OrderNote, service: Service, order: Order) -> Command:
    """Restart a service under an interpreter, with its data copied or put back in between.

    It returns once the service has run for a period, in good health.
    """
    python, data = option(order, "python", str, ""), option(order, "data", str, KEEP)
    number = option(order, "number", int, 0)
    period = min(max(option(order, "period", float, 0.0), 0.0), PERIOD_MOST_S)
    tried = Tried(service, service.child.generation, service.child.restarted)
    plugin = msgspec.structs.replace(service.plugin, python=Path(python) if python else None)
    yield from note_order(context, note, [service], [])
    context.services.copied[service.name] = note.number
    try:
        yield Apply(service.name, Event.STOP, note=note)
        yield Apply(service.name, Event.START, note=note)
        yield from _until_ended(service, note)
        yield from _take_data(context, service.name, number, data)
        yield Configure(service.spec, plugin)
    finally:
        if context.services.copied.get(service.name) == note.number:  # not a later order's
            del context.services.copied[service.name]
    yield RestartBound(service.name)
    yield from _until_passed(context, note, tried, period)
    if python:
        context.log.record("update.moved", service.name, python=python, seconds=period)
    return context.status.service_row(service, False)


def _until_ended(service: Service, note: OrderNote) -> Generator[bool, None, None]:
    """Wait until a service's process has ended, and it would be started again."""
    while service.state is not State.QUEUED:
        if service.order.number > note.number or not service.child.wanted:
            raise Refusal("overtaken", _overtaken(service))
        yield False


def _overtaken(service: Service) -> str:
    verb = service.order.verb
    return f"a later order, `garrison {verb}`, holds for {service.name}: it is not moved"


def _take_data(
    context: CommandContext, name: str, number: int, data: str
) -> Generator[bool | Action, None, None]:
    """Copy the data of a service that has no process, or put its copy back."""
    source = context.host.state / "services" / name
    folder = data_folder(context.host.state, number)
    copy = folder / BEFORE / name
    if data == COPY and not copy.exists():
        module = "garrison.supervisor.update.data"
        words = [sys.executable, "-P", "-m", module, str(source), str(copy)]
        if problem := (yield from context.helpers.run(words, COPY_S)):
            text = f"the data of {name} cannot be copied: {problem}; it runs on as before"
            raise Refusal("failed", text)
    elif data == RESTORE:
        try:
            put_back(source, copy, folder / FAILED / name)
        except OSError as error:
            text = f"the data of {name} cannot be put back: {error}; its copy is {copy}"
            raise Refusal("failed", text) from error


def _until_passed(
    context: CommandContext, note: OrderNote, tried: Tried, period: float
) -> Generator[bool, None, None]:
    """Wait until a service has run for a period.

    Raises:
        Refusal: It did not, or a later order holds.
    """
    service, until = tried.service, 0.0
    while True:
        if service.order.number > note.number:
            raise Refusal("overtaken", _overtaken(service))
        blocked = context.services.is_blocked(service)
        waiting = context.services.waiting_reason(service) if blocked else ""
        if problem := tried.problem(waiting):
            text = f"{service.name} did not run for {period:g} s: {problem}"
            raise Refusal("StartError", text, {"traceback": service.traceback})
        if not tried.runs:
            until = 0.0
        elif not until:
            until = time.monotonic() + period
        elif time.monotonic() >= until:
            return
        yield False


def _watch_client(context: CommandContext) -> Command:
    """Have the update put back if its command ends before it has finished."""
    yield AnswerNow({})
    state, due = context.host.state, 0.0
    while not context.is_stopping():
        if time.monotonic() < due:
            yield False
            continue
        due = time.monotonic() + LOOK_S
        if is_locked(state / LOCK):
            continue
        if recovery(read_update(state)) is not Recovery.NOTHING:
            yield from _resume(context)
        return


def _resume(context: CommandContext) -> Generator[bool | Action, None, None]:
    """Put an update back whose command was killed."""
    context.log.record("update.abandoned", by="its command has ended; it is put back")
    words = [sys.executable, "-P", "-m", "garrison.supervisor.cli"]
    words += ["--home", str(context.host.home), "update", "--resume"]
    if problem := (yield from context.helpers.run(words, RESUME_S)):
        context.log.record("update.unfinished", problem=problem, try_="garrison update --resume")
