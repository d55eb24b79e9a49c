"""Follows the journal, and has each hook deliver what concerns it. Durations are seconds."""

import asyncio
import contextlib
import fnmatch
import logging
import math
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import GarrisonError
from garrison.workers import Runtime

from . import store
from .config import Hook
from .delivery import NO_SECRET, DeliveryFailed, deliver, missing_secret
from .journal import Event, FirstPosition, Journal, Position
from .kinds import choose, find
from .payload import notice_id, payload_of, sample
from .throttle import Notice, Pending

log = logging.getLogger(__name__)

POLL_S = 0.25  # between reads of the events
UNREADABLE_S = 5.0  # likewise, while they cannot be read
SAVE_S = 5.0  # after which it is noted that events were read which concern no hook
REPORT_S = 2.0  # that a crash report may take to be written, after its event
LOOK_S = 0.05
RETRIES = (1.0, 5.0)  # before the second and the third try, where there is no mailbox
BEGUN_MOST = 10  # deliveries of one notice that this process ended in, or that failed
POST_S = 5.0  # for the mailbox to take a delivery
EXPIRES_S = 86_400.0  # of a delivery in the mailbox
MAILBOX = "mailbox"


class Runner:
    """Runs the hooks.

    Args:
        runtime: The service's.
        hooks: By NAME.
    """

    def __init__(self, runtime: Runtime, hooks: Mapping[str, Hook]) -> None:
        self._runtime, self._hooks = runtime, hooks
        self._folder = runtime.data_folder
        self._deaths = self._folder.parents[1] / "deaths"
        self._state, self._is_new = store.State(), False
        self._changed = {name: asyncio.Event() for name in hooks}
        self._saving = asyncio.Lock()
        self._unsaved: float | None = None  # when a position was read that is not saved
        self._withheld = frozenset(word for hook in hooks.values() for word in hook.all_secrets)
        self._machine = socket.gethostname()
        self._home = str(self._folder.parents[2])

    async def load(self) -> None:
        """Read the file, and drop what belongs to hooks that there are no more."""
        found = await asyncio.to_thread(store.load, self._folder)
        self._state = found or store.State()
        self._is_new = found is None
        state, now = self._state, self._now()
        state.pending = {name: state.pending.get(name, Pending()) for name in self._hooks}
        state.records = {name: state.records.get(name, store.Record()) for name in self._hooks}
        for name, pending in state.pending.items():
            pending.restored(now, self._hooks[name].every)
            if missing := missing_secret(self._hooks[name]):
                self._state.records[name].problem = missing
                log.warning("hook.incomplete hook=%s problem=%s", name, missing)
            elif self._state.records[name].problem.startswith(NO_SECRET):
                self._state.records[name].problem = ""  # it is there now
            self._show(name)

    async def run(self) -> None:
        """Follow the events and deliver, until the service stops."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="events")
            for name in self._hooks:
                group.create_task(self._serve(name), name=f"hook {name}")

    # --- events -------------------------------------------------------------------------------

    async def _follow(self) -> None:
        path = Path(self._runtime.client.session.logs) / "events.jsonl"
        while True:
            journal: Journal | None = None
            try:
                if self._is_new:
                    self._state.position = await asyncio.to_thread(self._first_position, path)
                    await self.save()
                    self._is_new = False
                journal = Journal(path, self._state.position)
                await self._read(journal)
            except OSError as error:
                log.warning("hooks.unreadable path=%s error=%s", path, error)
                reason = error.strerror or error
                self._runtime.warn("events", f"the host's events cannot be read: {reason}")
            finally:
                if journal is not None:
                    journal.close()
            await asyncio.sleep(UNREADABLE_S)

    def _first_position(self, path: Path) -> Position | None:
        journal, first = Journal(path, None), FirstPosition(self._runtime.name)
        try:
            while found := journal.read():
                for event, behind in found:
                    first.take(event, behind)
        finally:
            journal.close()
        return first.begin

    async def _read(self, journal: Journal) -> None:
        while True:
            found = await asyncio.to_thread(journal.read)
            self._runtime.warn("events", None)
            if journal.lost:
                journal.lost = False
                log.warning("hooks.position_lost: events may be missing; reads what there is")
            if not found:
                await self._save_late()
                await asyncio.sleep(POLL_S)
                continue
            concerned = {name for event, _ in found for name in self._take(event)}
            self._state.position = found[-1][1]
            if concerned:
                await self.save()  # before anything of it is delivered
            elif self._unsaved is None:
                self._unsaved = self._now()
            for name in concerned:
                self._changed[name].set()

    async def _save_late(self) -> None:
        if self._unsaved is not None and self._now() >= self._unsaved + SAVE_S:
            await self.save()

    def _take(self, event: Event) -> list[str]:
        """Queue an event where it concerns a hook; return the NAMEs of these hooks."""
        if event.service == self._runtime.name:  # else its own failures would cause further ones
            return []
        found = find(event.event, event.service, event.data, self._state.troubled)
        concerned: list[str] = []
        for name, hook in self._hooks.items():
            one = choose(found, hook.on)
            if one is None or not _matches(event.service, hook.services):
                continue
            notice = Notice(
                id=notice_id(name, one.kind, event.time, event.n),
                on=one.kind,
                service=event.service,
                reason=self._runtime.redacted(one.reason),
                at=event.time,
                event=event.event,
                death=str(event.data.get("death") or ""),
                data=self._redacted(event.data),
            )
            self._state.pending[name].take(notice, self._now(), hook.every)
            concerned.append(name)
        return concerned

    def _redacted(self, data: dict[str, Any]) -> dict[str, Any]:
        return {
            key: self._runtime.redacted(value)[:2000] if isinstance(value, str) else value
            for key, value in data.items()
        }

    # --- deliveries ---------------------------------------------------------------------------

    async def _serve(self, name: str) -> None:
        """Deliver what waits for one hook, one after the other."""
        hook, pending, changed = self._hooks[name], self._state.pending[name], self._changed[name]
        while True:
            changed.clear()
            pending.release(self._now(), hook.every)
            if pending.queue:
                await self._deliver_first(name, hook, pending)
                continue
            wait = pending.due(self._now(), hook.every) - self._now()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(wait) else max(wait, 0.0)):
                    await changed.wait()

    async def _deliver_first(self, name: str, hook: Hook, pending: Pending) -> None:
        notice = pending.queue[0]
        body: dict[str, Any] = {}
        for wait in (*RETRIES, 0.0):
            begun = pending.queue[0].begun + 1
            pending.queue[0] = msgspec.structs.replace(notice, begun=begun)
            await self.save()
            if begun > BEGUN_MOST:
                self.given_up(name, f"its delivery did not end, {BEGUN_MOST} times")
                break
            body = body or await self._body(name, notice)
            try:
                await self.deliver(name, body)
                break
            except DeliveryFailed as error:
                log.warning("hook.failed hook=%s on=%s error=%s", name, notice.on, error)
                if await self._post(name, body):
                    break
                if not wait:
                    self.given_up(name, str(error))
                    break
                await asyncio.sleep(wait)
        pending.queue.pop(0)
        await self.save()

    async def deliver(self, name: str, body: dict[str, Any]) -> str:
        """Deliver once, and note the outcome.

        Raises:
            DeliveryFailed: It was not delivered.
        """
        record = self._state.records[name]
        record.last_at, record.last_on = utc_now(), str(body["on"])
        record.last_service = str(body["service"])
        try:
            outcome = await deliver(self._hooks[name], body, self._runtime, self._withheld)
        except DeliveryFailed as error:
            record.problem = self._runtime.redacted(str(error))
            self._show(name)
            raise DeliveryFailed(record.problem) from None
        record.problem = ""
        record.delivered += 1
        self._show(name)
        log.info("hook.delivered hook=%s on=%s service=%s", name, body["on"], body["service"])
        return self._runtime.redacted(outcome)

    def given_up(self, name: str, reason: str) -> None:
        """Note that a delivery is given up."""
        log.error("hook.given_up hook=%s reason=%s", name, reason)
        if (record := self._state.records.get(name)) is not None:
            record.failed += 1
            record.problem = record.problem or reason
            self._show(name)

    async def _post(self, name: str, body: dict[str, Any]) -> bool:
        """Have the mailbox deliver it; return False if there is none, or it does not take it."""
        runtime = self._runtime
        if runtime.client.entry_of(MAILBOX) is None:
            return False
        try:
            async with asyncio.timeout(POST_S):
                await runtime.post(
                    *(runtime.name, "deliver", name, body),
                    key=str(body["id"]),
                    lane=f"hook/{name}",
                    expires=EXPIRES_S,
                )
        except (GarrisonError, TimeoutError) as error:
            log.warning("hook.not_posted hook=%s error=%s", name, error)
            return False
        return True

    async def _body(self, name: str, notice: Notice) -> dict[str, Any]:
        death = await self._report(notice.death) if notice.death else None
        return payload_of(notice, name, self._machine, self._home, death)

    async def _report(self, id: str) -> dict[str, Any] | None:
        """Return a crash report, which is written a moment after its event."""
        path, until = self._deaths / f"{Path(id).name}.json", self._now() + REPORT_S
        while True:
            with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
                found: dict[str, Any] = msgspec.json.decode(
                    await asyncio.to_thread(path.read_bytes), type=dict[str, Any]
                )
                return found
            if self._now() >= until:
                return None
            await asyncio.sleep(LOOK_S)

    # --- for operators ------------------------------------------------------------------------

    async def test(self, name: str, on: str) -> dict[str, Any]:
        """Deliver a sample once; return the outcome."""
        notice = sample(on, secrets.token_hex(8), utc_now())
        began, body = self._now(), await self._body(name, notice)
        hook = self._hooks[name]
        outcome: dict[str, Any] = {"hook": name, "on": notice.on, "way": hook.way}
        try:
            result = await deliver(hook, body, self._runtime, self._withheld)
            outcome |= {"ok": True, "result": self._runtime.redacted(result), "problem": None}
        except DeliveryFailed as error:
            problem = self._runtime.redacted(str(error))
            outcome |= {"ok": False, "result": "", "problem": problem}
        return outcome | {"took_s": self._now() - began}

    def listed(self) -> list[dict[str, Any]]:
        """Return every hook with what became of its deliveries."""
        state = self._state
        return [
            {
                "name": name,
                "on": hook.on,
                "services": hook.services,
                "way": hook.way,
                "waiting": len(state.pending[name].queue),
                "held": sum(one.held for one in state.pending[name].windows.values()),
                **msgspec.to_builtins(state.records[name]),
            }
            for name, hook in self._hooks.items()
        ]

    async def save(self) -> None:
        """Save the state; what cannot be saved may be delivered again after a kill."""
        async with self._saving:
            self._unsaved = None
            data = msgspec.json.encode(self._state)
            try:
                await asyncio.to_thread(store.save, self._folder, data)
            except OSError as error:
                log.warning("hooks.not_saved error=%s", error)

    def _show(self, name: str) -> None:
        problem = self._state.records[name].problem
        self._runtime.warn(f"hook {name}", f"hook {name}: {problem}" if problem else None)
        records = self._state.records.values()
        self._runtime.report(
            delivered=sum(one.delivered for one in records),
            given_up=sum(one.failed for one in records),
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def utc_now() -> str:
    """Return the time, UTC, RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _matches(service: str, patterns: list[str]) -> bool:
    """Return whether a hook is for a service; what is of the host concerns hooks for all."""
    return not patterns or any(fnmatch.fnmatchcase(service, one) for one in patterns)
