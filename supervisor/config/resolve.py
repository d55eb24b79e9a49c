"""Resolves which services there are, from the plugins and the sections, each under one NAME (pure).

Each service_type of a plugin is a service with that NAME, and a section of that NAME configures it.
A section with a `plugin` is a service of that plugin under the section's NAME. Each agent runs the
plugins that it names, or all, under NAMEs that begin with its own. A plugin that no agent runs is
run once, for the host. A plugin's own service that a section renames by `was` has its new
NAME alone.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from .plain import PLUGIN, has_command
from .values import ConfigValueError, did_you_mean, is_name, listed

Provides = Mapping[str, Sequence[str]]  # plugin → its service_types, of those that could be read
Sections = Mapping[str, Mapping[str, Any]]  # NAME → the keys of its section
Agents = Mapping[str, Mapping[str, Any]]  # NAME → the keys of its section, `services` among them


class ServiceBinding(NamedTuple):
    """One service: its NAME, and what runs under it."""

    name: str
    plugin: str
    service_type: str


class Namespace(NamedTuple):
    """The services of the host, or those of one agent."""

    agent: str  # empty: the host's
    plugins: tuple[str, ...]  # that run here, in the order of the file
    sections: Sections

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the path of the table that has its `services`."""
        return ("agents", self.agent) if self.agent else ()

    def full(self, name: str) -> str:
        """Return the full NAME of a service from its NAME in here."""
        return f"{self.agent}.{name}" if self.agent else name

    def section(self, name: str) -> tuple[str, ...]:
        """Return the path of a service's section."""
        return (*self.keys, "services", name)


def namespaces(
    plugins: Collection[str], sections: Sections, agents: Agents, of_host: Collection[str] = ()
) -> list[Namespace]:
    """Return the host's namespace, then each agent's.

    Args:
        plugins: All plugins.
        sections: The sections of the host's services.
        agents: The agents.
        of_host: Plugins that agents do not run unless they name them.

    Raises:
        ConfigValueError: An agent names a plugin that is not configured.
    """
    found = list[Namespace]()
    commands = _has_commands(sections, agents)
    for agent, keys in agents.items():
        wanted = keys.get("plugins", tuple(one for one in plugins if one not in of_host))
        for index, plugin in enumerate(wanted):
            if plugin not in plugins:
                problem = f"there is no [plugins.{plugin}]{did_you_mean(plugin, plugins)}"
                raise ConfigValueError(problem, "agents", agent, "plugins", index)
        own_sections = keys.get("services", {})
        own = tuple(plugin for plugin in plugins if plugin in wanted)
        if commands:
            own = _with_commands(own, own_sections)
        found.append(Namespace(agent, own, own_sections))
    taken = {plugin for space in found for plugin in space.plugins}
    left = tuple(plugin for plugin in plugins if plugin not in taken)
    if commands:
        left = _with_commands(left, sections)
    return [Namespace("", left, sections), *found]


def _has_commands(sections: Sections, agents: Agents) -> bool:
    every = [sections, *(keys.get("services", {}) for keys in agents.values())]
    return any(has_command(section) for one in every for section in one.values())


def _with_commands(plugins: tuple[str, ...], sections: Sections) -> tuple[str, ...]:
    """Return the plugins of a namespace; that of plain commands is one where a section has one."""
    others = tuple(plugin for plugin in plugins if plugin != PLUGIN)
    return (*others, PLUGIN) if any(map(has_command, sections.values())) else others


def resolve_services(
    spaces: Sequence[Namespace], provides: Provides
) -> list[tuple[Namespace, ServiceBinding]]:
    """Return every service under its full NAME: by namespace, each in config order.

    Raises:
        ConfigValueError: A section belongs to no plugin, or to one that runs in another namespace,
            or two services have one NAME.
    """
    found = dict[str, tuple[Namespace, ServiceBinding]]()
    unread = [plugin for space in spaces for plugin in space.plugins if plugin not in provides]
    for space in spaces:
        _check_plugins(space, spaces, provides)
        with _paths_of(space):
            bindings = resolve_namespace(space.plugins, space.sections, provides, unread)
        bindings = _without_renamed(space, bindings)
        for binding in bindings:
            name = space.full(binding.name)
            if name in found:
                problem = f"`{name}` is a service of agent `{space.agent}` too: give one another"
                other, first = found[name]
                raise ConfigValueError(f"{problem} NAME", *other.section(first.name))
            if not is_name(name):
                problem = f"`{name}` is too long for a NAME, which has 64 characters"
                raise ConfigValueError(problem, *space.section(binding.name))
            found[name] = (space, binding._replace(name=name))
    return list(found.values())


