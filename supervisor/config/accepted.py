"""The accepted config: what the host was last able to load, unit by unit (pure).

It holds texts, not values: the text of each config file, the folder where its relative paths begin,
and the texts of its character files without their secrets. Each unit refers to the text that it was
accepted from, because a restart accepts the sections of the restarted services alone.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

import msgspec

from garrison.ipc.errors import ConfigError

from .document import Document, as_given
from .layers import ACCEPTED_MARK, LayeredDocument
from .units import AGENT, DEFAULTS, ENGINE, HOST, Unit, pick, section_unit, service_of


class StoredDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """One text."""

    path: str  # of the file, absolute
    folder: str  # absolute; relative paths in the text begin here
    text: str
    characters: dict[str, str] = {}  # path → text, without secrets
    layers: list[str] = []  # keys of the texts that make it together; it has none of its own then
    overlays: int = 0  # how many of the last of those are overlays


class StoredService(msgspec.Struct, frozen=True):
    """The texts that one service was accepted from."""

    section: str  # the text may have none
    defaults: str


class FailedTrial(msgspec.Struct, frozen=True):
    """What was tried with `garrison restart --try` and did not run: not used while it is so."""

    problem: str  # when, and why
    parts: tuple[tuple[tuple[str, ...], str], ...]  # key path in the file → its fingerprint


class AcceptedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `accepted.json`, format 1. A unit has the key of its text in `documents`."""

    format: int = 1
    documents: dict[str, StoredDocument]
    host: str
    defaults: str
    agent: str
    plugins: dict[str, str] = {}
    agents: dict[str, str] = {}
    services: dict[str, StoredService] = {}  # by full NAME
    hooks: dict[str, str] = {}
    failed: dict[str, FailedTrial] = {}  # NAME → its last trial, where that failed
    trials: dict[str, float] = {}  # NAME → seconds that it has to run, of one that is under way
    engine: str = ""  # empty: the text of `host`


class Origins(msgspec.Struct, frozen=True):
    """The documents that the units of one config come from."""

    units: Mapping[Unit, Document]  # those of `services` by the full NAME of each
    defaults: Mapping[str, Document]  # of each service that has others than the host's
    characters: Mapping[Unit, tuple[str, str]]  # of `agent` and `agents`: path, text

    def of_service(self, name: str) -> tuple[Document | None, Document]:
        """Return the document of a service's section, and that of its defaults.

        Returns:
            None, if it has no section and the other document has: an overlay takes that away.
        """
        defaults = self.defaults.get(name, self.units[DEFAULTS])
        section = self.units.get(("services", name))
        if section is None:
            agents = [unit[1] for unit in self.units if unit[0] == "agents"]
            has_one = pick(defaults.tables, [section_unit(name, agents)])
            section = None if has_one else defaults
        return section, defaults


class Accepted(msgspec.Struct, frozen=True):
    """An accepted config whose texts are parsed."""

    stored: AcceptedConfig
    documents: Mapping[str, Document]

    @classmethod
    def parse(cls, stored: AcceptedConfig) -> Self:
        """Parse the texts.

        Raises:
            ConfigError: The file is damaged: a text is missing, or it is not TOML.
        """
        if missing := set(_references(stored)) - stored.documents.keys():
            raise ConfigError(f"it refers to texts that it does not have: {len(missing)}")
        documents = {
            key: Document.parse(
                Path(f"{one.path}{ACCEPTED_MARK}"), Path(one.folder), one.text, one.characters
            )
            for key, one in stored.documents.items()
            if not one.layers
        }
        for key, one in stored.documents.items():
            if one.layers:
                layers = [documents[layer] for layer in one.layers]
                layered = LayeredDocument.of_layers(layers, one.overlays)
                documents[key] = dataclasses.replace(layered, characters=one.characters)
        return cls(stored, documents)

    def units_from(self, path: Path) -> frozenset[Unit]:
        """Return the units that were accepted from a file, or from it and others."""
        return frozenset(unit for unit in self.units() if path in _paths(self.document(unit)))

    @property
    def path(self) -> str:
        """Return the path of the file that it was accepted from last as a whole."""
        return self.stored.documents[self.stored.host].path

    def units(self) -> list[Unit]:
        """Return the units that it has, those of one table in their order."""
        stored = self.stored
        return [
            *(HOST, ENGINE, DEFAULTS, AGENT),
            *(("plugins", name) for name in stored.plugins),
            *(("agents", name) for name in stored.agents),
            *(section_unit(name, stored.agents) for name in stored.services),
            *(("hooks", name) for name in stored.hooks),
        ]

    def document(self, unit: Unit) -> Document:
        """Return the document of a unit."""
        stored = self.stored
        match unit:
            case ("host",):
                key = stored.host
            case ("engine",):
                key = stored.engine or stored.host
            case ("defaults",):
                key = stored.defaults
            case ("agent",):
                key = stored.agent
            case ("plugins", name):
                key = stored.plugins[name]
            case ("agents", name):
                key = stored.agents[name]
            case ("hooks", name):
                key = stored.hooks[name]
            case _:
                key = stored.services[service_of(unit)].section
        return self.documents[key]

    def defaults_of(self, service: str) -> Document:
        """Return the document whose [defaults] a service was accepted with."""
        return self.documents[self.stored.services[service].defaults]


def _paths(document: Document) -> set[Path]:
    """Return the paths of the files that a text came from."""
    layers = document.layers if isinstance(document, LayeredDocument) else (document,)
    return {Path(str(layer.path).removesuffix(ACCEPTED_MARK)) for layer in layers}


