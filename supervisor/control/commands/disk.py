"""Takes the config and the code on disk into use, for the commands that start services."""

from collections.abc import Collection, Generator
from typing import Any

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import State
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.lifecycle.actions import Action, Configure
from garrison.supervisor.lifecycle.order_note import NO_ORDER, OrderNote
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.probes import PluginProbe
from garrison.supervisor.processes.users import resolve_user

from .base import Command, CommandContext, Refusal, load_config
from .renaming import carry_out, continue_as_before, pending_renames


def take_from_disk(
    context: CommandContext,
    services: list[Service],
    adding: Collection[str] = (),
    first: Generator[bool | Action, None, Any] | None = None,
    note: OrderNote = NO_ORDER,
    accepts: bool = True,
) -> Generator[bool | Action, None, dict[str, ServiceSpec]]:
    """Use the config on disk, and the code of some services; return every service of it.

    Args:
        context: The host.
        services: Those that are about to be restarted.
        adding: NAMEs that the host does not have yet, and is to have. Others that are new to the
            config are left out: an order about one service starts no other.
        first: What is done once nothing stands in the way, and before anything is changed.
        note: The order, for services that are stopped because they are renamed.
        accepts: Whether what the restarted services have is accepted.

    Raises:
        Refusal: One of these services could not start with it. Nothing has been changed.
    """
    read = load_config(context)
    probes = yield from _probe_for(context, services, read, bool(adding))
    config, fitting = context.plugins.fit(read, probes)
    context.plugins.note_rejected(config)
    specs = {spec.name: spec for spec in fitting}
    for service in services:
        if service.name not in specs:
            text = f"{service.name} is no longer in {config.path}; the running one stays"
            raise Refusal("ConfigError", text)
        spec = specs[service.name]
        _check_startable(context, service, spec, config, probes.get(spec.plugin))
    renames = pending_renames(context, config, adding)
    if first is not None:
        yield from first
    yield from carry_out(context, note, renames)
    before = set(context.services.services)
    yield from context.plugins.take_plugins(probes)
    context.plugins.take_config(config, fitting)
    known = {*context.services.services, *adding}
    context.plugins.add_services([spec for spec in fitting if spec.name in known])
    yield from continue_as_before(context, renames)
    restarted = {service.name for service in services}
    accepted = (restarted if accepts else set()) | (set(context.services.services) - before)
    context.plugins.accept(spec for spec in fitting if spec.name in accepted)
    return specs


def release_held(context: CommandContext, names: list[str]) -> Command:
    """Add the services that were held back, if their config on disk is usable by now."""
    held = [name for name in names if name in context.services.held]
    if not held:
        return
    yield from take_from_disk(context, [], held)
    for name in held:
        if name in context.services.held:
            reason = context.services.held[name].reason
            raise Refusal("ConfigError", f"{name} cannot be started: {reason}")
        if name not in context.services.services and name not in context.services.unreadable:
            text = f"{name} is no longer in {context.plugins.config.path}"
            raise Refusal("ConfigError", text)


def _probe_for(
    context: CommandContext, services: list[Service], config: Config, adds: bool
) -> Generator[bool | Action, None, dict[str, PluginProbe]]:
    """Read the plugins that services have, or will have by a new config.

    Also those that are new to the config while services are to be added, and those that have found
    a problem: it may be corrected.
    """
    wanted = {service.spec.plugin for service in services}
    wanted |= {config.plugin_of(one.name) or one.spec.plugin for one in services}
    wanted |= context.plugins.with_problems()
    if adds:
        wanted |= {name for name in config.plugins if name not in context.plugins.read}
    wanted -= context.services.unreadable.keys()
    probes = {
        plugin: context.plugins.probe(plugin, config)
        for plugin in wanted
        if plugin in config.plugins
    }
    yield from context.plugins.until_done(*probes.values())
    return probes


def configure_from_disk(context: CommandContext, service: Service) -> Command:
    """Have a service start as the config on disk says, if that is usable."""
    try:
        config, fitting = context.plugins.fit(load_config(context))
        specs = {spec.name: spec for spec in fitting}
    except ConfigError as error:  # it starts with the config that it had
        context.log.record("config.unusable", service.name, problem=str(error))
        return
    if (spec := specs.get(service.name)) is not None:
        context.plugins.take_config(config, list(specs.values()))
        yield Configure(spec, config.plugins[spec.plugin])


def _check_startable(
    context: CommandContext,
    service: Service,
    spec: ServiceSpec,
    config: Config,
    probe: PluginProbe | None,
) -> None:
    """Refuse a restart that could only end the running service, or not bring what is on disk."""
    stays = "; the running one stays" if service.state is State.RUNNING else ""
    for rejection in config.rejected:
        if rejection.concerns(spec):
            raise Refusal("ConfigError", f"{rejection.error}{stays}")
    if probe is None:
        return
    if probe.found is not None:
        for problem in probe.found.problems:
            if problem.keys[:2] in {("services", spec.name), ("plugins", spec.plugin)}:
                error = config.error_at(problem.keys, problem.problem)
                raise Refusal("ConfigError", f"{error}{stays}")
        if spec.service_type not in {m.service_type for m in probe.found.services}:
            text = f"plugin {spec.plugin} no longer has a service of type {spec.service_type}"
            raise Refusal("ConfigError", f"{text}{stays}")
    elif service.state is State.RUNNING:
        text = f"{service.name}: its plugin cannot be read: {probe.problem.reason}"
        raise Refusal("StartError", f"{text}{stays}", {"traceback": probe.problem.traceback})
    try:
        worker_environment(spec, context.environ)
        resolve_user(spec, context.host.state / "services" / spec.name)
    except StartError as error:
        raise Refusal("ConfigError", f"{error}{stays}") from error


def add_from_disk(context: CommandContext, note: OrderNote, names: list[str]) -> Command:
    """Add services that the config on disk has and the host has not.

    Raises:
        Refusal: The config has no such service either.
    """
    yield from take_from_disk(context, [], names, note=note)
    for name in names:
        if name not in context.services.services:
            raise Refusal("no_such_service", context.services.unknown(name))
