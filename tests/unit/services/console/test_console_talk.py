"""Chats of the console: kept before they are sent, answered once, bounded, forgotten."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.console_visits import EVIL, FakeHost, text_of, visit_of
from tests.support.waiting import until_true

from garrison.ipc import OrderFailed, ServiceLost
from garrison.workers import Service
from garrison.workers.services.console.pages import chat
from garrison.workers.services.console.talk import exchange, rooms
from garrison.workers.services.console.talk.files import RoomFiles
from garrison.workers.services.console.talk.rooms import Room, RoomFull
from garrison.workers.services.console.talk.talks import ROOMS_MOST, Talks
from garrison.workers.testing import run

NAME = "0123456789abcdef"


def room(**fields: Any) -> Room:
    """Return a new chat."""
    return Room(NAME, "chat", 1000, {"room": "r", "person": "lea"}, "Ada", 1.0, 1.0, **fields)


def reply(text: str, *messages: str, number: int = 1) -> dict[str, Any]:
    """Return what the chat service answers."""
    conversation = {"room": "r", "person": "lea", "number": number}
    return {
        "text": text,
        "conversation": conversation,
        "answerer": "Ada",
        "messages": list(messages),
    }


# --- what is decided ------------------------------------------------------------------------


def test_a_line_waits_for_its_answer() -> None:
    """Other texts that arrived meanwhile come before it; what it used is kept with it."""
    before = rooms.posted(room(), "  hello\r\nyou  ", "k", 5.0)
    (line,) = before.waiting
    assert (line.text, line.number, before.title) == ("hello\nyou", 1, "hello you")
    after = rooms.answered(before, 1, reply("hi", "a note"), 6.0, ["NOTIFY: done"], "id")
    assert [(one.who, one.text) for one in after.entries] == [
        ("you", "hello\nyou"),
        ("agent", "a note"),
        ("agent", "hi"),
    ]
    assert (after.waiting, after.conversation["number"]) == ((), 1)
    assert (after.entries[-1].tools, after.entries[-1].record) == (("NOTIFY: done",), "id")
    silent = rooms.answered(before, 1, reply(" "), 6.0)
    assert (silent.entries[-1].who, silent.entries[-1].text) == ("note", "Ada says nothing")


@pytest.mark.parametrize("text", ["", " \n ", "x" * (rooms.LINE_MOST + 1)])
def test_a_line_has_bounds(text: str) -> None:
    """Nothing is not sent."""
    with pytest.raises(ValueError, match=r"write|characters"):
        rooms.posted(room(), text, "", 1.0)


def test_a_form_that_is_sent_twice_is_one_line() -> None:
    """A reload, a second tab: the key decides. So many lines may wait."""
    one = rooms.posted(room(), "a", "k", 1.0)
    assert rooms.posted(one, "a", "k", 2.0) is one
    two = rooms.posted(one, "a", "other", 2.0)
    assert len(two.waiting) == 2
    for number in range(rooms.WAITING_MOST - 2):
        two = rooms.posted(two, "a", f"k{number}", 2.0)
    with pytest.raises(RoomFull):
        rooms.posted(two, "a", "last", 2.0)


def test_a_chat_is_bounded() -> None:
    """The oldest texts go first, never a line that waits."""
    full = rooms.posted(room(), "first", "", 1.0)
    for number in range(rooms.ENTRIES_MOST + 20):
        full = rooms.with_texts(full, [f"text {number}"], 2.0)
    assert full.entries[0].text == "first"
    assert len(full.entries) == rooms.ENTRIES_MOST + 1
    for _ in range(10):
        full = rooms.with_texts(full, ["x" * 2 * rooms.TEXT_MOST], 2.0)
    assert sum(len(one.text) for one in full.entries) <= rooms.CHARACTERS_MOST + len("first")
    assert full.waiting[0].text == "first"


def test_a_failed_line_can_be_sent_again() -> None:
    """Others cannot."""
    before = rooms.failed(rooms.posted(room(), "a", "", 1.0), 1, "no agent")
    assert (before.waiting, before.entries[0].problem) == ((), "no agent")
    assert rooms.again(before, 1).waiting[0].text == "a"
    assert rooms.again(before, 7) is before
    noted = rooms.noted(before, "restarted", 2.0)
    assert rooms.noted(noted, "restarted", 3.0) is noted


@pytest.mark.parametrize(
    ("texts", "kept"), [(["a"], []), (["a", "c"], ["c"]), (["a\nb"], []), (["b\nc"], ["b\nc"])]
)
def test_parts_of_an_answer_are_no_texts_of_their_own(texts: list[str], kept: list[str]) -> None:
    """A chat service that was restarted during a line passes them on."""
    assert rooms.without_answers(texts, "a\nb") == kept


def test_files_keep_a_chat(tmp_path: Path) -> None:
    """Readable by their user alone; a damaged one is left; no name leads elsewhere."""
    files = RoomFiles(tmp_path / "talk")
    assert files.read() == []
    kept = rooms.posted(room(), EVIL, "k", 1.0)
    files.write(kept)
    path = tmp_path / "talk" / f"{NAME}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "talk" / "fedcba9876543210.json").write_text("{")
    assert files.read() == [kept]
    with pytest.raises(ValueError, match="not the id"):
        files.delete("../../x")
    files.delete(NAME)
    assert files.read() == []


# --- exchanges ------------------------------------------------------------------------------


class Chat:
    """Answers in capitals once it may; counts what it gets."""

    service_type = "chat"

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.texts: asyncio.Queue[str] = asyncio.Queue()

    async def greeting(self) -> dict[str, Any]:
        return {"text": "Hello", "conversation": {"room": "r"}, "answerer": "Ada"}

    async def say(self, text: str, conversation: dict[str, Any] | None = None) -> dict[str, Any]:
        self.lines.append((text, conversation))
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        number = (conversation or {}).get("number", 0) + 1
        return reply(text.upper(), number=number)

    async def listen(self, room_id: str) -> AsyncIterator[str]:
        while True:
            yield await self.texts.get()


class Agent:
    """Has a record of one answer."""

    service_type = "agent"

    def __init__(self) -> None:
        self.details: list[dict[str, Any]] = []

    async def answers(self, wanted: str = "", limit: int = 20) -> dict[str, Any]:
        return {"answers": [], "details": self.details}


class Console(Service):
    """The service that has the chats."""

    service_type = "console"


@pytest.fixture
async def chat_service() -> Chat:
    """Return a fake chat service."""
    return Chat()


@pytest.fixture
async def agent() -> Agent:
    """Return a fake agent."""
    return Agent()


@pytest.fixture
async def talks(
    tmp_path: Path, chat_service: Chat, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Talks]:
    """Return the chats of a console."""
    monkeypatch.setattr(exchange, "FIRST_S", 0.01)
    monkeypatch.setattr(exchange, "POLL_S", 0.01)
    monkeypatch.setattr("garrison.workers.runtime.Runtime.data_folder", tmp_path)
    fakes = {"chat": chat_service, "agent": agent}
    async with run(Console, fakes=fakes) as service:
        talks = Talks(service.runtime)
        await talks.start()
        yield talks


async def post(talk: exchange.Exchange, text: str) -> None:
    """Send a line as a page does."""
    await talk.update(lambda room: rooms.posted(room, text, "", 1.0))


def texts(talk: exchange.Exchange) -> list[str]:
    """Return what a chat has."""
    return [one.text for one in talk.room.entries]


async def test_a_line_is_on_disk_before_it_is_answered(talks: Talks, chat_service: Chat) -> None:
    """A console that was killed sends it again, with the same conversation; it is kept once."""
    chat_service.gate.clear()
    talk = await talks.begin("", 1000, "lea")
    await post(talk, "one")
    await post(talk, "two")
    again = Talks(talks._runtime)
    await again.start()
    found = again.find(talk.room.id, 1000)
    await until_true(lambda: len(chat_service.lines) == 2)
    assert chat_service.lines[0] == chat_service.lines[1]
    assert chat_service.lines[0][1] == {"room": "r", "person": "lea", "name": "lea"}
    chat_service.gate.set()
    await until_true(lambda: not found.room.waiting)
    assert texts(found) == ["Hello", "one", "two", "ONE", "TWO"]
    assert chat_service.lines[-1][1]["number"] == 1


async def test_a_line_is_sent_again_until_its_agent_is_back(
    talks: Talks, chat_service: Chat, agent: Agent
) -> None:
    """What the service says for good fails the line; it can be sent again by hand."""
    talk = await talks.begin("chat", 1000, "lea")
    chat_service.errors = [
        ServiceLost("agent", "process_actions", "its process ended"),
        LookupError("no agent"),
    ]
    await post(talk, "one")
    await until_true(lambda: not talk.room.waiting)
    assert len(chat_service.lines) == 2
    line = talk.room.entries[-1]
    assert (line.state, line.problem) == ("failed", "no agent")
    await talk.update(lambda room: rooms.again(room, line.number))
    await until_true(lambda: "ONE" in texts(talk))


async def test_parts_and_tools_are_shown_while_they_happen(
    talks: Talks, chat_service: Chat, agent: Agent
) -> None:
    """From the agent's record; afterwards the answer has what it used."""
    chat_service.gate.clear()
    talk = await talks.begin("chat", 1000, "lea")
    seen = list[exchange.Progress]()

    async def watch() -> None:
        async for _ in talk.changes():
            seen.append(talk.progress)

    watching = asyncio.create_task(watch())
    await post(talk, "one")
    step = {"kind": "run", "name": "NOTIFY", "state": "done"}
    parts = [{"text": EVIL}, {"text": ""}]
    agent.details = [{"heard_at": 2.0, "id": "m1", "steps": [step], "parts": parts}]
    await until_true(lambda: bool(talk.progress.parts))
    assert talk.progress == exchange.Progress("", (EVIL,), ("NOTIFY: done",))
    visit = visit_of(FakeHost([], {}), path={"room": talk.room.id}, talks=talks)
    stream = chat._parts(visit, talk)
    first = await anext(stream)
    assert "&lt;script&gt;" in first
    assert "<script>" not in first
    chat_service.gate.set()
    await until_true(lambda: not talk.room.waiting)
    assert (talk.room.entries[-1].tools, talk.room.entries[-1].record) == (("NOTIFY: done",), "m1")
    following = await anext(stream)
    assert 'hx-swap="beforeend"' in following
    assert "NOTIFY: done" in following
    await cast(Any, stream).aclose()
    chat_service.texts.put_nowait("by itself")
    await until_true(lambda: texts(talk)[-1] == "by itself")
    watching.cancel()
    assert len(seen) >= 3


