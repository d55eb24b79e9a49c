"""Reads the main file of a config and its overlays, without what they include."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from .document import Document

ConfigPaths: TypeAlias = Path | Sequence[Path]  # the main file, then overlays


def as_paths(paths: ConfigPaths) -> tuple[Path, ...]:
    """Return the main file and the overlays."""
    return (paths,) if isinstance(paths, Path) else tuple(paths)


def read_main(paths: ConfigPaths) -> Document:
    """Read the main file and the overlays, without what they include.

    Raises:
        ConfigError: One of them cannot be used.
    """
    first, *others = as_paths(paths)
    main = Document.read(first)
    if not others:
        return main
    from .layers import LayeredDocument  # few configs have overlays

    overlays = [Document.read(path, main.directory) for path in others]
    return LayeredDocument.of_layers([main, *overlays], len(overlays))
