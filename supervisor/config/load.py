"""Reads `config.toml` into specs; an error names file, line and key.

Relative paths in the file begin at its own folder. Where an accepted config is given, a part of the
file that does not fit is replaced by what was accepted; see `units`.
"""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.character import CharacterError
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Section

from . import values
from .accepted import Accepted, Origins
from .basis import Basis, Rejection
from .characters import read_agent
from .compose import Parts, Sources, compose
from .document import HOME_BESIDE, Document, as_given
from .host_spec import HostSpec
from .resolve import (
    Namespace,
    ServiceBinding,
    check_names,
    full_name,
    namespaces,
    resolve_services,
)
from .spec import AgentSpec, PluginSpec, ServiceSpec, service_spec
from .units import (
    AGENT,
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

LONGEST_SOCKET = "launcher-0000000000.sock"  # the longest file name in run/
FOLDERS = frozenset({"run", "state", "logs"})
SOCKET_LIMIT = 107  # bytes of a Unix socket's path, the NUL aside


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
    path: Path,
    home: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    accepted: Accepted | None = None,
) -> Config:
    """Read a configuration.

    Args:
        path: The file.
        home: `--home`; it overrides `$GARRISON_HOME`, which overrides the file's own.
        environ: The environment, for `GARRISON_HOME`.
        accepted: Takes the place of what does not fit; None: nothing does.

    Raises:
        ConfigError: It cannot be used. The text names file, line, key and what was expected.
    """
    absolute = as_given(path)
    selection = Selection(None if accepted is None else frozenset(accepted.units()))
    override = home_override(home, environ)
    try:
        document = Document.read(path)
    except ConfigError as error:
        if accepted is None:
            raise
        selection = Selection(selection.accepted, frozenset({WHOLE}))
        rejected = (Rejection(WHOLE, error),)
        return _read(Basis(absolute, Sources(None, accepted), selection, override, rejected))
    return _read(Basis(absolute, Sources(document, accepted), selection, override))


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
    parts = compose(basis.sources, basis.selection)
    plugins = {
        name: PluginSpec(**{"name": name, "use": name, **keys})
        for name, keys in parts.plugins.items()
    }
    host = _host(parts.documents[HOST], parts.host, basis.home)
    spaces = namespaces(plugins, parts.services, parts.agents)
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


def find_home(home: Path | None, config: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the home of the host that a command addresses.

    It is `--home`, else `$GARRISON_HOME`, else the config's `[host] home`, else `.garrison` beside
    the config. The config is read only if the answer depends on it, and only this key is checked.

    Args:
        home: `--home`.
        config: `--config`; None: `config.toml` in the current folder, if there is one.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: The config is needed and cannot be read, and there is no accepted one.
    """
    if override := home_override(home, environ):
        return override
    if config is None and not Path("config.toml").exists():
        return Path(HOME_BESIDE).absolute()
    path = config or Path("config.toml")
    try:
        return Document.read(path).home()
    except ConfigError:
        beside = home_beside(path)
        if accepted_file(beside).exists():
            return beside
        raise


def home_beside(config: Path) -> Path:
    """Return the home of a config that names no other."""
    return as_given(config).parent.resolve() / HOME_BESIDE


def accepted_file(home: Path) -> Path:
    """Return the file of the accepted config of a home."""
    return home / "state" / "accepted.json"


def home_override(home: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the home of `--home` or `$GARRISON_HOME`."""
    text, origin = environ.get("GARRISON_HOME"), "$GARRISON_HOME"
    if home:
        text, origin = str(home), "--home"
    if not text:
        return None
    try:
        return values.path(text).absolute()
    except ConfigValueError as error:
        raise ConfigError(error.problem, key=origin) from None


def _host(document: Document, keys: dict[str, Any], home: Path | None) -> HostSpec:
    """Return the settings of the host.

    Raises:
        ConfigValueError: A path is too long for a socket.
    """
    home = _resolved(home or document.home())
    keys = {name: _resolved(keys[name]) if name in FOLDERS else keys[name] for name in keys}
    folders = {"run": home / "run", "state": home / "state", "logs": home / "logs"}
    host = HostSpec(**{**folders, **keys, "home": home})
    longest = host.run / LONGEST_SOCKET
    if (length := len(os.fsencode(longest))) > SOCKET_LIMIT:
        raise ConfigValueError(
            f"the path {longest} is {length} bytes long, and a Unix socket's is at most "
            f"{SOCKET_LIMIT}: set `[host] run` to a shorter directory, or give a shorter --home",
            *("host", "run" if "run" in keys else "home"),
        )
    return host


def _resolved(folder: Path) -> Path:
    """Return a folder without links in its path: one may be moved while the host runs.

    A path that is too long for sockets without its links is kept.
    """
    resolved = folder.resolve()
    too_long = len(os.fsencode(resolved / "run" / LONGEST_SOCKET)) > SOCKET_LIMIT
    return folder if too_long else resolved
