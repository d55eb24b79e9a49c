"""What an ended worker leaves for its crash report: its flight recorder and its part of a log."""

import contextlib
import re
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import TypeAlias

import msgspec

from garrison.ipc import batches_read, flight_record, flight_recorder
from garrison.ipc.log_files import rotated_path

from .engine import FlightRecord, Key, LogTail

TAIL_BYTES = 64 * 1024  # of a log, read for its last lines
STACK_BYTES = 128 * 1024  # of a log, read for the stacks
GONE_MOST = 1000  # gone workers whose files are not requested yet; the oldest are discarded
LINES_LEAST = 50  # with fewer lines in a log, the rotated one is read too
FATAL = re.compile(r"^Fatal Python error: ", re.MULTILINE)  # as faulthandler begins
THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+", re.MULTILINE)

Position: TypeAlias = tuple[int, int]  # in a log: inode and offset


def flight_path(run: Path, name: str, key: Key) -> Path:
    """Return the path of a worker's flight recorder."""
    return run / f"{name}.{key.hex()}{flight_recorder.SUFFIX}"


class _Worker(msgspec.Struct, eq=False):
    flight: Path
    log: "LogSection"


class PostMortem:
    """The post-mortem files of all workers.

    Args:
        run: The folder of flight recorders.
        logs: The folder of logs.
    """

    def __init__(self, run: Path, logs: Path) -> None:
        self._run, self._logs = run, logs
        self._workers: dict[Key, _Worker] = {}
        self._gone: dict[Key, None] = {}  # those of them that are gone, oldest first
        self._requested: deque[Key] = deque()

    @property
    def busy(self) -> bool:
        """Return whether a request waits for `read_next`."""
        return bool(self._requested)

    def start(self, key: Key, name: str, log: str) -> Position:
        """Note where a worker's part of a log begins, before it is forked; return that."""
        path = self._logs / f"{log}.log"
        began = inode_and_size(path)
        self._workers[key] = _Worker(flight_path(self._run, name, key), LogSection(path, began))
        return began

    def resume(self, key: Key, name: str, began: Position | None) -> None:
        """Note a worker that another supervisor started."""
        section = LogSection(self._logs / f"{name}.log", began)
        self._workers[key] = _Worker(flight_path(self._run, name, key), section)

    def dump(self, key: Key, is_last: bool = True) -> Path | None:
        """Return a worker's log, and note that its last stacks begin here."""
        worker = self._workers.get(key)
        if worker is None:
            return None
        return worker.log.mark_dump() if is_last else worker.log.path

    def batches_read(self, key: Key) -> dict[Key, int] | None:
        """Return how many batches an ended worker had read, by sender; None: unknown."""
        worker = self._workers.get(key)
        return batches_read.read(worker.flight) if worker is not None else None

    def gone(self, key: Key) -> None:
        """Note that a worker writes no more to its log."""
        worker = self._workers.get(key)
        if worker is None:
            return
        worker.log.end()
        self._gone[key] = None
        if len(self._gone) > GONE_MOST:
            self.discard(next(iter(self._gone)))

    def request(self, key: Key) -> None:
        """Have `read_next` read a worker's files."""
        self._requested.append(key)

    def read_next(self) -> list[FlightRecord | LogTail]:
        """Read the files of the next worker in the queue, and remove its flight recorder."""
        if not self._requested:
            return []
        key = self._requested.popleft()
        worker = self._workers.get(key)
        if worker is None:  # it was never forked
            nothing = flight_record.RecordedCalls(problem="no messages were recorded")
            return [FlightRecord(key, nothing), LogTail(key, "", "")]
        log, stacks = worker.log.read()
        calls = flight_recorder.read(worker.flight)
        complete = worker.log.began is not None
        self.discard(key)
        return [FlightRecord(key, calls), LogTail(key, log, stacks, complete)]

    def discard(self, key: Key) -> None:
        """Remove a worker's flight recorder."""
        worker = self._workers.pop(key, None)
        self._gone.pop(key, None)
        if worker is not None:
            with contextlib.suppress(OSError):
                worker.flight.unlink(missing_ok=True)

    def sweep(self, keep: Collection[Key] = ()) -> None:
        """Remove all flight recorders but those of these workers."""
        kept = {key.hex() for key in keep}
        for path in self._run.glob(f"*{flight_recorder.SUFFIX}"):
            if path.name.removesuffix(flight_recorder.SUFFIX).rpartition(".")[2] not in kept:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


class LogSection:
    """The part of a log that one worker wrote; the log may be rotated meanwhile.

    Args:
        path: The log.
        began: The log's inode and size when the worker started; None if unknown.
    """

    def __init__(self, path: Path, began: Position | None) -> None:
        self.path = path
        self.began = began
        self._inode, self._first = began or (0, 0)
        self._dump: Position | None = None
        self._last: Position = (0, 0)

    def mark_dump(self) -> Path:
        """Note that the stacks begin here; return the log."""
        if self._dump is None:
            self._dump = inode_and_size(self.path)
        return self.path

    def end(self) -> None:
        """Note that the worker's part ends here."""
        self._last = inode_and_size(self.path)

    def read(self) -> tuple[str, str]:
        """Return the end of the part without stacks, and the stacks; empty if nothing is left."""
        inode, last = self._last
        path = self._find(inode, last)
        if path is None:
            return "", ""
        same = inode == self._inode and self._first <= last
        first = self._first if same else 0  # rotated: the whole file is this worker's
        dump: int | None = None
        if self._dump is not None:
            dump_inode, dump = self._dump
            if dump_inode != inode or not first <= dump <= last:
                dump = first
        start = max((last if dump is None else dump) - TAIL_BYTES, first)
        log = _read_between(path, start, last if dump is None else dump)
        if start > first:
            log = log.partition("\n")[2] or log  # begin with a whole line
        if dump is not None:
            return log, _read_between(path, dump, min(last, dump + STACK_BYTES))
        log, stacks = split_stacks(log)
        if not same and log.count("\n") < LINES_LEAST:
            log = self._rotated() + log
        return log, stacks

    def _rotated(self) -> str:
        """Return the end of the part that was rotated away."""
        old = rotated_path(self.path, 1)
        inode, size = inode_and_size(old)
        if not inode:
            return ""
        own = self._first if inode == self._inode and self._first <= size else 0
        return _read_between(old, max(size - TAIL_BYTES, own), size)

    def _find(self, inode: int, last: int) -> Path | None:
        for path in (self.path, rotated_path(self.path, 1)):
            now, size = inode_and_size(path)
            if now and now == inode and size >= last:
                return path
        rotated = rotated_path(self.path, 1)
        inode, size = inode_and_size(rotated)  # rotated by copy and truncate: the copy has it
        return rotated if inode and size >= last else None


def split_stacks(log: str) -> tuple[str, str]:
    """Return a log without the stacks that `faulthandler` wrote at its end, and the stacks."""
    places = [found.start() for found in FATAL.finditer(log)]
    if not places or not THREAD.search(log, places[-1]):
        return log, ""
    return log[: places[-1]], log[places[-1] :]


def inode_and_size(path: Path) -> Position:
    """Return a file's inode and size; zeros if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_size)


def _read_between(path: Path, first: int, last: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(first)
            return file.read(max(last - first, 0)).decode("utf-8", "replace")
    except OSError:
        return ""
