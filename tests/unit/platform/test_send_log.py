"""The file of what was sent."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from garrison.workers.platform import send_erasure, send_log
from garrison.workers.platform.decision import SendState
from garrison.workers.platform.send_log import LogFull, SendLog

DAY = 86_400.0


async def opened(folder: Path, keep: float = DAY) -> SendLog:
    """Return a log that is open."""
    log = SendLog(folder, keep)
    log.start(asyncio.get_running_loop())
    return log


def close(log: SendLog) -> None:
    """Close it."""
    log.begin_close()
    log.wait_closed()


def age(folder: Path, seconds: float) -> None:
    """Make all rows older."""
    with sqlite3.connect(folder / send_log.FILE) as db:
        db.execute("UPDATE sends SET own = own - ?", (seconds,))
    db.close()


async def test_rows_and_cursors_outlast_the_process(tmp_path: Path) -> None:
    """What was begun and not ended is sending."""
    log = await opened(tmp_path)
    await asyncio.gather(log.begin("a", 0, "c", 8), log.begin("b", 0, "c", 0), log.move("s", "7"))
    log.end("a", 0, "c", 8, SendState.SENT, "r1")  # not awaited
    close(log)

    log = await opened(tmp_path)
    (sent,), (sending,) = await log.rows("a"), await log.rows("b")
    assert (sent.state, sent.theirs, sent.cut) == (SendState.SENT, "r1", 8)
    assert sending.state is SendState.SENDING
    assert log.cursors == {"s": "7"}
    assert not log.lost
    close(log)


async def test_old_rows_are_dropped_but_unfinished_ones(tmp_path: Path) -> None:
    """The bound of the file."""
    log = await opened(tmp_path)
    for send in ("old", "open"):
        await log.begin(send, 0, "c", 0)
    await log.end("old", 0, "c", 0, SendState.SENT, "r1")
    close(log)
    age(tmp_path, 2 * DAY)

    log = await opened(tmp_path)
    await log.move("s", "1")  # the first commit looks for them
    await log.move("s", "2")
    assert await log.rows("old") == []
    assert await log.rows("open")
    close(log)


async def test_of_too_many_rows_the_oldest_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their age."""
    log = await opened(tmp_path)
    for number in range(6):
        await log.end(str(number), 0, "c", 0, SendState.SENT, "r")
    close(log)
    monkeypatch.setattr(send_log, "SENDS_MOST", 4)

    log = await opened(tmp_path)
    await log.move("s", "1")
    await log.move("s", "2")
    assert [bool(await log.rows(str(number))) for number in range(6)] == [False] * 2 + [True] * 4
    close(log)


async def test_a_later_version_s_file_is_not_touched(tmp_path: Path) -> None:
    """Its rows may mean something else."""
    close(await opened(tmp_path))
    with sqlite3.connect(tmp_path / send_log.FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(Exception, match="written by a later version"):
        SendLog(tmp_path, DAY)


async def test_a_closed_log_refuses(tmp_path: Path) -> None:
    """Nothing is sent that is not logged."""
    log = await opened(tmp_path)
    close(log)

    with pytest.raises(LogFull):
        await log.begin("a", 0, "c", 0)


async def test_a_text_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    """An author's position or a platform's id may have half a surrogate pair."""
    log = await opened(tmp_path)
    moved, begun = log.move("s", "\ud800"), log.begin("a", 0, "c", 0)
    with pytest.raises(UnicodeEncodeError):
        await moved
    await begun
    assert len(await log.rows("a")) == 1
    close(log)


async def test_rows_of_a_person_s_answers_and_channel_are_forgotten(tmp_path: Path) -> None:
    """Those of a send under way are kept: they are needed to send it once."""
    log = await opened(tmp_path)
    for send, channel in (("a", "room"), ("b", "room"), ("c", "42"), ("d", "42")):
        await log.begin(send, 0, channel, 0)
        if send != "d":
            await log.end(send, 0, channel, 0, SendState.SENT, f"their-{send}")
    await log.move("42", "cursor-of-42")
    rows = await send_erasure.export_sends(log, ["a", "missing"])
    assert [(row["id"], row["channel"], row["theirs"]) for row in rows] == [
        ("a", "room", "their-a")
    ]
    assert [row["id"] for row in await send_erasure.export_channel(log, "42")] == ["c", "d"]

    assert await send_erasure.forget_sends(log, ["a", "missing"]) == 1
    assert await send_erasure.forget_channel(log, "42") == 2
    assert [bool(await log.rows(send)) for send in "abcd"] == [False, True, False, True]
    with pytest.raises(ValueError, match="at most 1,000 ids"):
        await send_erasure.forget_sends(log, ["x"] * 1001)
    held = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))  # noqa: ASYNC240
    assert b"their-a" not in held
    assert b"their-c" not in held
    assert b"cursor-of-42" not in held
    assert b"their-b" in held
    close(log)
