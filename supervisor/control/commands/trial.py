"""The command that restarts services and puts their former config back if they do not run."""

import time
from collections.abc import Generator
from datetime import datetime
from typing import Any

from garrison.ipc.messages import Order, Token
from garrison.supervisor.config.accepted import FailedTrial
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.lifecycle.actions import Action, Apply, Configure, RestartBound
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.lifecycle.trials import Tried

from .base import (
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
from .disk import take_from_disk
from .services import bound, note_order

PERIOD_S = 30.0
PERIOD_MOST_S = 3600.0


@command()
def trial(context: CommandContext, peer: Token, order: Order) -> Command:
    """Restart the named services with what is on disk; if one does not run for a while, have all
    of them run as before."""
    note = note_of(context, peer, order)
    period = min(max(option(order, "period", float, PERIOD_S), 0.0), PERIOD_MOST_S)
    yield from until_registered(context)
    names = matching(context, order)
    services = named_services(context, names)
    _check(context, services, note)
    context.accepted.watched |= set(names)
    try:
        return (yield from _tried(context, note, services, period))
    finally:
        context.accepted.watched -= set(names)


def _tried(
    context: CommandContext, note: OrderNote, services: list[Service], period: float
) -> Command:
    """Carry out a trial. One that a former supervisor has begun goes on with what runs."""
    names = [service.name for service in services]
    stored = context.accepted.stored
    goes_on = stored is not None and set(names) <= stored.trials.keys()
    if goes_on:
        config, fitting = context.plugins.fit(load_config(context))
        specs = {spec.name: spec for spec in fitting}
    else:
        specs = yield from _take(context, services, period)
        config = context.plugins.config
    failed = {name: _parts(config, specs[name]) for name in names if name in specs}
    tried = [Tried(one, one.child.generation - goes_on, one.child.restarted) for one in services]
    if not goes_on:
        yield from note_order(context, note, services, [])
        yield from _restart(context, note, config, [specs[name] for name in names])
    problem = yield from _watch(context, note, tried, period)
    if problem:
        return (yield from _put_back(context, note, services, problem, failed))
    context.plugins.accept(specs[name] for name in failed)
    context.accepted.end_trials(names, {})
    for name in names:
        context.log.record("service.trial_passed", name, seconds=period)
    rows = [context.status.service_row(one, False) for one in services]
    return {"services": rows, "period": period}


def _take(
    context: CommandContext, services: list[Service], period: float
) -> Generator[bool | Action, None, dict[str, ServiceSpec]]:
    """Begin a trial of what is on disk. Raises Refusal: it cannot be used."""
    names = [service.name for service in services]
    context.accepted.begin_trials(names, period)
    try:
        return (yield from take_from_disk(context, services, accepts=False))
    except Refusal:
        context.accepted.end_trials(names, {})
        raise


def _check(context: CommandContext, services: list[Service], note: OrderNote) -> None:
    """Refuse a trial that could not be undone."""
    names = [service.name for service in services]
    stored = context.accepted.stored
    if again := context.accepted.watched & set(names):
        text = f"{min(again)} is being tried already; garrison events {min(again)} -f shows the end"
        raise Refusal("failed", text)
    for name in names:
        if stored is None or name not in stored.services:
            text = f"{name} has no former config to put back; garrison restart {name}"
            raise Refusal("failed", text)
    if note.who in {*names, *bound(context, names)}:
        text = f"{note.who} cannot try its own restart: the order would end with it"
        raise Refusal("failed", text)


def _parts(config: Config, spec: ServiceSpec) -> tuple[Any, ...]:
    """Return the parts of the file that differ from what was accepted, and what each is now.

    Empty: the service's config is as it was, so there is none to put back.
    """
    own = ("services", spec.name)
    agent = ("agents", spec.agent.name) if spec.agent.name else ("agent",)
    keys = [one for one in (("plugins", spec.plugin), agent) if config.is_new(one)]
    if config.is_new(own) or config.is_new(("defaults",)):
        keys.insert(0, own)
    return tuple((one, config.fingerprint(one)) for one in keys)


def _restart(
    context: CommandContext, note: OrderNote, config: Config, specs: list[ServiceSpec]
) -> Generator[bool | Action, None, None]:
    for spec in specs:
        yield Configure(spec, config.plugins[spec.plugin])
        context.record_order(spec.name, note)
        yield Apply(spec.name, Event.STOP, note=note)
        yield Apply(spec.name, Event.START, note=note)
        yield RestartBound(spec.name)


def _watch(
    context: CommandContext, note: OrderNote, tried: list[Tried], period: float
) -> Generator[bool, None, str]:
    """Return why a trial has failed, once that is known; empty if all have run for the period."""
    until = 0.0
    while True:
        for one in tried:
            service = one.service
            if service.order.number > note.number:
                context.accepted.end_trials([each.service.name for each in tried], {})
                text = f"the trial is over: a later order, `garrison {service.order.verb}`"
                raise Refusal("overtaken", f"{text}, holds for {service.name}")
            blocked = context.services.is_blocked(service)
            waiting = context.services.waiting_reason(service) if blocked else ""
            if problem := one.problem(waiting):
                ran = time.monotonic() - until + period if until else 0.0
                after = f" after {ran:.0f} s" if ran else ""
                return f"{service.name} did not run for {period:g} s{after}: {problem}"
        if not all(one.runs for one in tried):
            until = 0.0
        elif not until:
            until = time.monotonic() + period
        elif time.monotonic() >= until:
            return ""
        yield False


def _put_back(
    context: CommandContext,
    note: OrderNote,
    services: list[Service],
    problem: str,
    parts: dict[str, tuple[Any, ...]],
) -> Command:
    """Have services run by their accepted config again, and refuse with what was tried."""
    when = datetime.fromtimestamp(note.at).astimezone().isoformat(" ", "seconds")
    failed = {
        name: FailedTrial(
            f"it was tried at {when}, failed ({problem}), and is not used until it is another, or "
            f"garrison restart --try {name}",
            one,
        )
        for name, one in parts.items()
        if one
    }
    names = [service.name for service in services]
    context.accepted.end_trials(names, failed)
    for service in services:
        context.log.record("service.trial_failed", service.name, reason=problem)
    data: dict[str, Any] = {"put_back": sorted(failed), "traceback": services[0].traceback}
    if not failed:
        text = f"{problem}. Its config is as it was, so there is none to put back: what differs is"
        raise Refusal("StartError", f"{text} the code, or what it depends on", data)
    config, fitting = context.plugins.fit(load_config(context))
    context.plugins.take_config(config, fitting)
    specs = {spec.name: spec for spec in fitting}
    tried = [Tried(one, one.child.generation, one.child.restarted) for one in services]
    again = [one for one in tried if one.service.name in failed and one.service.name in specs]
    yield from _restart(context, note, config, [specs[one.service.name] for one in again])
    while not all(one.runs for one in again):
        if words := next(filter(None, (one.problem("") for one in again)), ""):
            text = f"{problem}; the former config is back, and does not run either: {words}"
            raise Refusal("StartError", text, data)
        yield False
    pids = ", ".join(f"{one.service.name} (pid {one.service.current.pid})" for one in again)
    text = f"{problem}; the former config is back, and runs: {pids}"
    hint = f"{text}. {config.path.name} is as it was; garrison diff shows what is pending"
    raise Refusal("StartError", hint, data)
