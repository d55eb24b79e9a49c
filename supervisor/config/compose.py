"""Composes the tables of a config from the file and the accepted config, as a selection says."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from . import plain, schema
from .accepted import Accepted
from .document import Document
from .units import (
    AGENT,
    DEFAULTS,
    ENGINE,
    HOST,
    Origin,
    Selection,
    Unit,
    omit,
    pick,
    section_unit,
)


class Sources(msgspec.Struct, frozen=True):
    """What a config can be composed from."""

    file: Document | None  # None: it cannot be read
    accepted: Accepted | None = None

    def document(self, unit: Unit, selection: Selection) -> Document:
        """Return the document that a unit comes from.

        A unit that is left out has that of the file: errors are about its place there.
        """
        if self.accepted is not None and selection.origin(unit) is Origin.ACCEPTED:
            return self.accepted.document(unit)
        if self.file is not None:
            return self.file.of_unit(unit)
        assert self.accepted is not None
        return self.accepted.document(HOST)


class Parts(msgspec.Struct):
    """The tables of one config as they were read, all paths absolute."""

    host: dict[str, Any] = msgspec.field(default_factory=dict)
    engine: dict[str, Any] = msgspec.field(default_factory=dict)
    defaults: dict[str, Any] = msgspec.field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    agent: dict[str, Any] = msgspec.field(default_factory=dict)
    agents: dict[str, dict[str, Any]] = msgspec.field(
        default_factory=dict
    )  # each with its `services`
    services: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    hooks: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    own_defaults: dict[str, dict[str, Any]] = msgspec.field(
        default_factory=dict
    )  # of accepted services
    documents: dict[Unit, Document] = msgspec.field(default_factory=dict)
    defaults_documents: dict[str, Document] = msgspec.field(default_factory=dict)

    def all_sections(self) -> Iterator[dict[str, Any]]:
        """Yield the section of each service, the agents' among them."""
        yield from self.services.values()
        for agent in self.agents.values():
            yield from agent["services"].values()


def compose(sources: Sources, selection: Selection) -> Parts:
    """Return the tables of a config.

    Raises:
        ConfigValueError: A unit does not fit, as its keys say.
    """
    return _Composition(sources, selection).parts()


class _Composition:
    def __init__(self, sources: Sources, selection: Selection) -> None:
        self._sources, self._selection = sources, selection
        file = sources.file
        self._raw: dict[str, Any] = {} if file is None or selection.whole else file.tables
        self._read = schema.document(omit(self._raw, selection.rejected))
        self._parts = Parts()

    def parts(self) -> Parts:
        """Read every unit."""
        parts = self._parts
        parts.host, parts.defaults = self._take(HOST), self._take(DEFAULTS)
        parts.engine, parts.agent = self._take(ENGINE), self._take(AGENT)
        parts.plugins = {unit[1]: self._take(unit) for unit in self._units("plugins")}
        agents = {unit[1]: self._take(unit) for unit in self._units("agents")}
        parts.services = self._sections(("services",))
        parts.hooks = {unit[1]: self._take(unit) for unit in self._units("hooks")}
        parts.agents = {
            name: {**keys, "services": self._sections(("agents", name, "services"))}
            for name, keys in agents.items()
        }
        self._take_defaults()
        return parts

    def _units(self, *table: str) -> list[Unit]:
        """Return the units of a table that are not left out, in the order of their config."""
        selection, accepted = self._selection, self._sources.accepted
        found: Iterable[Unit]
        if selection.whole and accepted is not None:
            found = accepted.units()
        else:
            names: Any = self._raw
            for key in table:
                names = names.get(key, {}) if isinstance(names, dict) else {}
            named = [(*table, name) for name in names] if isinstance(names, dict) else []
            found = dict.fromkeys([*named, *sorted(selection.rejected)])
        return [
            unit
            for unit in found
            if unit[:-1] == table and selection.origin(unit) is not Origin.NONE
        ]

    def _sections(self, table: Unit) -> dict[str, dict[str, Any]]:
        """Return the sections of services, those without one left out."""
        sections = dict[str, dict[str, Any]]()
        for unit in self._units(*table):
            document = self._sources.document(unit, self._selection)
            if pick(document.tables, [unit]):
                keys, defaults = self._take(unit), self._parts.defaults
                sections[unit[-1]] = plain.complete(keys, unit, document.directory, defaults)
        return sections

    def _take(self, unit: Unit) -> dict[str, Any]:
        """Return the keys of a unit, and note its document."""
        document = self._sources.document(unit, self._selection)
        from_file = self._selection.origin(unit) is Origin.FILE
        keys: Any = self._read if from_file else schema.document(pick(document.tables, [unit]))
        for key in unit:
            keys = keys.get(key, {})
        self._parts.documents[unit] = document
        of_agent = unit[0] == "agents" and len(unit) == 2  # its services are units of their own
        own = {k: part for k, part in keys.items() if not (of_agent and k == "services")}
        return document.absolute(own)

    def _take_defaults(self) -> None:
        """Read the defaults of the services that go on as accepted."""
        accepted = self._sources.accepted
        if accepted is None:
            return
        stored = accepted.stored
        for name in stored.services:
            unit = section_unit(name, stored.agents)
            if self._selection.origin(unit) is Origin.ACCEPTED:
                document = accepted.defaults_of(name)
                keys = schema.document(pick(document.tables, [DEFAULTS])).get("defaults", {})
                self._parts.own_defaults[name] = document.absolute(keys)
                self._parts.defaults_documents[name] = document
