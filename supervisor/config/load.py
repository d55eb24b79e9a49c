"""Reads `config.toml` into specs; an error names file, line and key.

Relative paths in the file begin at its own folder.
"""

import contextlib
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
    full_name,
    namespaces,
    resolve_services,
)
from .spec import AgentSpec, HostSpec, PluginSpec, ServiceSpec, service_spec
from .toml_lines import Lines, dotted
from .values import ConfigValueError

LONGEST_SOCKET = "launcher-0000000000.sock"  # the longest file name in run/
FOLDERS = frozenset({"run", "state", "logs"})
SOCKET_LIMIT = 107  # bytes of a Unix socket's path, the NUL aside


@dataclass(frozen=True)
class Document:
    """A parsed TOML file, with the lines of its keys."""

    path: Path  # as the caller wrote it; errors show it so
    tables: dict[str, Any]
    lines: Lines = field(compare=False)
    digest: str = ""  # of its text

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and parse a file.

        Raises:
            ConfigError: It is missing or unreadable, or it is not TOML in UTF-8.
        """
        text = _text(path)
        try:
            digest = hashlib.sha256(text.encode()).hexdigest()
            return cls(path, tomllib.loads(text), Lines(text), digest)
        except RecursionError:
            raise ConfigError("tables or lists are nested too deeply", path=str(path)) from None
        except ValueError as error:  # also from int(), for a number of thousands of digits
            raise _syntax_error(path, text, str(error)) from None

    @cached_property
    def directory(self) -> Path:
        """Return the folder where relative paths in the file begin, resolved once.

        A link on the way to it may be moved to another release while services of this one run.
        """
        return as_given(self.path).parent.resolve()

    def error_at(self, keys: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of one key, with its line or that of the nearest table around it."""
        line = self.lines.find(keys)
        return ConfigError(problem, path=str(self.path), line=line, key=dotted(keys))

    def home(self) -> Path:
        """Return the home: `[host] home`, else `.garrison` beside the file."""
        try:
            with values.at_path("host"):
                host = values.any_table(self.tables.get("host", {}))
                with values.at_path("home"):
                    return self.directory / values.path(host.get("home", ".garrison"))
        except ConfigValueError as error:
            raise self.error_at(error.keys, error.problem) from None


@dataclass(frozen=True)
class Config:
    """A configuration that was read and checked. Its services depend on the plugins."""

    path: Path  # absolute, as it was given: links in it are not resolved
    host: HostSpec
    plugins: dict[str, PluginSpec]  # in file order
    agents: dict[str, AgentSpec]  # the one without a NAME first
    digest: str  # of the file and its character files
    _document: Document = field(repr=False)
    _defaults: dict[str, Any]
    _namespaces: list[Namespace]

    def services(self, provides: Mapping[str, Sequence[str]]) -> list[ServiceSpec]:
        """Return the spec of every service, in config order.

        Args:
            provides: The plugins that could be read: NAME → service_types.

        Raises:
            ConfigError: A section belongs to no plugin, a NAME to two, or `depends_on` or
                `bind_to` names no service. Names that an unread plugin may provide are accepted.
        """
        try:
            resolved = resolve_services(self._namespaces, provides)
            known = {binding.name for _, binding in resolved}
            with_parts = _services_with_parts(resolved, provides)
            specs = [self._spec(*one, known, one[1].name in with_parts) for one in resolved]
            if all(plugin in provides for plugin in self.plugins):
                self._check_names(specs)
        except ConfigValueError as error:
            raise self._document.error_at(error.keys, error.problem) from None
        return specs

    @property
    def default_spec(self) -> ServiceSpec:
        """Return the spec of a service without a section: `[defaults]` alone."""
        return service_spec(name="", plugin="", service_type="", **self._defaults)

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
        return ("defaults", key) if key in self._defaults else (*self.section_path(service), key)

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
        if len(keys) > 1 and keys[0] == "services":
            keys = (*self.section_path(str(keys[1])), *keys[2:])
        return self._document.error_at(keys, problem)

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
        keys["env"] = {**self._defaults.get("env", {}), **section.get("env", {})}
        keys |= {**binding._asdict(), "agent": self.agents[namespace.agent], "with_parts": parts}
        return service_spec(**{**self._defaults, **keys})

    def _check_names(self, specs: Sequence[ServiceSpec]) -> None:
        by_name = {spec.name: spec for spec in specs}
        for name in self._sections:
            path, supervision = self.section_path(name), by_name[name].supervision
            check_names("depends_on", path, supervision.depends_on, by_name)
            check_names("bind_to", path, supervision.bind_to, by_name)


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


