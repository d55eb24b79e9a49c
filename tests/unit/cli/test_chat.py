"""`garrison chat` at the terminal: each message is shown once, and cannot control the terminal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from garrison.ipc import Client, ServiceProxy
from garrison.supervisor.cli import chat as chatting
from garrison.supervisor.cli.chat import ChatSession, Terminal
from garrison.supervisor.cli.output import Invocation
from garrison.supervisor.cli.render.text import sanitize


class Chat:
    """A chat service that answers once the test sets `go`."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.received, self.go = asyncio.Event(), asyncio.Event()
        self.coming: asyncio.Queue[str] = asyncio.Queue()

    async def greeting(self) -> dict[str, Any]:
        return {"text": "Hello", "conversation": {"room": "r"}, "answerer": "Ada"}

    async def say(self, text: str, conversation: Any) -> dict[str, Any]:
        self.received.set()
        await self.go.wait()
        reply = {"text": self._answer, "conversation": conversation, "answerer": "Ada"}
        return {**reply, "messages": ["besides"]}

    async def listen(self, room: str) -> AsyncIterator[str]:
        while True:
            yield await self.coming.get()
            self.coming.task_done()


class FakeClient:
    """A client of a directory without other services."""

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
async def test_messages_during_a_line_are_held_and_its_answer_is_shown_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    shown: list[str],
) -> None:
    """A chat service that started during the line may pass its answer on as a message, too."""
    monkeypatch.setattr(chatting, "with_timeout", lambda service, _: service)
    chat = Chat(answer)
    session = ChatSession(
        Invocation(), cast("Client", FakeClient()), cast("ServiceProxy", chat), Terminal()
    )
    await session.greet()
    listening = asyncio.create_task(session.listen())
    saying = asyncio.create_task(session.say("well?"))
    await asyncio.wait_for(chat.received.wait(), 10)
    for text in ("yes", "fire"):
        await chat.coming.put(text)
    await asyncio.wait_for(chat.coming.join(), 10)
    chat.go.set()
    await asyncio.wait_for(saying, 10)
    listening.cancel()
    assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.parametrize("interactive", [True, False])
async def test_a_slow_answer_is_noted_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], interactive: bool
) -> None:
    """Once, and not in a pipe."""
    monkeypatch.setattr(chatting, "with_timeout", lambda service, _: service)
    monkeypatch.setattr(chatting, "SLOW_S", 0.0)
    chat, terminal = Chat("yes"), Terminal()
    terminal.interactive = interactive
    session = ChatSession(
        Invocation(), cast("Client", FakeClient()), cast("ServiceProxy", chat), terminal
    )
    saying = asyncio.create_task(session.say("well?"))
    await asyncio.wait_for(chat.received.wait(), 10)
    asyncio.get_running_loop().call_later(0.01, chat.go.set)
    await asyncio.wait_for(saying, 10)

    notes = [line for line in capsys.readouterr().out.splitlines() if "still waiting" in line]
    assert len(notes) == interactive


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x07\x9bc\r", "a [31mb  c "),
        ("two\nlines\there", "two\nlines\there"),
        ("👩‍💻 ok", "👩‍💻 ok"),
        ("abc\u202edef\u2028x\ud800", "abc def x "),
    ],
)
def test_a_message_cannot_control_the_terminal(text: str, shown: str) -> None:
    """Control characters become blanks; line breaks, tabs and joined emoji stay."""
    assert sanitize(text, lines=True) == shown
