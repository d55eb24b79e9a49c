"""Lanes in the mailbox of one process: side by side, retries in place, suspects, the index."""

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.support.waiting import eventually

from garrison.ipc import DELIVER, PostRequest, RemoteError, ServiceLost
from garrison.workers import RetryLater
from garrison.workers.runtime import Runtime
from garrison.workers.services.mailbox import MailboxService, damage, schema
from garrison.workers.services.mailbox.checksums import DamagedIndex, Message
from garrison.workers.services.mailbox.receiver_queue import ReceiverQueue
from garrison.workers.services.mailbox.store import Store
from garrison.workers.testing import run

MAX_BYTES = 1 << 30


class Receiver:
    """A receiver behind the mailbox's client: it answers each delivery as a test wants."""

    service_type = "receiver"

    def __init__(self) -> None:
        self.handled: list[tuple[str | None, int]] = []
        self.attempts: dict[int, list[int]] = {}
        self.problems: dict[int, list[Exception]] = {}  # by number: raised one after the other
        self.gates: dict[int, asyncio.Event] = {}  # by number: it ends once this is set
        self.now, self.most = Counter[str | None](), 0  # in delivery, by lane

    async def deliver(self, *args: Any) -> bytes:
        """Take a delivery, in the place of `Client.call_method`."""
        _, method, (delivery,), *_ = args
        assert method == DELIVER
        (number,) = msgspec.msgpack.decode(delivery.args)
        lane = delivery.mail.lane
        self.attempts.setdefault(number, []).append(delivery.mail.attempt)
        self.now[lane] += 1
        self.most = max(self.most, self.now.total())
        try:
            if (gate := self.gates.get(number)) is not None:
                await gate.wait()
            if problems := self.problems.get(number):
                raise problems.pop(0)
        finally:
            self.now[lane] -= 1
        self.handled.append((lane, number))
        return b"\xc0"


@asynccontextmanager
async def mailbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch, window: int, **config: Any
) -> AsyncIterator[tuple[MailboxService, Receiver]]:
    """Yield a mailbox with its file in a folder, and a receiver with a window."""
    monkeypatch.setattr(Runtime, "data_folder", folder)
    receiver = Receiver()
    async with run(MailboxService, fakes={"receiver": receiver}, config=config) as service:
        client: Any = service.runtime.client
        client.mail_window_of = lambda _: window
        client.call_method = receiver.deliver
        yield service, receiver


def post(number: int, lane: str | None, **options: Any) -> PostRequest:
    """Return a message for the receiver."""
    args = Raw(msgspec.msgpack.encode([number]))
    return PostRequest("receiver", "take", args, lane=lane, **options)


async def handled(receiver: Receiver, *numbers: int) -> None:
    """Wait until the receiver has handled these numbers."""

    async def there() -> bool:
        return set(numbers) <= {number for _, number in receiver.handled}

    await eventually(there, timeout=10.0, what=f"{numbers}, not {receiver.handled}")


def no(count: int) -> list[Exception]:
    """Return failures of a method."""
    return [RemoteError("receiver", DELIVER, "ValueError: no", "", "ValueError")] * count


async def test_many_messages_of_a_failing_lane_do_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry holds its own lane, and no place in the window of one."""
    monkeypatch.setattr("garrison.workers.services.mailbox.retry.INITIAL_BACKOFF_S", 60.0)
    monkeypatch.setattr("random.random", lambda: 1.0)
    async with mailbox(tmp_path, monkeypatch, 1) as (service, receiver):
        receiver.problems[0] = no(1)
        await asyncio.gather(*(service.post(post(number, "bad")) for number in range(600)))
        await service.post(post(1000, "good"))
        await service.post(post(1001, None))
        await handled(receiver, 1000, 1001)
        assert {lane for lane, _ in receiver.handled} == {"good", None}
        (row, *_) = (await service.ls())["letters"]
        assert row["lane"] == "bad"
        assert 50 < row["retry_s"] <= 60
        assert await service.drop([row["id"]]) == 1
        await handled(receiver, *range(1, 600))
        bad = [number for lane, number in receiver.handled if lane == "bad"]
        assert bad == list(range(1, 600))


async def test_a_window_bounds_all_lanes_together_and_each_lane_is_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at the same time, of which none are of one lane; also those without a lane count."""
    async with mailbox(tmp_path, monkeypatch, 3) as (service, receiver):
        gate = asyncio.Event()
        receiver.gates = dict.fromkeys(range(40), gate)
        lanes = [None, "a", "b", "c"]
        for number in range(40):
            await service.post(post(number, lanes[number % 4]))

        async def full() -> bool:
            return receiver.now.total() == 3

        await eventually(full)
        assert all(count <= 1 for lane, count in receiver.now.items() if lane)
        gate.set()
        await handled(receiver, *range(40))
        assert receiver.most == 3
        for lane in ("a", "b", "c"):
            numbers = [number for one, number in receiver.handled if one == lane]
            assert numbers == sorted(numbers)
        assert (await service.ls())["letters"] == []


