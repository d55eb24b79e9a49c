"""Makes a crash report of each unexpected exit.

What the next incarnation overwrites is noted at once. The report is written a moment later, when
the restart is under way.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from pathlib import Path

import msgspec

from garrison.ipc.errors import GarrisonError, StartError
from garrison.ipc.flight_record import RecordedCalls
from garrison.ipc.messages import Token
from garrison.ipc.redaction import Redactor
from garrison.supervisor.config.environment import worker_environment
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.policy import Event as PolicyEvent
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.logs.events import EventLog, LogEvent
from garrison.supervisor.processes import engine
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.tasks import Steps

from .report import (
    BEFORE,
    CrashSummary,
    Evidence,
    ExitContext,
    Redact,
    build_report,
    cause_of,
    is_crash,
    kind_of,
)
from .store import CrashStore

WAITING = 200  # exits whose reports are not written yet; further ones are only counted
DELAY_S = 0.05  # after an exit: the restart comes first
ANSWER_S = 10.0  # for the engine to read flight recorder and log; the report is written without
TOKENS = 1000  # former incarnations whose NAMEs are remembered


class _Unwritten(msgspec.Struct, eq=False):
    """An exit whose report is not written yet."""

    end: ExitContext
    key: Token
    due: float  # when to request the rest from the engine
    answer_due: float | None = None  # None: not requested yet
    calls: RecordedCalls | None = None
    tail: engine.LogTail | None = None

    def complete(self, now: float) -> bool:
        """Return whether the report can be written."""
        if self.answer_due is None:
            return False
        return self.tail is not None or now >= self.answer_due


class CrashRecorder:
    """Writes the crash reports of this host.

    Args:
        store: Where reports are kept.
        logs: The folder of logs, for a report's `log_file`.
        engine: Reads what an ended worker left.
        events: The event log.
        environ: The supervisor's environment, which secrets come from.
        services: The live services by token.
        later: Runs a task in the background.
        erred: Records an exception of this program itself.
        count: Counts a crash of a service by its kind.
    """

    def __init__(
        self,
        store: CrashStore,
        logs: Path,
        engine: Engine,
        events: EventLog,
        environ: Mapping[str, str],
        services: Mapping[Token, Service],
        later: Callable[[Steps], None],
        erred: Callable[[str, Exception], None],
        count: Callable[[str, str], None],
    ) -> None:
        self.store = store
        self._logs, self._engine, self._events = logs, engine, events
        self._environ, self._services = environ, services
        self._later, self._erred, self._count = later, erred, count
        self._secrets: dict[str, dict[str, str]] = {}  # NAME → its worker's secrets
        self._names: dict[str, str] = {}  # token in hexadecimal digits → NAME
        self._unwritten: deque[_Unwritten] = deque()

    # --- an incarnation ---------------------------------------------------------------------

    def on_start(self, service: Service) -> None:
        """Remember the NAME of a new incarnation's token."""
        self._names[service.current.token.hex()] = service.name
        if len(self._names) > TOKENS:
            del self._names[next(iter(self._names))]

    def on_secrets(self, name: str, secrets: dict[str, str]) -> None:
        """Remember the secrets of a service's worker: no report may contain them."""
        self._secrets[name] = secrets

    def on_exit(
        self, service: Service, event: PolicyEvent, left: Collection[Handle]
    ) -> ExitContext | None:
        """Note what the next incarnation overwrites; return None if the exit was not unexpected.

        Called before the policy gets the event; `on_restart_decided` is called after it. Never
        raises: the restart must not depend on the report.
        """
        try:
            return self._noted(service, event, left)
        except Exception as error:  # noqa: BLE001 (see above)
            self._erred(f"the crash report of {service.name}", error)
            return None

    def _noted(
        self, service: Service, event: PolicyEvent, left: Collection[Handle]
    ) -> ExitContext | None:
        if not is_crash(service.child, event, service.current.stopped):
            self._engine.discard(service.current.token)
            return None
        self._count(service.name, self._kind(service))
        if len(self._unwritten) >= WAITING:
            self._events.record("death.unrecorded", service.name, waiting=WAITING)
            self._engine.discard(service.current.token)
            return None
        end = self._context(service, left)
        self._unwritten.append(_Unwritten(end, service.current.token, time.monotonic() + DELAY_S))
        return end

    @staticmethod
    def _kind(service: Service) -> str:
        current = service.current
        lost = current.adopting and (current.status is None or service.adoption_timed_out)
        return "lost" if lost else kind_of(service.child, current)

    def _context(self, service: Service, left: Collection[Handle]) -> ExitContext:
        number = self.store.next_number()
        current, kind = service.current, self._kind(service)
        return ExitContext(
            id=f"{service.name}-{number}",
            n=number,
            at=service.last_exit_at or time.time(),
            now=time.monotonic(),
            before=service.child,
            after=service.child,
            current=current,
            kind=kind,
            cause=cause_of(kind, service.cause(service.last_exit)),
            exit=service.last_exit,
            left=tuple(handle.pid for handle in left),
            events_before=self._events.count,
            log_file=str(self._logs / f"{service.name}.log"),
        )

    def on_restart_decided(self, end: ExitContext | None, service: Service) -> None:
        """Note the policy's decision, and write the report when the restart is under way."""
        if end is None:
            return
        end.after, end.decided = service.child, time.monotonic()
        if len(self._unwritten) == 1:
            self._later(self._write_all())

    # --- reports ----------------------------------------------------------------------------

    def take(self, happened: engine.Happened) -> None:
        """Take an answer of the engine to `report`; ignore everything else."""
        if not isinstance(happened, engine.FlightRecord | engine.LogTail):
            return
        for one in self._unwritten:
            if one.key == happened.key:
                if isinstance(happened, engine.LogTail):
                    one.tail = happened
                else:
                    one.calls = happened.calls

    def until_written(self) -> Steps:
        """Write all reports now; return when they are written."""
        for one in self._unwritten:
            one.due = 0.0
        while self._unwritten:
            yield False

    def flush(self) -> None:
        """Write all reports at once, outside the loop: the supervisor ends."""
        for one in self._unwritten:
            one.due = 0.0
        while self._unwritten:
            self._request_due()
            for happened in self._engine.turn():
                self.take(happened)
            if not self._write_first():
                time.sleep(0.001)

    def _write_all(self) -> Steps:
        while self._unwritten:
            self._request_due()
            self._write_first()  # one in each turn of the loop
            yield False

    def _request_due(self) -> None:
        now = time.monotonic()
        for one in self._unwritten:
            if one.answer_due is None and now >= one.due:
                one.answer_due = now + ANSWER_S
                self._engine.report(one.key)

    def _write_first(self) -> bool:
        """Write the oldest report if it is complete; return whether it was."""
        if not self._unwritten or not self._unwritten[0].complete(time.monotonic()):
            return False
        one = self._unwritten.popleft()
        name = one.end.before.spec.name
        try:
            self.store.write(
                build_report(one.end, self._evidence(one), self._redact(one.end.before.spec))
            )
        except (OSError, GarrisonError) as error:  # a full disk stops no service
            self._events.record("death.unrecorded", name, error=str(error))
        except Exception as error:  # noqa: BLE001 (one report must not stop the others)
            self._erred(f"the crash report {one.end.id}", error)
        return True

    def _evidence(self, one: _Unwritten) -> Evidence:
        spec = one.end.before.spec
        related = {spec.name, *spec.supervision.depends_on, *spec.supervision.bind_to}
        events = islice(
            (
                event
                for event in self._events.backwards(one.end.events_before)
                if _concerns(event, related)
            ),
            BEFORE,
        )
        calls = one.calls or RecordedCalls(problem="no messages: the engine did not answer")
        tail = one.tail or engine.LogTail(one.key, "", "")
        if not tail.complete:
            one.end.problems.append("where its log begins: lines may be of the process before")
        return Evidence(
            log=tail.log,
            stacks=tail.stacks,
            calls=calls,
            events=[f"{event.time} {event.text()}" for event in events][::-1],
            name_of=self._name_of,
        )

    def _redact(self, spec: ServiceSpec) -> Redact:
        """Return the function that removes secrets from a service's report.

        The service's own secrets: C code may have logged them. The secrets of other services: they
        may have passed them in a call.
        """
        if spec.name not in self._secrets:  # another supervisor started it
            with contextlib.suppress(StartError):
                self.on_secrets(spec.name, worker_environment(spec, self._environ)[1])
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
        live = self._services.items()
        return next((service.name for token, service in live if token.hex() == digits), "")

    def recent(self, name: str, number: int) -> list[CrashSummary]:
        """Return a service's last crashes, the newest first."""
        return self.store.lines(self.store.ids({name})[-number:])[::-1]


def _concerns(event: LogEvent, names: Collection[str]) -> bool:
    return event.service in names if event.service else not event.event.startswith("frame.")
