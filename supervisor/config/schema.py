"""The tables of `config.toml` and their keys, derived from the annotations in `spec` (pure)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, get_origin

import msgspec

from . import operators_reader, values
from .amount import amount
from .engine_reader import ENGINE_READERS, node_tables
from .engine_spec import EngineSpec, NodeSpec
from .hook_spec import READERS, HookSpec
from .host_spec import HostSpec
from .keys import KeyField, key_fields
from .spec import AgentSection, PluginSpec, ServiceSpec
from .toml_lines import dotted
from .traces import TRACE_READERS
from .values import ConfigValueError, Reader, any_table, at_path, did_you_mean, each, nearest

# In place of the table with the settings of a service or plugin itself, where its path is not known
OWN_TABLE = "[….config]"
OF_SERVICE = f"a setting of the service itself belongs in {OWN_TABLE}"
OF_PLUGIN = f"a setting of the plugin itself belongs in {OWN_TABLE}"
ELSEWHERE = {  # what other supervisors call a key
    **dict.fromkeys(("cwd", "directory"), "working_directory"),
    **dict.fromkeys(("environment", "environ"), "env"),
    **dict.fromkeys(("cmd", "exec", "script"), "command"),
    **dict.fromkeys(("stopsignal", "kill_signal"), "stop_signal"),
    **dict.fromkeys(("autorestart", "restart_policy"), "restart"),
    **dict.fromkeys(("stopwaitsecs", "kill_timeout"), "grace"),
}
OF_AGENT = "a setting of the agent service itself belongs in [services.agent.config]"
KINDS: dict[str, Reader] = {**values.KINDS, **READERS, "amount": amount}
KINDS |= {**TRACE_READERS, **ENGINE_READERS}
OF_DEFAULTS = "a setting of a service itself belongs in [services.NAME.config]"


def reader_of(field: KeyField) -> Reader:
    """Return the reader of a key's value."""
    key = field.key
    match get_origin(field.type) or field.type:
        case _ if key.kind == "services":
            return each(values.name, table(SERVICE, "a service", OF_SERVICE))
        case _ if key.kind == "command":
            return values.command
        case _ if key.kind == "node_tables":
            return node_tables(table(_readers(NodeSpec), "a node"))
        case _ if key.kind == "operators":
            return operators_reader.operators
        case origin if origin is tuple:
            return values.list_of(KINDS[key.kind], key.unit)
        case _ if key.kind:
            return KINDS[key.kind]
        case origin if origin is dict:
            return any_table
        case kind if issubclass(kind, Enum):
            return values.choice(kind)
        case kind if kind is bool:
            return values.boolean
        case kind if kind is float:
            return values.seconds(key.above)
        case kind if kind is int and key.unit == "bytes":
            return values.size(key.least or 0, bool(key.zero))
        case kind if kind is int:
            return values.integer(key.unit, key.least or 0, key.most, bool(key.zero))
        case kind if kind is Path:
            return values.path
    raise TypeError(f"no reader for {field.type} of `{field.name}`")


def table(readers: Mapping[str, Reader], title: str, own: str = "") -> Reader:
    """Return the reader of a table whose keys are known.

    Args:
        readers: The readers of its keys.
        title: What has the table, in words.
        own: Where settings belong that are easily written into this table by mistake, in words;
            empty: there are none.
    """

    def read(value: object) -> dict[str, Any]:
        items = dict[str, Any]()
        for key, part in any_table(value).items():
            with at_path(key):
                if key not in readers:
                    hint = _suggest(key, part, readers, own)
                    raise ConfigValueError(f"no such key in {title}{hint}")
                items[key] = readers[key](part)
        return items

    return read


def _suggest(key: str, value: object, readers: Mapping[str, Reader], own: str) -> str:
    """Return a hint for an unknown key: a similar key, or the table that it belongs in.

    A key that is no slip of the pen is most often a setting of the service or plugin itself. So is
    one that resembles a known key, if its value would not fit there.
    """
    if (meant := ELSEWHERE.get(key)) in readers:
        return f"; it is called `{meant}` here"
    near = nearest(key, readers, cutoff=0.8)
    homes = [title for title, keys in TABLES.items() if key in keys and keys is not readers]
    if near and (not own or _fits(readers[near[0]], value)):
        hint = f"; did you mean `{near[0]}`?"
        return f"{hint} {own[0].upper()}{own[1:]}" if own else hint
    hint = f"; it belongs in {homes[0]}" if homes else ""
    if own:
        return f"{hint}; {own}"
    return hint or did_you_mean(key, readers)


def _fits(reader: Reader, value: object) -> bool:
    try:
        reader(value)
    except ConfigValueError:
        return False
    return True


def _plugin(value: object) -> Any:
    if isinstance(value, str):
        raise ConfigValueError(f'expected a table, got a string: write {{ use = "{value}" }}')
    return table(PLUGIN, "a plugin", OF_PLUGIN)(value)


def _readers(struct: type[msgspec.Struct], own: bool = True) -> dict[str, Reader]:
    """Return the readers of a spec's keys; without `own`, those that [defaults] may have."""
    return {
        field.name: reader_of(field) for field in key_fields(struct) if own or not field.key.own
    }


HOST = _readers(HostSpec)
ENGINE = _readers(EngineSpec)
DEFAULTS = _readers(ServiceSpec, own=False)
SERVICE = _readers(ServiceSpec)
PLUGIN = _readers(PluginSpec)
AGENT = _readers(AgentSection)
HOOK = _readers(HookSpec)
TABLES = {
    "[host]": HOST,
    "[engine]": ENGINE,
    "[services.NAME]": SERVICE,
    "[plugins.NAME]": PLUGIN,
    "[agents.NAME]": AGENT,
    "[hooks.NAME]": HOOK,
}
DOCUMENT: dict[str, Reader] = {
    "host": table(HOST, "[host]"),
    "engine": table(ENGINE, "[engine]"),
    "defaults": table(DEFAULTS, "[defaults]", OF_DEFAULTS),
    "plugins": each(values.name, _plugin),
    "services": each(values.name, table(SERVICE, "a service", OF_SERVICE)),
    "agent": table({"character": AGENT["character"]}, "[agent]", OF_AGENT),
    "agents": each(values.agent_name, table(AGENT, "an agent")),
    "hooks": each(values.name, table(HOOK, "a hook")),
}
_document = table(DOCUMENT, "the file's top level")


def document(value: object) -> dict[str, Any]:
    """Read the tables of a file.

    Raises:
        ConfigValueError: A key or value does not fit.
    """
    with naming_tables():
        read: dict[str, Any] = _document(value)
        return read


@contextmanager
def naming_tables() -> Iterator[None]:
    """Put the path of a table into an error that suggests to write a key there."""
    try:
        yield
    except ConfigValueError as error:
        table_path = f"[{dotted((*error.keys[:-1], 'config'))}]"
        problem = error.problem.replace(OWN_TABLE, table_path)
        raise ConfigValueError(problem, *error.keys) from None
