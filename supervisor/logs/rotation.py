"""Keeps log files small: what has grown large moves to `NAME.log.1`, what was there to `.2`, …

Services and what they start have their files open, and may be blocked, so the files are cut below
them. Sizes are bytes, times are seconds. A thread of its own does it, for a disk can block: a cut
waits until the last lines are on it. It touches files alone; what it has to tell is asked for.
"""

import contextlib
import ctypes
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

from .tail import rotated_path

LOOK_S = 0.1  # between looks at the sizes
HASTE_S = 0.01  # of a file that grows fast
FULL = 0.75  # of the largest size: the rest is for what is written until the next look
KEEP_BYTES = 64 * 1024  # that stay in the live file, where it can be cut at its beginning
COPY_S = 0.1  # between two moves of one file; a flood that is faster is dropped
RETRY_S = 5.0  # after a move that failed
TELL_S = 60.0  # between two words on one file
CHUNK_BYTES = 1 << 20
TOLD_MOST = 256
CLOSE_S = 2.0
FALLOC_FL_COLLAPSE_RANGE = 0x08  # linux/falloc.h

Told: TypeAlias = tuple[str, str, dict[str, Any]]  # an event, its service, its data


@dataclass(slots=True)
class _Log:
    """One live file."""

    size: int = 0  # when it was looked at last
    looked_at: float = 0.0
    moved_at: float = -inf
    retry_at: float = -inf
    problem: str = ""  # the last, while it lasts
    dropped: int = 0  # since that was told
    told_at: float = -inf


