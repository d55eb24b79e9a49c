"""Answers are said once, whatever happens to a send."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.support.platforms import Asked, Scripted, started
from tests.support.waiting import until_true

from garrison.workers import Busy, Content, Media, NotSent, Outgoing, RetryLater, Sent
from garrison.workers.platform import part_send, send_log

WAIT_S = 5.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(part_send, "RETRY_S", 0.001)


def leave_sending(folder: Path, late: float = 0.0) -> None:
    """Leave the log as a process does that was killed in `deliver`, so many seconds from now."""
    with sqlite3.connect(folder / send_log.FILE) as db:
        db.execute("UPDATE sends SET state = 'sending', theirs = '', uptime = uptime + ?", (late,))
    db.close()


async def test_a_failed_deliver_is_asked_for_and_repeated_where_it_is_surely_not_there(
    tmp_path: Path,
) -> None:
    """An exception may come from a message that arrived: the platform decides."""
    async with started(Asked, tmp_path) as radio:
        radio.script = [ConnectionError("gone"), ConnectionError("gone")]

        assert await radio.send_message("c", "hi", "a") == Sent("sent", ["r3"])
        assert [m.unsure for m in radio.asked] == [True, True]
        assert all(m.began > 0 for m in radio.asked)


async def test_a_failed_deliver_that_arrived_is_not_repeated(tmp_path: Path) -> None:
    """The platform's id is that of the message that is there."""
    async with started(Asked, tmp_path) as radio:
        radio.script, radio.there = [ConnectionError("gone")], {"a/0": "7"}

        assert await radio.send_message("c", "hi", "a") == Sent("sent", ["7"])
        assert len(radio.tried) == 1


async def test_a_platform_that_cannot_say_is_uncertain_with_skip(tmp_path: Path) -> None:
    """It is not sent again, also not when it is asked for again."""
    async with started(Scripted, tmp_path) as radio:
        radio.script = [ConnectionError("gone")]

        assert await radio.send_message("c", "hi", "a") == Sent("uncertain", [""])
        assert await radio.send_message("c", "hi", "a", True) == Sent("uncertain", [""])
        assert len(radio.tried) == 1


async def test_a_platform_that_cannot_say_repeats_with_repeat(tmp_path: Path) -> None:
    """The repeated one is marked, and their number is bounded."""
    async with started(Scripted, tmp_path, {"uncertain": "repeat"}) as radio:
        radio.script = [ConnectionError("gone")]
        assert await radio.send_message("c", "hi", "a") == Sent("sent", ["r2"])

        radio.script = [ConnectionError("gone") for _ in range(20)]
        assert await radio.send_message("c", "hi", "b") == Sent("uncertain", [""])
        assert len(radio.tried) == 2 + 1 + part_send.REPEATS_MOST


async def test_a_platform_that_gives_no_answer_cannot_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for a while, then the config decides."""
    monkeypatch.setattr(part_send, "QUERIES_S", 0.01)

    class Dumb(Asked):
        async def was_delivered(self, m: Outgoing) -> str | None:
            self.asked.append(m)
            raise ConnectionError("gone")

    async with started(Dumb, tmp_path) as radio:
        radio.script = [ConnectionError("gone")]

        assert await radio.send_message("c", "hi", "a") == Sent("uncertain", [""])
        assert len(radio.asked) > 1


async def test_what_the_platform_refuses_is_an_error_of_the_caller(tmp_path: Path) -> None:
    """Also when it is asked for again: the platform is not."""
    async with started(Asked, tmp_path) as radio:
        radio.script = [NotSent("too long")]
        for _ in range(2):
            with pytest.raises(NotSent) as caught:
                await radio.send_message("c", "hi", "a")
            assert caught.value.reason == "too long"
        assert len(radio.tried) == 1
        assert not radio.asked


async def test_a_rate_limit_is_waited_for(tmp_path: Path) -> None:
    """`RetryLater` says that it was surely not sent."""
    async with started(Scripted, tmp_path) as radio:
        radio.script = [RetryLater(0.01, "slow down")]

        assert await radio.send_message("c", "hi", "a") == Sent("sent", ["r2"])


async def test_a_long_rate_limit_is_its_caller_s(tmp_path: Path) -> None:
    """A call after it is the first one, also for a platform that cannot say."""
    async with started(Scripted, tmp_path) as radio:
        radio.script = [RetryLater(900, "slow down")]
        with pytest.raises(RetryLater) as caught:
            await radio.send_message("c", "hi", "a")
        assert caught.value.seconds == 900

    async with started(Scripted, tmp_path) as radio:
        assert await radio.send_message("c", "hi", "a") == Sent("sent", ["r1"])


@pytest.mark.parametrize("radio_class", [Scripted, Asked])
async def test_a_rate_limit_of_a_message_that_is_delivered_again_is_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, radio_class: type[Scripted]
) -> None:
    """It says of the attempt that it was not sent; nothing else was tried."""
    monkeypatch.setattr(part_send, "TRYING_S", 0.02)
    async with started(radio_class, tmp_path) as radio:
        for seconds in (900, 0.03):  # the caller's, and longer than it is tried here
            radio.script = [RetryLater(seconds, "slow down")]
            with pytest.raises(RetryLater):
                await radio.send_message("c", "hi", "a", expect=True)

        assert await radio.send_message("c", "hi", "a", expect=True) == Sent("sent", ["r3"])


async def test_an_outage_is_no_end_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is surely not there after a while is tried again by its caller."""
    monkeypatch.setattr(part_send, "TRYING_S", 0.02)
    async with started(Asked, tmp_path) as radio:
        radio.script = [ConnectionError("gone") for _ in range(1000)]
        with pytest.raises(RetryLater):
            await radio.send_message("c", "hi", "a")
        radio.script.clear()

        assert (await radio.send_message("c", "hi", "a")).outcome == "sent"


