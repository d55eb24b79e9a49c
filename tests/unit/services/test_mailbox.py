"""The mailbox in one process: cancelled posts, drops, large messages, damaged files, clocks."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.support.waiting import eventually

from garrison.ipc import PostRequest
from garrison.supervisor.cli import mail
from garrison.supervisor.cli.render import table
from garrison.workers import PermanentFailure
from garrison.workers.runtime import Runtime
from garrison.workers.services.mailbox import MailboxService, plain_queue, schema
from garrison.workers.services.mailbox.admin import summary
from garrison.workers.services.mailbox.checksums import DEAD, Message
from garrison.workers.services.mailbox.file import open_database
from garrison.workers.services.mailbox.store import MailboxFull, Store
from garrison.workers.testing import run


class Receiver:
    """Records numbers; raises for those in `refusing`."""

    service_type = "receiver"

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.refusing: set[int] = set()
        self.calls = 0

    async def take(self, number: int, padding: str = "") -> str:
        """Take a number."""
        self.calls += 1
        if number in self.refusing:
            raise ValueError("not this one")
        self.taken.append(number)
        return "r" * len(padding)


@asynccontextmanager
async def mailbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **config: Any
) -> AsyncIterator[tuple[MailboxService, Receiver]]:
    """Yield a mailbox with its file in a folder, and a receiver."""
    monkeypatch.setattr(Runtime, "data_folder", folder)
    receiver = Receiver()
    async with run(MailboxService, fakes={"receiver": receiver}, config=config) as service:
        yield service, receiver


def post(number: int, padding: str = "", **options: Any) -> PostRequest:
    """Return a message for the receiver."""
    args = Raw(msgspec.msgpack.encode([number, padding]))
    return PostRequest("receiver", "take", args, **options)


def away(service: MailboxService) -> None:
    """Make the receiver look stopped to the mailbox."""
    client: Any = service.runtime.client
    client.generation_of = lambda _: 0


def back(service: MailboxService) -> None:
    """Make the receiver look running again."""
    client: Any = service.runtime.client
    del client.generation_of
    for name in service.dispatcher.queues:
        service.dispatcher.receiver_changed(name)


async def taken(receiver: Receiver, expected: list[int]) -> None:
    """Wait until the receiver has exactly these numbers."""

    async def there() -> bool:
        return receiver.taken == expected

    await eventually(there, timeout=10.0, what=f"{expected}, not {receiver.taken}")


async def test_a_post_whose_poster_leaves_meanwhile_is_delivered_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on disk: a repeated post returns the first id, so it must be delivered."""
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        await service.post(post(0))
        await taken(receiver, [0])
        for number in range(1, 6):
            leaving = asyncio.ensure_future(service.post(post(number, key=str(number))))
            await asyncio.sleep(0)  # it is submitted to the writer thread
            leaving.cancel()
        await service.post(post(6))
        await service.post(post(5, key="5"))
        await taken(receiver, list(range(7)))


async def test_posts_that_came_together_are_delivered_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its id; a key that was there, or comes twice, has the id of its first message."""
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        first = await service.post(post(0, key="a"))
        posts = [post(1), post(2, key="b"), post(3, key="a"), post(4, key="b"), post(5)]
        ids = await service.post_all(posts)
        assert (ids[2], ids[3]) == (first, ids[1])
        assert len({first, *ids}) == 4
        assert await service.post_all([]) == []
        await taken(receiver, [0, 1, 2, 5])


async def test_posts_that_came_together_are_rejected_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is on disk if there is no room for all of them."""
    async with mailbox(tmp_path, monkeypatch, max_bytes=1 << 20) as (service, receiver):
        await service.post(post(0))
        with pytest.raises(MailboxFull):
            await service.post_all([post(n, "x" * 400_000) for n in range(1, 4)])
        await service.post(post(4))
        await taken(receiver, [0, 4])


