"""The last message is sent to each supervisor until one has acknowledged it."""

import asyncio

from tests.support.waiting import PATIENCE

from garrison.ipc.last_words import LastWords
from garrison.ipc.messages import Stopped, Upward

LAST = Stopped("it asked to end")


class Spoken:
    """Last words, what they sent, and how long they wait: one number after the other."""

    def __init__(self, *patience: float) -> None:
        self.sent: list[Upward] = []
        waits = iter(patience)
        loop = asyncio.get_running_loop()
        self.words = LastWords(loop, self.sent.append)
        self.said = loop.create_task(self.words.report(LAST, lambda: next(waits)))


async def turn() -> None:
    """Let the loop turn a few times."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_acknowledged_is_sent_once() -> None:
    """And is not waited for any longer."""
    one = Spoken(PATIENCE)
    await turn()
    one.words.acknowledged()
    assert await one.said
    assert one.sent == [LAST]


async def test_it_is_not_waited_for_beyond_the_patience() -> None:
    """A supervisor may be stopped."""
    one = Spoken(0.01)
    assert not await one.said
    assert one.sent == [LAST]


async def test_the_next_supervisor_is_sent_it_again() -> None:
    """After each change the patience is another."""
    one = Spoken(PATIENCE, PATIENCE, 0.01)
    await turn()
    one.words.supervisor_changed()
    await turn()
    assert one.sent == [LAST]
    one.words.repeat()
    assert not await one.said
    assert one.sent == [LAST, LAST]


async def test_an_acknowledgement_at_once_is_noticed() -> None:
    """It may come while the message is being sent."""
    loop = asyncio.get_running_loop()
    words = LastWords(loop, lambda message: words.acknowledged())
    assert await words.report(LAST, lambda: 0.0)


async def test_nothing_is_repeated_before_it_was_said() -> None:
    """A worker that runs on meets many supervisors."""
    sent: list[Upward] = []
    words = LastWords(asyncio.get_running_loop(), sent.append)
    words.repeat()
    assert sent == []
