"""What the poster of a dead letter learns: its `dead_letter` is called once, or an event."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.support.waiting import eventually

from garrison.ipc import PostRequest
from garrison.workers import DeadLetter
from garrison.workers.process.methods import describe
from garrison.workers.runtime import Runtime
from garrison.workers.services.mailbox import MailboxService
from garrison.workers.testing import run


class Receiver:
    """Refuses everything."""

    service_type = "receiver"

    async def take(self, number: int, of: str = "") -> None:
        """Refuse it."""
        raise ValueError("not this one")


class Late:
    """Refuses everything, until a test sets what to refuse."""

    service_type = "late"

    def __init__(self) -> None:
        self.refuses: set[int] | None = None

    async def take(self, number: int, of: str = "") -> None:
        """Take it or not."""
        if self.refuses is None or number in self.refuses:
            raise ValueError("not this one")


class Poster:
    """Records the dead letters."""

    service_type = "poster"

    def __init__(self) -> None:
        self.told: list[tuple[DeadLetter, str]] = []
        self.problems: list[Exception] = []
        self.calls = 0

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Record it."""
        self.calls += 1
        if self.problems:
            raise self.problems.pop(0)
        self.told.append((mail, reason))

    async def take(self, number: int, of: str = "") -> None:
        """Refuse it."""
        raise ValueError("nor this")


class Mute:
    """Posts, and has no `dead_letter`."""

    service_type = "mute"


@asynccontextmanager
async def mailbox(
    folder: Path, monkeypatch: pytest.MonkeyPatch, poster: Poster, late: Late | None = None
) -> AsyncIterator[tuple[MailboxService, list[tuple[str, Any]]]]:
    """Yield a mailbox of which each message has one attempt, and the events that it emits."""
    monkeypatch.setattr(Runtime, "data_folder", folder)
    monkeypatch.setattr("garrison.workers.services.mailbox.retry.INITIAL_BACKOFF_S", 0.001)
    events: list[tuple[str, Any]] = []
    fakes = {"receiver": Receiver(), "late": late or Late(), "poster": poster, "mute": Mute()}
    async with run(MailboxService, fakes=fakes, config={"max_attempts": 1}) as service:
        runtime: Any = service.runtime

        async def emit(event: str, payload: Any) -> None:
            events.append((event, payload))

        runtime.emit_event = emit
        yield service, events


def post(number: int, sender: str, receiver: str = "receiver", **options: Any) -> PostRequest:
    """Return a message for the receiver."""
    args = Raw(msgspec.msgpack.encode([number]))
    kwargs = Raw(msgspec.msgpack.encode({"of": "seven"}))
    return PostRequest(receiver, "take", args, kwargs, sender=sender, **options)


async def letters(service: MailboxService, count: int) -> list[dict[str, Any]]:
    """Return the messages on disk once they are all dead letters."""
    found: list[dict[str, Any]] = []

    async def dead() -> bool:
        found[:] = (await service.ls())["letters"]
        return [row["state"] for row in found] == ["dead"] * count

    await eventually(dead, what=f"{count} dead letters")
    return found


async def test_a_poster_is_called_once_with_the_dead_letter_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its arguments, key and lane; also of a message that dies again after a replay."""
    poster = Poster()
    async with mailbox(tmp_path, monkeypatch, poster) as (service, events):
        dead_id = await service.post(post(1, "poster", key="k", lane="room"))

        async def told() -> bool:
            return bool(poster.told)

        await eventually(told)
        await letters(service, 1)
        ((mail, reason),) = poster.told
        assert (mail.id, mail.service, mail.method) == (dead_id, "receiver", "take")
        assert (mail.args, mail.kwargs) == ([1], {"of": "seven"})
        assert (mail.key, mail.lane) == ("k", "room")
        assert mail.posted_at > 1e9
        assert reason.startswith("1 attempt failed: receiver.take raised ValueError")
        assert await service.replay() == 1
        await letters(service, 1)
        assert poster.calls == 1
        assert events == []


async def test_a_notice_that_fails_makes_no_further_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a dead letter itself, which an operator can replay; other messages do not wait."""
    poster = Poster()
    poster.problems = [RuntimeError("broken")]
    async with mailbox(tmp_path, monkeypatch, poster) as (service, events):
        await service.post(post(1, "poster"))
        rows = await letters(service, 2)
        assert [row["method"] for row in rows] == ["take", "$dead_letter"]
        assert (poster.calls, poster.told, events) == (1, [], [])
        await service.replay([rows[1]["id"]])

        async def told() -> bool:
            return bool(poster.told)

        await eventually(told)


@pytest.mark.parametrize("sender", ["mute", "a-client", ""])
async def test_a_poster_that_cannot_be_called_makes_an_event(
    sender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no service, or has no `dead_letter`. The event has no arguments."""
    async with mailbox(tmp_path, monkeypatch, Poster()) as (service, events):
        dead_id = await service.post(post(1, sender, key="k"))

        async def emitted() -> bool:
            return bool(events)

        await eventually(emitted)
        ((event, payload),) = events
        assert event == "mail.dead_letter"
        assert payload.pop("reason").startswith("1 attempt failed")
        assert payload == {
            "id": dead_id,
            "service": "receiver",
            "method": "take",
            "key": "k",
            "lane": None,
            "sender": sender,
        }
        await letters(service, 1)


async def test_a_notice_survives_a_restart_and_is_void_once_its_dead_letter_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written in the commit that makes the dead letter."""
    poster = Poster()
    async with mailbox(tmp_path, monkeypatch, poster) as (service, _):
        client: Any = service.runtime.client
        there = client.generation_of
        client.generation_of = lambda name: 0 if name == "poster" else there(name)
        dropped = await service.post(post(1, "poster"))
        kept = await service.post(post(2, "poster"))

        async def dead() -> bool:
            rows = (await service.ls())["letters"]
            return [row["state"] for row in rows].count("dead") == 2

        await eventually(dead)
        await service.drop([dropped])
        assert poster.calls == 0
    async with mailbox(tmp_path, monkeypatch, poster) as (service, _):
        (row,) = await letters(service, 1)
        assert row["id"] == kept
        assert [mail.id for mail, _ in poster.told] == [kept]


def test_dead_letter_is_in_no_manifest() -> None:
    """Only the mailbox calls it."""
    manifest, methods = describe(Poster)
    assert [info.name for info in manifest.methods] == ["take"] == list(methods)


async def test_what_became_of_a_replay_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handled, dead again with its new reason, dropped; gone is what was not replayed."""
    late = Late()
    async with mailbox(tmp_path, monkeypatch, Poster(), late) as (service, _):
        ids = [await service.post(post(number, "mute", "late")) for number in (1, 2, 3)]
        await letters(service, 3)
        outcomes = [row["state"] for row in await service.outcomes([*ids, "unknown"])]
        assert outcomes == ["dead", "dead", "dead", "gone"]
        late.refuses = {2}
        assert await service.replay(ids[:2]) == 2

        async def ended() -> bool:
            found = await service.outcomes(ids[:2])
            return [row["state"] for row in found] == ["handled", "dead"]

        await eventually(ended)
        (again,) = await service.outcomes([ids[1]])
        assert "not this one" in again["reason"]
        await service.replay(ids[2:])
        await service.drop(ids[1:])
        assert (await service.outcomes([ids[1]]))[0]["state"] == "dropped"
        assert (await service.outcomes([ids[2]]))[0]["state"] in {"handled", "dropped"}
