"""Small records in files of the data folder: written whole or not at all, readable by the owner.

These functions block: call them in a thread.
"""

import logging
import os
from pathlib import Path
from typing import TypeVar

import msgspec

log = logging.getLogger(__name__)

T = TypeVar("T")


def write_record(path: Path, record: msgspec.Struct) -> None:
    """Write a record; a process that is killed meanwhile leaves the former one."""
    written = path.with_name(f".{path.name}.new")
    file = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as there:
        there.write(msgspec.json.encode(record))
        there.flush()
        os.fsync(file)
    written.replace(path)


def read_record(path: Path, kind: type[T]) -> T | None:
    """Return a record; None if there is none, or it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("discord.record_unreadable file=%s error=%s", path, error)
        return None