class Rotation:
    """Looks after the log files of a folder.

    Args:
        folder: Where they are.
        log_bytes: The largest size of one file.
        log_files: How many there are of one log at most, the live one among them.
    """

    def __init__(self, folder: Path, log_bytes: int, log_files: int) -> None:
        self._folder, self._most, self._files = folder, log_bytes, log_files
        self._keep = min(KEEP_BYTES, log_bytes // 8)
        self._logs: dict[str, _Log] = {}
        self._told: deque[Told] = deque(maxlen=TOLD_MOST)
        self._collapses: bool | None = None  # whether the file system can cut at the beginning
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # ready: there is news

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look once more, and end."""
        self._stop.set()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            os.close(self.wake)

    def news(self) -> Iterator[Told]:
        """Yield what there is to tell, each once."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)
        while self._told:
            yield self._told.popleft()

    def _tell(self, event: str, name: str, **data: Any) -> None:
        self._told.append((event, name.removesuffix(".log"), data))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.wake, 1)

    # --- looking ----------------------------------------------------------------------------

    def _run(self) -> None:
        for name in self._sizes():
            with contextlib.suppress(OSError):
                self._recover(name)
        wait = 0.0
        while not self._stop.wait(wait):
            wait = self.look()
        self.look()

    def look(self) -> float:
        """Move what is too large; return how long until the next look."""
        sizes = self._sizes()
        for name in self._logs.keys() - sizes.keys():
            del self._logs[name]
        return min((self._mind(name, size) for name, size in sizes.items()), default=LOOK_S)

    def _sizes(self) -> dict[str, int]:
        try:
            with os.scandir(self._folder) as entries:
                return {
                    entry.name: entry.stat().st_size
                    for entry in entries
                    if entry.name.endswith(".log") and entry.is_file(follow_symlinks=False)
                }
        except OSError:  # removed by somebody; the services go on writing into theirs
            return {}

    def _mind(self, name: str, size: int) -> float:
        """Look at one file; return how long until that is to be done again."""
        now = time.monotonic()
        log = self._logs.setdefault(name, _Log(size, now))
        grown, passed = size - log.size, now - log.looked_at
        full = int(self._most * FULL)
        if size >= full:
            size = self._shrink(name, log, size, now)
        log.size, log.looked_at = size, time.monotonic()
        if grown <= 0:
            return LOOK_S
        until_full = max(full - size, 0) * passed / grown
        return min(max(until_full, HASTE_S), LOOK_S)

    # --- moving -----------------------------------------------------------------------------

    def _shrink(self, name: str, log: _Log, size: int, now: float) -> int:
        """Move a file's content, or drop it where it comes too fast; return its size then."""
        may_move = now >= max(log.moved_at + COPY_S, log.retry_at)
        if not may_move and size < 2 * self._most:
            return size
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._folder / name, flags)
        except FileNotFoundError:  # removed by somebody
            return 0
        except OSError as error:
            self._failed(name, log, error)
            return size
        try:
            size = self._cut(descriptor, name, log, may_move)
        except OSError as error:
            self._failed(name, log, error)
        finally:
            os.close(descriptor)
        self._tell_dropped(name, log)
        return size

    def _cut(self, descriptor: int, name: str, log: _Log, may_move: bool) -> int:
        size = os.fstat(descriptor).st_size
        end = size
        if self._can_collapse():
            block = max(os.fstat(descriptor).st_blksize, 1)
            end = (size - self._keep) // block * block
        begin = max(end - self._most, 0) if may_move else end
        try:
            if may_move:
                end = self._copy(descriptor, name, begin, end)
        except OSError as error:  # no room, or no right to write there
            self._failed(name, log, error)
            with contextlib.suppress(OSError):
                rotated_path(self._folder / name, 0).unlink()
            if size < 2 * self._most:
                return size
            begin, may_move = end, False
        if self._collapses:
            self._collapse(descriptor, end)
        else:
            os.ftruncate(descriptor, 0)  # at once: what is written until then is lost
        if may_move:  # at once as well: what is in between is not to be seen by anyone
            self._publish(name)
            log.moved_at, log.problem = time.monotonic(), ""
        log.dropped += begin
        return os.fstat(descriptor).st_size

    def _copy(self, descriptor: int, name: str, begin: int, end: int) -> int:
        """Copy a part of a file beside it; return where it ends."""
        live = self._folder / name
        for number in range(self._files - 1, self._files + 100):  # also of a time with more files
            try:
                rotated_path(live, number).unlink()  # now, so that there are never more
            except FileNotFoundError:
                break
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        copy = os.open(rotated_path(live, 0), flags, 0o600)
        try:
            most = end if self._collapses else end + self._most  # else all that has come meanwhile
            while begin < most:
                chunk = min(most - begin, CHUNK_BYTES)
                sent = os.sendfile(copy, descriptor, begin, chunk)
                if not sent:
                    break
                begin += sent
        finally:
            os.close(copy)
        return begin

    def _publish(self, name: str) -> None:
        live = self._folder / name
        for number in range(self._files - 2, -1, -1):
            with contextlib.suppress(FileNotFoundError):
                rotated_path(live, number).rename(rotated_path(live, number + 1))

    def _recover(self, name: str) -> None:
        """Put a copy in its place that a killed supervisor made, if it cut the file as well."""
        live = self._folder / name
        copy = rotated_path(live, 0)
        if not copy.exists():
            return
        with live.open("rb") as now, copy.open("rb") as then:
            began = then.read(CHUNK_BYTES)
            uncut = now.read(len(began)) == began
        if uncut:
            copy.unlink()
        else:
            self._publish(name)

    def _can_collapse(self) -> bool:
        """Tell whether the file system cuts a file at its beginning: ext4 and xfs do."""
        if self._collapses is None:
            try:
                probe = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError:
                self._collapses = False
                return False
            try:
                block = max(os.fstat(probe).st_blksize, 1)
                os.write(probe, bytes(2 * block))
                self._collapse(probe, block)
                self._collapses = os.fstat(probe).st_size == block
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # that tells nothing: later
                    return False
                self._collapses = False
            finally:
                os.close(probe)
        return self._collapses

    def _collapse(self, descriptor: int, end: int) -> None:
        """Take the beginning out of a file, at once as those see it who append to it."""
        libc = ctypes.CDLL(None, use_errno=True)
        mode, zero = FALLOC_FL_COLLAPSE_RANGE, ctypes.c_int64(0)
        if end and libc.fallocate(descriptor, mode, zero, ctypes.c_int64(end)) != 0:
            code = ctypes.get_errno()
            if code in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                self._collapses = False  # from now on as everywhere else
            raise OSError(code, os.strerror(code))

    # --- telling ----------------------------------------------------------------------------

    def _failed(self, name: str, log: _Log, error: OSError) -> None:
        log.retry_at = time.monotonic() + RETRY_S
        problem = error.strerror or type(error).__name__
        if problem != log.problem:  # once, until it is over
            log.problem = problem
            self._tell("log.not_rotated", name, problem=problem)

    def _tell_dropped(self, name: str, log: _Log) -> None:
        now = time.monotonic()
        if log.dropped and now >= log.told_at + TELL_S:
            self._tell("log.dropped", name, bytes=log.dropped)
            log.dropped, log.told_at = 0, now
