"""What a template is to do follows from those that failed before it."""

import os
from typing import Any

import pytest

from garrison.supervisor.processes import cgroups, spares
from garrison.supervisor.processes.protocol import Fork


class Ended:
    """A template that has ended before its first request."""

    made: list[bool]  # whether each was to share pages
    pid = 1 << 22

    def __init__(self, keep: set[int], prepare: Any, target: Any, share: bool) -> None:
        self.made.append(share)

    def request(self, cgroup: Any, orders: Any) -> None:
        """Fail, as no process reads it."""
        raise BrokenPipeError

    def close(self) -> None:
        """Do nothing."""


def test_after_a_failure_pages_are_not_shared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that moves no pages takes the place of one that ended: it may be why."""
    monkeypatch.setattr(spares, "Template", Ended)
    Ended.made = []
    failed: list[str] = []
    one = spares.Spares(
        cgroups.Cgroups(None),
        {},
        started=lambda fork, worker: None,
        failed=lambda fork, reason: failed.append(reason),
        orphaned=lambda: None,
        settled=lambda: None,
        entry=spares.Entry(lambda: None, lambda: None, lambda fd, path: os._exit(0)),
    )
    with open(os.devnull) as file:  # noqa: PTH123
        one.assign(Fork(b"key", "name", "/nonexistent"), file.fileno())
    assert len(failed) == 1
    assert Ended.made == [True, False]
