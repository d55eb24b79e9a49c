"""Makes and keeps the records of deaths: `state/deaths/ID.json`, bounded in number and size.

What the next incarnation would overwrite is taken at once; the rest is read and written a moment
later, when the restart is under way. Every record is one file, which is the whole truth: verbs read
it without a supervisor, too.
"""

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import flight_recorder
from garrison.ipc.errors import GarrisonError, StartError
from garrison.ipc.messages import BAD_BYTES, Token
from garrison.ipc.redaction import Redactor
from garrison.ipc.system import process_tree
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.spec import HostSpec, ServiceSpec
from garrison.supervisor.lifecycle.policy import Event as Happening
from garrison.supervisor.lifecycle.policy import StopReason
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.logs.events import Event, EventLog
from garrison.supervisor.logs.tail import rotated_path
from garrison.supervisor.state.atomic import NEW, write_atomic
from garrison.supervisor.state.home import make_private
from garrison.supervisor.tasks import Steps

from .report import (
    BEFORE,
    FORMAT,
    RECORD_BYTES,
    CrashReport,
    CrashSummary,
    ExitContext,
    Redact,
    cause_of,
    compose,
    encoded,
    is_crash,
    kind_of,
    split_stacks,
)

KEPT, KEPT_A_SERVICE = 200, 20  # records; the oldest give way
WAITING = 200  # ends that are not written down yet; further ones are only counted
REST_S = 0.05  # after an end: the restart comes first
TAIL_BYTES = 64 * 1024  # of a log, read for its last lines
STACK_BYTES = 128 * 1024  # of a log, read for the stacks
TOKENS = 1000  # former incarnations whose NAMEs are remembered

NUMBERED = re.compile(r"(.+)-(\d{1,15})\.json")


