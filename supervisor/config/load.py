"""`config.toml` to specs; a mistake is named by its file, line and key.

What a key takes is in `keys`, which services there are in `binding`, where a key stands in
`toml_lines`, who its agents are in `characters`. Paths in the file begin at its own directory.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from garrison.ipc.character import CharacterError
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Section

from . import schema, values
from .characters import read_agent
from .resolve import (
    Namespace,
    ServiceBinding,
    check_names,
    realms,
    resolve_services,
    resolved,
)
from .spec import AgentSpec, HostSpec, PluginSpec, ServiceSpec, service_spec
from .toml_lines import Lines, dotted
from .values import ConfigValueError

LONGEST_SOCKET = "launcher-0000000000.sock"  # the longest of the names in run/
SOCKET_LIMIT = 107  # bytes of a Unix socket's path, the NUL aside


@dataclass(frozen=True)
class Document:
    """A TOML file as it was read, and where its keys stand."""

    path: Path  # as the caller wrote it, which is how errors name it
    tables: dict[str, Any]
    lines: Lines = field(compare=False)
    digest: str = ""  # of its text

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and parse a file.

        Raises:
            ConfigError: It is missing, unreadable, or no TOML in UTF-8.
        """
        text = _text(path)
        try:
            digest = hashlib.sha256(text.encode()).hexdigest()
            return cls(path, tomllib.loads(text), Lines(text), digest)
        except RecursionError:
            raise ConfigError("tables or lists are nested too deeply", path=str(path)) from None
        except ValueError as error:  # also of int(), for a number of thousands of digits
            raise _syntax_error(path, text, str(error)) from None

    @property
    def directory(self) -> Path:
        """Return where the paths in the file begin."""
        return self.path.expanduser().absolute().parent

    def error_at(self, where: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of one key, with the line of its nearest known part."""
        line = self.lines.find(where)
        return ConfigError(problem, path=str(self.path), line=line, key=dotted(where))

    def home(self) -> Path:
        """Return the home that the file names, else `.garrison` beside it."""
        try:
            with values.at_path("host"):
                host = values.any_table(self.tables.get("host", {}))
                with values.at_path("home"):
                    return self.directory / values.path(host.get("home", ".garrison"))
        except ConfigValueError as misfit:
            raise self.error_at(misfit.keys, misfit.problem) from None


@dataclass(frozen=True)
class Config:
    """A configuration that was read and checked; which services it has, the plugins say."""

    path: Path  # absolute
    host: HostSpec
    plugins: dict[str, PluginSpec]  # in file order
    agents: dict[str, AgentSpec]  # the one without a NAME first
    digest: str  # what tells this text, and those of its characters, from all others
    _document: Document = field(repr=False)
    _defaults: dict[str, Any]
    _realms: list[Namespace]

    def services(self, provides: Mapping[str, Sequence[str]]) -> list[ServiceSpec]:
        """Return every service in config order, ready to be run.

        Args:
            provides: Plugin NAME → its service_types, of the plugins that could be read.

        Raises:
            ConfigError: A section belongs to no plugin, a NAME to two, or `depends_on` or
                `bind_to` names no service. What may be an unread plugin's affair passes.
        """
        try:
            bound = resolve_services(self._realms, provides)
            known = {service.name for _, service in bound}
            homes = _with_parts(bound, provides)
            specs = [self._spec(*one, known, one[1].name in homes) for one in bound]
            if all(plugin in provides for plugin in self.plugins):
                self._check_names(specs)
        except ConfigValueError as misfit:
            raise self._document.error_at(misfit.keys, misfit.problem) from None
        return specs

    @property
    def default_spec(self) -> ServiceSpec:
        """Return how a service is run of which nothing is said but `[defaults]`."""
        return service_spec(name="", plugin="", service_type="", **self._defaults)

    def plugin_of(self, service: str) -> str | None:
        """Return the plugin that a service's section names, if it names one."""
        if service not in self._places:
            return None
        realm, name = self._places[service]
        plugin: str | None = realm.sections[name].get("plugin")
        return plugin

    def sections(self, plugin: str) -> tuple[Section, ...]:
        """Return the config tables of the services that are, or may be, a plugin's."""
        return tuple(
            Section(
                realm.full(name),
                said.get("type", ""),
                said.get("config", {}),
                "plugin" in said,
                name,
            )
            for realm in self._realms
            if plugin in realm.plugins
            for name, said in realm.sections.items()
            if said.get("plugin", plugin) == plugin
        )

    def key_path(self, service: str, key: str) -> tuple[str, ...]:
        """Return the keys that lead to what is said of a service: in its section, or for all."""
        if service in self._places:
            realm, name = self._places[service]
            if key in realm.sections[name]:
                return (*realm.section(name), key)
        return ("defaults", key) if key in self._defaults else (*self.section_path(service), key)

    def section_path(self, service: str) -> tuple[str, ...]:
        """Return the keys that lead to a service's section."""
        if service in self._places:
            realm, name = self._places[service]
            return realm.section(name)
        agent, _, name = service.partition(".")
        ours = name and agent in self.agents
        return ("agents", agent, "services", name) if ours else ("services", service)

    def error_at(self, where: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of one key, with file, line and dotted key.

        Args:
            where: The keys that lead to it, `("services", "discord", "config", "intents")`; a
                place in a list is an int. After "services" comes a full NAME, wherever in the file
                its section is. Where the file has not all of them, the line is that of the longest
                beginning that it has.
            problem: What is wrong and what was expected.
        """
        if len(where) > 1 and where[0] == "services":
            where = (*self.section_path(str(where[1])), *where[2:])
        return self._document.error_at(where, problem)

    @cached_property
    def _places(self) -> dict[str, tuple[Namespace, str]]:
        """Return where each section is, by its service's full NAME."""
        return {
            realm.full(name): (realm, name) for realm in self._realms for name in realm.sections
        }

    def _spec(
        self, realm: Namespace, bound: ServiceBinding, known: Collection[str], with_parts: bool
    ) -> ServiceSpec:
        section = realm.sections.get(self._short(bound.name), {})
        said = {key: said for key, said in section.items() if key not in ("plugin", "type")}
        for key in said.keys() & {"depends_on", "bind_to"}:
            said[key] = tuple(dict.fromkeys(resolved(name, realm, known) for name in said[key]))
        said["env"] = {**self._defaults.get("env", {}), **section.get("env", {})}
        ours = {"agent": self.agents[realm.agent], "with_parts": with_parts}
        return service_spec(**{**self._defaults, **said, **bound._asdict(), **ours})

    def _short(self, service: str) -> str:
        return self._places[service][1] if service in self._places else ""

    def _check_names(self, specs: Sequence[ServiceSpec]) -> None:
        by_name = {spec.name: spec for spec in specs}
        for name in self._places:
            where = self.section_path(name)
            check_names("depends_on", where, by_name[name].supervision.depends_on, by_name)
            check_names("bind_to", where, by_name[name].supervision.bind_to, by_name)


def _with_parts(
    bound: Sequence[tuple[Namespace, ServiceBinding]], provides: Mapping[str, Sequence[str]]
) -> set[str]:
    """Return the NAMEs of those services whose workers have their plugin's actions and models: of
    each agent and plugin the first one of the plugin's first service_type."""
    first: dict[tuple[str, str], str] = {}
    for realm, service in bound:
        if service.service_type == provides[service.plugin][0]:
            first.setdefault((realm.agent, service.plugin), service.name)
    return set(first.values())


def load(path: Path, home: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration.

    Args:
        path: The file.
        home: `--home`, which goes before `$GARRISON_HOME` and before the file's own.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: It cannot be used; the text names file, line, key and what was expected.
    """
    document = Document.read(path)
    try:
        read = schema.document(document.tables)
    except ConfigValueError as misfit:
        raise document.error_at(misfit.keys, misfit.problem) from None
    plugins = {
        name: PluginSpec(**{"name": name, "use": name, **said})
        for name, said in read.get("plugins", {}).items()
    }
    host = _host(
        document, _absolute_paths(read.get("host", {}), document), _said_home(home, environ)
    )
    try:
        parted = realms(plugins, *_sections(read, document))
    except ConfigValueError as misfit:
        raise document.error_at(misfit.keys, misfit.problem) from None
    agents, digest = _agents(read, document)
    absolute, defaults = (
        document.directory / path.name,
        _absolute_paths(read.get("defaults", {}), document),
    )
    return Config(absolute, host, plugins, agents, digest, document, defaults, parted)


def _sections(read: dict[str, Any], document: Document) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return everybody's sections, and what is said of each agent, all paths absolute."""

    def placed(sections: dict[str, Any]) -> dict[str, Any]:
        return {name: _absolute_paths(said, document) for name, said in sections.items()}

    agents = {
        name: {**said, "services": placed(said.get("services", {}))}
        for name, said in read.get("agents", {}).items()
    }
    return placed(read.get("services", {})), agents


def _agents(read: dict[str, Any], document: Document) -> tuple[dict[str, AgentSpec], str]:
    """Return who the agents are, and what tells this config from all others."""
    said: dict[tuple[str, ...], dict[str, Any]] = {("agent",): read.get("agent", {})}
    said |= {("agents", name): section for name, section in read.get("agents", {}).items()}
    agents, digests = dict[str, AgentSpec](), [document.digest]
    for keys_to, section in said.items():
        name = "".join(keys_to[1:])
        file = _absolute_paths(section, document).get("character")
        try:
            agents[name], digest = read_agent(name, file)
        except CharacterError as error:
            raise document.error_at((*keys_to, "character"), str(error)) from None
        digests += [digest] if digest else []
    if len(digests) == 1:
        return agents, document.digest
    return agents, hashlib.sha256(" ".join(digests).encode()).hexdigest()


def find_home(home: Path | None, config: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the home that a verb speaks to.

    It is `--home`, else `$GARRISON_HOME`, else what the config says, else `.garrison` beside the
    config. A config is read only where the answer depends on it, and of it only that key.

    Args:
        home: `--home`.
        config: `--config`; None is `config.toml` here, if there is one.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: The config is needed and cannot be read.
    """
    if said := _said_home(home, environ):
        return said
    if config is None and not Path("config.toml").exists():
        return Path(".garrison").absolute()
    return Document.read(config or Path("config.toml")).home()


def _said_home(home: Path | None, environ: Mapping[str, str]) -> Path | None:
    said, origin = (
        (str(home), "--home") if home else (environ.get("GARRISON_HOME"), "$GARRISON_HOME")
    )
    if not said:
        return None
    try:
        return values.path(said).absolute()
    except ConfigValueError as misfit:
        raise ConfigError(misfit.problem, key=origin) from None


def _host(document: Document, said: dict[str, Any], home: Path | None) -> HostSpec:
    home = home or document.home()
    places = {"run": home / "run", "state": home / "state", "logs": home / "logs"}
    host = HostSpec(**{**places, **said, "home": home})
    longest = host.run / LONGEST_SOCKET
    if (length := len(os.fsencode(longest))) > SOCKET_LIMIT:
        raise document.error_at(
            ("host", "run" if "run" in said else "home"),
            f"the path {longest} is {length} bytes long, and a Unix socket's is at most "
            f"{SOCKET_LIMIT}: set `[host] run` to a shorter directory, or give a shorter --home",
        )
    return host


def _absolute_paths(said: dict[str, Any], document: Document) -> dict[str, Any]:
    """Return what a table says, its paths absolute."""

    def placed(value: Any) -> Any:
        return document.directory / value if isinstance(value, Path) else value

    placed_table = {key: placed(value) for key, value in said.items()}
    if secrets := said.get("secrets"):
        placed_table["secrets"] = {name: placed(source) for name, source in secrets.items()}
    return placed_table


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8-sig")  # editors on Windows begin it with a BOM
    except FileNotFoundError:
        problem = "there is no such file; `garrison init DIR` makes a directory with one"
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start:,}); save it as UTF-8"
    except (OSError, RuntimeError) as error:
        problem = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(problem, path=str(path))


def _syntax_error(path: Path, text: str, said: str) -> ConfigError:
    """Return tomllib's error with its line where people look for it."""
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", said)
    problem = f"not TOML: {said[: place.start()] if place else said}"
    if place and place[2]:
        problem += f" at column {place[2]}"
    if "Invalid value" in said:
        problem += '; text stands in "quotes", a switch is true or false'
    line = int(place[1]) if place and place[1] else text.rstrip("\n").count("\n") + 1
    return ConfigError(problem, path=str(path), line=line if place else None)
