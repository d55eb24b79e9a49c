"""Rotates log files by size: a large one moves to `NAME.log.1`, that to `NAME.log.2`, and so on.

It also reports a file that another program has removed or renamed, once its writer has a new one.

Services and their child processes keep their files open, and may be blocked, so a file is cut while
they write to it. A thread does the work, because a disk can block: cutting waits until the last
lines are written. Sizes are bytes, times are seconds.
"""

import contextlib
import ctypes
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Container, Iterator
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from garrison.ipc.log_files import rotated_path
from garrison.ipc.system.folder_watch import FolderWatch

LOOK_S = 0.1  # between two checks of the sizes, while a file grows
IDLE_S = 1.0  # the same, while none does
HASTE_S = 0.01  # the same, for a file that grows fast
FULL = 0.75  # of the largest size; the rest is for what is written until the next check
KEEP_BYTES = 64 * 1024  # that stay in the live file, if it can be cut at its beginning
COPY_S = 0.1  # between two moves of one file; what comes faster is dropped
RETRY_S = 5.0  # after a failed move
REPORT_S = 60.0  # between two reports of dropped bytes of one file
MISSING_S = 5.0  # for a writer whose file was removed or renamed to open it anew
CHUNK_BYTES = 1 << 20
PENDING_MOST = 256
NAMES_MOST = 10_000  # whose inodes are remembered
CLOSE_S = 2.0
FALLOC_FL_COLLAPSE_RANGE = 0x08  # linux/falloc.h

LogEvent: TypeAlias = tuple[str, str, dict[str, Any]]  # event name, service, data


class _Log(msgspec.Struct):
    """One live file."""

    size: int = 0  # at the last check
    checked_at: float = 0.0
    moved_at: float = -inf
    retry_at: float = -inf
    problem: str = ""  # the last one, until it is solved
    dropped: int = 0  # bytes since the last report
    reported_at: float = -inf


