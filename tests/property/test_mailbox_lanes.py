"""Any history of a receiver's messages: lanes in order, none lost or starved, suspects alone."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from garrison.ipc import CallError, InvalidCall, Overloaded, RemoteError, ServiceLost
from garrison.workers import RetryLater
from garrison.workers.services.mailbox import lane_queue, lane_rows, plain_queue, schema
from garrison.workers.services.mailbox.checksums import DEAD, STORED, Message
from garrison.workers.services.mailbox.lane_queue import Stage
from garrison.workers.services.mailbox.receiver_queue import ReceiverQueue
from garrison.workers.services.mailbox.retry import Decision, DeliveryLimits, Outcome, decide

LIMITS = DeliveryLimits(timeout=1.0, max_attempts=2, retry_for=100.0)
NAMES = (
    *("post", "execute", "report", "pump") * 8,
    *("ack", "fail", "later") * 4,
    *("die", "drop", "wait", "refuse", "replay") * 3,
    *("overload", "restart", "notified"),
)
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 11)), min_size=60, max_size=150)


class Model:
    """What the dispatcher does around a queue, with the file's tables in memory."""

    def __init__(self, window: int) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.executescript(schema.SCHEMA)
        self.window = window
        self.seq, self.now, self.generation = 0, 1_000.0, 1
        self.posted: set[str] = set()
        self.gone: dict[str, str] = {}  # by id: "acknowledged" or "dropped"
        self.notices: list[str] = []  # lanes, of notices on disk
        self.restart()

    def restart(self) -> None:
        """Begin again with what is on disk: what was not written is lost."""
        self.queue = ReceiverQueue("bot")
        self.queue.window = self.window
        for lane in self.notices:
            self.queue.lanes.begin_notice(lane)
        self.pending: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = []
        self.executed: list[tuple[Callable[[Any], Any], Any]] = []
        self.calls: dict[str, Message] = {}  # under way, by id
        self.held: list[tuple[float, Message]] = []  # without a lane, waiting for a retry
        self.pump()

    # --- the store ------------------------------------------------------------------------

    def execute(self) -> None:
        for operation, callback in self.pending:
            self.executed.append((callback, operation(self.db.cursor())))
        self.pending.clear()

    def report(self) -> None:
        executed, self.executed = self.executed, []
        for callback, result in executed:
            callback(result)

    def submit(self, operation: Callable[[Any], Any], callback: Callable[[Any], Any]) -> None:
        self.pending.append((operation, callback))

    def rows(self, state: int, lane: str | None = None) -> list[Message]:
        found = self.db.execute(
            f"SELECT {schema.FIELDS} FROM letters WHERE state = ? AND (?2 IS NULL OR lane = ?2) "
            "ORDER BY seq",
            (state, lane),
        )
        names = STORED
        return [Message(**dict(zip(names, row, strict=True))) for row in found]

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    # --- steps ----------------------------------------------------------------------------

    def post(self, number: int) -> None:
        lane = f"room {number % 6}" if number % 6 else None
        message = Message(
            id=f"m{len(self.posted)}",
            receiver="bot",
            method="m",
            args=b"x" * (100 * number),
            kwargs=b"",
            posted_at=self.now,
            lane=lane,
        )
        self.posted.add(message.id)

        def add(seq: int) -> None:
            message.seq = seq
            self.queue.add_posted(message)

        def insert(at: sqlite3.Cursor) -> int:
            return schema.insert(at, msgspec.structs.replace(message), self.next_seq())[1]

        self.submit(insert, add)

    def pump(self) -> None:
        queue = self.queue
        if queue.plain.needs_more:
            queue.plain.is_reading = True
            after, free = queue.plain.last_seq, queue.plain.free_bytes
            self.submit(
                lambda at: schema.read_waiting(at, "bot", after, plain_queue.MAX_MESSAGES, free),
                lambda found: queue.plain.add_read(*found),
            )
        read = queue.lanes.begin_read(self.now)
        if read is not None:
            self.submit(
                lambda at: lane_rows.read(at, "bot", read),
                lambda found: queue.lanes.add_read(read, found),
            )
        while (message := queue.take_next()) is not None:
            self.begin(message)

    def begin(self, message: Message) -> None:
        """Check that a message may be delivered now."""
        assert message.id not in self.calls
        assert self.gone.get(message.id) != "acknowledged", "handled twice"
        if message.lane is not None:
            assert message.lane not in self.notices, "before the notice"
            before = [one.seq for one in self.rows(0, message.lane) if one.seq < message.seq]
            assert not before, "out of order"
            assert all(one.lane != message.lane for one in self.calls.values())
        known = {one.id: one for one in self.rows(0)}.get(message.id)
        if message.lane is not None and known is not None and known.died_at is not None:
            assert known.died_at <= self.now, "before its time"
        if self.queue.suspects:
            assert message.id in self.queue.suspects, "a suspect is behind others"
            assert not self.calls, "a suspect is not alone"
        self.calls[message.id] = message
        assert len(self.calls) == self.queue.calls <= self.window

    def finish(self, number: int, error: CallError | None, *, was_alone: bool = False) -> None:
        if not self.calls:
            return
        message = self.calls.pop(sorted(self.calls)[number % len(self.calls)])
        is_alone = self.queue.end_call(message, error)
        decision = decide(message, error, LIMITS, self.now, 1.0, is_alone)
        if isinstance(error, ServiceLost):
            assert is_alone == was_alone
        match decision.outcome:
            case Outcome.ACKNOWLEDGE:
                self.remove(message, lambda at: self.acknowledge(at, message))
            case Outcome.DEAD_LETTER:
                self.remove(message, lambda at: self.give_up(at, decision.message))
            case Outcome.REDELIVER:
                self.queue.put_back(decision.message)
            case Outcome.RETRY:
                self.retry(decision)

    def acknowledge(self, at: sqlite3.Cursor, message: Message) -> None:
        assert self.gone.get(message.id) != "acknowledged", "acknowledged twice"
        self.gone[message.id] = "acknowledged"
        schema.acknowledge(at, message, b"", self.now)

    def give_up(self, at: sqlite3.Cursor, message: Message) -> bool:
        """Note a dead letter; return whether its lane waits for a notice."""
        is_notifying = schema.update(at, message) and message.lane is not None
        if is_notifying:
            self.notices.append(str(message.lane))
        return is_notifying

    def notified(self, number: int) -> None:
        """A notice is handled."""
        if not self.notices:
            return
        queue, lane = self.queue, self.notices[number % len(self.notices)]

        def end(_: sqlite3.Cursor) -> bool:
            is_there = lane in self.notices
            if is_there:
                self.notices.remove(lane)
            return is_there

        self.submit(end, lambda is_there: queue.lanes.end_notice(lane) if is_there else None)

    def remove(self, message: Message, operation: Callable[[sqlite3.Cursor], Any]) -> None:
        queue, now, lane = self.queue, self.now, message.lane

        def remove(at: sqlite3.Cursor) -> tuple[Message | None, bool]:
            is_notifying = operation(at) is True
            following = None if lane is None else lane_rows.first(at, "bot", lane, now)
            return following, is_notifying

        self.submit(remove, lambda found: queue.remove(message, found[0], now, found[1]))

    def retry(self, decision: Decision) -> None:
        queue, message = self.queue, decision.message

        def hold(is_known: bool) -> None:
            if message.lane is not None:
                queue.retry(message, is_known)
            elif is_known:
                self.held.append((self.now + decision.delay, message))
            else:
                queue.remove(message, None, self.now)

        self.submit(lambda at: schema.update(at, message), hold)

    def die(self, number: int) -> None:
        """The receiver dies with everything that is in delivery."""
        count = len(self.calls)
        for _ in range(count):
            error = ServiceLost("bot", "m", "killed")
            error.generation = self.generation
            self.finish(number, error, was_alone=count == 1)
        self.generation += 1

    def drop(self, number: int) -> None:
        waiting = [one.id for one in self.rows(0) if one.id not in self.calls]
        if waiting:
            ids = [waiting[number % len(waiting)]]
            queue = self.queue

            def drop(at: sqlite3.Cursor) -> None:
                if schema.drop(at, ids) and ids[0] not in self.gone:
                    self.gone[ids[0]] = "dropped"

            def discard(_: object) -> None:
                queue.discard(ids)
                for due, message in [one for one in self.held if one[1].id in ids]:
                    self.held.remove((due, message))
                    queue.remove(message, None, self.now)

            self.submit(drop, discard)

    def replay(self) -> None:
        def reread(_: object) -> None:
            queue.plain.is_complete = False
            queue.lanes.reread()

        queue = self.queue
        self.submit(lambda at: schema.replay(at, None, None, self.next_seq), reread)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for due, message in list(self.held):
            if due <= self.now:
                self.held.remove((due, message))
                self.queue.put_back(message)

    def step(self, name: str, number: int) -> None:
        match name:
            case "post":
                self.post(number)
            case "execute":
                self.execute()
            case "report":
                self.report()
            case "pump":
                self.pump()
            case "ack":
                self.finish(number, None)
            case "fail":
                self.finish(number, RemoteError("bot", "m", "no", "ValueError"))
            case "later":
                self.finish(number, RetryLater(5.0))
            case "refuse":
                self.finish(number, InvalidCall("bot", "m", "no such method"))
            case "overload":
                self.finish(number, Overloaded("bot", "m", "full"))
            case "die":
                self.die(number)
            case "drop":
                self.drop(number)
            case "replay":
                self.replay()
            case "notified":
                self.notified(number)
            case "wait":
                self.wait(number / 2)
            case "restart":
                self.executed.clear()
                self.restart()
        self.check()

    def check(self) -> None:
        """Check the bound of what is in memory, and its counters."""
        lanes = self.queue.lanes
        most = 2 * lane_queue.MAX_READY + lane_queue.MAX_WAITING + self.window
        assert lanes.size <= most + 6, "memory is not bounded"
        stages = Counter(lane.stage for lane in lanes._lanes.values())
        ready = [lane.head for lane in lanes._lanes.values() if lane.stage is Stage.READY]
        assert lanes._waiting == stages[Stage.WAITING] <= lane_queue.MAX_WAITING
        assert lanes._busy == stages[Stage.BUSY]
        assert lanes._bytes == sum(head.size for head in ready if head is not None)
        if not self.pending and not self.executed:
            waiting = {message.id for message in self.rows(0)}
            there = waiting | set(self.calls)  # what was dropped in delivery goes on
            assert self.queue.suspects <= there, "a suspect that is gone stops the others"
            assert self.queue.begun <= there, "memory is not bounded"

    def drain(self) -> None:
        """Deliver what is left; each round delivers something, or time passes."""
        self.check()
        for _ in range(40 * (len(self.posted) + 1)):
            self.execute()
            self.report()
            self.pump()
            due = self.queue.lanes.next_due()
            is_later = not self.calls and not self.pending
            if is_later and self.notices:
                self.notified(0)
                continue
            if is_later and not self.rows(0) and not self.held:
                return
            if is_later:
                assert self.held or due < float("inf"), "stuck"
                self.wait(max(min(due, *(at for at, _ in self.held), 1e9) - self.now, 0.0))
            self.finish(0, None)
        raise AssertionError("something is never delivered")


