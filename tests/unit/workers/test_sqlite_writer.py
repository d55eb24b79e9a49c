"""Operations that can wait share the commit of others, where others come soon."""

import asyncio
import sqlite3
import threading
from typing import Any

import pytest

from garrison.workers.sqlite import writer
from garrison.workers.sqlite.writer import PATIENCE_S, Batch, Pace, WriterThread

SOON, LATE = PATIENCE_S / 2, PATIENCE_S * 3


def paced(*gaps: float) -> tuple[Pace, float]:
    """Return the pace after commits of 1 s, each so long after the last; and the time."""
    pace, now = Pace(), 100.0
    for gap in gaps:
        now += gap
        pace.begun(False, now)
        now += 1.0
        pace.committed(False, now)
    return pace, now


@pytest.mark.parametrize(
    ("gaps", "waits"),
    [
        ((), False),
        ((0.0,), False),  # nothing is known of what follows
        ((LATE, SOON), True),
        ((LATE, 0.0), True),  # they came during the commit
        ((SOON, LATE), False),
        ((SOON, SOON, SOON), True),
    ],
)
def test_patient_operations_wait_while_others_follow_each_commit(
    gaps: tuple[float, ...], waits: bool
) -> None:
    """No longer than the next ones usually take."""
    pace, now = paced(*gaps)
    assert (pace.wait_s(now) > 0) == waits
    assert pace.wait_s(now) <= PATIENCE_S + 1e-9
    assert pace.wait_s(now + LATE) == 0


def test_after_waiting_in_vain_they_wait_no_more() -> None:
    """Until others follow a commit soon again."""
    pace, now = paced(LATE, SOON)
    pace.begun(True, now + PATIENCE_S)
    pace.committed(True, now + LATE)
    assert pace.wait_s(now + LATE) == 0
    pace.begun(False, now + LATE)
    pace.committed(False, now + LATE)
    assert pace.wait_s(now + LATE) == 0
    pace.begun(False, now + LATE + SOON)
    pace.committed(False, now + LATE + SOON)
    assert pace.wait_s(now + LATE + SOON) > 0


class Recorded:
    """A writer thread that keeps its batches, and holds each commit until it is released."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.release = threading.Semaphore(0)
        self.thread = WriterThread("writer", self._commit, lambda: None)
        self.thread.start(asyncio.get_running_loop())

    def _commit(self, batch: Batch) -> list[Any]:
        self.batches.append([request.operation(None) for request in batch])  # type: ignore[arg-type]
        self.release.acquire()
        return [None] * len(batch)

    def run(self, name: str, patient: bool = False) -> "asyncio.Future[Any]":
        """Run an operation."""

        def operation(_: sqlite3.Cursor) -> str:
            return name

        return self.thread.execute(operation, patient=patient)

    async def dense(self) -> None:
        """Commit until the thread expects others to follow."""
        for _ in range(2):
            first = self.run("a")
            await asyncio.sleep(0)
            second = self.run("b")
            self.release.release(2)
            await asyncio.gather(first, second)
        self.batches.clear()

    async def end(self) -> None:
        """End the thread."""
        self.release.release(100)
        self.thread.begin_close()
        await asyncio.to_thread(self.thread.wait_closed)


async def test_a_patient_operation_shares_the_next_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is begun by the next operation, not by the end of the time."""
    monkeypatch.setattr(writer, "PATIENCE_S", 600.0)
    there = Recorded()
    await there.dense()
    waiting = there.run("waiting", patient=True)
    await asyncio.sleep(0.02)  # as long as it waits, nothing is to be seen
    assert there.batches == []
    other = there.run("other")
    there.release.release()
    await asyncio.gather(waiting, other)
    assert there.batches == [["waiting", "other"]]
    await there.end()


async def test_a_patient_operation_alone_is_committed_in_time() -> None:
    """Also where others were expected and do not come."""
    there = Recorded()
    await there.dense()
    there.release.release()
    await there.run("waiting", patient=True)
    assert there.batches == [["waiting"]]
    await there.end()


async def test_a_writer_that_closes_commits_what_is_patient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once."""
    monkeypatch.setattr(writer, "PATIENCE_S", 600.0)
    there = Recorded()
    await there.dense()
    waiting = there.run("waiting", patient=True)
    await asyncio.sleep(0)
    await there.end()
    assert there.batches == [["waiting"]]
    await waiting
