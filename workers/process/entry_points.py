"""Entry points of one group: which installed distributions have them, and what they lead to.

`importlib.metadata` reads them as well, and takes 15 ms longer at the start of each host, because
it imports `email` and `zipfile`. It is used only where an entry of `sys.path` is an archive.
"""

import functools
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

INFO = (".dist-info", ".egg-info")
FILE = "entry_points.txt"
# As in the specification of entry points: `module:attribute [extras]`
_VALUE = re.compile(r"([\w.]+)\s*(?::\s*([\w.]+)\s*)?(?:\[.*\]\s*)?$")
_SEPARATORS = re.compile(r"[-_.]+")


class EntryPoint(msgspec.Struct, frozen=True):
    """One name of a group, and what it leads to."""

    name: str
    value: str

    def load(self) -> Any:
        """Import what it leads to.

        Raises:
            ValueError: It has another form than `module:attribute`.
            Exception: The module's code raised it, or it has no such attribute.
        """
        found = _VALUE.match(self.value)
        if found is None:
            raise ValueError(f"the entry point {self.name} leads to {self.value!r}, no module")
        attributes = filter(None, (found[2] or "").split("."))
        return functools.reduce(getattr, attributes, importlib.import_module(found[1]))


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group, in the order of `sys.path`."""
    if any(_is_archive(place) for place in sys.path):
        from importlib import metadata

        found = metadata.entry_points(group=group)
        return tuple(EntryPoint(point.name, point.value) for point in found)
    return tuple(point for text in _texts(sys.path) for point in parsed(text, group))


def parsed(text: str, group: str) -> Iterator[EntryPoint]:
    """Return the entry points of a group in a distribution's file."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and line and not line.startswith("#"):
            name, separator, value = line.partition("=")
            if separator:
                yield EntryPoint(name.strip(), value.strip())


def _texts(places: Iterable[str]) -> Iterator[str]:
    """Return the file of each distribution that has one; the first one of a name counts."""
    seen: set[str] = set()
    for place in places:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 (an entry of sys.path may be any text)
        except OSError:
            continue
        for name in names:
            if not name.lower().endswith(INFO):
                continue
            if (distribution := _normalized(name)) not in seen:
                seen.add(distribution)
                try:
                    with open(os.path.join(place, name, FILE), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                        yield file.read()
                except (OSError, ValueError):  # most have none
                    pass


def _normalized(info: str) -> str:
    stem = info.rpartition(".")[0].partition("-")[0]
    return _SEPARATORS.sub("_", stem).lower()


def _is_archive(place: str) -> bool:
    return place.lower().endswith(".egg") or os.path.isfile(place)  # noqa: PTH113