def _without_renamed(space: Namespace, bindings: list[ServiceBinding]) -> list[ServiceBinding]:
    """Leave out the services of plugins whose NAME is the former one of a section of theirs."""
    kinds = {binding.name: binding[1:] for binding in bindings}
    renamed = {
        (section["was"], *kinds[name])
        for name, section in space.sections.items()
        if "was" in section and name in kinds
    }
    return [
        binding
        for binding in bindings
        if binding.name in space.sections or (space.full(binding.name), *binding[1:]) not in renamed
    ]


def check_former(former: Mapping[str, tuple[Sequence[str], str]], known: Collection[str]) -> None:
    """Raise a `ConfigValueError` if a former NAME is still that of a service, or of two.

    Args:
        former: NAME → the path of its section, and its `was`.
        known: The NAMEs of all services.
    """
    first = dict[str, str]()
    for name, (path, was) in former.items():
        if was == name:
            raise ConfigValueError("this is the service's own NAME: take it out", *path, "was")
        if was in known:
            problem = f"there is a service `{was}` still: take that out of the config, or this key"
            raise ConfigValueError(problem, *path, "was")
        if (other := first.setdefault(was, name)) != name:
            problem = f"`{other}` has the same: what `{was}` has left becomes that of one service"
            raise ConfigValueError(problem, *path, "was")


def full_name(name: str, space: Namespace, known: Collection[str]) -> str:
    """Return the full NAME of the service that a section of a namespace calls `name`.

    The namespace's own service goes before all others. Without one, it is the name itself.
    """
    return full if (full := space.full(name)) in known else name


@contextmanager
def _paths_of(space: Namespace) -> Iterator[None]:
    """Give an error of a section the section's path in the file."""
    try:
        yield
    except ConfigValueError as error:
        if error.keys[0] != "services" or not space.agent:
            raise
        problem = error.problem.replace("[services.", f"[agents.{space.agent}.services.")
        raise ConfigValueError(problem, *space.keys, *error.keys) from None


def _check_plugins(space: Namespace, spaces: Sequence[Namespace], provides: Provides) -> None:
    """Refuse a section whose plugin runs in another namespace alone."""
    for name, keys in space.sections.items():
        wanted = keys.get("plugin")
        here = [plugin for plugin in space.plugins if name in provides.get(plugin, ())]
        unread = any(plugin not in provides for plugin in space.plugins)
        if wanted in space.plugins or (wanted is None and (here or unread)):
            continue
        for other in spaces:
            for plugin in other.plugins:
                if plugin == wanted or (wanted is None and name in provides.get(plugin, ())):
                    raise _misplaced(space, name, plugin, spaces)


def _misplaced(
    space: Namespace, name: str, plugin: str, spaces: Sequence[Namespace]
) -> ConfigValueError:
    owners = [other.agent for other in spaces if plugin in other.plugins]
    if space.agent:
        owner = "the host" if owners == [""] else _agents(owners)
        problem = f"plugin `{plugin}` is run by {owner}, and not by agent `{space.agent}`"
        remedy = f'add "{plugin}" to [agents.{space.agent}] plugins'
        if owners == [""]:
            remedy += f", or write [services.{name}]"
    else:
        problem = f"plugin `{plugin}` is run by {_agents(owners)}"
        remedy = f"write [agents.{owners[0]}.services.{name}]"
    return ConfigValueError(f"{problem}: {remedy}", *space.section(name))


def _agents(names: Sequence[str]) -> str:
    return f"agent{'s' if len(names) > 1 else ''} {listed(names)}"


def resolve_namespace(
    plugins: Collection[str], sections: Sections, provides: Provides, unread: Collection[str]
) -> list[ServiceBinding]:
    """Return every service of one namespace in config order.

    They are sorted by plugin, in the order of the file; of each plugin, services without a section
    come first. A NAME that an unread plugin may provide is accepted.

    Args:
        plugins: The plugins of the namespace.
        sections: The sections of the namespace.
        provides: What each plugin provides.
        unread: The plugins of the whole file that could not be read.

    Raises:
        ConfigValueError: A section belongs to no plugin, or a NAME to two.
    """
    provides = {plugin: provides[plugin] for plugin in plugins if plugin in provides}
    found = [_of_section(name, plugins, sections, provides, unread) for name in sections]
    claims = [binding for binding in found if binding]
    by_default = [
        ServiceBinding(service_type, plugin, service_type)
        for plugin, types in provides.items()
        for service_type in types
        if not (plugin == PLUGIN and any(map(has_command, sections.values())))
    ]
    unclaimed = [binding for binding in by_default if binding not in claims]
    free = [binding for binding in unclaimed if _is_free(binding, sections, claims, provides)]
    order = {name: index for index, name in enumerate(plugins)}
    return sorted(free + claims, key=lambda binding: order[binding.plugin])


