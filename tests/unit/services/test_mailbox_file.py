"""The mailbox's file: its formats, its modes, damage found in use, and interrupted replacements."""

import asyncio
import contextlib
import os
import sqlite3
import stat
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.waiting import eventually
from tests.unit.services.test_mailbox import away, back, mailbox, post, taken

from garrison.supervisor.cli import mail
from garrison.supervisor.cli.render import table
from garrison.workers.services.mailbox import damage, schema
from garrison.workers.services.mailbox.checksums import Message
from garrison.workers.services.mailbox.store import Store
from garrison.workers.sqlite import files
from garrison.workers.sqlite.opening import NewerFile

MAX_BYTES = 1 << 30
COUNT = 12

FORMAT_1 = """
CREATE TABLE letters (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, receiver TEXT NOT NULL,
    method TEXT NOT NULL, key TEXT, sender TEXT NOT NULL, posted_at REAL NOT NULL, expires_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
    state INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    death TEXT NOT NULL DEFAULT '', died_at REAL, args BLOB NOT NULL, kwargs BLOB NOT NULL
);
CREATE INDEX by_receiver ON letters (receiver, state, seq, posted_at);
CREATE INDEX by_death ON letters (died_at) WHERE state = 1;
CREATE INDEX by_expiry ON letters (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE keys (
    key TEXT PRIMARY KEY, id TEXT NOT NULL, done_at REAL, result BLOB
) WITHOUT ROWID;
CREATE INDEX by_end ON keys (done_at);
CREATE INDEX by_result ON keys (done_at) WHERE result IS NOT NULL;
CREATE TABLE clock (
    place INTEGER PRIMARY KEY CHECK (place = 0), boot TEXT NOT NULL, ran REAL NOT NULL,
    wall REAL NOT NULL, own REAL NOT NULL
);
CREATE TABLE subscriptions (
    event TEXT NOT NULL, receiver TEXT NOT NULL, PRIMARY KEY (event, receiver)
) WITHOUT ROWID;
"""


def letter(number: int, padding: int = 0) -> Message:
    """Return a message."""
    args = msgspec.msgpack.encode([number, "x" * padding])
    return Message(
        id=f"{number:016x}",
        receiver="receiver",
        method="take",
        args=args,
        kwargs=b"\x80",
        key=f"k{number}",
        posted_at=1000.0 + number,
        seq=number + 10,
    )


def of_format_1(path: Path) -> Path:
    """Write a file as the former version did, with its last commits in its log."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(FORMAT_1)
    db.execute("PRAGMA user_version = 1")
    for number in range(COUNT):
        one = letter(number)
        db.execute(
            "INSERT INTO letters (seq, id, receiver, method, key, sender, posted_at, args, kwargs) "
            "VALUES (?, ?, ?, ?, ?, '', ?, ?, ?)",
            (one.seq, one.id, one.receiver, one.method, one.key, one.posted_at, one.args, b"\x80"),
        )
        db.execute("INSERT INTO keys VALUES (?, ?, NULL, NULL)", (one.key, one.id))
    db.execute("INSERT INTO keys VALUES ('old', 'first', 900.0, x'a172')")
    db.execute("INSERT INTO clock VALUES (0, 'boot', 1.0, 2.0, 3.0)")
    db.execute("INSERT INTO subscriptions VALUES ('rung', 'bell')")
    saved = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}
    db.close()
    for suffix, content in saved.items():
        Path(f"{path}{suffix}").write_bytes(content)
    return path


@contextlib.contextmanager
def opened(path: Path) -> Any:
    """Open a file and close it again."""
    store = Store(path, MAX_BYTES)
    try:
        yield store
    finally:
        store._db.close()


def holds_all(path: Path) -> None:
    """Show that a file has what `of_format_1` wrote, each row with its checksum."""
    with opened(path) as store:
        cursor = store._db.cursor()
        found, _ = schema.read_waiting(cursor, "receiver", 0, 1000, 1 << 30)
        assert found == [letter(number) for number in range(COUNT)]
        assert schema.get_key(cursor, "old") == ("first", 900.0, b"\xa1r")
        assert schema.get_key(cursor, "k3") == (letter(3).id, None, None)
        clock = schema.get_clock(cursor)
        assert clock is not None
        assert clock.own == 3.0
        assert schema.get_subscriptions(cursor) == {"bell": {"rung"}}
        assert store._db.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_file_of_format_1_is_written_again_and_kept(tmp_path: Path) -> None:
    """With its order, keys, results, clock and subscriptions; an older version can read it."""
    path = of_format_1(tmp_path / "mailbox.db")
    holds_all(path)
    kept = tmp_path / "mailbox.db.v1"
    db = sqlite3.connect(kept)
    assert db.execute("SELECT count(*) FROM letters").fetchone() == (COUNT,)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    holds_all(path)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is done."""