async def test_a_retry_that_a_receiver_put_off_outlasts_a_restart_of_the_mailbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not delivered before its time, with a lane and without; its lane waits for it."""
    async with mailbox(tmp_path, monkeypatch, 4) as (service, receiver):
        receiver.problems = {1: [RetryLater(3600.0)], 2: [RetryLater(3600.0)]}
        await service.post(post(1, "a"))
        await service.post(post(2, None))

        async def put_off() -> bool:
            return sum(row["retry_s"] is not None for row in (await service.ls())["letters"]) == 2

        await eventually(put_off)
    async with mailbox(tmp_path, monkeypatch, 4) as (service, receiver):
        await service.post(post(3, "a"))
        await service.post(post(4, "b"))
        await handled(receiver, 4)
        assert receiver.attempts.keys() == {4}
        rows = (await service.ls())["letters"]
        assert [row["attempts"] for row in rows] == [0, 0, 0]
        monkeypatch.setattr(service.clock, "now", lambda real=service.clock.now: real() + 3600.0)
        service.dispatcher.receiver_changed("receiver")
        await handled(receiver, 1, 3)
        assert receiver.attempts[1] == [2]


async def test_what_is_put_off_for_longer_than_retry_for_is_a_dead_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a last attempt at that time; the lane goes on."""
    async with mailbox(tmp_path, monkeypatch, 4, retry_for=0.1) as (service, receiver):
        receiver.problems[1] = [RetryLater(3600.0)] * 9
        await service.post(post(1, "a"))
        await service.post(post(2, "a"))
        await handled(receiver, 2)
        (row,) = (await service.ls())["letters"]
        assert (row["state"], row["attempts"]) == ("dead", 0)
        assert row["reason"] == "retry_for (0.1 s) is over: retry after 3600 s"


async def test_messages_that_were_in_delivery_together_at_a_death_go_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the one that kills its receiver when it is alone becomes a dead letter."""
    async with mailbox(tmp_path, monkeypatch, 5) as (service, receiver):
        gate = asyncio.Event()
        receiver.gates = dict.fromkeys(range(5), gate)
        deaths = [ServiceLost("receiver", DELIVER, "killed") for _ in range(7)]
        for generation, death in enumerate(deaths, 1):
            death.generation = max(generation - 4, 1)
        for number in range(5):
            receiver.problems[number] = [deaths[number]]
            await service.post(post(number, f"lane {number}" if number else None))
        receiver.problems[3] += deaths[5:]

        async def full() -> bool:
            return receiver.now.total() == 5

        await eventually(full)
        receiver.most = 0
        gate.set()
        await handled(receiver, 0, 1, 2, 4)

        async def dead() -> bool:
            return [row["state"] for row in (await service.ls())["letters"]] == ["dead"]

        await eventually(dead)
        (row,) = (await service.ls())["letters"]
        assert (row["lane"], row["deaths"]) == ("lane 3", 2)
        assert receiver.most == 1
        assert {number: seen for number, seen in receiver.attempts.items() if number != 3} == {
            number: [1, 2] for number in (0, 1, 2, 4)
        }


@pytest.mark.parametrize(
    ("generations", "alone"),
    [
        ([3], [True]),
        ([3, 3], [False, False]),  # in delivery together
        ([0], [True]),  # unknown
    ],
)
def test_a_death_is_of_one_alone_if_no_other_was_in_delivery(
    generations: list[int], alone: list[bool]
) -> None:
    """The ends of the others come one by one: all have the generation that died."""
    queue = ReceiverQueue("bot")
    queue.window = 4
    queue.plain.add_read([], True)
    found = []
    for seq in range(1, len(generations) + 1):
        queue.add_posted(
            Message(id=str(seq), receiver="bot", method="m", args=b"", kwargs=b"", seq=seq)
        )
    taken = [queue.take_next() for _ in generations]
    for message, generation in zip(taken, generations, strict=True):
        assert message is not None
        error = ServiceLost("bot", "m", "killed")
        error.generation = generation
        found.append(queue.end_call(message, error))
    assert found == alone


def test_a_file_without_the_index_by_lane_gets_it_and_its_lack_of_an_entry_is_damage(
    tmp_path: Path,
) -> None:
    """A file of 0.1.0 has no lanes. Later a message that the index lacks would never arrive."""
    path = tmp_path / "mailbox.db"
    store = Store(path, MAX_BYTES)
    store._db.execute("DROP INDEX by_lane")
    store._db.close()
    store = Store(path, MAX_BYTES)
    db = store._db
    assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'by_lane'").fetchone()
    message = Message(id="1", receiver="r", method="m", args=b"\x90", kwargs=b"\x80", lane="a")
    schema.insert(db.cursor(), message, 1)
    assert damage.scan(db.cursor(), 0, 10) == 0
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET sql = replace(sql, 'state = 0', 'state = 7')")
    db.close()
    with contextlib.closing(sqlite3.connect(path)) as odd:  # a row that this index leaves out
        odd.execute("UPDATE letters SET method = method")
        odd.execute("REINDEX by_lane")
        odd.execute("PRAGMA writable_schema = ON")
        odd.execute("UPDATE sqlite_master SET sql = replace(sql, 'state = 7', 'state = 0')")
        odd.commit()
    with contextlib.closing(sqlite3.connect(path)) as db, pytest.raises(DamagedIndex):
        damage.scan(db.cursor(), 0, 10)
    store = Store(path, MAX_BYTES)  # rebuilt
    assert damage.scan(store._db.cursor(), 0, 10) == 0
    store._db.close()