def accept_whole(
    origins: Origins, names: Iterable[str], former: AcceptedConfig | None = None
) -> AcceptedConfig:
    """Return the accepted config after the host has loaded a config.

    Args:
        origins: The documents of the config.
        names: The services that it runs.
        former: Kept for services that the config may have, but that are not known now; None: there
            are none.
    """
    book = _Book(origins)
    units = origins.units
    kept = former.services if former is not None else {}
    trials = former.trials if former is not None else {}
    names = [name for name in names if not (name in trials and name in kept)]
    accepted = AcceptedConfig(
        documents=former.documents if former is not None else {},
        host=book.key(units[HOST]),
        defaults=book.key(units[DEFAULTS]),
        agent=book.key(units[AGENT]),
        plugins={unit[1]: book.key(units[unit]) for unit in units if unit[0] == "plugins"},
        agents={unit[1]: book.key(units[unit]) for unit in units if unit[0] == "agents"},
        services={**kept, **{name: book.service(name) for name in names}},
        hooks={unit[1]: book.key(units[unit]) for unit in units if unit[0] == "hooks"},
        failed=former.failed if former is not None else {},
        trials=trials,
        engine=book.key(units[ENGINE]),
    )
    # The book has the texts of all units only now: a config need not have a service.
    documents = {**accepted.documents, **book.documents}
    return _pruned(msgspec.structs.replace(accepted, documents=documents))


def accept_services(
    origins: Origins, services: Mapping[str, tuple[str, str]], former: AcceptedConfig
) -> AcceptedConfig:
    """Return the accepted config after services were restarted with a config.

    Args:
        origins: The documents of the config.
        services: NAME → its plugin, and its agent; empty for the host's own.
        former: What was accepted before.
    """
    book, units = _Book(origins), origins.units
    plugins, agents, agent = dict(former.plugins), dict(former.agents), former.agent
    for plugin, owner in services.values():
        if ("plugins", plugin) in units:  # that of plain commands needs no section
            plugins[plugin] = book.key(units["plugins", plugin])
        if owner:
            agents[owner] = book.key(units["agents", owner])
        else:
            agent = book.key(units[AGENT])
    restarted = {name: book.service(name) for name in services}
    hooks = former.hooks
    if "hooks" in services:
        hooks = {unit[1]: book.key(units[unit]) for unit in units if unit[0] == "hooks"}
    return _pruned(
        msgspec.structs.replace(
            former,
            documents={**former.documents, **book.documents},
            agent=agent,
            plugins=plugins,
            agents=agents,
            services={**former.services, **restarted},
            hooks=hooks,
            failed={name: one for name, one in former.failed.items() if name not in services},
            trials={name: one for name, one in former.trials.items() if name not in services},
        )
    )


def without_service(stored: AcceptedConfig, name: str) -> AcceptedConfig:
    """Return the accepted config without a service."""
    parts = (stored.services, stored.failed, stored.trials)
    services, failed, trials = ({k: v for k, v in one.items() if k != name} for one in parts)
    changed = {"services": services, "failed": failed, "trials": trials}
    return _pruned(msgspec.structs.replace(stored, **changed))


def with_only(
    stored: AcceptedConfig, plugins: Collection[str], agents: Collection[str]
) -> AcceptedConfig:
    """Return the accepted config with these plugins and agents alone: each may have services that
    no section names."""
    kept = {key: one for key, one in stored.plugins.items() if key in plugins}
    owners = {key: one for key, one in stored.agents.items() if key in agents}
    return _pruned(msgspec.structs.replace(stored, plugins=kept, agents=owners))


class _Book:
    """The stored form of documents, each once."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self.documents: dict[str, StoredDocument] = {}
        self._keys: dict[int, str] = {}  # by the document's identity
        self._empty: Document | None = None

    def key(self, document: Document) -> str:
        """Return the key of a document, which is stored by then."""
        if id(document) not in self._keys:
            stored = self._stored(document)
            key = hashlib.sha256(msgspec.json.encode(stored)).hexdigest()[:16]
            self.documents[key], self._keys[id(document)] = stored, key
        return self._keys[id(document)]

    def service(self, name: str) -> StoredService:
        """Return the texts of a service."""
        section, defaults = self._origins.of_service(name)
        if section is None:
            section = self._empty = self._empty or Document.parse(
                defaults.path, defaults.directory, "", defaults.characters
            )
        return StoredService(self.key(section), self.key(defaults))

    def _stored(self, document: Document) -> StoredDocument:
        origins = self._origins
        read = {
            path: text
            for unit, (path, text) in origins.characters.items()
            if path and origins.units[unit] is document
        }
        path = str(document.path).removesuffix(ACCEPTED_MARK)
        if document.characters is None:  # of the file on disk: its path is as the caller wrote it
            path = str(as_given(document.path))
        characters = {**(document.characters or {}), **read}
        folder = str(document.directory)
        if isinstance(document, LayeredDocument):
            layers = [self.key(layer) for layer in document.layers]
            return StoredDocument(path, folder, "", characters, layers, document.overlays)
        return StoredDocument(path, folder, document.text, characters)


def _references(stored: AcceptedConfig) -> Iterable[str]:
    yield from (stored.host, stored.engine or stored.host, stored.defaults, stored.agent)
    yield from stored.plugins.values()
    yield from stored.agents.values()
    yield from stored.hooks.values()
    for one in stored.services.values():
        yield from (one.section, one.defaults)


def _pruned(stored: AcceptedConfig) -> AcceptedConfig:
    """Return it without the texts that nothing refers to."""
    used = set(_references(stored))
    used |= {layer for key in used for layer in stored.documents[key].layers}
    documents = {key: one for key, one in stored.documents.items() if key in used}
    return msgspec.structs.replace(stored, documents=documents)