def load(path: Path, home: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read a configuration.

    Args:
        path: The file.
        home: `--home`; it overrides `$GARRISON_HOME`, which overrides the file's own.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: It cannot be used. The text names file, line, key and what was expected.
    """
    document = Document.read(path)
    try:
        read = schema.document(document.tables)
    except ConfigValueError as error:
        raise document.error_at(error.keys, error.problem) from None
    plugins = {
        name: PluginSpec(**{"name": name, "use": name, **keys})
        for name, keys in read.get("plugins", {}).items()
    }
    host_keys = _absolute_paths(read.get("host", {}), document)
    host = _host(document, host_keys, _home_override(home, environ))
    try:
        spaces = namespaces(plugins, *_sections(read, document))
    except ConfigValueError as error:
        raise document.error_at(error.keys, error.problem) from None
    agents, digest = _agents(read, document)
    defaults = _absolute_paths(read.get("defaults", {}), document)
    return Config(as_given(path), host, plugins, agents, digest, document, defaults, spaces)


def _sections(read: dict[str, Any], document: Document) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the host's service sections, and the sections of the agents, all paths absolute."""

    def absolute(sections: dict[str, Any]) -> dict[str, Any]:
        return {name: _absolute_paths(keys, document) for name, keys in sections.items()}

    agents = {
        name: {**keys, "services": absolute(keys.get("services", {}))}
        for name, keys in read.get("agents", {}).items()
    }
    return absolute(read.get("services", {})), agents


def _agents(read: dict[str, Any], document: Document) -> tuple[dict[str, AgentSpec], str]:
    """Return the agents, and the digest of the config with their character files."""
    sections: dict[tuple[str, ...], dict[str, Any]] = {("agent",): read.get("agent", {})}
    sections |= {("agents", name): keys for name, keys in read.get("agents", {}).items()}
    agents, digests = dict[str, AgentSpec](), [document.digest]
    for path, section in sections.items():
        name = "".join(path[1:])
        file = _absolute_paths(section, document).get("character")
        try:
            agents[name], digest = read_agent(name, file)
        except CharacterError as error:
            raise document.error_at((*path, "character"), str(error)) from None
        digests += [digest] if digest else []
    if len(digests) == 1:
        return agents, document.digest
    return agents, hashlib.sha256(" ".join(digests).encode()).hexdigest()


def find_home(home: Path | None, config: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the home of the host that a command addresses.

    It is `--home`, else `$GARRISON_HOME`, else the config's `[host] home`, else `.garrison` beside
    the config. The config is read only if the answer depends on it, and only this key is checked.

    Args:
        home: `--home`.
        config: `--config`; None: `config.toml` in the current folder, if there is one.
        environ: The environment, for `GARRISON_HOME`.

    Raises:
        ConfigError: The config is needed and cannot be read.
    """
    if override := _home_override(home, environ):
        return override
    if config is None and not Path("config.toml").exists():
        return Path(".garrison").absolute()
    return Document.read(config or Path("config.toml")).home()


def as_given(path: Path) -> Path:
    """Return an absolute path as the user would write it.

    A relative one begins at the folder that the shell shows: through a link, if that is how the
    user came there.
    """
    path = path.expanduser()
    shown = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if not path.is_absolute() and Path(shown).is_absolute() and Path(shown).samefile("."):
            return Path(shown) / path
    return path.absolute()


def _home_override(home: Path | None, environ: Mapping[str, str]) -> Path | None:
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
    home = _resolved(home or document.home())
    keys = {name: _resolved(keys[name]) if name in FOLDERS else keys[name] for name in keys}
    folders = {"run": home / "run", "state": home / "state", "logs": home / "logs"}
    host = HostSpec(**{**folders, **keys, "home": home})
    longest = host.run / LONGEST_SOCKET
    if (length := len(os.fsencode(longest))) > SOCKET_LIMIT:
        raise document.error_at(
            ("host", "run" if "run" in keys else "home"),
            f"the path {longest} is {length} bytes long, and a Unix socket's is at most "
            f"{SOCKET_LIMIT}: set `[host] run` to a shorter directory, or give a shorter --home",
        )
    return host


def _resolved(folder: Path) -> Path:
    """Return a folder without links in its path: one may be moved while the host runs.

    A path that is too long for sockets without its links is kept.
    """
    resolved = folder.resolve()
    too_long = len(os.fsencode(resolved / "run" / LONGEST_SOCKET)) > SOCKET_LIMIT
    return folder if too_long else resolved


def _absolute_paths(keys: dict[str, Any], document: Document) -> dict[str, Any]:
    """Return the values of a table with absolute paths."""

    def absolute(value: Any) -> Any:
        return document.directory / value if isinstance(value, Path) else value

    table = {key: absolute(value) for key, value in keys.items()}
    if secrets := keys.get("secrets"):
        table["secrets"] = {name: absolute(source) for name, source in secrets.items()}
    return table


def _text(path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8-sig")  # some editors on Windows write a BOM
    except FileNotFoundError:
        problem = "there is no such file; `garrison init DIR` makes a directory with one"
    except UnicodeDecodeError as error:
        problem = f"it is not UTF-8 text (byte {error.start:,}); save it as UTF-8"
    except (OSError, RuntimeError) as error:
        problem = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(problem, path=str(path))


def _syntax_error(path: Path, text: str, message: str) -> ConfigError:
    """Return tomllib's error, with the line in the error's own field."""
    position = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    problem = f"not TOML: {message[: position.start()] if position else message}"
    if position and position[2]:
        problem += f" at column {position[2]}"
    if "Invalid value" in message:
        problem += '; text is in "quotes", a switch is true or false'
    line = int(position[1]) if position and position[1] else text.rstrip("\n").count("\n") + 1
    return ConfigError(problem, path=str(path), line=line if position else None)