@pytest.mark.parametrize("what", ["migrated", "salvaged"])
def test_a_replacement_that_is_killed_anywhere_loses_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each rename and each sync; the next start goes on with it."""
    rename, fsync = Path.rename, os.fsync
    left = 0

    def step(do: Any, *args: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        result = do(*args)
        left -= 1
        if left == 0:
            raise Killed
        return result

    monkeypatch.setattr(Path, "rename", lambda *args: step(rename, *args))
    monkeypatch.setattr(os, "fsync", lambda *args: step(fsync, *args))
    monkeypatch.setattr(Path, "unlink", _unlink_unless_killed(lambda: left == 0))
    kills = 0
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = of_format_1(folder / "mailbox.db")
        if what == "salvaged":
            flip(path, 60)
            flip(path, 18)
        left = number
        try:
            Store(path, MAX_BYTES)._db.close()
        except Killed:
            kills += 1
        if left > 0:
            break
        left = -1
        holds_all(path)
        assert not [one for one in folder.iterdir() if "next" in one.name]
    assert kills >= 10


def _unlink_unless_killed(is_killed: Any) -> Any:
    unlink = Path.unlink

    def do(path: Path, missing_ok: bool = False) -> None:
        if not is_killed():  # a killed process does not clean up
            unlink(path, missing_ok)

    return do


def flip(path: Path, offset: int, mask: int = 0x40) -> None:
    """Change a byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """Only a damaged number in the header is not a later version."""
    path = of_format_1(tmp_path / "mailbox.db")
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE letters ADD COLUMN colour TEXT")
    db.execute("PRAGMA user_version = 3")
    db.close()
    with pytest.raises(NewerFile, match="format 3"):
        Store(path, MAX_BYTES)
    assert not list(tmp_path.glob("*.damaged*"))


def test_a_damaged_format_number_is_no_later_version(tmp_path: Path) -> None:
    """The tables say which format it is, unless the number may be that of a later one."""
    path = of_format_1(tmp_path / "mailbox.db")
    with opened(path):
        pass
    flip(path, 62)
    holds_all(path)
    flip(path, 63)
    with pytest.raises(NewerFile, match="user_version = 2"):
        Store(path, MAX_BYTES)


def test_all_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask: the file, its log, what is kept; and the log of a file that was open."""
    before = os.umask(0)
    try:
        path = of_format_1(tmp_path / "mailbox.db")
        with opened(path) as store:
            store._transaction([partial(schema.insert, message=letter(90), seq=store.next_seq())])
            names = {one.name for one in tmp_path.iterdir()}
            assert {"mailbox.db", "mailbox.db-wal", "mailbox.db.v1"} <= names
            assert [one.name for one in tmp_path.iterdir() if one.stat().st_mode & 0o077] == []
            path.chmod(0o644)
            path.with_name("mailbox.db-wal").chmod(0o644)
        flip(path, 20)
        with opened(path):
            assert files.damaged_files(path)
            assert [one.name for one in tmp_path.iterdir() if one.stat().st_mode & 0o077] == []
    finally:
        os.umask(before)


def test_only_the_newest_damaged_files_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage again and again does not fill the disk; every removal is in the log."""
    path = tmp_path / "mailbox.db"
    count = files.MAX_KEPT + 2
    for number in range(count):
        with opened(path) as store:
            store._transaction([partial(schema.insert, message=letter(number), seq=number + 1)])
        flip(path, 20)
    with opened(path) as store:
        assert store._db.execute("SELECT count(*) FROM letters").fetchone() == (count,)
    assert len(files.damaged_files(path)) == files.MAX_KEPT
    assert "file.damaged_removed" in caplog.text


