"""The command that reads logs for operators, who cannot open the files: logs. Sizes are bytes."""

import os
from pathlib import Path
from typing import Any

from garrison.ipc.log_files import rotated_path
from garrison.ipc.messages import Order, Token

from .base import Command, CommandContext, Refusal, command, matching, option

CHUNK_BYTES = 256 * 1024  # in one answer: reading must not hold up the loop
MARK_MOST = 256


@command(reads=True)
def logs(context: CommandContext, peer: Token, order: Order) -> Command:
    """Return the end of one service's log, or what was added to it.

    With `after`, the `end` of an earlier answer, and `mark`, the last bytes of its data, what
    follows these. The mark is searched for where the file was cut meanwhile.
    """
    names = matching(context, order)
    if len(names) != 1:
        raise Refusal("usage", f"logs: one service at a time, not {len(names)}")
    after, mark = option(order, "after", int, 0), option(order, "mark", bytes, b"")
    rotated = option(order, "rotated", int, 0)  # 0: the file that is written
    if len(mark) > MARK_MOST or not 0 <= rotated < 1000:
        raise Refusal("usage", f"logs: a mark has at most {MARK_MOST} bytes")
    path = context.host.logs / f"{names[0]}.log"
    try:
        return read_part(rotated_path(path, rotated) if rotated else path, after, mark)
    except OSError:  # it has written nothing yet, or the file was removed
        return {"data": b"", "end": 0, "gap": False}
    yield False


def read_part(path: Path, after: int, mark: bytes) -> dict[str, Any]:
    """Return the bytes of a file that follow a mark, and where they end.

    Args:
        path: The file.
        after: Where the mark ended.
        mark: The bytes before that; empty: return the file's end.

    Returns:
        `data`; `end`, a position; and `gap`, whether bytes between the mark and these are missing.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags)
    try:
        if mark and after >= len(mark):
            data = os.pread(fd, len(mark) + CHUNK_BYTES, after - len(mark))
            if data.startswith(mark):
                added = data[len(mark) :]
                return {"data": added, "end": after + len(added), "gap": False}
        begin = max(os.fstat(fd).st_size - CHUNK_BYTES, 0)
        tail = os.pread(fd, CHUNK_BYTES, begin)
    finally:
        os.close(fd)
    found = tail.rfind(mark) if mark else -1
    data = tail[found + len(mark) :] if found >= 0 else tail
    return {"data": data, "end": begin + len(tail), "gap": bool(mark) and found < 0}
