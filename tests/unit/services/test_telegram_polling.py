"""The telegram service's loop of polls: what is confirmed when, order of chats, failures."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import telegram
import telegram.error
from tests.support.waiting import eventually

from garrison.workers import PermanentFailure
from garrison.workers.services.telegram import polling
from garrison.workers.services.telegram.config import Config
from garrison.workers.services.telegram.lanes import Lanes
from garrison.workers.services.telegram.polling import Poller

BUSY = 77  # a chat whose updates take long


def update(number: int, chat: int) -> telegram.Update:
    """Return an update of a chat."""
    about = {"message_id": number, "date": 1, "chat": {"id": chat, "type": "private"}, "text": "x"}
    found = telegram.Update.de_json({"update_id": number, "message": about}, None)
    assert found is not None
    return found


class Api:
    """Telegram's `getUpdates`, and the bot's loop over it."""

    def __init__(self, *updates: telegram.Update) -> None:
        self.kept = list(updates)
        self.failures: list[Exception] = []
        self.offsets: list[int] = []
        self.handled: list[int] = []
        self.links: list[str] = []
        self.warnings: list[str | None] = []
        self.go_on = asyncio.Event()
        self._spawned: set[asyncio.Task[Any]] = set()
        lanes = Lanes(self._handle, self._spawn)
        runtime: Any = SimpleNamespace(warn=lambda _, text: self.warnings.append(text))
        connection: Any = SimpleNamespace(client=self, polled_at=0.0)
        self.lanes = lanes
        self.poller = Poller(
            runtime, Config(), connection, telegram, lanes, lambda: None, self.links.append
        )

    async def get_updates(self, offset: int, **_: Any) -> tuple[telegram.Update, ...]:
        """Return what is kept from an offset on, or fail."""
        await asyncio.sleep(0)
        self.offsets.append(offset)
        if self.failures:
            raise self.failures.pop(0)
        self.kept = [one for one in self.kept if one.update_id >= offset]
        if not self.kept:
            await asyncio.Event().wait()  # a long poll
        return tuple(self.kept)

    async def _handle(self, one: telegram.Update) -> None:
        assert one.effective_chat is not None
        if one.effective_chat.id == BUSY:
            await self.go_on.wait()
        if one.update_id == 13:
            raise ValueError("an update that cannot be read")
        self.handled.append(one.update_id)

    def _spawn(self, work: Any, name: str = "", essential: bool = False) -> None:
        task = asyncio.ensure_future(work)
        self._spawned.add(task)


async def running(api: Api, until: Callable[[], bool]) -> None:
    """Poll until something is so."""

    async def is_so() -> bool:
        return until()

    loop = asyncio.ensure_future(api.poller.run())
    try:
        await eventually(is_so)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that the loop would have waited for."""
    found: list[float] = []

    async def noted(seconds: float) -> None:
        found.append(seconds)
        await asyncio.sleep(0)

    names = {name: getattr(asyncio, name) for name in ("timeout", "Event", "Future")}
    monkeypatch.setattr(polling, "asyncio", SimpleNamespace(sleep=noted, **names))
    return found


async def test_a_chat_that_takes_long_delays_no_other() -> None:
    """Its update is not confirmed, nor is any later one; the others are handled meanwhile."""
    api = Api(update(10, BUSY), update(11, 2), update(12, BUSY), update(13, 3), update(14, 3))
    await running(api, lambda: api.handled == [11, 14])
    assert set(api.offsets) == {0, 10}
    assert api.lanes.failed == 1  # what cannot be read does not stop the rest
    api.go_on.set()
    await running(api, lambda: not api.kept)
    assert api.handled == [11, 14, 10, 12]
    assert api.offsets[-1] == 15


async def test_failures_are_tried_again_more_slowly(waits: list[float]) -> None:
    """One that is over leaves no warning."""
    api = Api(update(10, 2))
    outage = telegram.error.NetworkError("Bad Gateway")
    api.failures = [outage, outage, outage, telegram.error.TimedOut()]
    await running(api, lambda: api.handled == [10])
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert api.warnings[0] == "Telegram cannot be reached: Bad Gateway; it is tried again"
    assert api.warnings[-1] is None


async def test_another_process_that_polls(waits: list[float]) -> None:
    """The first conflict may be a poll of a process that has ended; then it is shown. Polls become
    rare, and three that return in a row end it."""
    conflict = telegram.error.Conflict("terminated by other getUpdates request")
    api = Api()
    api.failures = [conflict] * 6
    for number in (10, 11, 12):
        api.kept.append(update(number, 2))
    await running(api, lambda: api.links[-1:] == [""] or api.handled == [10, 11, 12])
    assert waits == [1.0, 4.0, 16.0, 64.0, 256.0, 300.0]
    assert len(api.links) >= 5
    assert "another process polls" in api.links[0]


async def test_a_refused_token() -> None:
    """It ends the service for good; the answer of a server that is not Telegram's does not."""
    api = Api()
    api.failures = [telegram.error.InvalidToken("Unauthorized")]
    with pytest.raises(PermanentFailure, match="@BotFather"):
        await api.poller.run()
    api = Api(update(10, 2))
    foreign = "Not Found (404). Parsing the server response b'<html>' failed"
    api.failures = [telegram.error.InvalidToken(foreign)]
    await running(api, lambda: api.handled == [10])
