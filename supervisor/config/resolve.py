"""Which services there are: the plugins' own and those of `[services]`, each under one NAME (pure).

A plugin's `service_type` is a service under that NAME by itself, and a section of that NAME tunes
it. A section with a `plugin` is a service of that plugin under the section's NAME. Each agent runs
the plugins that it names, or all, under NAMEs that begin with its own; what no agent runs is run
once, for all.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from .values import ConfigValueError, did_you_mean, is_name, listed

Provides = Mapping[str, Sequence[str]]  # plugin → its service_types, of those that could be read
Sections = Mapping[str, Mapping[str, Any]]  # NAME → what its section says
Agents = Mapping[str, Mapping[str, Any]]  # NAME → what its section says; plugins, services


class ServiceBinding(NamedTuple):
    """One service: its NAME, and what runs under it."""

    name: str
    plugin: str
    service_type: str


class Namespace(NamedTuple):
    """What is bound together: everybody's services, or those of one agent."""

    agent: str  # empty: everybody's
    plugins: tuple[str, ...]  # that run here, in the order of the file
    sections: Sections

    @property
    def keys(self) -> tuple[str, ...]:
        """Return what leads to its `services` in the file."""
        return ("agents", self.agent) if self.agent else ()

    def full(self, name: str) -> str:
        """Return the NAME of a service that is called so here."""
        return f"{self.agent}.{name}" if self.agent else name

    def section(self, name: str) -> tuple[str, ...]:
        """Return the keys that lead to a service's section."""
        return (*self.keys, "services", name)


def realms(plugins: Collection[str], sections: Sections, agents: Agents) -> list[Namespace]:
    """Return everybody's realm, then each agent's.

    Raises:
        Misfit: An agent names a plugin that there is not.
    """
    found = list[Namespace]()
    for agent, said in agents.items():
        wanted = said.get("plugins", tuple(plugins))
        for place, plugin in enumerate(wanted):
            if plugin not in plugins:
                problem = f"there is no [plugins.{plugin}]{did_you_mean(plugin, plugins)}"
                raise ConfigValueError(problem, "agents", agent, "plugins", place)
        own = tuple(plugin for plugin in plugins if plugin in wanted)
        found.append(Namespace(agent, own, said.get("services", {})))
    taken = {plugin for realm in found for plugin in realm.plugins}
    left = tuple(plugin for plugin in plugins if plugin not in taken)
    return [Namespace("", left, sections), *found]


def resolve_services(
    all_realms: Sequence[Namespace], provides: Provides
) -> list[tuple[Namespace, ServiceBinding]]:
    """Return every service under its full NAME, realm by realm, each in config order.

    Raises:
        Misfit: a section belongs to no plugin, or to one that is run elsewhere, or two services
            have one NAME.
    """
    found = dict[str, tuple[Namespace, ServiceBinding]]()
    for realm in all_realms:
        _check_where(realm, all_realms, provides)
        unread = [one for other in all_realms for one in other.plugins if one not in provides]
        with _within(realm):
            bound = bind(realm.plugins, realm.sections, provides, unread)
        for service in bound:
            name = realm.full(service.name)
            place = realm.section(service.name)
            if name in found:
                problem = f"`{name}` is a service of agent `{realm.agent}` too: give one another"
                other, first = found[name]
                raise ConfigValueError(f"{problem} NAME", *other.section(first.name))
            if not is_name(name):
                raise ConfigValueError(
                    f"`{name}` is too long for a NAME, which has 64 characters", *place
                )
            found[name] = (realm, service._replace(name=name))
    return list(found.values())


def resolved(name: str, realm: Namespace, known: Collection[str]) -> str:
    """Return the full NAME of what a realm's section calls so: the agent's own before all others;
    the name itself where there is none, or none yet."""
    return full if (full := realm.full(name)) in known else name


@contextmanager
def _within(realm: Namespace) -> Iterator[None]:
    """Have a misfit of a section say where in the file that is."""
    try:
        yield
    except ConfigValueError as misfit:
        if misfit.keys[0] != "services" or not realm.agent:
            raise
        problem = misfit.problem.replace("[services.", f"[agents.{realm.agent}.services.")
        raise ConfigValueError(problem, *realm.keys, *misfit.keys) from None


def _check_where(realm: Namespace, all_realms: Sequence[Namespace], provides: Provides) -> None:
    """Refuse a section whose plugin is run elsewhere, with where it belongs."""
    for name, said in realm.sections.items():
        wanted = said.get("plugin")
        here = [plugin for plugin in realm.plugins if name in provides.get(plugin, ())]
        unread = any(plugin not in provides for plugin in realm.plugins)
        if wanted in realm.plugins or (wanted is None and (here or unread)):
            continue
        for other in all_realms:
            for plugin in other.plugins:
                if plugin == wanted or (wanted is None and name in provides.get(plugin, ())):
                    raise _misplaced(realm, name, plugin, all_realms)