async def test_chats_belong_to_their_users(talks: Talks) -> None:
    """Each has a number of them; those of a person are forgotten and exported."""
    mine = await talks.begin("", 1000, "lea")
    await talks.begin("", 0, "root")
    with pytest.raises(OrderFailed):
        talks.find(mine.room.id, 0)
    assert [one.id for one in talks.rooms_of(1000)] == [mine.room.id]
    for _ in range(ROOMS_MOST):
        await talks.begin("", 1000, "lea")
    assert len(talks.rooms_of(1000)) == ROOMS_MOST
    with pytest.raises(OrderFailed):
        talks.find(mine.room.id, 1000)
    rows = [row async for row in talks.export_person("chat", "lea")]
    assert [row["text"] for row in rows] == ["Hello"] * ROOMS_MOST
    assert await talks.forget_person("chat", "lea") == ROOMS_MOST
    assert (talks.rooms_of(1000), len(talks.rooms_of(0))) == ([], 1)
    with pytest.raises(OrderFailed, match="no chat service x"):
        await talks.begin("x", 1000, "lea")


async def test_a_chat_that_waits_is_not_forgotten(talks: Talks, chat_service: Chat) -> None:
    """A silent one goes in its place; where all wait, no other is begun."""
    chat_service.gate.clear()
    silent = await talks.begin("", 1000, "lea")
    for _ in range(ROOMS_MOST):
        await post(await talks.begin("", 1000, "lea"), "one")
    assert len(talks.rooms_of(1000)) == ROOMS_MOST
    with pytest.raises(OrderFailed, match="no such chat"):
        talks.find(silent.room.id, 1000)
    with pytest.raises(OrderFailed, match="wait for their answers"):
        await talks.begin("", 1000, "lea")


