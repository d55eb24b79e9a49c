"""The key files of nodes: `HOME/node-keys`, read and written."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.engine_spec import ANY
from garrison.supervisor.config.values import is_name

from .atomic import write_atomic

FOLDER = "node-keys"
OWN = "supervisor"
FILE_MOST = 4096  # bytes


class NodeKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key file: of a node, or the supervisor's own."""

    name: str
    public: str
    secret: str = ""  # may be removed from a node's file on the supervisor's machine
    supervisor: str = ""  # the supervisor's public key
    address: str = ""  # where the node connects

    def __repr__(self) -> str:
        """Return the public part alone."""
        return f"NodeKey(name={self.name!r}, public={self.public!r}, address={self.address!r})"


def read_key(path: Path) -> NodeKey:
    """Return a key file.

    Raises:
        GarrisonError: It cannot be read, is no key file, or is not its owner's alone.
    """
    try:
        mode = path.stat().st_mode & 0o777
        with path.open("rb") as file:
            text = file.read(FILE_MOST)
        key = msgspec.json.decode(text, type=NodeKey)
        for one in filter(None, (key.public, key.secret, key.supervisor)):
            if len(z85.decode(one)) != 32:
                raise ValueError("a key has 40 characters")
    except OSError as error:
        raise GarrisonError(f"the key {path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise GarrisonError(
            f"{path} is no key file: make one with garrison node keys NAME"
        ) from error
    if mode & 0o077 and key.secret:
        raise GarrisonError(f"others can read the key {path}: chmod 600 {path}")
    return key


def own_key(home: Path) -> NodeKey:
    """Return the supervisor's key; make it if there is none.

    Raises:
        GarrisonError: It cannot be read or written.
    """
    path = _folder(home) / f"{OWN}.key"
    if not path.exists():
        public, secret = (part.decode() for part in zmq.curve_keypair())
        _write(path, NodeKey(name=OWN, public=public, secret=secret))
    key = read_key(path)
    if not key.secret:
        raise GarrisonError(f"{path} has no secret key: remove it, and make all keys anew")
    return key


def make_keys(home: Path, names: Sequence[str], address: str) -> list[tuple[Path, bool]]:
    """Make the key file of each node that has none.

    Args:
        home: The supervisor's.
        names: Of the nodes.
        address: Where they connect.

    Returns:
        Each file, and whether it is new.

    Raises:
        GarrisonError: A name cannot be used, or a file cannot be written.
    """
    for name in names:
        if not is_name(name) or name in {OWN, ANY}:
            raise GarrisonError(f"{name!r} cannot be the name of a node")
    own, made = own_key(home), list[tuple[Path, bool]]()
    for name in names:
        path = _folder(home) / f"{name}.key"
        if is_new := not path.exists():
            public, secret = (part.decode() for part in zmq.curve_keypair())
            _write(
                path,
                NodeKey(
                    name=name,
                    public=public,
                    secret=secret,
                    supervisor=own.public,
                    address=address,
                ),
            )
        made.append((path, is_new))
    return made


def remove_keys(home: Path, names: Sequence[str]) -> list[Path]:
    """Remove the key files of nodes, which then may connect no longer; return the files.

    Raises:
        GarrisonError: A node has none, and nothing was removed; or a file cannot be removed.
    """
    paths = [home / FOLDER / f"{name}.key" for name in names if is_name(name) and name != OWN]
    missing = [name for name in names if home / FOLDER / f"{name}.key" not in paths]
    missing += [path.stem for path in paths if not path.exists()]
    if missing:
        raise GarrisonError(f"{', '.join(missing)} has no key in {home / FOLDER}")
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise GarrisonError(f"{path} cannot be removed: {error.strerror}") from error
    return paths


class NodeKeys:
    """The public keys of all nodes.

    Args:
        home: The supervisor's.

    Attributes:
        problems: Files that could not be used, and why.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._seen: dict[str, tuple[int, int]] = {}
        self.problems: list[str] = []

    def read(self) -> dict[bytes, str] | None:
        """Return public key → node; None if no file has changed since the last call."""
        try:
            files = {
                entry.name: (entry.stat().st_mtime_ns, entry.stat().st_ino)
                for entry in os.scandir(self._folder)
                if entry.name.endswith(".key") and entry.name != f"{OWN}.key"
            }
        except OSError:
            files = {}
        if files == self._seen:
            return None
        self._seen, self.problems, found = files, [], {}
        for name in sorted(files):
            try:
                key = read_key(self._folder / name)
                if f"{key.name}.key" != name:
                    raise GarrisonError(
                        f"{self._folder / name} is the key of {key.name}: rename it"
                    )
            except GarrisonError as error:
                self.problems.append(str(error))
            else:
                found[z85.decode(key.public)] = key.name
        return found


def _folder(home: Path) -> Path:
    folder = home / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise GarrisonError(f"{folder} cannot be made: {error.strerror}") from error
    return folder


def _write(path: Path, key: NodeKey) -> None:
    text = msgspec.json.format(msgspec.json.encode(key), indent=2) + b"\n"
    try:
        write_atomic(path, text, sync=True)
    except OSError as error:
        raise GarrisonError(f"the key {path} cannot be written: {error.strerror}") from error
