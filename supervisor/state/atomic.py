"""Writes files completely or not at all."""

import os
from pathlib import Path

NEW = ".new"  # suffix while writing; such a file is left by a process that was killed


def write_atomic(file: Path, content: bytes, sync: bool = False) -> None:
    """Write a file with mode 0600; it replaces a former one.

    Args:
        file: Its path.
        content: Its content.
        sync: Whether it must survive a power cut.

    Raises:
        OSError: It cannot be written; a former file is unchanged.
    """
    temporary = file.with_suffix(NEW)
    temporary.unlink(missing_ok=True)  # of a process that was killed, or a link
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            if sync:
                out.flush()
                os.fsync(descriptor)
        temporary.rename(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
