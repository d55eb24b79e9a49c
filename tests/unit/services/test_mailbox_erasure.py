"""What the mailbox has of a person is exported, erased, and erased again after a restore."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from garrison.ipc import PostRequest
from garrison.ipc.tombstones import Tombstones
from garrison.workers import Content, Memory, Processed
from garrison.workers.runtime import Runtime
from garrison.workers.services.mailbox import FILE, MailboxService, schema
from garrison.workers.testing import run

SECRET = "my sister lives in Ghent"


class Away:
    """A receiver that handles nothing yet."""

    service_type = "agent"

    async def process_actions(self, memory: Any) -> None:
        """Never called: the tests have it look stopped."""


@asynccontextmanager
async def mailbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tombstones: Tombstones | None = None
) -> AsyncIterator[MailboxService]:
    """Yield a mailbox with its file in a folder, whose receivers do not run."""
    monkeypatch.setattr(Runtime, "data_folder", folder)
    monkeypatch.setattr("garrison.ipc.client.Client.generation_of", lambda *_: 0)
    if tombstones is not None:
        monkeypatch.setattr("garrison.workers.runtime.Tombstones", lambda: tombstones)
    async with run(MailboxService, fakes={"agent": Away()}) as service:
        yield service


def post(person: str, text: str, source: str = "discord") -> PostRequest:
    """Return a message of a person for the agent."""
    memory = Memory(content=Content(text, source=source), id=text, entity_id=person)
    return PostRequest("agent", "process_actions", Raw(msgspec.msgpack.encode([memory])))


def answer(source: str) -> bytes:
    """Return the kept result of a message that was answered."""
    response = Memory(content=Content(SECRET, source=source), entity_id="agent")
    return msgspec.msgpack.encode(Processed([response]))


async def fill(service: MailboxService) -> list[str]:
    """Post a waiting message and a dead one of a person, and one of each of two others."""
    ids = [
        await service.post(post("42", SECRET)),
        await service.post(post("42", f"dead {SECRET}")),
        await service.post(post("43", "hello")),
        await service.post(post("42", "telegram", "telegram")),
    ]
    store = service.store
    await store.execute(lambda at: at.execute("SELECT 1").fetchall())

    def die(at: Any) -> None:
        message = schema.get_message(at, ids[1])
        assert message is not None
        message.state = 1
        schema.update(at, message)
        for key, result in (
            ("own", answer("discord")),
            ("other", answer("telegram")),
            ("plain", msgspec.msgpack.encode("done")),
        ):
            schema.insert_key(at, (key, "1", 1.0, result))

    await store.execute(die)
    return ids


def bytes_of(folder: Path) -> bytes:
    """Return all bytes of the files in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


async def waiting(service: MailboxService) -> list[str]:
    """Return the ids of all messages."""
    return sorted(row["id"] for row in (await service.ls())["letters"])


async def test_waiting_messages_dead_letters_and_kept_answers_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the person on that platform; no byte stays on the disk, and the keys are known."""
    async with mailbox(tmp_path, monkeypatch) as service:
        ids = await fill(service)
        rows = [row async for row in service.export_person("discord", "42")]
        assert [row["store"] for row in rows] == ["waiting messages", "dead messages"]
        assert rows[0]["args"][0]["content"]["text"] == SECRET

        counts = await service.forget_person("discord", "42")

        assert counts == {"messages": 2, "damaged": 0, "results": 1}
        assert await waiting(service) == sorted(ids[2:])
        assert (await service.result("own"))["result"] is None
        assert (await service.result("own"))["known"]
        assert (await service.result("plain"))["result"] == "done"
        left = bytes_of(tmp_path)
        assert left.count(SECRET.encode()) == 1  # the answer to a message of the other platform
        assert sum((await service.forget_person("discord", "42")).values()) == 0
        # It goes on as before.
        assert await service.post(post("44", "next"))


async def test_a_restored_mailbox_is_cleaned_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is delivered."""
    backup, folder = tmp_path / "backup.db", tmp_path / "data"
    folder.mkdir()
    async with mailbox(folder, monkeypatch) as service:
        ids = await fill(service)
    shutil.copy(folder / FILE, backup)
    shutil.copy(backup, folder / FILE)
    tombstones = Tombstones(b"salt").adding(("discord",), "42", at=2e9)

    async with mailbox(folder, monkeypatch, tombstones) as service:
        assert await waiting(service) == sorted(ids[2:])
        assert SECRET.encode() not in bytes_of(folder)
        late = await service.post(post("42", "I am back"))
    async with mailbox(folder, monkeypatch, tombstones) as service:
        assert late in await waiting(service)  # the file has their mark: it was not looked through


async def test_the_record_of_a_damaged_message_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the bytes that could be read of it."""
    async with mailbox(tmp_path, monkeypatch) as service:
        lost = await service.post(post("42", SECRET))
        await service.store.execute(
            lambda at: at.execute("UPDATE letters SET posted_at = 7 WHERE id = ?", (lost,)).rowcount
        )
        await service.show(lost)
        rows = [row async for row in service.export_person("discord", "42")]
        assert [row["store"] for row in rows] == ["damaged messages"]

        assert (await service.forget_person("discord", "42"))["damaged"] == 1
        assert SECRET.encode() not in bytes_of(tmp_path)
