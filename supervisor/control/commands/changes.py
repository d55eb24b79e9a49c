"""Commands about what differs between the disk and what runs: diff, apply."""

import os
import time
from collections.abc import Generator, Mapping
from dataclasses import replace as replaced
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

import msgspec

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import Order, Token
from garrison.ipc.system.installed import installed_version
from garrison.supervisor.assignment import record_on_disk
from garrison.supervisor.config.basis import still_rejected
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.lifecycle.actions import (
    Action,
    Apply,
    Configure,
    Ordered,
    Remove,
    RestartBound,
)
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.pending import (
    ChangeKind,
    HostChange,
    PendingChange,
    Stamp,
    compare,
    host_differences,
    service_differences,
)
from garrison.supervisor.lifecycle.policy import Event, has_process
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.lifecycle.start_record import StartRecord, start_record
from garrison.supervisor.probes import PluginProbe

from .base import (
    GOES_ON,
    AnswerNow,
    Command,
    CommandContext,
    GoesOn,
    Refusal,
    command,
    note_of,
    option,
    until_registered,
)
from .disk import take_from_disk
from .renaming import renames_of
from .services import bound, note_order, until_running
from .stopping import stop_in_order

READ_S = 10.0  # for all plugins that have to be read


class Comparison(msgspec.Struct, frozen=True):
    """What is on disk, and how it differs."""

    config: Config
    specs: Mapping[str, ServiceSpec]
    probes: Mapping[str, PluginProbe]
    changes: list[PendingChange]
    host: list[HostChange]
    problems: list[str]  # of the config on disk, in words
    renamed: Mapping[str, str]  # NAME → its former one
    unread: frozenset[str]  # plugins of the config that are not known as it has them

    def as_data(self) -> dict[str, Any]:
        """Return it as an answer has it."""
        return {
            "services": [msgspec.to_builtins(one) for one in self.changes],
            "host": [msgspec.to_builtins(one) for one in self.host],
            "problems": self.problems,
        }


