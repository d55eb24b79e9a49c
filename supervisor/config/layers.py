"""A config that several files make together: later ones override single keys of earlier ones. Pure.

Tables are merged, at any depth; of any other value, the last file that has it counts. `remove` in
an overlay takes keys away that the files before it have.
"""

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from garrison.ipc.errors import ConfigError

from . import values
from .document import HOME_BESIDE, Document
from .toml_lines import dotted, key_path
from .units import HOST, Unit, pick

REMOVE = "remove"  # the key of an overlay: dotted keys that it takes away
ACCEPTED_MARK = " (as accepted)"  # at the end of the path of a text that is not on disk


@dataclass(frozen=True)
class LayeredDocument(Document):
    """Several files as one. Relative paths in all of them begin at the first one's folder.

    Attributes:
        layers: The files; a later one overrides those before it.
        overlays: How many of the last are overlays, and no included files.
    """

    layers: tuple[Document, ...] = ()
    overlays: int = 0
    _of_units: dict[tuple[int, ...], Document] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of_layers(cls, layers: Sequence[Document], overlays: int, complete: bool = False) -> Self:
        """Merge files.

        Args:
            layers: The main file first; at least one.
            overlays: How many of the last are overlays.
            complete: These are all files, so that what is taken away must be there.

        Raises:
            ConfigError: An overlay takes away what there is not.
        """
        main, tables = layers[0], copy.deepcopy(layers[0].tables)
        for number, layer in enumerate(layers[1:], start=1):
            own = dict(layer.tables)
            if number >= len(layers) - overlays:
                own.pop(REMOVE, None)
                _remove(tables, layer, complete)
            merge(tables, own)
        files = tuple(layers)
        return cls(
            main.path, main.directory, "", tables, main.lines, main.characters, files, overlays
        )

    @property
    def digest(self) -> str:
        """Return the digest of all texts."""
        digests = " ".join(layer.digest for layer in self.layers)
        return hashlib.sha256(digests.encode()).hexdigest()

    def error_at(self, keys: Sequence[str | int], problem: str) -> ConfigError:
        """Return the error of one key, where it was set last; else at the nearest table."""
        return self.layer_of(keys).error_at(keys, problem)

    def layer_of(self, keys: Sequence[str | int]) -> Document:
        """Return the file that has the longest part of a key's path, of several the last."""
        return max(reversed(self.layers), key=lambda layer: layer.lines.depth(keys))

    def overridden(self) -> Iterator[str]:
        """Yield, in words, each key of an overlay that a file before it has too."""
        for number in range(len(self.layers) - self.overlays, len(self.layers)):
            for path in _leaves(
                {k: v for k, v in self.layers[number].tables.items() if k != REMOVE}
            ):
                for layer in reversed(self.layers[:number]):
                    if layer.lines.depth(path) == len(path):
                        own = self.layers[number]
                        former = f"{layer.path.name}:{layer.lines.find(path)}"
                        place = f"{own.path.name}:{own.lines.find(path)}"
                        yield f"{dotted(path)} is that of {place}, not of {former}"
                        break

    def of_unit(self, unit: Unit) -> Document:
        """Return the files that a unit comes from; one alone as it is."""
        first_overlay = len(self.layers) - self.overlays
        chosen = [
            number
            for number, layer in enumerate(self.layers)
            if (unit == HOST and (number == 0 or number >= first_overlay))
            or pick(layer.tables, [unit])
            or (number >= first_overlay and unit in _removed_units(layer))
        ] or [0]
        key = tuple(chosen)
        if key not in self._of_units:
            layers = [self.layers[number] for number in chosen]
            overlays = sum(number >= first_overlay for number in chosen)
            alone = len(layers) == 1
            self._of_units[key] = (
                layers[0] if alone else LayeredDocument.of_layers(layers, overlays)
            )
        return self._of_units[key]

    def home(self) -> Path:
        """Return the home: `[host] home`, else `.garrison-NAME` by the last overlay's name.

        Raises:
            ConfigError: The key has no path, or it is that of several environments.
        """
        if problem := self.shared_place("home"):
            raise self.error_at(("host", "home"), problem)
        if self.overlays and "home" not in values.table_of(self.tables, "host"):
            return self.directory / f"{HOME_BESIDE}-{self._environment}"
        return super().home()

    def shared_place(self, key: str) -> str:
        """Return what is wrong with a folder of `[host]` that the main file has, and no overlay."""
        overlays = self.layers[len(self.layers) - self.overlays :] if self.overlays else ()
        if not overlays or key not in values.table_of(self.layers[0].tables, "host"):
            return ""
        if any(key in values.table_of(layer.tables, "host") for layer in overlays):
            return ""
        name = _file_name(overlays[-1])
        return f"with overlays each environment needs its own: set it in {name} as well"

    @property
    def _environment(self) -> str:
        return Path(_file_name(self.layers[-1])).stem


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the path of each value that is no table."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from ((key, *rest) for rest in _leaves(value))
        else:
            yield (key,)


def _file_name(document: Document) -> str:
    return document.path.name.removesuffix(ACCEPTED_MARK)


def merge(tables: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put the keys of one table over those of another, which is changed."""
    for key, value in over.items():
        own = tables.get(key)
        if isinstance(own, dict) and isinstance(value, dict):
            merge(own, value)
        else:
            tables[key] = copy.deepcopy(value)


def _removed(layer: Document) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the path of each key that an overlay takes away, with its place in the list.

    Raises:
        ConfigError: The list is none of dotted keys.
    """
    listed = layer.tables.get(REMOVE, [])
    if not isinstance(listed, list):
        raise layer.error_at((REMOVE,), 'expected a list of keys: ["services.chat.env.DEBUG"]')
    for index, text in enumerate(listed):
        path = key_path(text) if isinstance(text, str) else None
        if path is None:
            raise layer.error_at((REMOVE, index), 'expected a key, such as "services.chat"')
        yield index, path


def _removed_units(layer: Document) -> Iterable[Unit]:
    """Return the units of which an overlay takes something away."""
    paths = [path for _, path in _removed(layer)]
    lengths = {"agents": (2, 4), "plugins": (2,), "services": (2,), "hooks": (2,)}
    return {path[:length] for path in paths for length in lengths.get(path[0], (1,))}


def _remove(tables: dict[str, Any], layer: Document, complete: bool) -> None:
    for index, path in _removed(layer):
        table: Any = tables
        for key in path[:-1]:
            table = table.get(key) if isinstance(table, dict) else None
        if not isinstance(table, dict) or path[-1] not in table:
            if complete:
                problem = f"no file before this one has `{layer.tables[REMOVE][index]}`"
                raise layer.error_at((REMOVE, index), problem)
            continue
        del table[path[-1]]