async def test_a_deliver_that_takes_too_long_is_uncertain(tmp_path: Path) -> None:
    """It is cancelled."""
    async with started(Scripted, tmp_path, {"deliver_timeout": 0.01}) as radio:
        radio.script = [asyncio.Event().wait]

        assert await radio.send_message("c", "hi", "a") == Sent("uncertain", [""])


@pytest.mark.parametrize(("there", "sent", "tries"), [({"a/0": "7"}, ["7"], 0), ({}, ["r1"], 1)])
async def test_after_a_kill_the_platform_is_asked_once_the_send_has_settled(
    tmp_path: Path, there: dict[str, str], sent: list[str], tries: int
) -> None:
    """A send of a dead process may be under way until then."""
    async with started(Asked, tmp_path) as radio:
        await radio.send_message("c", "hi", "a")
    leave_sending(tmp_path, 600)

    async with started(Asked, tmp_path, {"settle": 0.1}) as radio:
        radio.there = there
        before: list[int] = []  # questions, shortly before it has settled
        asyncio.get_running_loop().call_later(0.05, lambda: before.append(len(radio.asked)))
        assert await radio.send_message("c", "hi", "a") == Sent("sent", sent)
        assert before == [0]
        assert len(radio.tried) == tries


async def test_a_send_that_was_long_under_way_settles_from_the_end_of_its_process(
    tmp_path: Path,
) -> None:
    """It began before; when its process was killed it may still have been under way."""
    async with started(Asked, tmp_path) as radio:
        await radio.send_message("c", "hi", "a")
    leave_sending(tmp_path, -600)

    async with started(Asked, tmp_path, {"settle": 0.2}) as radio:
        before: list[int] = []
        asyncio.get_running_loop().call_later(0.05, lambda: before.append(len(radio.asked)))
        await radio.send_message("c", "hi", "a")
        assert before == [0]


async def test_a_failed_deliver_settles_from_its_end(tmp_path: Path) -> None:
    """However long it took before."""
    async with started(Asked, tmp_path, {"settle": 0.2}) as radio:

        async def fail() -> None:
            await asyncio.sleep(0.25)
            asyncio.get_running_loop().call_later(0.05, lambda: before.append(len(radio.asked)))
            raise ConnectionError("gone")

        before: list[int] = []
        radio.script = [fail]
        await radio.send_message("c", "hi", "a")
        assert before == [0]


async def test_after_a_kill_a_platform_that_cannot_say_is_uncertain(tmp_path: Path) -> None:
    """Its sends are said at most once."""
    async with started(Scripted, tmp_path) as radio:
        await radio.send_message("c", "hi", "a")
    leave_sending(tmp_path)

    async with started(Scripted, tmp_path) as radio:
        assert await radio.send_message("c", "hi", "a") == Sent("uncertain", [""])
        assert not radio.tried


async def test_what_is_expected_to_be_there_is_asked_for_first(tmp_path: Path) -> None:
    """The log may be a former one."""
    async with started(Asked, tmp_path) as radio:
        radio.there = {"a/0": "7"}

        assert await radio.send_message("c", "hi", "a", expect=True) == Sent("sent", ["7"])
        assert await radio.send_message("c", "hi", "b", expect=True) == Sent("sent", ["r1"])
        assert radio.tried[0].unsure
        assert radio.asked[0].began == 0.0


@pytest.mark.parametrize("problem", [ConnectionError("gone"), NotImplementedError()])
async def test_what_is_expected_and_cannot_be_asked_for_is_sent_if_the_log_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """A lookup that fails, as without the right to read, is no worse than none."""
    for most in ("QUERIES_S", "TRYING_S"):
        monkeypatch.setattr(part_send, most, 0.01)

    class Dumb(Asked):
        async def was_delivered(self, m: Outgoing) -> str | None:
            raise problem

    async with started(Dumb, tmp_path) as radio:
        assert await radio.send_message("c", "hi", "a", expect=True) == Sent("sent", ["r1"])
        radio.script = [ConnectionError("gone")]
        assert await radio.send_message("c", "hi", "b", expect=True) == Sent("uncertain", [""])


