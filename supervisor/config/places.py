"""Where a host has its files: the folders of `[host]`."""

import os
from pathlib import Path
from typing import Any

from .document import Document
from .host_spec import HostSpec
from .values import ConfigValueError

LONGEST_SOCKET = "launcher-0000000000.sock"  # the longest file name in run/
FOLDERS = frozenset({"run", "state", "logs"})
SOCKET_LIMIT = 107  # bytes of a Unix socket's path, the NUL aside


def host_spec(document: Document, keys: dict[str, Any], home: Path | None) -> HostSpec:
    """Return the settings of the host.

    Raises:
        ConfigValueError: A path is too long for a socket.
    """
    for key in FOLDERS & keys.keys():
        if problem := document.shared_place(key):
            raise ConfigValueError(problem, "host", key)
    home = _resolved(home or document.home())
    keys = {name: _resolved(keys[name]) if name in FOLDERS else keys[name] for name in keys}
    folders = {"run": home / "run", "state": home / "state", "logs": home / "logs"}
    host = HostSpec(**{**folders, **keys, "home": home})
    longest = host.run / LONGEST_SOCKET
    if (length := len(os.fsencode(longest))) > SOCKET_LIMIT:
        raise ConfigValueError(
            f"the path {longest} is {length} bytes long, and a Unix socket's is at most "
            f"{SOCKET_LIMIT}: set `[host] run` to a shorter directory, or give a shorter --home",
            *("host", "run" if "run" in keys else "home"),
        )
    return host


def _resolved(folder: Path) -> Path:
    """Return a folder without links in its path: one may be moved while the host runs.

    A path that is too long for sockets without its links is kept.
    """
    resolved = folder.resolve()
    too_long = len(os.fsencode(resolved / "run" / LONGEST_SOCKET)) > SOCKET_LIMIT
    return folder if too_long else resolved
