"""The tables of `config.toml` and their keys, derived from the annotations in `spec` (pure)."""

import difflib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_origin

import msgspec

from . import values
from .keys import KeyField, key_fields
from .spec import AgentSection, HostSpec, PluginSpec, ServiceSpec
from .values import ConfigValueError, Reader, any_table, at_path, did_you_mean, each


def reader_of(field: KeyField) -> Reader:
    """Return the reader of a key's value."""
    key = field.key
    match get_origin(field.type) or field.type:
        case _ if key.kind == "services":
            return each(values.name, table(SERVICE, "a service"))
        case origin if origin is tuple:
            return values.list_of(values.KINDS[key.kind], key.unit)
        case _ if key.kind:
            return values.KINDS[key.kind]
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


def table(readers: Mapping[str, Reader], title: str) -> Reader:
    """Return the reader of a table whose keys are known."""

    def read(value: object) -> dict[str, Any]:
        items = dict[str, Any]()
        for key, part in any_table(value).items():
            with at_path(key):
                if key not in readers:
                    raise ConfigValueError(f"no such key in {title}{_suggest(key, readers)}")
                items[key] = readers[key](part)
        return items

    return read


def _suggest(key: str, readers: Mapping[str, Reader]) -> str:
    """Return a hint for an unknown key: the table that it belongs in, or a similar key."""
    if difflib.get_close_matches(key, readers, n=1, cutoff=0.8):
        return did_you_mean(key, readers)
    homes = [title for title, keys in TABLES.items() if key in keys and keys is not readers]
    return f"; it belongs in {homes[0]}" if homes else did_you_mean(key, readers)


def _plugin(value: object) -> Any:
    if isinstance(value, str):
        raise ConfigValueError(f'expected a table, got a string: write {{ use = "{value}" }}')
    return table(PLUGIN, "a plugin")(value)


def _readers(struct: type[msgspec.Struct], own: bool = True) -> dict[str, Reader]:
    """Return the readers of a spec's keys; without `own`, those that [defaults] may have."""
    return {
        field.name: reader_of(field) for field in key_fields(struct) if own or not field.key.own
    }


HOST = _readers(HostSpec)
DEFAULTS = _readers(ServiceSpec, own=False)
SERVICE = _readers(ServiceSpec)
PLUGIN = _readers(PluginSpec)
AGENT = _readers(AgentSection)
TABLES = {
    "[host]": HOST,
    "[services.NAME]": SERVICE,
    "[plugins.NAME]": PLUGIN,
    "[agents.NAME]": AGENT,
}
DOCUMENT: dict[str, Reader] = {
    "host": table(HOST, "[host]"),
    "defaults": table(DEFAULTS, "[defaults]"),
    "plugins": each(values.name, _plugin),
    "services": each(values.name, table(SERVICE, "a service")),
    "agent": table({"character": AGENT["character"]}, "[agent]"),
    "agents": each(values.agent_name, table(AGENT, "an agent")),
}
document = table(DOCUMENT, "the file's top level")