def _misplaced(
    realm: Namespace, name: str, plugin: str, all_realms: Sequence[Namespace]
) -> ConfigValueError:
    owners = [other.agent for other in all_realms if plugin in other.plugins]
    if realm.agent:
        who = "everybody's" if owners == [""] else f"run by {_agents(owners)}"
        problem = f"plugin `{plugin}` is {who}, and not run by agent `{realm.agent}`"
        mend = f'add "{plugin}" to [agents.{realm.agent}] plugins'
        if owners == [""]:
            mend += f", or write [services.{name}]"
    else:
        problem = f"plugin `{plugin}` is run by {_agents(owners)}"
        mend = f"write [agents.{owners[0]}.services.{name}]"
    return ConfigValueError(f"{problem}: {mend}", *realm.section(name))


def _agents(names: Sequence[str]) -> str:
    return f"agent{'s' if len(names) > 1 else ''} {listed(names)}"


def bind(
    plugins: Collection[str],
    sections: Sections,
    provides: Provides,
    unread: Collection[str] | None = None,
) -> list[ServiceBinding]:
    """Return every service of a realm in config order: by plugin as the file has them; of each
    plugin first those without a section, then the sections.

    Args:
        plugins: Those of the realm.
        sections: Those of the realm.
        provides: What the plugins have, of those that could be read.
        unread: Those of the file that could not be; None: those of `plugins` without a word.

    Raises:
        Misfit: a section belongs to no plugin, or a NAME to two. Nothing is said of what a plugin
            that could not be read may provide.
    """
    if unread is None:
        unread = [plugin for plugin in plugins if plugin not in provides]
    provides = {plugin: provides[plugin] for plugin in plugins if plugin in provides}
    found = [_of_section(name, plugins, sections, provides, unread) for name in sections]
    claims = [bound for bound in found if bound]
    by_default = [
        ServiceBinding(service_type, plugin, service_type)
        for plugin, types in provides.items()
        for service_type in types
    ]
    unclaimed = [bound for bound in by_default if bound not in claims]
    free = [bound for bound in unclaimed if _is_free(bound, sections, claims, provides)]
    ordered = {name: place for place, name in enumerate(plugins)}
    return sorted(free + claims, key=lambda bound: ordered[bound.plugin])


def check_names(
    key: str, where: Sequence[str], wanted: Sequence[str], known: Collection[str]
) -> None:
    """Raise a `Misfit` where `depends_on` or `bind_to` names a service that there is not."""
    for place, other in enumerate(wanted):
        if other not in known:
            problem = f"there is no service `{other}`{did_you_mean(other, known)}"
            raise ConfigValueError(problem, *where, key, place)


def _of_section(
    name: str,
    plugins: Collection[str],
    sections: Sections,
    provides: Provides,
    unread: Collection[str],
) -> ServiceBinding | None:
    """Return what a section runs; None where that is for an unread plugin to say."""
    section = sections[name]
    plugin = section.get("plugin") or _plugin_of(name, plugins, section, provides, unread)
    if plugin and plugin not in plugins:
        problem = f"there is no [plugins.{plugin}]{did_you_mean(plugin, plugins)}"
        raise ConfigValueError(problem, "services", name, "plugin")
    if plugin is None or plugin not in provides:
        return None
    return ServiceBinding(
        name, plugin, _type_of(name, plugin, section.get("type"), provides[plugin])
    )


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
        raise ConfigValueError(
            f'a type needs its plugin: add plugin = "{owner}"', "services", name, "type"
        )
    if len(owners) > 1:
        raise _shared(name, owners, "services", name)
    if not owners and not unread:
        known = [known for types in provides.values() for known in types]
        problem = f"no plugin has a service `{name}`{did_you_mean(name, known)}"
        raise ConfigValueError(
            f"{problem} (under a NAME of your own it needs a `plugin`)", "services", name
        )
    return owners[0] if owners else None


def _type_of(name: str, plugin: str, wanted: str | None, types: Sequence[str]) -> str:
    """Return which of a plugin's service_types a section means."""
    if wanted is None and name in types:
        return name
    if wanted is None and len(types) == 1:
        return types[0]
    has = f"plugin `{plugin}` has {listed(types) or 'no services'}"
    if wanted is None:
        raise ConfigValueError(f'{has}: say which one with type = "…"', "services", name)
    if wanted not in types:
        problem = f"there is no `{wanted}` in it: {has}"
        raise ConfigValueError(problem, "services", name, "type")
    return wanted


def _is_free(
    bound: ServiceBinding, sections: Sections, claims: Sequence[ServiceBinding], provides: Provides
) -> bool:
    """Tell whether a plugin's own service has its NAME; False where it has another one."""
    name = bound.name
    if name in sections:
        if any(claim[1:] == bound[1:] for claim in claims):
            return False
        raise ConfigValueError(
            f"plugin `{bound.plugin}` also has a service `{name}`: give it a NAME of its own, such "
            f'as [services.{name}-2] with plugin = "{bound.plugin}" and type = "{name}"',
            "services",
            name,
        )
    owners = [plugin for plugin, types in provides.items() if name in types]
    if len(owners) > 1:
        raise _shared(name, owners, "plugins", bound.plugin)
    return True


def _shared(name: str, owners: Sequence[str], *keys: str) -> ConfigValueError:
    first, second = owners[:2]
    return ConfigValueError(
        f"plugins {listed(owners)} each have a service `{name}`: write [services.{name}] with "
        f'plugin = "{first}", and [services.{name}-2] with plugin = "{second}" and '
        f'type = "{name}"',
        *keys,
    )
