"""In which order a file forgets persons: rows are deleted, then overwritten, then that is noted."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from ..runtime import Runtime
from . import erasing

log = logging.getLogger(__name__)

T = TypeVar("T")


class Execute(Protocol):
    """Runs an operation on a file; the future has its result once it is written."""

    def __call__(self, operation: Callable[[sqlite3.Cursor], T], /) -> asyncio.Future[T]: ...


async def overwrite(execute: Execute, path: Path) -> None:
    """Write a file again without what was deleted from it.

    Raises:
        NotOverwritten: The disk is full.
    """
    problem = await execute(erasing.sweep)
    if problem:
        raise erasing.NotOverwritten(path, problem)


async def forget_again(
    runtime: Runtime,
    execute: Execute,
    path: Path,
    erase: Callable[[], Awaitable[dict[str, int]]],
) -> None:
    """Erase whom a restored file brought back; nothing if it was looked through since.

    Args:
        runtime: The service's.
        execute: Runs an operation on the file.
        path: The file.
        erase: Deletes the rows of all who were forgotten, and returns how many, by kind.

    Raises:
        NotOverwritten: The disk is full.
    """
    mark = runtime.tombstones.mark
    if await execute(erasing.applied_mark) == mark:
        return
    runtime.extend(erasing.START_S, "it erases again who was forgotten")
    counts = await erase()
    if any(counts.values()):
        log.warning("person.forgotten_again %s", counts)
    await overwrite(execute, path)  # a process may have been killed before it did
    await execute(partial(erasing.set_applied, mark=mark))