class Rotation:
    """Rotates the log files of a folder.

    Args:
        folder: The folder of the log files.
        log_bytes: The largest size of one file.
        log_files: The largest number of files of one log, with the live one.
    """

    def __init__(self, folder: Path, log_bytes: int, log_files: int) -> None:
        self._folder, self._most, self._files = folder, log_bytes, log_files
        self._keep = min(KEEP_BYTES, log_bytes // 8)
        self._logs: dict[str, _Log] = {}
        self._inodes: dict[str, int] = {}  # of live files, also of those that are missing now
        self._missing: dict[str, float] = {}  # since when; inf: that was reported
        self._pending: deque[LogEvent] = deque(maxlen=PENDING_MOST)
        self._collapses: bool | None = None  # the file system can cut at the beginning
        self._stop, self._watch = threading.Event(), FolderWatch(folder)
        self._grows = True  # a file has grown since the check before the last one
        self._thread = threading.Thread(target=self._run, name="rotation", daemon=True)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # readable: there are events

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def look_at_once(self) -> None:
        """Check now, without waiting for the time of the next check."""
        self._watch.wake()

    def close(self) -> None:
        """Check once more, and stop."""
        self._stop.set()
        self._watch.wake()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            os.close(self.wake)
            self._watch.close()

    def events(self) -> Iterator[LogEvent]:
        """Yield each event once."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake)
        while self._pending:
            yield self._pending.popleft()

    def _report(self, event: str, name: str, **data: Any) -> None:
        self._pending.append((event, name.removesuffix(".log"), data))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self.wake, 1)

    # --- checking ----------------------------------------------------------------------------

    def _run(self) -> None:
        for name in self._live():
            with contextlib.suppress(OSError):
                self._recover(name)
        wait = 0.0
        while not self._stop.is_set():
            self._pause(wait)
            wait = self.check()
        self.check()

    def _pause(self, seconds: float) -> None:
        """Wait until the next check; while no file grows, until one is written."""
        if self._grows:
            self._watch.sleep(seconds)
        elif self._watch.wait(seconds, IDLE_S):
            self._watch.sleep(LOOK_S)

    def check(self) -> float:
        """Rotate the files that are too large; return the time until the next check."""
        files = self._live()
        for name in self._logs.keys() - files.keys():
            del self._logs[name]
        if len(self._inodes) > NAMES_MOST:
            self._inodes, self._missing = {}, {}
        for name, found in files.items():
            former = self._inodes.get(name)
            if former not in {None, found.st_ino}:
                self._logs.pop(name, None)
                self._report("log.reopened", name)
            self._inodes[name] = found.st_ino
            self._missing.pop(name, None)
        self._report_missing(files)
        self._grows = False
        waits = (self._check(name, found.st_size) for name, found in files.items())
        return min(waits, default=LOOK_S)

    def _report_missing(self, files: Container[str]) -> None:
        """Report a file that its writer could not open anew, as one with a user of its own."""
        now = time.monotonic()
        for name in self._inodes:
            if name not in files and now >= self._missing.setdefault(name, now) + MISSING_S:
                self._missing[name] = inf
                service = name.removesuffix(".log")
                self._report("log.missing", name, remedy=f"if it runs: garrison restart {service}")

    def _live(self) -> dict[str, os.stat_result]:
        try:
            with os.scandir(self._folder) as entries:
                return {
                    entry.name: entry.stat()
                    for entry in entries
                    if entry.name.endswith(".log") and entry.is_file(follow_symlinks=False)
                }
        except OSError:  # the folder was removed; services still have their files open
            return {}

    def _check(self, name: str, size: int) -> float:
        """Check one file; return the time until its next check."""
        now = time.monotonic()
        log = self._logs.setdefault(name, _Log(size, now))
        grown, passed = size - log.size, now - log.checked_at
        full = int(self._most * FULL)
        if size >= full:
            size = self._shrink(name, log, size, now)
        log.size, log.checked_at = size, time.monotonic()
        if grown <= 0:
            return LOOK_S
        self._grows = True
        until_full = max(full - size, 0) * passed / grown
        return min(max(until_full, HASTE_S), LOOK_S)

    # --- moving -----------------------------------------------------------------------------

    def _shrink(self, name: str, log: _Log, size: int, now: float) -> int:
        """Move a file's content, or drop it if it grows too fast; return the new size."""
        may_move = now >= max(log.moved_at + COPY_S, log.retry_at)
        if not may_move and size < 2 * self._most:
            return size
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._folder / name, flags)
        except FileNotFoundError:  # removed meanwhile
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
        self._report_dropped(name, log)
        return size

    def _cut(self, descriptor: int, name: str, log: _Log, may_move: bool) -> int:
        size = os.fstat(descriptor).st_size
        end = size
        if self._can_collapse():
            block = max(os.fstat(descriptor).st_blksize, 1)
            end = (size - self._keep) // block * block
        begin = end
        if may_move and end <= self._most:
            begin = 0
        elif may_move:  # before a truncation, with room for what is written during the copy
            begin = end - self._most + (0 if self._collapses else self._keep)
        try:
            if may_move:
                end = self._copy(descriptor, name, begin, end)
        except OSError as error:  # no room, or no permission
            self._failed(name, log, error)
            with contextlib.suppress(OSError):
                rotated_path(self._folder / name, 0).unlink()
            if size < 2 * self._most:
                return size
            begin, may_move = end, False
        if self._collapses:
            self._collapse(descriptor, end)
        else:
            # Lines written since the copy ended are lost.
            log.dropped += max(os.fstat(descriptor).st_size - end, 0)
            os.ftruncate(descriptor, 0)
        if may_move:  # without delay: until then a reader misses the moved lines
            self._publish(name)
            log.moved_at, log.problem = time.monotonic(), ""
        log.dropped += begin
        return os.fstat(descriptor).st_size

    def _copy(self, descriptor: int, name: str, begin: int, end: int) -> int:
        """Copy a part of a file to the file beside it; return the end of that part."""
        live = self._folder / name
        for number in range(self._files - 1, self._files + 100):  # also those of a larger log_files
            try:
                rotated_path(live, number).unlink()  # before the copy, so that there are never more
            except FileNotFoundError:
                break
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        copy = os.open(rotated_path(live, 0), flags, 0o600)
        try:
            # A truncation would lose what is written meanwhile, so copy that too, up to the size
            # of a file: a service may write as fast as it is copied.
            until = end if self._collapses else begin + self._most
            while begin < until:
                chunk = min(until - begin, CHUNK_BYTES)
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
        """Keep the copy that a killed supervisor made if it cut the file too; else remove it."""
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
        """Return True if the file system can cut a file at its beginning, as ext4 and xfs can."""
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
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # no answer: try again later
                    return False
                self._collapses = False
            finally:
                os.close(probe)
        return self._collapses

    def _collapse(self, descriptor: int, end: int) -> None:
        """Remove the beginning of a file, in one step for the processes that append to it."""
        libc = ctypes.CDLL(None, use_errno=True)
        mode, zero = FALLOC_FL_COLLAPSE_RANGE, ctypes.c_int64(0)
        if end and libc.fallocate(descriptor, mode, zero, ctypes.c_int64(end)) != 0:
            code = ctypes.get_errno()
            if code in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                self._collapses = False  # from now on, files are truncated
            raise OSError(code, os.strerror(code))

    # --- reporting ----------------------------------------------------------------------------

    def _failed(self, name: str, log: _Log, error: OSError) -> None:
        log.retry_at = time.monotonic() + RETRY_S
        problem = error.strerror or type(error).__name__
        if problem != log.problem:  # report it once, until it is solved
            log.problem = problem
            self._report("log.not_rotated", name, problem=problem)

    def _report_dropped(self, name: str, log: _Log) -> None:
        now = time.monotonic()
        if log.dropped and now >= log.reported_at + REPORT_S:
            self._report("log.dropped", name, bytes=log.dropped)
            log.dropped, log.reported_at = 0, now
