"""Which version of garrison is installed: of the files on disk, or as this process began."""

import functools
import os
import sys

BEGIN, END = "garrison-", ".dist-info"


def installed_version() -> str:
    """Return the version of garrison on disk.

    It is in the name of a folder. `importlib.metadata` would read it as well, and cost the
    supervisor 4 MiB.
    """
    for place in sys.path:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 (an entry of sys.path may be any text)
        except OSError:
            continue
        for name in sorted(names, reverse=True):
            if name.startswith(BEGIN) and name.endswith(END):
                return name.removeprefix(BEGIN).removesuffix(END)
    return "0+checkout"  # it is run from one that is not installed


@functools.cache
def loaded_version() -> str:
    """Return the version at the first call: a worker's is that of its launcher."""
    return installed_version()


def versions() -> tuple[str, str]:
    """Return the versions of Python and of garrison that this process runs."""
    return ".".join(map(str, sys.version_info[:3])), loaded_version()