@command(reads=True)
def diff(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return what differs between the disk and what runs; with `quick`, without reading plugins."""
    yield from until_registered(context)
    quick = option(order, "quick", bool, False)
    found = yield from compare_with_disk(context, quick)
    plugins = {service.name: service.spec.plugin for service in context.services}
    rejected = context.plugins.rejected
    context.plugins.rejected = still_rejected(
        rejected, found.config.rejected, found.unread, plugins
    )
    return _answer(context, found)


def _answer(context: CommandContext, found: Comparison) -> dict[str, Any]:
    running, installed = context.status.version, installed_version()
    version = None if running == installed else {"running": running, "installed": installed}
    pending = bool(found.changes or found.host or version or found.problems)
    return {**found.as_data(), "version": version, "pending": pending}


@command()
def apply(context: CommandContext, peer: Token, order: Order) -> Command:
    """Do what `diff` shows, of some services or of all; nothing else starts or stops."""
    note = note_of(context, peer, order)
    yield from until_registered(context)
    found = yield from compare_with_disk(context)
    chosen = _chosen(context, order, found)
    done: list[str] = []
    try:
        rows = yield from _carry_out(context, note, chosen, found.renamed, done)
    except (Refusal, ConfigError) as error:
        code = error.code if isinstance(error, Refusal) else "ConfigError"
        text = f"{error}. Done before: {', '.join(done)}" if done else f"{error}. Nothing was done"
        context.log.record("config.not_applied", problem=str(error), done=", ".join(done))
        raise Refusal("failed" if done else code, text, {"done": done}) from error
    _forget_unused(context, found.config)
    context.log.record("config.applied", done=", ".join(done))
    after = yield from compare_with_disk(context)
    context.plugins.note_rejected(after.config)  # also of what was corrected, and nothing else
    return {**_answer(context, after), "done": done, "rows": rows}


def _chosen(context: CommandContext, order: Order, found: Comparison) -> list[PendingChange]:
    """Return the changes that an order is about."""
    if not order.names:
        return found.changes
    changes = {one.name: one for one in found.changes}
    chosen: dict[str, PendingChange] = {}
    for pattern in order.names:
        matched = [name for name in changes if fnmatchcase(name, pattern)]
        if not matched and not context.services.match([pattern])[0]:
            raise Refusal("no_such_service", context.services.unknown(pattern))
        matched += [new for new, old in found.renamed.items() if old == pattern and new in changes]
        chosen |= {name: changes[name] for name in matched}
    return list(chosen.values())


def _carry_out(
    context: CommandContext,
    note: OrderNote,
    chosen: list[PendingChange],
    renamed: Mapping[str, str],
    done: list[str],
) -> Generator[bool | Action | AnswerNow | GoesOn, None, list[Any]]:
    """Carry out changes, and note in `done` what was done; return the rows of what was started."""
    of = {kind: [one.name for one in chosen if one.change is kind] for kind in ChangeKind}
    table = context.services.services
    changed = [table[name] for name in of[ChangeKind.CHANGED]]
    adding = [*of[ChangeKind.RENAMED], *of[ChangeKind.NEW]]
    former = [renamed[name] for name in of[ChangeKind.RENAMED]]
    end = [*of[ChangeKind.GONE], *of[ChangeKind.CHANGED], *former]
    inside = note.who in [*end, *bound(context, of[ChangeKind.CHANGED])]
    removing = _remove(context, note, of[ChangeKind.GONE], done)
    if not changed and not adding:
        yield from removing
        return []
    specs = yield from take_from_disk(context, changed, adding, removing, note)
    done += [f"{renamed[name]} renamed to {name}" for name in of[ChangeKind.RENAMED]]
    done += [f"{name} added" for name in of[ChangeKind.NEW] if name in table]
    config = context.plugins.config
    generations = {service.name: service.child.generation for service in changed}
    yield from note_order(context, note, changed, end if inside else [])
    for service in changed:
        spec, wanted = specs[service.name], service.child.wanted
        yield Configure(spec, config.plugins[spec.plugin])
        if wanted:
            yield Apply(service.name, Event.STOP, note=note)
            yield Apply(service.name, Event.START, note=note)
            yield RestartBound(service.name)
        done.append(f"{service.name} {'restarted' if wanted else 'changed'}")
    added = [table[name] for name in adding if name in table]
    waited = [one for one in [*changed, *added] if one.child.wanted]
    answer = yield from until_running(context, waited, None, note, generations, inside)
    rows: list[Any] = answer["services"]
    return rows


def _forget_unused(context: CommandContext, config: Config) -> None:
    """Accept no plugin and no agent any longer that neither the config nor a service has."""
    specs = [service.spec for service in context.services]
    context.accepted.keep(
        {*config.plugins, *(spec.plugin for spec in specs)},
        {*config.agents, *(spec.agent.name for spec in specs)},
    )


def _remove(
    context: CommandContext, note: OrderNote, names: list[str], done: list[str]
) -> Generator[bool | Action, None, None]:
    """Stop services, and take those out of the host that no later order has started again."""
    table = context.services.services
    for name in names:
        yield Ordered(name, note)
    yield from stop_in_order(context, note, names, "no longer in the config")
    for name in names:
        if not has_process(table[name].state):
            yield Remove(name)
            context.accepted.forget(name)  # else a later start with an unusable config has it again
            done.append(f"{name} removed")


def compare_with_disk(
    context: CommandContext, quick: bool = False
) -> Generator[bool | Action | GoesOn, None, Comparison]:
    """Compare the config and the code on disk with what runs; change nothing.

    Args:
        context: The host.
        quick: Do not read a plugin that is not known yet; the services that its sections name, or
            its own NAME, stand for what it may offer.
    """
    read = context.plugins.load_config()
    host = host_differences(context.host, read.host)
    read = replaced(read, host=context.host)
    wanted = _unknown(context, read)
    probes = {} if quick else (yield from _read_unknown(context, read, wanted))
    config, fitting = context.plugins.fit(read, probes)
    specs = {spec.name: spec for spec in fitting}
    record = record_on_disk(config, fitting, context.environ)
    running: dict[str, tuple[ServiceSpec, list[str]]] = {}
    for service in list(context.services):
        if (new := specs.get(service.name)) is None:
            running[service.name] = service.spec, []
            continue
        try:
            words = _differences(service, new, config, record(service.name))
        except (ConfigError, StartError) as error:
            reason = str(error).removeprefix(f"{service.name} did not start: ")
            words = [f"would not start: {reason}"]
        running[service.name] = service.spec, words
        yield GOES_ON  # looking at files takes time of the loop
    problems = [str(one.error) for one in config.rejected]
    problems += [
        f"plugin {name} cannot be read: {probe.problem.reason}"
        for name, probe in probes.items()
        if probe.found is None
    ]
    plan = renames_of(context, config)
    problems += plan.problems.values()
    names = [*specs, *(_unread(context, config) if quick else ())]
    changes = compare(running, names, plan.renamed)
    found = {name for name, probe in probes.items() if probe.found is not None}
    unread = frozenset(wanted) - found
    return Comparison(config, specs, probes, changes, host, problems, plan.renamed, unread)


def _unread(context: CommandContext, config: Config) -> list[str]:
    """Return the services of plugins that were not read yet, as far as the config names them."""
    known = {*context.plugins.read, *context.services.unreadable}
    names = [
        [section.name for section in config.sections(name) if section.bound] or [name]
        for name in config.plugins
        if name not in known
    ]
    return list(dict.fromkeys(chain.from_iterable(names)))


def _unknown(context: CommandContext, config: Config) -> list[str]:
    """Return the plugins of a config that are not known, or are elsewhere now, and those that have
    not checked the settings that the config has for them now."""
    plugins = context.plugins
    wanted = [
        name
        for name, spec in config.plugins.items()
        if name not in plugins.read
        or plugins.config.plugins.get(name) != spec  # it may have been taken out since
        or plugins.sections.get(name, config.sections(name)) != config.sections(name)
    ]
    wanted += [name for name in plugins.with_problems() if name in config.plugins]
    return list(dict.fromkeys(wanted))


def _read_unknown(
    context: CommandContext, config: Config, wanted: list[str]
) -> Generator[bool, None, dict[str, PluginProbe]]:
    """Read plugins as a config has them."""
    plugins = context.plugins
    probes = {name: plugins.probe(name, config) for name in wanted}
    for probe in probes.values():
        probe.until, probe.patience = time.monotonic() + READ_S, READ_S
    yield from plugins.until_done(*probes.values())
    return probes


def _differences(service: Service, new: ServiceSpec, config: Config, now: StartRecord) -> list[str]:
    started = service.current.started
    if started is None:  # it does not run: its next start by an order takes what is on disk
        plugin = config.plugins[new.plugin]
        started = start_record(service.spec, service.plugin, (), {})
        now = start_record(new, plugin, (), {})
    stamps = {path: _stamp(path) for path in started.code}
    words = service_differences(started, now, service.spec, new, stamps)
    return [_placed(text, service.name, config) for text in words]


def _placed(text: str, service: str, config: Config) -> str:
    """Add to a difference the file and line of its key, where the config has several files."""
    key = text.partition(" ")[0].rstrip(":")
    keys = tuple(key.split("."))
    path = keys if keys[0] == "plugins" else (*config.key_path(service, keys[0]), *keys[1:])
    place = config.place_of(path)
    return f"{text} ({place})" if place else text


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (as the worker has done it)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