async def test_a_page_damaged_in_use_costs_its_own_messages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The mailbox goes on, in a new file; what is lost is named in its log, facts and lists."""
    path = tmp_path / "mailbox.db"
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        away(service)
        count, kept = 1_200, list[str]()
        for first in range(0, count, 200):
            batch = [
                service.post(post(number, "x" * 2_000)) for number in range(first, first + 200)
            ]
            kept += await asyncio.gather(*batch)
        service.store._shrink_file()
        content = path.read_bytes()
        with path.open("r+b") as file:
            for number in (700, 900):  # far behind what is in memory
                file.seek(content.index(kept[number].encode() + b"receivertake") // 4096 * 4096)
                file.write(b"\xff" * 4096)
        back(service)

        async def all_handled() -> bool:
            return not (await service.ls())["receivers"]

        await eventually(all_handled, timeout=30.0)
        state: Any = await service.ls()
        named = {row["id"] for row in state["damaged_messages"]}
        missing = {kept[number] for number in set(range(count)) - set(receiver.taken)}
        assert missing <= named
        assert 0 < state["damaged_count"] == len(named) <= 8
        assert receiver.taken == sorted(set(receiver.taken))
        assert len(state["damaged"]) == 1
        assert (await service._admin.counts())["damaged_messages"] == len(named)
        await service.post(post(count))
        await eventually(lambda: _has(receiver, count))
    assert "mail.damaged " in caplog.text
    assert all(f"mail.damaged_message id={one}" in caplog.text for one in named)


async def _has(receiver: Any, number: int) -> bool:
    return bool(receiver.taken[-1] == number)


async def test_a_row_that_does_not_fit_is_set_aside_and_never_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One byte of its method: it is named, its key is free again, all others are delivered."""
    path = tmp_path / "mailbox.db"
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        away(service)
        ids = [await service.post(post(number, key=f"k{number}")) for number in range(5)]
    content = path.read_bytes()
    at = content.index(ids[2].encode() + b"receiver" + b"take")
    flip(path, at + 16 + 8 + 1, 0x01)  # take → t`ke
    async with mailbox(tmp_path, monkeypatch) as (service, receiver):
        await taken(receiver, [0, 1, 3, 4])
        state: Any = await service.ls()
        assert [row["id"] for row in state["damaged_messages"]] == [ids[2]]
        assert state["damaged"] == []  # the file is in order
        shown = await service.show(ids[2])
        assert (shown["state"], shown["receiver"]) == ("damaged", "receiver")
        assert "t`ke" in shown["fields"]
        monkeypatch.setenv("COLUMNS", "80")
        table.show(*mail._list(mail._merge([state], 20)))
        out = capsys.readouterr().out
        assert ids[2] in out
        assert "1 message damaged" in out
        assert await service.replay([ids[2]]) == 0
        assert await service.post(post(2, key="k2")) != ids[2]
        await taken(receiver, [0, 1, 3, 4, 2])
        assert await service.drop([ids[2]]) == 1
        assert (await service.ls())["damaged_count"] == 0


def test_a_damaged_key_is_remembered_without_its_result(tmp_path: Path) -> None:
    """A second post with it is not delivered."""
    path = tmp_path / "mailbox.db"
    with opened(path) as store:
        first = letter(1)
        store._transaction([partial(schema.insert, message=first, seq=1)])
        store._transaction([partial(schema.acknowledge, message=first, result=b"\xa1r", now=5.0)])
        store._db.execute("UPDATE keys SET result = x'a173'")
        ((found, seq),) = store._transaction(
            [partial(schema.insert, message=letter(1), seq=store.next_seq())]
        )
        assert (found, seq) == (damage.LOST_ID, 0)
