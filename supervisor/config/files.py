"""Reads the files of one config: the main one, those that it includes, and overlays.

An included file that cannot be used is left out, and named: the others go on without it.
"""

import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.errors import ConfigError

from . import schema, values
from .document import Document, as_given
from .layers import LayeredDocument
from .main_file import ConfigPaths, as_paths, read_main
from .units import Unit, pick

FILES_MOST = 256  # that are included
FILE_BYTES = 1 << 20  # of an included file
INCLUDABLE = schema.DOCUMENT.keys() - {"host", "engine", "defaults", "agent"}


class ConfigFiles(msgspec.Struct, frozen=True):
    """The files of one config.

    Attributes:
        document: All of them as one.
        read: Every file, absolute, also those that cannot be used; the main one first.
        unusable: Why an included file is left out, by its absolute path.
        twice: The units that two files have, with the error of the second.
    """

    document: Document
    read: tuple[Path, ...]
    unusable: Mapping[Path, ConfigError] = msgspec.field(default_factory=dict)
    twice: Mapping[Unit, ConfigError] = msgspec.field(default_factory=dict)


def read_files(paths: ConfigPaths) -> ConfigFiles:
    """Read the main file, what is included, and the overlays.

    Raises:
        ConfigError: The main file or an overlay cannot be used.
    """
    whole = read_main(paths)
    layers = whole.layers if isinstance(whole, LayeredDocument) else (whole,)
    main, *overlays = layers
    own = tuple(as_given(path) for path in as_paths(paths))
    included, unusable, found = list[Document](), dict[Path, ConfigError](), list[Path]()
    for path in _included(whole):
        found.append(path)
        try:
            included.append(_read_included(path, main.directory))
        except ConfigError as error:
            unusable[path] = error
    if len(layers) == 1 and not found:
        return ConfigFiles(whole, own)
    base, twice = _without_twice([main, *included])
    files = [*base, *overlays]
    document = LayeredDocument.of_layers(files, len(overlays), complete=not unusable)
    return ConfigFiles(document, (own[0], *found, *own[1:]), unusable, twice)


def _included(document: Document) -> Iterator[Path]:
    """Yield the absolute paths of the included files, those of each pattern sorted.

    Raises:
        ConfigError: There are too many, or one that is named does not exist.
    """
    count = 0
    for index, text, paths in included_by(document.tables, document.directory):
        keys = ("host", "include", index)
        if not paths and not glob.has_magic(text):
            raise document.error_at(keys, f"there is no file {document.directory / text}")
        count += len(paths)
        if count > FILES_MOST:
            raise document.error_at(keys, f"more than {FILES_MOST} files are included")
        yield from paths


def included_by(
    tables: Mapping[str, Any], directory: Path
) -> Iterator[tuple[int, str, list[Path]]]:
    """Yield each pattern of `include`, with its place in the list and the files that it is for."""
    patterns = values.table_of(tables, "host").get("include", [])
    known = set[Path]()
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        if not isinstance(pattern, str) or not pattern or "**" in pattern or "\0" in pattern:
            continue  # the schema says so
        text = os.path.expanduser(pattern)  # noqa: PTH111 (a pattern is no path)
        names = sorted(glob.glob(text, root_dir=directory))  # noqa: PTH207 (absolute ones, too)
        paths = [directory / name for name in names]
        paths = [path for path in paths if path not in known and not path.is_dir()]
        known |= set(paths)
        yield index, text, paths


def _read_included(path: Path, directory: Path) -> Document:
    """Read a file that has sections of plugins, services, agents and hooks alone.

    Raises:
        ConfigError: It cannot be used.
    """
    document = Document.read(path, directory)
    if len(document.text) > FILE_BYTES:
        raise ConfigError(f"an included file has at most {FILE_BYTES:,} bytes", path=str(path))
    for key, value in document.tables.items():
        if key not in INCLUDABLE:
            only = values.listed(sorted(INCLUDABLE))
            raise document.error_at((key,), f"an included file has only {only}")
        if not isinstance(value, dict):
            raise document.error_at((key,), f"expected a table: [{key}.NAME]")
    for name, agent in document.tables.get("agents", {}).items():
        services = agent.get("services", {}) if isinstance(agent, dict) else {}
        if not isinstance(services, dict):
            raise document.error_at(("agents", name, "services"), "expected a table")
    return document


def units_in(tables: Mapping[str, Any]) -> Iterator[Unit]:
    """Yield the units that the tables of a file have."""
    for table in ("plugins", "services", "hooks"):
        yield from ((table, name) for name in values.table_of(tables, table))
    for name, agent in values.table_of(tables, "agents").items():
        if not isinstance(agent, dict) or agent.keys() - {"services"} or not agent:
            yield "agents", name
        if isinstance(agent, dict):
            services = values.table_of(agent, "services")
            yield from (("agents", name, "services", short) for short in services)


def _without_twice(files: list[Document]) -> tuple[list[Document], dict[Unit, ConfigError]]:
    """Return the files, of which each unit is in one, and the errors of those that were in two."""
    owners: dict[Unit, Document] = {}
    twice: dict[Unit, ConfigError] = {}
    kept = list[Document]()
    for file in files:
        own = list(units_in(file.tables))
        for unit in own:
            if unit in owners:
                first = owners[unit].error_at(unit, "")
                problem = f"it is in {first.path}:{first.line} too: take one of them out"
                twice[unit] = file.error_at(unit, problem)
        new = [unit for unit in own if unit not in owners]
        owners |= dict.fromkeys(new, file)
        if len(new) < len(own) and kept:
            tables = pick(file.tables, new)
            file = Document(file.path, file.directory, file.text, tables, file.lines)
        kept.append(file)
    return kept, twice
