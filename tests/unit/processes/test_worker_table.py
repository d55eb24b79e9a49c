"""Until when a launcher has to answer for each of its workers."""

import time
from math import inf

import pytest

from garrison.supervisor.processes.worker_table import LocalWorker, WorkerTable

A, B, C = b"a", b"b", b"c"


@pytest.fixture(name="table")
def _table() -> WorkerTable:
    """Return a table of three workers; two of them wait for their launcher."""
    table = WorkerTable()
    for key in (A, B, C):
        table[key] = LocalWorker(None)
    table.expect_answer(table[A], 5.0)
    table.expect_answer(table[B], 60.0)
    return table


def test_a_launcher_that_reports_has_its_time_anew(
    table: WorkerTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imported for as long as a fork may take, or forks many: a report shows that it works."""
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 4.9)
    table.answered([A, C], 5.0)
    monkeypatch.setattr(time, "monotonic", lambda: began + 9.0)
    assert table.answers_late(5.0) == []
    monkeypatch.setattr(time, "monotonic", lambda: began + 10.0)
    assert table.answers_late(5.0) == [table[A]]
    assert table[C].answer_due == inf
    table.close()


def test_a_report_brings_no_deadline_forward(table: WorkerTable) -> None:
    """The end of a tree may take longer than a fork."""
    due = table[B].answer_due
    table.answered([A, B, C], 5.0)
    assert table[B].answer_due == due
    table.close()
