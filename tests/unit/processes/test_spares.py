"""The launcher moves its objects before it forks a template that has new modules."""

import os
from typing import Any

import pytest

from garrison.ipc.system import shared_heap
from garrison.supervisor.processes import cgroups, spares
from garrison.supervisor.processes.protocol import Fork


class Ended:
    """A template that has ended before its first request."""

    pid = 1 << 22

    def __init__(self, keep: set[int], prepare: Any, target: Any) -> None:
        """Do nothing."""

    def request(self, cgroup: Any, orders: Any) -> None:
        """Fail, as no process reads it."""
        raise BrokenPipeError

    def close(self) -> None:
        """Do nothing."""


def test_objects_are_moved_once_for_all_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for a template that only takes the place of another one, whose start would wait."""
    moved: list[bool] = []
    failed: list[str] = []
    monkeypatch.setattr(spares, "Template", Ended)
    monkeypatch.setattr(shared_heap, "share", lambda: moved.append(True))
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
        assert (len(failed), len(moved)) == (1, 1), "a second template has failed, too"
        one.assign(Fork(b"key", "name", "/nonexistent"), file.fileno())
        assert (len(failed), len(moved)) == (2, 1)
        one.close()  # for modules that are imported next
        one.assign(Fork(b"key", "name", "/nonexistent"), file.fileno())
    assert (len(failed), len(moved)) == (3, 2)
