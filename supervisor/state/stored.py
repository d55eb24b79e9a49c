"""Reads state files, which carry their format; one that cannot be used is set aside."""

import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from garrison.ipc.messages import BAD_BYTES

FORMAT = 1

T = TypeVar("T", bound=msgspec.Struct)


class Format(msgspec.Struct):
    """The field that every state file has."""

    format: int = FORMAT


def read_stored(file: Path, kind: type[T], set_aside: bool = True) -> tuple[T | None, str]:
    """Return the content of a state file, or a problem in words if it cannot be used.

    Args:
        file: The file; that it is absent is no problem.
        kind: What it contains.
        set_aside: Whether to rename a file that cannot be used.
    """
    try:
        content = read_own(file)
        number = msgspec.json.decode(content, type=Format).format
        if number > FORMAT:
            problem = f"{file} is of format {number}, and this version reads {FORMAT}"
            return None, problem + (_set_aside(file, "newer") if set_aside else "")
        return msgspec.json.decode(content, type=kind), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, *BAD_BYTES) as error:
        problem = f"{file} cannot be read ({error})"
        return None, problem + (_set_aside(file, "damaged") if set_aside else "")


def read_own(file: Path) -> bytes:
    """Return the content of a file of this user; a link is not followed.

    Raises:
        OSError: It cannot be read, or it belongs to another user.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(file, flags), "rb") as opened:
        found = os.fstat(opened.fileno())
        if found.st_uid not in {os.geteuid(), 0}:
            raise PermissionError(f"it belongs to uid {found.st_uid}")
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file")
        return opened.read()


def _set_aside(file: Path, suffix: str) -> str:
    """Rename a file so that an operator can look at it; return that in words."""
    try:
        file.rename(file.with_suffix(f".{suffix}"))
    except OSError as error:
        return f"; nor can it be set aside ({error.strerror})"
    return f"; it was set aside as {file.stem}.{suffix}"