class CrashStore:
    """The records on disk.

    Args:
        folder: Where they are, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[int, str] = {}  # number → NAME, oldest first
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):  # noqa: PTH208
                if found := NUMBERED.fullmatch(name):
                    self._known[int(found[2])] = found[1]
                elif name.endswith(NEW):
                    (folder / name).unlink(missing_ok=True)  # of a supervisor that was killed
        self._known = dict(sorted(self._known.items()))
        self._last = max(self._known, default=0)

    def next_number(self) -> int:
        """Return a number that no record has, nor had: the newest is never pruned."""
        self._last += 1
        return self._last

    def write(self, death: CrashReport) -> None:
        """Write a record down, and let the oldest go that are beyond the bounds.

        Raises:
            OSError, GarrisonError: It cannot be written.
        """
        if not self._known:
            make_private(self.folder)
        write_atomic(self.folder / f"{death.id}.json", encoded(death))
        self._known[death.n] = death.service
        self._prune(death.service)

    def _prune(self, service: str) -> None:
        own = [n for n, name in self._known.items() if name == service]
        beyond = own[:-KEPT_A_SERVICE]
        rest = [n for n in self._known if n not in set(beyond)]
        for n in [*beyond, *rest[:-KEPT]]:
            (self.folder / f"{self._known.pop(n)}-{n}.json").unlink(missing_ok=True)

    def ids(self, services: Collection[str] = ()) -> list[str]:
        """Return the ids of records, oldest first; of these services, or of all."""
        return [
            f"{name}-{n}" for n, name in self._known.items() if not services or name in services
        ]

    def lines(self, ids: Iterable[str]) -> list[CrashSummary]:
        """Return these deaths in a line each; one whose file is damaged or newer is left out."""
        found = (self._read(death_id, CrashSummary) for death_id in ids)
        return [line for line in found if line is not None]

    def read(self, death_id: str) -> CrashReport | None:
        """Return a whole record; None where its file is damaged, or not there."""
        death: CrashReport | None = self._read(death_id, CrashReport)
        return death

    def _read(self, death_id: str, form: Any) -> Any:
        with contextlib.suppress(OSError, *BAD_BYTES):
            with (self.folder / f"{death_id}.json").open("rb") as file:
                data = file.read(2 * RECORD_BYTES)
            read = msgspec.json.decode(data, type=form)
            return read if read.format <= FORMAT else None
        return None


class CrashRecorder:
    """Why services of this host died.

    Args:
        host: The settings of the host.
        environ: The environment that secrets are taken from.
        log: Where events are recorded.
        services: The services.
        add_task: Starts a background task.
        wake: Has the next turn of the loop not wait.
        report_error: Called with an error of this program.
    """

    def __init__(
        self,
        host: HostSpec,
        environ: Mapping[str, str],
        log: EventLog,
        services: ServiceTable,
        add_task: Callable[[Steps], None],
        wake: Callable[[], None],
        report_error: Callable[[str, Exception], None],
    ) -> None:
        self._host, self._environ, self._log, self._services = host, environ, log, services
        self._add_task, self._wake, self._report_error = add_task, wake, report_error
        self.store = CrashStore(host.state / "deaths")
        self._secrets: dict[str, dict[str, str]] = {}  # NAME → what its worker was given
        self._waiting: deque[tuple[ExitContext, Path, LogSection, float]] = deque()
        self._names: dict[str, str] = {}  # tokens in hexadecimal digits → NAMEs
        self._logs: dict[Token, LogSection] = {}

    # --- an incarnation's life --------------------------------------------------------------

    def flight(self, post: Service) -> Path:
        """Return where an incarnation's flight recorder is."""
        file = f"{post.name}.{post.current.token.hex()}{flight_recorder.SUFFIX}"
        return self._host.run / file

    def log_path(self, name: str) -> Path:
        """Return where a service's log is."""
        return self._host.logs / f"{name}.log"

    def begun(self, post: Service) -> tuple[int, int]:
        """Return where an incarnation's log begins; before its process is ordered."""
        self._names[post.current.token.hex()] = post.name
        if len(self._names) > TOKENS:
            del self._names[next(iter(self._names))]
        path = self.log_path(post.name)
        log_began = inode_and_size(path)
        self._logs[post.current.token] = LogSection(path, log_began)
        return log_began

    def dumping(self, post: Service) -> bool:
        """Note where in its log the stacks begin, before they are ordered.

        Returns True if its process is stopped (SIGSTOP).
        """
        self._log_of(post).mark()
        return process_tree.stopped(post.current.pid)

    def _log_of(self, post: Service) -> "LogSection":
        part = self._logs.get(post.current.token)
        if part is None:  # it began under another supervisor
            path = self._host.logs / f"{post.name}.log"
            part = self._logs[post.current.token] = LogSection(path, post.current.log_began)
        return part

    def gone(self, post: Service, event: Happening, left: tuple[int, ...]) -> ExitContext | None:
        """Take down what the next incarnation overwrites, where nobody asked for this end.

        Called before the policy is told; `decided` comes after. What a process that ended in order
        leaves behind is removed. Raises nothing: the restart does not depend on it.
        """
        try:
            return self._taken(post, event, left)
        except Exception as error:  # noqa: BLE001 (see above)
            self._report_error(f"the death of {post.name}", error)
            return None

    def _taken(self, post: Service, event: Happening, left: tuple[int, ...]) -> ExitContext | None:
        part = self._log_of(post)
        del self._logs[post.current.token]
        asked = not is_crash(post.child, event, post.current.stopped)
        if asked or len(self._waiting) >= WAITING:
            if not asked:
                self._log.record("death.unrecorded", post.name, waiting=WAITING)
            self.flight(post).unlink(missing_ok=True)
            return None
        at, mono = post.last_exit_at or time.time(), time.monotonic()
        n = self.store.next_number()
        before, status = post.child, post.current.status
        lost = post.current.adopting and (status is None or post.adoption_timed_out)
        kind = (
            "lost"
            if lost
            else kind_of(
                before, post.current.failing, post.current.stopped, status, post.current.oom
            )
        )
        cause = cause_of(kind, post.cause(post.last_exit))
        end = ExitContext(
            id=f"{post.name}-{n}",
            n=n,
            at=at,
            before=before,
            after=before,
            service_type=post.spec.service_type,
            kind=kind,
            cause=cause,
            exit=post.last_exit,
            status=status,
            pid=post.current.pid,
            began=at - (mono - post.current.started_at) if post.current.started_at else 0.0,
            broken=post.current.failing,
            used=post.current.used,
            beat_age_s=mono - post.current.beat_at if post.current.beat_at else None,
            left=left,
            seen=self._log.count,
            log_file=str(self._host.logs / f"{post.name}.log"),
            ready=post.current.ready and post.child.why is not StopReason.START_TIMEOUT,
        )
        part.end()
        if post.current.log_began is None:
            end.problems.append("where its log begins: lines may be of the process before")
        self._waiting.append((end, self.flight(post), part, mono + REST_S))
        return end

    def decided(self, end: ExitContext | None, post: Service) -> None:
        """Take what the policy made of an end, and write it down when the restart is under way."""
        if end is None:
            return
        end.after, end.decided = post.child, time.monotonic()
        if len(self._waiting) == 1:
            self._add_task(self._write_soon())

    # --- records ----------------------------------------------------------------------------

    def write_next(self) -> bool:
        """Write down the death that waits longest; False where none does."""
        if not self._waiting:
            return False
        end, flight, part, _ = self._waiting.popleft()
        try:
            self.store.write(self._composed(end, flight, part))
        except (OSError, GarrisonError) as error:  # a full disk stops no service
            self._log.record("death.unrecorded", end.before.spec.name, error=str(error))
        except Exception as error:  # noqa: BLE001 (one record must not keep the next ones back)
            self._report_error(f"the record of {end.id}", error)
        finally:
            with contextlib.suppress(OSError):
                flight.unlink(missing_ok=True)
        return True

    def _write_soon(self) -> Steps:
        while self._waiting:
            if time.monotonic() >= self._waiting[0][3]:
                self.write_next()
                self._wake()  # the next one in the next turn: none is to be long
            yield False

    def _composed(self, end: ExitContext, flight: Path, part: "LogSection") -> CrashReport:
        spec = end.before.spec
        log, stacks = part.read()
        near = {spec.name, *spec.supervision.depends_on, *spec.supervision.bind_to}
        events = islice((e for e in self._log.backwards(end.seen) if _concerns(e, near)), BEFORE)
        told = [f"{event.time} {event.text()}" for event in events][::-1]
        noted = flight_recorder.read(flight)
        return compose(end, log, stacks, noted, self._name_of, told, self._redact(spec))

    def given(self, name: str, secrets: dict[str, str]) -> None:
        """Note which secrets a service's worker was given: no record may hold them."""
        self._secrets[name] = secrets

    def _redact(self, spec: ServiceSpec) -> Redact:
        """Return what takes secrets out of a service's record.

        Its own, for C code may have logged them raw; and those of others, which they may have
        passed to it in a call.
        """
        if spec.name not in self._secrets:  # another supervisor started it
            with contextlib.suppress(StartError):
                self.given(spec.name, worker_environment(spec, self._environ)[1])
        own = self._secrets.get(spec.name, {})
        others = {
            f"{name}.{key}": value
            for name, secrets in self._secrets.items()
            for key, value in secrets.items()
            if name != spec.name
        }
        known = {**others, **own}
        return Redactor(known).text if known else lambda text: text

    def _name_of(self, digits: str) -> str:
        if digits in self._names:
            return self._names[digits]
        live = self._services.by_token
        return next((post.name for token, post in live.items() if token.hex() == digits), "")

    def close(self) -> None:
        """Write down what waits; remove what no incarnation needs any more."""
        while self.write_next():
            pass
        self.sweep(())

    def sweep(self, living: Collection[Token]) -> None:
        """Remove the flight recorders of incarnations that are not among the living."""
        kept = {token.hex() for token in living}
        for path in self._host.run.glob(f"*{flight_recorder.SUFFIX}"):
            if path.name.removesuffix(flight_recorder.SUFFIX).rpartition(".")[2] not in kept:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    # --- what is told -----------------------------------------------------------------------

    def last(self, name: str, number: int) -> list[CrashSummary]:
        """Return a service's last deaths in a line each, the newest first."""
        return self.store.lines(self.store.ids({name})[-number:])[::-1]


