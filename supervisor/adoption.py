"""What is on disk about the host: orders that outlive the supervisor, launchers of a former one.

Files are written whole to a temporary name, synced and renamed, and carry their format.
"""

import contextlib
import os
import socket
import time
from pathlib import Path

import msgspec

from garrison.ipc.messages import BAD_BYTES

from .launcher import Leave, encode

FORMAT = 1
ENDING_S = 10.0  # for a former supervisor's launcher to end what it has


class Saved(msgspec.Struct):
    """What is remembered from one supervisor to the next."""

    format: int = FORMAT
    stopped: list[str] = []  # NAMEs that `garrison stop` keeps from running
    started: list[str] = []  # NAMEs without autostart that `garrison start` keeps running


class Format(msgspec.Struct):
    """What every format says first."""

    format: int = FORMAT


def load(state: Path) -> tuple[Saved, str]:
    """Return what is remembered, and a problem in words where the file was no use."""
    file = state / "orders.json"
    try:
        content = file.read_bytes()
        number = msgspec.json.decode(content, type=Format).format
        if number > FORMAT:
            file.rename(file.with_suffix(".newer"))
            problem = f"{file} is of format {number}, and this version reads {FORMAT}"
            return Saved(), f"{problem}; it was set aside as orders.newer"
        return msgspec.json.decode(content, type=Saved), ""
    except FileNotFoundError:
        return Saved(), ""
    except (OSError, *BAD_BYTES) as error:
        with contextlib.suppress(OSError):
            file.rename(file.with_suffix(".damaged"))
        return Saved(), f"{file} cannot be read ({error}); it was set aside as orders.damaged"


def save(state: Path, saved: Saved) -> None:
    """Write down what is to be remembered."""
    file = state / "orders.json"
    temporary = file.with_suffix(".new")
    with temporary.open("wb") as out:
        out.write(msgspec.json.format(msgspec.json.encode(saved)))
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(file)


def end_former(run: Path) -> int:
    """End what a killed supervisor left running; return how many launchers there were.

    Two incarnations of a service must never live at once, so what is left goes before the first
    start. A launcher ends its workers' trees and then itself.
    """
    found = 0
    for path in sorted(run.glob("launcher-*.sock")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(path))
                connection.send(encode(Leave(kill=True)))
            except OSError:  # nobody there any more
                path.unlink(missing_ok=True)
                continue
            found += 1
            _until_closed(connection)
        path.unlink(missing_ok=True)
    return found


def _until_closed(connection: socket.socket) -> None:
    deadline = time.monotonic() + ENDING_S
    while time.monotonic() < deadline:
        try:
            if not connection.recv(65_536):
                return
        except TimeoutError:
            continue
        except OSError:
            return
