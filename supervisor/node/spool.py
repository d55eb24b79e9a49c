"""Sends what workers append to their logs, and frees what was sent.

A worker has its log open and appends to it. What was sent is punched out of the file, which frees
the blocks and moves nothing. Where the file system cannot do that, the file is emptied once all was
received. Sizes are bytes.
"""

import contextlib
import ctypes
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.supervisor.processes.node_protocol import LogChunk

WINDOW = 256 * 1024  # that are on their way, of all logs
CHUNK = 32 * 1024
KEPT = 128 * 1024  # that stay in the file after they were sent: crash reports read the end of it
PUNCH = 1024 * 1024  # that are freed at once
LARGE = 3  # times `most`, above which a file without holes is emptied whatever is not received yet
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h

SendChunk = Callable[[LogChunk], int]  # returns the number of the message


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What is on its way."""

    number: int  # of the message
    size: int
    log: str
    file: tuple[int, int]
    end: int  # in the file


@dataclass(slots=True)
class _Log:
    path: Path
    inode: int = 0
    before: int = 0  # files of this log that were before this one
    sent: int = 0  # up to where
    received: int = 0  # by the supervisor, up to where
    freed: int = 0  # up to where it is a hole
    dropped: int = 0  # bytes that are to be reported

    @property
    def file(self) -> tuple[int, int]:
        """Return what tells this file from those before it."""
        return self.inode, self.before

    def begin_anew(self, inode: int) -> None:
        """Note that there is another file, or that this one was emptied."""
        self.inode, self.before = inode, self.before + 1
        self.sent = self.received = self.freed = 0


class LogSpool:
    """The logs of a node's workers.

    Args:
        folder: Of the logs.
        send: Sends a chunk.
        sent: Log → inode, and up to where it was sent before.
        files: Log → how many files it had before that one.
        most: The largest number of bytes of one log that wait.
    """

    def __init__(
        self,
        folder: Path,
        send: SendChunk,
        sent: Mapping[str, tuple[int, int]],
        files: Mapping[str, int],
        most: int,
    ) -> None:
        self._folder, self._send, self.most = folder, send, most
        self._logs: dict[str, _Log] = {}
        self._before, self._files = dict(sent), dict(files)
        self._punches = True  # the file system can make holes, as far as is known
        self._under_way: deque[_Chunk] = deque()

    def add(self, log: str) -> None:
        """Send a log from now on; what is in its file and was sent before is not sent again."""
        if log in self._logs:
            return
        path = self._folder / f"{log}.log"
        inode, sent = self._before.get(log, (0, 0))
        self._logs[log] = _Log(path, inode, self._files.get(log, 0), sent, sent)

    def positions(self) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
        """Return of each log its inode, up to where the supervisor has it, and its former files."""
        sent = {name: (log.inode, log.received) for name, log in self._logs.items()}
        return {**self._before, **sent}, {
            **self._files,
            **{name: log.before for name, log in self._logs.items()},
        }

    def acknowledge(self, number: int) -> None:
        """Note that the supervisor has received the messages up to a number."""
        while self._under_way and self._under_way[0].number <= number:
            chunk = self._under_way.popleft()
            log = self._logs.get(chunk.log)
            if log is not None and log.file == chunk.file:
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
        if found.st_ino != log.inode or found.st_size < log.sent:  # made anew, or emptied
            log.begin_anew(found.st_ino)
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
                chunk = LogChunk(name, data, log.dropped, log.file, log.sent)
                number = self._send(chunk)
                log.sent, log.dropped = log.sent + len(data), 0
                self._under_way.append(_Chunk(number, len(data), name, log.file, log.sent))
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
            if self._punches and self._punch(descriptor, log.freed, end):
                log.freed = end
            else:
                self._empty(descriptor, log)
        finally:
            os.close(descriptor)

    def _punch(self, descriptor: int, begin: int, end: int) -> bool:
        """Free a part of a file; return False if the file system cannot do it."""
        first, length = ctypes.c_int64(begin), ctypes.c_int64(end - begin)
        libc = ctypes.CDLL(None)
        self._punches = libc.fallocate(descriptor, KEEP_SIZE | PUNCH_HOLE, first, length) == 0
        return self._punches

    def _empty(self, descriptor: int, log: _Log) -> None:
        """Empty a large file whose content was received; one that grows faster, in any case."""
        found = os.fstat(descriptor)
        if found.st_ino != log.inode or found.st_size < self.most:
            return
        if log.received < found.st_size < LARGE * self.most:
            return
        log.dropped += found.st_size - log.sent
        os.ftruncate(descriptor, 0)  # lines of this very moment are lost
        log.begin_anew(found.st_ino)