async def test_pages_of_chats(talks: Talks, chat_service: Chat) -> None:
    """Texts stay text; a form with a script gets a new form, one without the page."""
    chat_service.texts.put_nowait("x")
    form = {"text": EVIL, "key": "k"}
    answer = await chat.begin(visit_of(FakeHost([], {}), talks=talks, form=form))
    room_id = answer.headers["location"].removeprefix("/chat/").removesuffix("#end")
    (kept,) = talks.rooms_of(1000)
    assert (kept.id, len(kept.entries)) == (room_id, 3)
    text = text_of(
        await chat.show_room(visit_of(FakeHost([], {}), talks=talks, path={"room": room_id}))
    )
    assert "&lt;script&gt;" in text
    text_of(await chat.show(visit_of(FakeHost([], {}), talks=talks)))
    path = {"room": room_id}
    again = visit_of(FakeHost([], {}), talks=talks, path=path, form=form, part=True)
    part = text_of(await chat.say(again))
    assert part.lstrip().startswith('<form id="composer"')
    assert len(talks.rooms_of(1000)[0].entries) == 3
    long = {"text": f"{EVIL}{'x' * rooms.LINE_MOST}", "key": "long"}
    refused = visit_of(FakeHost([], {}), talks=talks, path=path, form=long, part=True)
    part = text_of(await chat.say(refused))
    assert 'role="alert"' in part
    assert "&lt;script&gt;" in part  # what was written stays in the form
    readonly = visit_of(FakeHost([], {}), talks=talks, path=path, readonly=True)
    assert "<textarea" not in text_of(await chat.show_room(readonly))
    sure = visit_of(FakeHost([], {}), talks=talks, path=path, form={"sure": "yes"})
    page = text_of(await chat.forget(visit_of(FakeHost([], {}), talks=talks, path=path)))
    assert 'name="sure"' in page
    assert (await chat.forget(sure)).headers["location"] == "/chat"
    assert talks.rooms_of(1000) == []