def check_names(
    key: str, section: Sequence[str], names: Sequence[str], known: Collection[str]
) -> None:
    """Raise a `ConfigValueError` if `depends_on` or `bind_to` names an unknown service."""
    for index, name in enumerate(names):
        if name not in known:
            problem = f"there is no service `{name}`{did_you_mean(name, known)}"
            raise ConfigValueError(problem, *section, key, index)


def _of_section(
    name: str,
    plugins: Collection[str],
    sections: Sections,
    provides: Provides,
    unread: Collection[str],
) -> ServiceBinding | None:
    """Return the service of a section; None: that depends on an unread plugin."""
    section = sections[name]
    plugin = section.get("plugin") or _plugin_of(name, plugins, section, provides, unread)
    if plugin and plugin not in plugins:
        problem = f"there is no [plugins.{plugin}]{did_you_mean(plugin, plugins)}"
        raise ConfigValueError(problem, "services", name, "plugin")
    if plugin is None or plugin not in provides:
        return None
    service_type = _type_of(name, plugin, section.get("type"), provides[plugin])
    return ServiceBinding(name, plugin, service_type)


def _plugin_of(
    name: str,
    plugins: Collection[str],
    section: Mapping[str, Any],
    provides: Provides,
    unread: Collection[str],
) -> str | None:
    """Return the one plugin that provides a NAME."""
    service_type = section.get("type", name)
    owners = [plugin for plugin in plugins if service_type in provides.get(plugin, ())]
    if service_type != name:
        owner = owners[0] if owners else "…"
        problem = f'a type needs its plugin: add plugin = "{owner}"'
        raise ConfigValueError(problem, "services", name, "type")
    if len(owners) > 1:
        raise _shared(name, owners, "services", name)
    if not owners and not unread:
        known = [known for types in provides.values() for known in types]
        problem = f"no plugin has a service `{name}`{did_you_mean(name, known)}"
        problem += " (under a NAME of your own it needs a `plugin`)"
        raise ConfigValueError(problem, "services", name)
    return owners[0] if owners else None


def _type_of(name: str, plugin: str, wanted: str | None, types: Sequence[str]) -> str:
    """Return the service_type that a section means, of those that a plugin has."""
    if wanted is None and name in types:
        return name
    if wanted is None and len(types) == 1:
        return types[0]
    has = f"plugin `{plugin}` has {listed(types) or 'no services'}"
    if wanted is None:
        raise ConfigValueError(f'{has}: name one of them with type = "…"', "services", name)
    if wanted not in types:
        problem = f"there is no `{wanted}` in it: {has}"
        raise ConfigValueError(problem, "services", name, "type")
    return wanted


def _is_free(
    binding: ServiceBinding,
    sections: Sections,
    claims: Sequence[ServiceBinding],
    provides: Provides,
) -> bool:
    """Return True if a plugin's own service has its NAME; False if a section gives it another."""
    name = binding.name
    if name in sections:
        if any(claim[1:] == binding[1:] for claim in claims):
            return False
        raise ConfigValueError(
            f"plugin `{binding.plugin}` also has a service `{name}`: give it a NAME of its own, "
            f'such as [services.{name}-2] with plugin = "{binding.plugin}" and type = "{name}"',
            "services",
            name,
        )
    owners = [plugin for plugin, types in provides.items() if name in types]
    if len(owners) > 1:
        raise _shared(name, owners, "plugins", binding.plugin)
    return True


def _shared(name: str, owners: Sequence[str], *keys: str) -> ConfigValueError:
    first, second = owners[:2]
    return ConfigValueError(
        f"plugins {listed(owners)} each have a service `{name}`: write [services.{name}] with "
        f'plugin = "{first}", and [services.{name}-2] with plugin = "{second}" and '
        f'type = "{name}"',
        *keys,
    )
