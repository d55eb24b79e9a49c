"""Reads `config.toml` into specs; an error names file, line and key.

Relative paths in the file begin at its own folder. Where an accepted config is given, a part of the
file that does not fit is replaced by what was accepted; see `units`.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.character import CharacterError
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Section

from . import plain
from .accepted import Accepted, FailedTrial, Origins
from .basis import Basis, Rejection
from .characters import read_agent
from .compose import Parts, Sources, compose
from .document import Document, as_given
from .engine_reader import engine_spec
from .files import ConfigFiles, read_files, units_in
from .hooks import HOOKS, with_hooks
from .host_spec import HostSpec
from .layers import LayeredDocument
from .main_file import ConfigPaths, as_paths
from .named_home import home_override
from .places import host_spec
from .resolve import (
    Namespace,
    ServiceBinding,
    check_former,
    check_names,
    full_name,
    namespaces,
    resolve_services,
)
from .spec import AgentSpec, PluginSpec, ServiceSpec, service_spec
from .units import (
    AGENT,
    DEFAULTS,
    ENGINE,
    HOST,
    WHOLE,
    Origin,
    Selection,
    Unit,
    pick,
    service_of,
    unit_of,
)
from .values import ConfigValueError


@dataclass(frozen=True)
class Config:
    """A configuration that was read and checked. Its services depend on the plugins."""

    path: Path  # absolute, as it was given: links in it are not resolved
    host: HostSpec
    plugins: dict[str, PluginSpec]  # in file order
    agents: dict[str, AgentSpec]  # the one without a NAME first
    digest: str  # of the file and its character files
    origins: Origins = field(repr=False, compare=False)
    _basis: Basis = field(repr=False, compare=False)
    _parts: Parts = field(repr=False)
    _namespaces: list[Namespace]
    strict: bool = False  # what `garrison check` refuses is not run

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Return the parts of the file that are not used."""
        return self._basis.rejected

    @property
    def files(self) -> tuple[Path, ...]:
        """Return every config file, absolute: the main one first, also what cannot be used."""
        return self._basis.files

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the main file and its overlays, absolute, as they were given."""
        return self._basis.paths

    @property
    def shown(self) -> str:
        """Return the main file and its overlays, in words."""
        first, *overlays = map(str, self.paths)
        return f"{first} with {', '.join(overlays)}" if overlays else first

    @cached_property
    def held(self) -> dict[str, ConfigError]:
        """Return the services that do not run because their section was never accepted.

        A plugin that was never accepted is there with its own NAME.
        """
        selection = self._basis.selection
        left_out = [one for one in self.rejected if selection.origin(one.unit) is Origin.NONE]
        of_services = {one.service: one.error for one in left_out if one.service}
        of_plugins = {one.unit[1]: one.error for one in left_out if one.unit[:1] == ("plugins",)}
        return {**of_plugins, **of_services}

    def without(self, keys: Sequence[str | int], problem: str) -> "Config":
        """Return the config with the accepted form of the part that a key is in.

        Args:
            keys: As `error_at` takes them.
            problem: What is wrong with the key.

        Raises:
            ConfigError: There is no accepted config to go on with.
        """
        return _read(self._basis.without(self._file_keys(keys), problem))

    def is_replaceable(self, keys: Sequence[str | int]) -> bool:
        """Return True if the part that a key is in is the file's, and another could replace it."""
        unit = unit_of(self._file_keys(keys))
        selection = self._basis.selection
        return selection.accepted is not None and selection.origin(unit) is Origin.FILE

    def is_replaced(self, keys: Sequence[str | int]) -> bool:
        """Return True if the part that a key is in was rejected."""
        unit = unit_of(self._file_keys(keys))
        return self._basis.selection.origin(unit) is not Origin.FILE

    def is_new(self, keys: Sequence[str | int]) -> bool:
        """Return True if the part that a key is in is not as it was accepted."""
        unit, sources = unit_of(self._file_keys(keys)), self._basis.sources
        accepted, file = sources.accepted, sources.file
        if accepted is None or file is None or unit not in accepted.units():
            return True
        return pick(accepted.document(unit).tables, [unit]) != pick(file.tables, [unit])

    def fingerprint(self, keys: Sequence[str | int]) -> str:
        """Return what identifies the part of the file that a key is in, with the defaults."""
        unit, file = unit_of(self._file_keys(keys)), self._basis.sources.file
        tables = pick(file.tables, [unit, DEFAULTS]) if file is not None else {}
        return hashlib.sha256(repr(tables).encode()).hexdigest()[:16]

    def without_failed(self, failed: Iterable[FailedTrial]) -> "Config":
        """Return the config without what was tried and did not run, while that is unchanged."""
        config = self
        parts = [(keys, mark, one.problem) for one in failed for keys, mark in one.parts]
        for keys, mark, problem in parts:
            if config.is_replaceable(keys) and config.fingerprint(keys) == mark:
                config = config.without(keys, problem)
        return config

    def fitted(self, provides: Mapping[str, Sequence[str]]) -> tuple["Config", list[ServiceSpec]]:
        """Return the config that fits the plugins, and the spec of every service of it.

        Args:
            provides: As `services` takes them.

        Raises:
            ConfigError: As `services`; there is no accepted config to go on with.
        """
        config = self
        while True:
            try:
                return config, config._services(provides)
            except ConfigValueError as error:
                config = _read(config._basis.without(error.keys, error.problem))

    def services(self, provides: Mapping[str, Sequence[str]]) -> list[ServiceSpec]:
        """Return the spec of every service, in config order.

        Args:
            provides: The plugins that could be read: NAME → service_types.

        Raises:
            ConfigError: A section belongs to no plugin, a NAME to two, or `depends_on` or
                `bind_to` names no service. Names that an unread plugin may provide are accepted.
        """
        try:
            return self._services(provides)
        except ConfigValueError as error:
            raise self._error_at(error.keys, error.problem) from None

    def _services(self, provides: Mapping[str, Sequence[str]]) -> list[ServiceSpec]:
        resolved = resolve_services(self._namespaces, provides)
        known = {binding.name for _, binding in resolved}
        with_parts = _services_with_parts(resolved, provides)
        specs = [self._spec(*one, known, one[1].name in with_parts) for one in resolved]
        specs = [spec for spec in specs if spec.name not in self.held]
        former = {name: (self.section_path(name), was) for name, was in self.former.items()}
        check_former(former, {*known, *self._sections})
        if all(plugin in provides for plugin in self.plugins):
            self._check_names(specs)
        return specs

    @property
    def default_spec(self) -> ServiceSpec:
        """Return the spec of a service without a section: `[defaults]` alone."""
        return service_spec(name="", plugin="", service_type="", **self._parts.defaults)

    def plugin_of(self, service: str) -> str | None:
        """Return the `plugin` of a service's section; None: it has none."""
        if service not in self._sections:
            return None
        namespace, name = self._sections[service]
        plugin: str | None = namespace.sections[name].get("plugin")
        return plugin

    def sections(self, plugin: str) -> tuple[Section, ...]:
        """Return the `config` of each service that is, or may be, a plugin's."""
        return tuple(
            Section(
                namespace.full(name),
                section.get("type", ""),
                section.get("config", {}),
                "plugin" in section,
                name,
                section.get("exclusive") is not False,
            )
            for namespace in self._namespaces
            if plugin in namespace.plugins
            for name, section in namespace.sections.items()
            if section.get("plugin", plugin) == plugin
        )

    def key_path(self, service: str, key: str) -> tuple[str, ...]:
        """Return the path of a service's key: in its section, or in `[defaults]`."""
        if service in self._sections:
            namespace, name = self._sections[service]
            if key in namespace.sections[name]:
                return (*namespace.section(name), key)
        defaults = self._defaults_of(service)
        return ("defaults", key) if key in defaults else (*self.section_path(service), key)

    @property
    def former(self) -> dict[str, str]:
        """Return the former NAME of each service that has one: NAME → `was`."""
        found = {
            name: namespace.sections[short].get("was", "")
            for name, (namespace, short) in self._sections.items()
        }
        return {name: was for name, was in found.items() if was}

    def section_path(self, service: str) -> tuple[str, ...]:
        """Return the path of a service's section, also where the file has none."""
        if service in self._sections:
            namespace, name = self._sections[service]
            return namespace.section(name)
        agent, _, name = service.partition(".")
        is_agents = name and agent in self.agents
        return ("agents", agent, "services", name) if is_agents else ("services", service)

    def error_at(self, keys: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of one key, with file, line and dotted key.

        Args:
            keys: The path of the key, `("services", "discord", "config", "intents")`; an index in
                a list is an int. After "services" comes a full NAME, wherever in the file its
                section is. The line is that of the longest part of the path that the file has.
            problem: What is wrong and what was expected.
        """
        return self._error_at(self._file_keys(keys), problem)

    def place_of(self, keys: Sequence[str | int]) -> str:
        """Return the file and line of a key, `conf.d/a.toml:3`, where there are several files.

        Args:
            keys: As `error_at` takes them. Empty is returned for a key that no file has.
        """
        path, sources = self._file_keys(keys), self._basis.sources
        if len(self.files) == 1 or sources.file is None:
            return ""
        document = sources.file.of_unit(unit_of(path))
        layer = document.layer_of(path) if isinstance(document, LayeredDocument) else document
        if layer.lines.depth(path) < len(path):
            return ""
        file = as_given(layer.path)
        folder = self.path.parent
        shown = file.relative_to(folder) if file.is_relative_to(folder) else file
        return f"{shown}:{layer.lines.find(path)}"

    def overridden(self) -> list[str]:
        """Return, in words, the keys of overlays that files before them have, too."""
        file = self._basis.sources.file
        return list(file.overridden()) if isinstance(file, LayeredDocument) else []

    def _error_at(self, keys: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of a key, whose path is that in the file."""
        basis = self._basis
        return basis.sources.document(unit_of(keys), basis.selection).error_at(keys, problem)

    def _file_keys(self, keys: Sequence[str | int]) -> Sequence[str | int]:
        if len(keys) > 1 and keys[0] == "services":
            return (*self.section_path(str(keys[1])), *keys[2:])
        return keys

    def _defaults_of(self, service: str) -> dict[str, Any]:
        """Return the [defaults] of a service: those that it was accepted with, or the host's."""
        return self._parts.own_defaults.get(service, self._parts.defaults)

    @cached_property
    def _sections(self) -> dict[str, tuple[Namespace, str]]:
        """Return the namespace and the short NAME of each section, by its service's full NAME."""
        return {
            namespace.full(name): (namespace, name)
            for namespace in self._namespaces
            for name in namespace.sections
        }

    def _spec(
        self, namespace: Namespace, binding: ServiceBinding, known: Collection[str], parts: bool
    ) -> ServiceSpec:
        _, short = self._sections.get(binding.name, (namespace, ""))
        section = namespace.sections.get(short, {})
        keys = {key: value for key, value in section.items() if key not in ("plugin", "type")}
        for key in keys.keys() & {"depends_on", "bind_to"}:
            names = (full_name(name, namespace, known) for name in keys[key])
            keys[key] = tuple(dict.fromkeys(names))
        defaults = self._defaults_of(binding.name)
        keys["env"] = {**defaults.get("env", {}), **section.get("env", {})}
        keys |= {**binding._asdict(), "agent": self.agents[namespace.agent], "with_parts": parts}
        return service_spec(**{**defaults, **keys})

    def _check_names(self, specs: Sequence[ServiceSpec]) -> None:
        """Raise a `ConfigValueError` for a name in `depends_on` or `bind_to` that no service has.

        A service that is left out has one only for those that were accepted with it: a service that
        ran without it goes on so.
        """
        by_name = {spec.name: spec for spec in specs}
        for name in self._sections:
            if name in self.held:
                continue
            path, supervision = self.section_path(name), by_name[name].supervision
            is_accepted = self._basis.selection.origin(path) is Origin.ACCEPTED
            known = {*by_name, *(self.held if is_accepted else ())}
            check_names("depends_on", path, supervision.depends_on, known)
            check_names("bind_to", path, supervision.bind_to, known)


def _services_with_parts(
    resolved: Sequence[tuple[Namespace, ServiceBinding]], provides: Mapping[str, Sequence[str]]
) -> set[str]:
    """Return the NAMEs of the services whose workers have their plugin's actions and models.

    For each agent and plugin, it is the first service of the plugin's first service_type.
    """
    first: dict[tuple[str, str], str] = {}
    for namespace, binding in resolved:
        if binding.service_type == provides[binding.plugin][0]:
            first.setdefault((namespace.agent, binding.plugin), binding.name)
    return set(first.values())


def load(
    path: ConfigPaths,
    home: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    accepted: Accepted | None = None,
) -> Config:
    """Read a configuration.

    Args:
        path: The file, or the main file and its overlays.
        home: `--home`; it overrides `$GARRISON_HOME`, which overrides the file's own.
        environ: The environment, for `GARRISON_HOME`.
        accepted: Takes the place of what does not fit; None: nothing does.

    Raises:
        ConfigError: It cannot be used. The text names file, line, key and what was expected.
    """
    paths = tuple(as_given(one) for one in as_paths(path))
    selection = Selection(None if accepted is None else frozenset(accepted.units()))
    override, sources = home_override(home, environ), Sources(None, accepted)
    try:
        files = read_files(path)
    except ConfigError as error:
        if accepted is None:
            raise
        selection = Selection(selection.accepted, frozenset({WHOLE}))
        whole = (Rejection(WHOLE, error),)
        return _read(Basis(paths[0], sources, selection, override, whole, paths, paths))
    rejected = tuple(rejected_by(files, accepted))
    if rejected and accepted is None:
        raise rejected[0].error
    units = frozenset(unit for one in rejected for unit in one.parts or {one.unit})
    selection = Selection(selection.accepted, units)
    sources = Sources(files.document, accepted)
    config = _read(Basis(paths[0], sources, selection, override, rejected, paths, files.read))
    return config if accepted is None else config.without_failed(accepted.stored.failed.values())


def rejected_by(files: ConfigFiles, accepted: Accepted | None) -> Iterator[Rejection]:
    """Yield what cannot be used before any key is read: included files, and units of two files."""
    for unit, error in files.twice.items():
        yield Rejection(unit, error)
    here = set(units_in(files.document.tables))
    for path, error in files.unusable.items():
        parts = frozenset[Unit]() if accepted is None else accepted.units_from(path)
        yield Rejection(("include", str(path)), error, parts - here)


def _read(basis: Basis) -> Config:
    """Return the config of a basis, with as much of the file as fits.

    Raises:
        ConfigError: There is no accepted config to go on with.
    """
    while True:
        try:
            return _config(basis)
        except ConfigValueError as error:
            basis = basis.without(error.keys, error.problem)


def _config(basis: Basis) -> Config:
    parts = with_hooks(compose(basis.sources, basis.selection))
    plugins = {
        name: PluginSpec(**{"name": name, "use": name, **keys})
        for name, keys in parts.plugins.items()
    }
    if any(plain.has_command(section) for section in parts.all_sections()):
        plugins[plain.PLUGIN] = plain.plugin_spec()
    host = host_spec(parts.documents[HOST], parts.host, basis.home)
    folder = parts.documents.get(ENGINE, parts.documents[HOST]).directory
    engine = engine_spec(parts.engine, host.orphan_grace, folder)
    host = msgspec.structs.replace(host, engine=engine)
    of_host = {HOOKS} if parts.hooks else set[str]()
    spaces = namespaces(plugins, parts.services, parts.agents, of_host)
    agents, characters = _agents(parts)
    origins = Origins(_by_name(parts), parts.defaults_documents, characters)
    digest = _digest(origins, agents)
    return Config(basis.path, host, plugins, agents, digest, origins, basis, parts, spaces)


def _by_name(parts: Parts) -> dict[Unit, Document]:
    """Return the document of each unit, services by their full NAMEs."""
    named = [(service_of(unit), unit, one) for unit, one in parts.documents.items()]
    return {("services", name) if name else unit: one for name, unit, one in named}


def _digest(origins: Origins, agents: Mapping[str, AgentSpec]) -> str:
    """Return what changes if anything of a config does."""
    texts = {one.digest: None for one in (*origins.units.values(), *origins.defaults.values())}
    characters = [msgspec.json.encode(one.character) for one in agents.values() if one.file]
    if len(texts) == 1 and not characters:
        return next(iter(texts))
    return hashlib.sha256(b" ".join([*map(str.encode, texts), *characters])).hexdigest()


def _agents(parts: Parts) -> tuple[dict[str, AgentSpec], dict[Unit, tuple[str, str]]]:
    """Return the agents, and the path and text of the character file of each.

    Raises:
        ConfigValueError: A character file cannot be used.
    """
    sections: dict[Unit, dict[str, Any]] = {AGENT: parts.agent}
    sections |= {("agents", name): keys for name, keys in parts.agents.items()}
    agents, characters = dict[str, AgentSpec](), dict[Unit, tuple[str, str]]()
    for unit, section in sections.items():
        name, file = "".join(unit[1:]), section.get("character")
        try:
            agents[name], text = read_agent(name, file, parts.documents[unit].characters)
        except CharacterError as error:
            raise ConfigValueError(str(error), *unit, "character") from None
        characters[unit] = str(file or ""), text
    return agents, characters
