"""Writes files that are there as a whole or not at all."""

import os
from pathlib import Path

NEW = ".new"  # of what is being written; such a file is of a process that was killed


def write_atomic(file: Path, content: bytes, sync: bool = False) -> None:
    """Put a file, its user's alone, in the place of whatever was there.

    Args:
        file: Where.
        content: What is in it.
        sync: Whether it is to outlast a power cut, too.

    Raises:
        OSError: It cannot be written; what was there still is.
    """
    temporary = file.with_suffix(NEW)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
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
