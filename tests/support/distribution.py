"""Sends each group of tests to one process, in the order in which the groups were collected.

The group `alone` is run last, by one process, when the others have ended: for tests that need the
machine for themselves.

xdist's `loadgroup` puts the group into the test's node id, which pytest from 9.2 on does not allow;
then every test is a group of its own, and nothing fails. So the processes write their groups to a
file, which the scheduler reads.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

ALONE = "alone"


def write_groups(file: Path, items: Iterable[pytest.Item]) -> None:
    """Write the group of each test that has one; every process writes the same."""
    marks = {item.nodeid: item.get_closest_marker("xdist_group") for item in items}
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps({test: mark.args[0] for test, mark in marks.items() if mark}))
    new.rename(file)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives a process a group at a time; a test without a group is one.

    Args:
        file: Where the processes write the groups.
    """

    def __init__(self, config: pytest.Config, log: Any, file: Path) -> None:
        super().__init__(config, log)
        self._file = file
        self._groups: dict[str, str] = {}

    def schedule(self) -> None:
        """Distribute the tests; every process has collected its own by now."""
        self._groups = self._groups or json.loads(self._file.read_text())
        super().schedule()

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process that has ended; the last one goes on with `alone`."""
        crashed: str | None = super().remove_node(node)
        if self._has_alone_only() and len(self.nodes) == 1:
            self._reschedule(self.nodes[0])
        return crashed

    def _reschedule(self, node: WorkerController) -> None:
        """Give a process more to do; if only `alone` is left, end it, unless it is the last one."""
        others = [one for one in self.nodes if one is not node]
        if node.shutting_down or not self._has_alone_only() or not others:
            super()._reschedule(node)
        elif not all(one.shutting_down for one in others):
            node.shutdown()  # once it has run what it has

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Assign the next group, but `alone` to the last process only."""
        if ALONE in self.workqueue:
            self.workqueue.move_to_end(ALONE)
        if not self._has_alone_only() or self.nodes == [node]:
            super()._assign_work_unit(node)

    def _has_alone_only(self) -> bool:
        return list(self.workqueue) == [ALONE]

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        """Forget a group that is complete: what is pending is counted after each test."""
        nodeid = self.registered_collections[node][item_index]
        group, assigned = self._split_scope(nodeid), self.assigned_work[node]
        super().mark_test_complete(node, item_index, duration)
        if all(assigned.get(group, {}).values()):
            assigned.pop(group, None)