def _concerns(event: Event, names: Collection[str]) -> bool:
    return event.service in names if event.service else not event.event.startswith("frame.")


class LogSection:
    """The part of a log file that one incarnation wrote; the file may be rotated meanwhile.

    Args:
        path: The file.
        began: The file's inode and size when the incarnation began; None where nobody knows.
    """

    def __init__(self, path: Path, began: tuple[int, int] | None) -> None:
        self._path = path
        self._inode, self._first = began or (0, 0)
        self._dumped: tuple[int, int] | None = None
        self._last: tuple[int, int] = (0, 0)

    def mark(self) -> None:
        """Note that the stacks begin here."""
        if self._dumped is None:
            self._dumped = inode_and_size(self._path)

    def end(self) -> None:
        """Note that it wrote no more than what is there now."""
        self._last = inode_and_size(self._path)

    def read(self) -> tuple[str, str]:
        """Return the log's end, the stacks aside, and the stacks; empty where nothing is left."""
        inode, last = self._last
        path, _ = self._found(inode, last)
        if path is None:
            return "", ""
        same = inode == self._inode and self._first <= last
        first = self._first if same else 0  # rotated: all that is there is its own
        dumped: int | None = None
        if self._dumped is not None:
            dumped_in, dumped = self._dumped
            if dumped_in != inode or not first <= dumped <= last:
                dumped = first
        start = max((last if dumped is None else dumped) - TAIL_BYTES, first)
        log = _piece(path, start, last if dumped is None else dumped)
        if start > first:
            log = log.partition("\n")[2] or log  # a whole line to begin with
        if dumped is not None:
            return log, _piece(path, dumped, min(last, dumped + STACK_BYTES))
        log, stacks = split_stacks(log, None)
        if not same and log.count("\n") < 50:
            log = self._older() + log
        return log, stacks

    def _older(self) -> str:
        """Return the end of what was rotated away."""
        old = rotated_path(self._path, 1)
        inode, size = inode_and_size(old)
        if not inode:
            return ""
        own = self._first if inode == self._inode and self._first <= size else 0
        return _piece(old, max(size - TAIL_BYTES, own), size)

    def _found(self, inode: int, last: int) -> tuple[Path | None, int]:
        for path in (self._path, rotated_path(self._path, 1)):
            now, size = inode_and_size(path)
            if now and now == inode and size >= last:
                return path, size
        rotated = rotated_path(self._path, 1)
        inode, size = inode_and_size(rotated)  # copied and cut: the copy has what was there
        return (rotated, size) if inode and size >= last else (None, 0)


def inode_and_size(path: Path) -> tuple[int, int]:
    """Return a file's inode and size; 0 and 0 where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_size)


def _piece(path: Path, first: int, last: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(first)
            return file.read(max(last - first, 0)).decode("utf-8", "replace")
    except OSError:
        return ""
