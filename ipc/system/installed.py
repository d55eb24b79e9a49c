"""Which version of garrison is installed: of the files on disk, or as this process began."""

import contextlib
import functools
import os
import sys

BEGIN, END = "garrison-", ".dist-info"


def installed_version() -> str:
    """Return the version of garrison on disk.

    It is in the name of a folder. `importlib.metadata` would read it as well, and cost the
    supervisor 4 MiB. A place that has not changed is not read again: each `status` wants to know.
    """
    for place in sys.path:
        try:
            found = os.stat(place or ".")  # noqa: PTH116 (an entry of sys.path may be any text)
        except OSError:
            continue
        version = _version_in(place or ".", found.st_ino, found.st_nlink, found.st_mtime_ns)
        if version:
            return version
    return "0+checkout"  # it is run from one that is not installed


@functools.lru_cache(maxsize=64)
def _version_in(place: str, *state: int) -> str:
    """Return the version in a place of `sys.path`, which had this state; empty: none."""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(place), reverse=True):  # noqa: PTH208
            if name.startswith(BEGIN) and name.endswith(END):
                return name.removeprefix(BEGIN).removesuffix(END)
    return ""


@functools.cache
def loaded_version() -> str:
    """Return the version at the first call: a worker's is that of its launcher."""
    return installed_version()


def versions() -> tuple[str, str]:
    """Return the versions of Python and of garrison that this process runs."""
    return ".".join(map(str, sys.version_info[:3])), loaded_version()
