"""`garrison chat` at the terminal's end: what is heard within a line is shown once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from garrison.ipc import Client, ServiceProxy
from garrison.supervisor.cli import chat as chatting
from garrison.supervisor.cli.chat import ChatSession, Terminal


class Chat:
    """A chat service whose answer waits until the test lets it go."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.said, self.go = asyncio.Event(), asyncio.Event()
        self.coming: asyncio.Queue[str] = asyncio.Queue()

    async def greeting(self) -> dict[str, Any]:
        return {"text": "Hello", "conversation": {"room": "r"}, "answerer": "Ada"}

    async def say(self, text: str, conversation: Any) -> dict[str, Any]:
        self.said.set()
        await self.go.wait()
        reply = {"text": self._answer, "conversation": conversation, "answerer": "Ada"}
        return {**reply, "messages": ["besides"]}

    async def listen(self, room: str) -> AsyncIterator[str]:
        while True:
            yield await self.coming.get()
            self.coming.task_done()


class Alone:
    """A client that sees nobody else."""

    supervisor_gone = False
    is_alone = False


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("yes", ["Ada: Hello", "Ada: fire", "Ada: besides", "Ada: yes"]),
        ("well\nyes", ["Ada: Hello", "Ada: fire", "Ada: besides", "Ada: well", "yes"]),
        ("no", ["Ada: Hello", "Ada: yes", "Ada: fire", "Ada: besides", "Ada: no"]),
        ("", ["Ada: Hello", "Ada: yes", "Ada: fire", "Ada: besides", "(Ada says nothing)"]),
    ],
)
async def test_what_is_heard_within_a_line_waits_and_its_answer_is_shown_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    shown: list[str],
) -> None:
    """A chat service that was born within the line takes the answer for something else."""
    monkeypatch.setattr(chatting, "with_timeout", lambda service, _: service)
    chat = Chat(answer)
    talk = ChatSession(cast("Client", Alone()), cast("ServiceProxy", chat), Terminal())
    await talk.greet()
    listening = asyncio.create_task(talk.listen())
    saying = asyncio.create_task(talk.say("well?"))
    await asyncio.wait_for(chat.said.wait(), 10)
    for text in ("yes", "fire"):
        await chat.coming.put(text)
    await asyncio.wait_for(chat.coming.join(), 10)
    chat.go.set()
    await asyncio.wait_for(saying, 10)
    listening.cancel()
    assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.parametrize("is_people", [True, False])
async def test_people_are_told_that_an_answer_takes_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_people: bool
) -> None:
    """Once, and not where a program reads."""
    monkeypatch.setattr(chatting, "with_timeout", lambda service, _: service)
    monkeypatch.setattr(chatting, "STILL_S", 0.0)
    chat, terminal = Chat("yes"), Terminal()
    terminal.is_people = is_people
    talk = ChatSession(cast("Client", Alone()), cast("ServiceProxy", chat), terminal)
    saying = asyncio.create_task(talk.say("well?"))
    await asyncio.wait_for(chat.said.wait(), 10)
    asyncio.get_running_loop().call_later(0.01, chat.go.set)
    await asyncio.wait_for(saying, 10)

    told = [line for line in capsys.readouterr().out.splitlines() if "still waiting" in line]
    assert len(told) == is_people


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x07\x9bc\r", "a [31mb  c "),
        ("two\nlines\there", "two\nlines\there"),
        ("👩‍💻 ok", "👩‍💻 ok"),
    ],
)
def test_nothing_that_is_said_moves_the_cursor(text: str, shown: str) -> None:
    assert chatting._plain(text) == shown
