"""Which file a path or a descriptor leads to: its device and inode."""

import os
from typing import TypeAlias

FileId: TypeAlias = tuple[int, int]  # device and inode
NO_FILE: FileId = (0, 0)


def file_id(found: os.stat_result) -> FileId:
    """Return the identity of a file that was looked at."""
    return found.st_dev, found.st_ino


def file_at(path: str | os.PathLike[str]) -> FileId:
    """Return the identity of what lies at a path, a link itself included; NO_FILE if nothing."""
    try:
        return file_id(os.lstat(path))
    except OSError:
        return NO_FILE
