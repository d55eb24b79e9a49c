"""Sends what workers append to their logs, and frees what was sent.

A worker has its log open and appends to it. So the file is never cut: what was sent is punched out
of it, which frees the blocks and moves nothing. Sizes are bytes.
"""

import contextlib
import ctypes
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

WINDOW = 256 * 1024  # that are on their way, of all logs
CHUNK = 32 * 1024
KEPT = 128 * 1024  # that stay in the file after they were sent: crash reports read the end of it
PUNCH = 1024 * 1024  # that are freed at once
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h

# Sends a log's name, what was appended, and how many bytes before that were dropped; returns the
# number of the message.
SendChunk = Callable[[str, bytes, int], int]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What is on its way."""

    number: int  # of the message
    size: int
    log: str
    inode: int
    end: int  # in the file


@dataclass(slots=True)
class _Log:
    path: Path
    inode: int = 0
    sent: int = 0  # up to where
    received: int = 0  # by the supervisor, up to where
    freed: int = 0  # up to where it is a hole
    dropped: int = 0  # bytes that are to be reported


class LogSpool:
    """The logs of a node's workers.

    Args:
        folder: Of the logs.
        send: Sends a chunk.
        sent: Log → inode, and up to where it was sent before.
        most: The largest number of bytes of one log that wait.
    """

    def __init__(
        self, folder: Path, send: SendChunk, sent: Mapping[str, tuple[int, int]], most: int
    ) -> None:
        self._folder, self._send, self.most = folder, send, most
        self._logs: dict[str, _Log] = {}
        self._before = dict(sent)
        self._under_way: deque[_Chunk] = deque()

    def add(self, log: str) -> None:
        """Send a log from now on; what is in its file and was sent before is not sent again."""
        if log in self._logs:
            return
        path = self._folder / f"{log}.log"
        inode, sent = self._before.get(log, (0, 0))
        self._logs[log] = _Log(path, inode, sent, sent)

    def positions(self) -> dict[str, tuple[int, int]]:
        """Return of each log its inode, and up to where the supervisor has it."""
        return {name: (log.inode, log.received) for name, log in self._logs.items()}

    def acknowledge(self, number: int) -> None:
        """Note that the supervisor has received the messages up to a number."""
        while self._under_way and self._under_way[0].number <= number:
            chunk = self._under_way.popleft()
            log = self._logs.get(chunk.log)
            if log is not None and log.inode == chunk.inode:
                log.received = chunk.end

    def send_again(self) -> None:
        """Send what is on its way again: another session has begun."""
        self._under_way.clear()
        for log in self._logs.values():
            log.sent = log.received

    def turn(self) -> bool:
        """Send what fits into the window; return whether anything was sent."""
        sent = False
        for name, log in self._logs.items():
            with contextlib.suppress(OSError):
                sent = self._read(name, log) or sent
        return sent

    def _read(self, name: str, log: _Log) -> bool:
        found = log.path.stat()
        if found.st_ino != log.inode:  # it was removed and made anew
            log.inode, log.sent, log.received, log.freed = found.st_ino, 0, 0, 0
        log.sent = min(log.sent, found.st_size)
        waiting = found.st_size - log.sent
        if waiting > self.most:
            log.dropped += waiting - self.most // 2
            log.sent = found.st_size - self.most // 2
        if not waiting or self._room() <= 0:
            self._free(log)
            return False
        with log.path.open("rb") as file:
            file.seek(log.sent)
            while (room := self._room()) > 0:
                data = file.read(min(CHUNK, room))
                if not data:
                    break
                number = self._send(name, data, log.dropped)
                log.sent, log.dropped = log.sent + len(data), 0
                chunk = _Chunk(number, len(data), name, log.inode, log.sent)
                self._under_way.append(chunk)
        self._free(log)
        return True

    def _room(self) -> int:
        return WINDOW - sum(chunk.size for chunk in self._under_way)

    def _free(self, log: _Log) -> None:
        end = log.received - KEPT
        if end - log.freed < PUNCH:
            return
        descriptor = os.open(log.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            libc = ctypes.CDLL(None)
            first, length = ctypes.c_int64(log.freed), ctypes.c_int64(end - log.freed)
            libc.fallocate(descriptor, KEEP_SIZE | PUNCH_HOLE, first, length)
            log.freed = end  # where the file system cannot do it, the file grows
        finally:
            os.close(descriptor)
