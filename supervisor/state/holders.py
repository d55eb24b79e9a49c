"""Which supervisor holds a name, and thus runs a config; `state/identity.py` says what names are.

Commands import this: it imports nothing that reads a whole config. Durations are seconds.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from garrison.ipc import socket_paths
from garrison.ipc.messages import BAD_BYTES
from garrison.ipc.system.locks import is_locked
from garrison.supervisor.config.document import as_given

ANSWER_S = 2.0  # for a holder to send its home: it may just be starting


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The supervisor that holds a config's name."""

    pid: int = 0  # 0: in another PID namespace, or unknown
    home: str = ""  # empty: it did not answer


def config_names(config: Sequence[Path]) -> list[bytes]:
    """Return the addresses that stand for a config: of its paths as given, and resolved.

    Args:
        config: The absolute paths of its main file and overlays: with others it is another config.
    """
    given, resolved = tuple(map(_tidied, config)), tuple(path.resolve() for path in config)
    return [_address(paths) for paths in dict.fromkeys((given, resolved))]


def _tidied(path: Path) -> Path:
    """Return a path without parts such as `..`, where that leads to the same file."""
    tidied = Path(os.path.normpath(path))
    with contextlib.suppress(OSError):
        if not tidied.samefile(path):
            return path
    return tidied


def _address(paths: Sequence[Path]) -> bytes:
    text = b"\0".join(map(os.fsencode, paths))
    import hashlib  # slow to import, and few commands come here

    digest = hashlib.sha256(f"{os.geteuid()}\0".encode() + text).hexdigest()
    return b"\0garrison-" + digest.encode()


def find_holder(config: Sequence[Path]) -> Holder | None:
    """Return the supervisor of this user that runs a config, under either of its names."""
    for name in config_names(config):
        holder = holder_of(name)
        if holder is not None:
            return holder
    return None


def holder_of(name: bytes) -> Holder | None:
    """Return the holder of one name; None if no process of this user has it."""
    found = socket_paths.name_holder(name, ANSWER_S)
    if found is None:
        return None
    pid, answer = found
    home = ""
    with contextlib.suppress(*BAD_BYTES):
        home = msgspec.json.decode(answer, type=Holder).home
    return Holder(pid=pid, home=home)


def running_home(config: Sequence[Path], home: Path) -> Path:
    """Return the home of the supervisor that runs a config, where a command is to reach it.

    That is another than the config has now if a link on the way to it was moved meanwhile.

    Args:
        config: The paths of the config, as given.
        home: The home that it has now.
    """
    if is_locked(home / "supervisor.lock"):
        return home
    holder = find_holder(tuple(map(as_given, config)))
    return Path(holder.home) if holder is not None and holder.home else home