async def test_a_message_that_is_dropped_while_it_waits_for_its_next_attempt_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: messages behind it do not wait for its backoff, and it is not retried."""
    monkeypatch.setattr("garrison.workers.services.mailbox.retry.INITIAL_BACKOFF_S", 60.0)
    monkeypatch.setattr("random.random", lambda: 1.0)
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        receiver.refusing.add(1)
        stuck = await service.post(post(1))
        await service.post(post(2))

        async def noted() -> bool:
            return bool((await service.show(stuck))["attempts"])

        await eventually(noted)
        assert receiver.taken == []
        assert await service.drop([stuck]) == 1
        await taken(receiver, [2])
        assert receiver.calls == 2


async def test_large_messages_are_read_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue's limit in bytes also limits each read from disk."""
    read: list[int] = []
    real = schema.read_waiting

    def read_waiting(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        read.append(sum(message.size for message in found[0]))
        return found

    monkeypatch.setattr(schema, "read_waiting", read_waiting)
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        away(service)
        for number in range(30):
            await service.post(post(number, "x" * 1_000_000))
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        await taken(receiver, list(range(30)))
    assert max(read) <= plain_queue.MAX_BYTES + 1_100_000


async def test_an_operation_that_fails_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends neither the mailbox nor the posts in the same commit."""
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        posted = asyncio.ensure_future(service.post(post(1)))
        many = [str(number) for number in range(300_000)]
        assert await service.drop(many) == 0
        assert await service.replay(many[:40_000]) == 0  # also in parts

        def fail(_: Any) -> None:
            raise ValueError("failed")

        outcomes = await asyncio.gather(
            service.post(post(2)),
            service.store.execute(fail),
            service.post(post(3)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[1], ValueError)
        await posted
        await taken(receiver, [1, 2, 3])


async def test_a_full_mailbox_still_stores_results_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need space too: the mailbox must not crash, and has room again afterwards."""
    monkeypatch.setattr("garrison.workers.services.mailbox.retry.INITIAL_BACKOFF_S", 0.001)
    config = {"max_bytes": 1 << 20, "max_attempts": 2}
    async with mailbox(tmp_path, monkeypatch, **config) as (service, receiver):
        away(service)
        number = 0
        for padding in ("x" * 30_000, "x" * 300, ""):  # full to the last page
            with contextlib.suppress(MailboxFull):
                while True:
                    await service.post(post(number, padding, key=str(number)))
                    number += 1
        receiver.refusing = set(range(1, number, 2))
        back(service)
        await taken(receiver, list(range(0, number, 2)))

        async def refused() -> bool:
            receivers = (await service.ls())["receivers"]
            return bool(sum(row["dead"] for row in receivers) == number // 2)

        await eventually(refused)
        await service.drop([row["id"] for row in (await service.ls(None, 1000))["letters"]])
        await service.post(post(number + 1 - number % 2))


async def test_messages_expire_while_their_receiver_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take no space until it comes back."""
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        away(service)
        await service.post(post(1, expires=0.001))
        kept = await service.post(post(2))
        await asyncio.sleep(0.01)  # time itself is what is tested
        await service._prune()
        assert [row["id"] for row in (await service.ls())["letters"]] == [kept]
        back(service)
        await taken(receiver, [2])


async def test_dead_letters_are_deleted_at_an_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keep_dead` after they became one; waiting messages of that age stay."""
    async with mailbox(tmp_path, monkeypatch, max_attempts=1, keep_dead=60.0) as (
        service,
        receiver,
    ):
        receiver.refusing = {1}
        dead = await service.post(post(1))

        async def is_dead() -> bool:
            return [row["state"] for row in (await service.ls())["letters"]] == ["dead"]

        await eventually(is_dead)
        away(service)
        kept = await service.post(post(2))
        await service._prune()
        assert {row["id"] for row in (await service.ls())["letters"]} == {dead, kept}
        later = service.clock.now() + 100
        monkeypatch.setattr(service.clock, "now", lambda: later)
        await service._prune()
        assert [row["id"] for row in (await service.ls())["letters"]] == [kept]


async def test_a_message_in_delivery_does_not_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was begun in time: its key must be known when it is posted again."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def take(self: Receiver, number: int, padding: str = "") -> str:
        entered.set()
        await gate.wait()
        self.taken.append(number)
        return ""

    monkeypatch.setattr(Receiver, "take", take)
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        first = await service.post(post(1, key="k", expires=60.0))
        await asyncio.wait_for(entered.wait(), 10.0)
        later = service.clock.now() + 100
        monkeypatch.setattr(service.clock, "now", lambda: later)
        await service._prune()
        gate.set()
        await taken(receiver, [1])
        assert await service.post(post(1, key="k")) == first
        assert service.dispatcher.expired == 0


def filled(folder: Path, count: int) -> Path:
    """Return a mailbox's file as SIGKILL leaves it, with a number of commits in its log."""
    live, left = folder / "live.db", folder / "left" / "mailbox.db"
    left.parent.mkdir()
    db = open_database(live, 1 << 30)
    for number in range(count):
        args = msgspec.msgpack.encode([number])
        message = Message(id=str(number), receiver="r", method="m", args=args, kwargs=b"\x80")
        schema.insert(db.cursor(), message, number + 1)
    for suffix in ("", "-wal"):
        shutil.copy(f"{live}{suffix}", f"{left}{suffix}")
    db.close()
    return left


def ids(path: Path) -> list[str]:
    """Return the ids in a file, without changing the file."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{path}{suffix}", f"{folder}/copy{suffix}")
        store = Store(Path(folder) / "copy", 1 << 30)
        found = [row[0] for row in store._db.execute("SELECT id FROM letters ORDER BY seq")]
        store._db.close()
    return found


def test_a_log_cut_off_anywhere_is_treated_as_a_power_cut(tmp_path: Path) -> None:
    """The first messages are there, in order, and the file does not count as damaged."""
    path = filled(tmp_path, 6)
    log = path.with_name("mailbox.db-wal")
    whole = log.read_bytes()
    seen = set()
    for end in [*range(0, len(whole), 1031), len(whole)]:
        log.write_bytes(whole[:end])
        found = ids(path)
        assert found == [str(number) for number in range(len(found))]
        seen.add(len(found))
    assert max(seen) == 6


def test_the_last_commit_of_a_log_may_be_torn_anywhere(tmp_path: Path) -> None:
    """A power cut writes its pages in any order or not at all; all others are there."""
    path = filled(tmp_path, 6)
    log = path.with_name("mailbox.db-wal")
    whole = log.read_bytes()
    frames = range(32, len(whole), 4120)
    commits = [at for at in frames if whole[at + 4 : at + 8] != b"\0\0\0\0"]
    for at in (at for at in frames if at > commits[-2]):
        log.write_bytes(whole[: at + 100] + b"\xff" * 100 + whole[at + 200 :])
        assert ids(path) in ([str(number) for number in range(count)] for count in (5, 6))


@pytest.mark.parametrize("is_there", [True, False])
async def test_an_emptied_file_is_reported_as_damaged(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log still has the messages; SQLite would delete them."""
    path = filled(tmp_path, 20)
    log = path.with_name("mailbox.db-wal").read_bytes()
    path.write_bytes(b"") if is_there else path.unlink()
    async with mailbox(path.parent, monkeypatch) as (service, receiver):
        (moved,) = (await service.ls())["damaged"]
        assert await asyncio.to_thread(Path(f"{moved}-wal").read_bytes) == log
        await service.post(post(1))
        await taken(receiver, [1])


async def test_a_folder_in_place_of_the_file_is_a_permanent_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart cannot solve it."""
    (tmp_path / "mailbox.db").mkdir()
    with pytest.raises(PermanentFailure, match=r"mailbox\.db cannot be opened"):
        async with mailbox(tmp_path, monkeypatch):
            pass


@pytest.mark.parametrize("name", ["bot", "a-service-with-a-rather-long-name-indeed"])
def test_no_column_of_a_list_vanishes_at_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long names and reasons are. The ID is complete: an operator types it."""
    monkeypatch.setenv("COLUMNS", "80")
    message = Message(id="0123456789abcdef", receiver=name, method=name, args=b"", kwargs=b"")
    message.state, message.reason = DEAD, "because " * 50
    rows = [{"receiver": name, "waiting": 9, "oldest_s": 1e6, "dead": 9, "oldest_dead_s": 1e6}]
    data = {"receivers": rows, "letters": [summary(message, 1e6)], "damaged": []}
    table.show(*mail._list(data))
    out = capsys.readouterr().out
    assert "0123456789abcdef" in out
    (heads,) = [line.split() for line in out.splitlines() if line.startswith("ID")]
    assert heads == ["ID", "FOR", "METHOD", "STATE", "AGE", "TRIES", "WHY"]
    assert max(map(len, out.splitlines())) <= 80


def test_a_list_has_a_column_of_lanes_where_there_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of a mailbox of 0.1.0 have none in their answers."""
    monkeypatch.setenv("COLUMNS", "200")
    message = Message(id="1", receiver="bot", method="m", args=b"", kwargs=b"", lane="room 7")
    old = summary(message, 1.0) | {"id": "2"}
    del old["lane"], old["retry_s"]
    data = {"receivers": [], "letters": [summary(message, 1.0), old], "damaged": []}
    table.show(*mail._list(data))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines if line.startswith("ID")] == ["LANE"]
    assert [line.split()[3:5] for line in lines if line.startswith("1 ")] == [["room", "7"]]
    assert [line.split()[3] for line in lines if line.startswith("2 ")] == ["-"]


async def test_two_posters_with_one_key_at_the_same_time_post_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both get its id once it is on disk. A dropped key can be used again."""
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        away(service)
        first = await asyncio.gather(*(service.post(post(1, key="k")) for _ in range(5)))
        assert len(set(first)) == 1
        assert await service.drop([first[0]]) == 1
        assert await service.post(post(2, key="k")) != first[0]
        back(service)
        await taken(receiver, [2])
        assert (await service.result("k"))["done"]


@pytest.mark.parametrize("jump", [3 * 86_400.0, -3 * 86_400.0])
async def test_a_wall_clock_that_jumps_drops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Expiry of messages and keys follows real time, also across a restart of the mailbox."""
    wall, offset = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: wall() + offset)
    async with mailbox(tmp_path, monkeypatch, keep_keys=3600.0) as (service, receiver):
        await service.post(post(1, key="one"))
        await taken(receiver, [1])
        away(service)
        await service.post(post(2, expires=3600.0))
        await service.post(post(3, expires=0.05))
        offset = jump
        await service._prune()
        (row,) = (await service.ls())["receivers"]
        assert row["waiting"] >= 1
        assert 0 <= row["oldest_s"] < 60
        assert (await service.result("one"))["done"]
        await asyncio.sleep(0.05)
        await service._prune()
        assert service.dispatcher.expired == 1
    async with mailbox(tmp_path, monkeypatch, keep_keys=3600.0) as (service, receiver):
        await taken(receiver, [2])
        await service._prune()
        assert (await service.result("one"))["done"]
        assert (await service.ls())["letters"] == []
