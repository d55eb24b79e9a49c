"""Modules that the launcher has imported, and whether their files have changed since."""

import gc
import importlib
import os
import sys
import time
from array import array
from collections.abc import Collection, Iterable

from .fork import open_descriptors
from .protocol import PreloadedReport

# What a descriptor leads to, as `/proc` names it. Forked workers would share these with each other
# and with the launcher. Files are left alone: libraries map them.
SHARED = {
    "socket:": "a socket",
    "pipe:": "a pipe",
    "anon_inode:[eventpoll]": "an event loop",
    "anon_inode:[io_uring]": "an event loop",
    "anon_inode:[eventfd]": "an event descriptor",
}
CHANGED_MOST = 5  # files that are named
ENDING_S = 0.5  # a joined thread is listed until the kernel has removed it


class LoadedModules:
    """The preloaded modules of this process, and the files of all its modules."""

    def __init__(self) -> None:
        self.preloaded: tuple[str, ...] = ()
        # In one object each: to look at thousands of small ones would write to their pages, which
        # a worker that was forked before would then have for itself.
        self._files = ""  # paths, each with a NUL behind it
        self._noted = array("q")  # of each file: mtime in ns, size

    def preload(self, modules: tuple[str, ...]) -> PreloadedReport:
        """Import modules; return which failed, started threads, or left something open."""
        self.preloaded = tuple(dict.fromkeys([*self.preloaded, *modules]))
        began = time.monotonic()
        failed: dict[str, str] = {}
        threaded: list[str] = []
        opened: dict[str, str] = {}
        new = [module for module in modules if module not in sys.modules]
        for module in new:
            before = open_descriptors()
            try:
                importlib.import_module(module)
            except BaseException as error:  # noqa: BLE001 (a library may raise anything)
                failed[module] = f"{type(error).__name__}: {error}"
            if not threaded and _threads_stay():
                threaded.append(module)
            if left := _left_open(before):
                opened[module] = left
        if new:
            self.freeze()
        return PreloadedReport(failed, tuple(threaded), time.monotonic() - began, opened)

    def has_all(self, modules: Iterable[str]) -> bool:
        """Return whether all of these are imported."""
        return all(module in sys.modules for module in modules)

    def freeze(self) -> None:
        """Keep the pages of all modules shared with workers, and note their files.

        Nothing is collected before: what imports leave behind in cycles is 0.2 MiB, which workers
        share, and to look for it takes longer than to import a bundled plugin.
        """
        gc.freeze()
        known = set(self._files.split("\0"))
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file not in known:
                self._files += f"{file}\0"
                self._noted.extend(_mtime_and_size(file))

    def changed(self) -> list[str]:
        """Return the first files that have changed on disk."""
        found: list[str] = []
        at = number = 0
        while (end := self._files.find("\0", at)) >= 0 and len(found) < CHANGED_MOST:
            file, at = self._files[at:end], end + 1
            if _mtime_and_size(file) != tuple(self._noted[number : number + 2]):
                found.append(file)
            number += 2
        return found


def _threads_stay() -> bool:
    """Return whether there is more than one thread; one that is ending is waited for."""
    until = time.monotonic() + ENDING_S
    while len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        if time.monotonic() >= until:
            return True
        time.sleep(0.001)
    return False


def _left_open(before: Collection[int]) -> str:
    """Return what has been opened since, and must not be shared; or nothing."""
    gc.collect()  # what an import has dropped is not open for long
    for fd in set(open_descriptors()).difference(before):
        target = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 (no path that is there)
        for start, name in SHARED.items():
            if target.startswith(start):
                return name
    return ""


def _mtime_and_size(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)  # noqa: PTH116 (a Path interns each part of it)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
