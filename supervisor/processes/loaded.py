"""Modules that the launcher has imported, and whether their files have changed since."""

import gc
import importlib
import os
import sys
import time
from pathlib import Path

from .protocol import PreloadedReport


class LoadedModules:
    """The preloaded modules of this process, and the files of all its modules."""

    def __init__(self) -> None:
        self.preloaded: tuple[str, ...] = ()
        self._files: dict[str, tuple[int, int]] = {}  # file → mtime in ns, size

    def preload(self, modules: tuple[str, ...]) -> PreloadedReport:
        """Import modules; return which failed and which started threads."""
        self.preloaded = tuple(dict.fromkeys([*self.preloaded, *modules]))
        began = time.monotonic()
        failed: dict[str, str] = {}
        threaded: list[str] = []
        for module in modules:
            try:
                importlib.import_module(module)
            except BaseException as error:  # noqa: BLE001 (a library may raise anything)
                failed[module] = f"{type(error).__name__}: {error}"
            if len(os.listdir("/proc/self/task")) > 1 + bool(threaded):  # noqa: PTH208
                threaded.append(module)
        self.freeze()
        return PreloadedReport(failed, tuple(threaded), time.monotonic() - began)

    def freeze(self) -> None:
        """Keep the pages of all modules shared with workers, and note their files."""
        gc.collect()
        gc.freeze()
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file not in self._files:
                self._files[file] = _mtime_and_size(file)

    def changed(self) -> list[str]:
        """Return the first files that have changed on disk."""
        files = self._files.items()
        return [file for file, noted in files if _mtime_and_size(file) != noted][:5]


def _mtime_and_size(file: str) -> tuple[int, int]:
    try:
        found = Path(file).stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