@contextmanager
def limits(most: int) -> Iterator[None]:
    """Make the limits small, so that few messages reach them."""
    with ExitStack() as stack:
        for module, name, value in (
            (plain_queue, "MAX_MESSAGES", most),
            (plain_queue, "MAX_BYTES", 3_000),
            (lane_queue, "MAX_READY", most),
            (lane_queue, "MAX_BYTES", 3_000),
            (lane_queue, "MAX_WAITING", max(most - 2, 0)),
            (lane_queue, "MAX_READ", 2),
            (lane_rows, "MAX_PASSED", 3),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield


@settings(max_examples=examples(300), deadline=None)
@given(steps=STEPS, window=st.integers(1, 4), most=st.integers(2, 6))
def test_every_lane_is_delivered_in_order_and_none_is_lost_or_starved(
    steps: list[tuple[str, int]], window: int, most: int
) -> None:
    """In any mix of posts, failures, deaths, drops, replays and restarts of the mailbox; a death
    counts only for a message that was alone in delivery."""
    with limits(most):
        model = Model(window)
        for name, number in steps:
            model.step(name, number)
        model.drain()
        dead = {message.id for message in model.rows(DEAD)}
        stored = {*model.gone, *dead}
        assert not dead & set(model.gone)
        assert stored <= model.posted
        assert "restart" in dict(steps) or stored == model.posted
        model.db.close()
