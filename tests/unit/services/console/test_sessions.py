"""Sessions of browsers: whose end them, when they count, and what of a file is believed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.console_visits import FakeHost, visit_of
from tests.support.waiting import PATIENCE

from garrison.ipc import OrderFailed
from garrison.workers.services.console.sessions import SESSIONS_MOST, Session, Sessions
from garrison.workers.services.console.streams import EventStream, Streams

OWNER, COLLEAGUE = Session(1000, "lea", True), Session(2000, "mia", False)


def test_many_logins_of_one_user_end_no_other_session(tmp_path: Path) -> None:
    """Those of that user are ended, the oldest first."""
    sessions = Sessions(tmp_path, 3600.0)
    owner = sessions.begin(OWNER)
    words = [sessions.begin(COLLEAGUE) for _ in range(SESSIONS_MOST * 2)]

    assert sessions.find(owner) is not None
    assert sessions.find(words[0]) is None
    assert sessions.find(words[-1]) is not None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[1]", b'[{"id": 1}]', b"null", b"[" * 100_000, b"0" * (2 << 20)]
)
def test_a_damaged_file_is_no_session(tmp_path: Path, text: bytes) -> None:
    """Who was logged in logs in again."""
    (tmp_path / "sessions.json").write_bytes(text)
    sessions = Sessions(tmp_path, 3600.0)

    assert sessions.find("") is None
    assert sessions.find(sessions.begin(OWNER)) is not None


def test_a_session_that_was_ended_holds_no_more(tmp_path: Path) -> None:
    """Neither does one of no browser."""
    sessions = Sessions(tmp_path, 3600.0)
    word = sessions.begin(OWNER)
    session = sessions.find(word)
    assert session is not None
    assert sessions.holds(session)

    sessions.end(word)

    assert not sessions.holds(session)
    assert not sessions.holds(OWNER)


async def test_a_stream_ends_with_its_session() -> None:
    """Nothing is sent to a tab whose user has logged out in another one."""
    sent, logged_in = list[str](), [True]

    async def parts() -> AsyncIterator[str]:
        yield "before"
        logged_in.clear()
        yield "after"
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b"").decode())

    async def receive() -> Any:
        await asyncio.Event().wait()

    stream = EventStream(Streams(), parts(), lambda error: str(error), lambda: bool(logged_in))
    async with asyncio.timeout(PATIENCE):
        await stream({"type": "http", "path": "/"}, receive, send)

    assert "before" in "".join(sent)
    assert "after" not in "".join(sent)


async def test_words_of_a_verb_are_text() -> None:
    """A word would end at a character 0: another service than the one that was named."""
    with pytest.raises(OrderFailed, match="no text"):
        await visit_of(FakeHost([], {})).verb("why", "--", "echo\0else")