async def test_with_its_log_lost_a_platform_that_cannot_say_is_uncertain(tmp_path: Path) -> None:
    """What is not expected to be there is sent."""
    async with started(Scripted, tmp_path) as radio:
        await radio.send_message("c", "hi", "a")
    (tmp_path / send_log.FILE).unlink()

    async with started(Scripted, tmp_path) as radio:
        assert await radio.send_message("c", "hi", "a", expect=True) == Sent("uncertain", [""])
        assert await radio.send_message("c", "hi", "b") == Sent("sent", ["r1"])


async def test_a_damaged_log_is_set_aside(tmp_path: Path) -> None:
    """The platform works on, and does not rely on what is missing."""
    (tmp_path / send_log.FILE).write_bytes(b"no database at all " * 100)

    async with started(Scripted, tmp_path) as radio:
        assert await radio.send_message("c", "hi", "a", expect=True) == Sent("uncertain", [""])
    assert _damaged(tmp_path)


def _damaged(folder: Path) -> list[Path]:
    return list(folder.glob(f"{send_log.FILE}.damaged-*"))


async def test_a_send_outlives_its_caller_and_is_joined_by_its_id(tmp_path: Path) -> None:
    """An agent that is killed does not cut a message, and its next call makes no second one."""
    async with started(Scripted, tmp_path) as radio:
        entered, gate = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            entered.set()
            await gate.wait()

        radio.script = [wait]
        first = asyncio.create_task(radio.send_message("c", "hi", "a"))
        await asyncio.wait_for(entered.wait(), WAIT_S)
        first.cancel()
        second = asyncio.create_task(radio.send_message("c", "hi", "a"))
        gate.set()

        assert await asyncio.wait_for(second, WAIT_S) == Sent("sent", ["r1"])
        assert len(radio.tried) == 1


async def test_a_channel_is_in_order_and_waits_for_no_other(tmp_path: Path) -> None:
    """One that hangs holds its channel alone."""
    async with started(Scripted, tmp_path) as radio:
        gate = asyncio.Event()
        radio.script = [gate.wait]
        sends = [
            asyncio.create_task(radio.send_message("slow", text, text)) for text in ("1", "2", "3")
        ]
        await until_true(lambda: radio.tried)
        await asyncio.wait_for(radio.send_message("other", "x", "x"), WAIT_S)
        assert [m.text for m in radio.tried] == ["1", "x"]
        gate.set()
        await asyncio.gather(*sends)

        assert [m.text for m in radio.tried] == ["1", "x", "2", "3"]


async def test_a_long_answer_is_sent_in_parts(tmp_path: Path) -> None:
    """The first replies, the last has the attachments; parts have ids of their own."""
    content = Content(
        "one two three", in_reply_to="radio/c/7", attachments=[Media("https://x.test/a.png")]
    )
    async with started(Scripted, tmp_path, {"max_length": 8}) as radio:
        assert await radio.send_message("c", content, "a") == Sent("sent", ["r1", "r2"])
        first, last = radio.tried

    assert [(m.id, m.text, m.part, m.parts) for m in (first, last)] == [
        ("a/0", "one two", 0, 2),
        ("a/1", "three", 1, 2),
    ]
    assert (first.reply_to, last.reply_to) == ("7", None)
    assert (len(first.attachments), len(last.attachments)) == (0, 1)


async def test_parts_are_cut_as_they_were_begun(tmp_path: Path) -> None:
    """Another `max_length` after a restart does not change the parts that were said."""
    async with started(Scripted, tmp_path, {"max_length": 8}) as radio:
        await radio.send_message("c", "one two three", "a")

    async with started(Scripted, tmp_path, {"max_length": 100}) as radio:
        assert await radio.send_message("c", "one two three", "a") == Sent("sent", ["r1", "r2"])
        assert not radio.tried


async def test_an_empty_text_is_not_sent(tmp_path: Path) -> None:
    """An attachment without a text is."""
    async with started(Scripted, tmp_path) as radio:
        assert await radio.send_message("c", " \n", "a") == Sent("sent", [])
        with_file = Content("", attachments=[Media("https://x.test/a.png")])
        assert await radio.send_message("c", with_file, "b") == Sent("sent", ["r1"])


async def test_too_many_sends_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of what is refused."""
    monkeypatch.setattr("garrison.workers.platform.sending.CHANNEL_MOST", 2)
    async with started(Scripted, tmp_path) as radio:
        gate = asyncio.Event()
        radio.script = [gate.wait]
        sends = [asyncio.create_task(radio.send_message("c", "hi", str(n))) for n in range(3)]
        with pytest.raises(Busy):
            await sends[2]
        gate.set()
        await asyncio.gather(*sends[:2])


async def test_sends_that_fail_are_shown(tmp_path: Path) -> None:
    """`status` has why, until one succeeds."""
    async with started(Scripted, tmp_path) as radio:
        warnings = radio.runtime._reports
        radio.script = [ConnectionError("gone")]
        await radio.send_message("c", "hi", "a")
        assert warnings.warnings["platform sends"] == "sends fail: ConnectionError: gone"
        assert await radio.health() is True  # a restart repairs no outage

        await radio.send_message("c", "hi", "b")
        assert "platform sends" not in warnings.warnings
