"""Background tasks of the loop: generators that are resumed once a turn."""

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

Steps: TypeAlias = Generator[bool, None, Any]  # yields True while it only waits for other events


class TaskSet:
    """All background tasks.

    Args:
        report_error: Called with each exception of a task; the other tasks continue.
    """

    def __init__(self, report_error: Callable[[str, Exception], None]) -> None:
        self._report_error = report_error
        self._tasks: list[Steps] = []

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, task: Steps) -> None:
        """Start a task with the next step."""
        self._tasks.append(task)

    def step_all(self) -> bool:
        """Resume each task once; return True if one has finished."""
        before, self._tasks = self._tasks, []
        remaining = [task for task in before if self._continues(task)]
        self._tasks[:0] = remaining  # before the tasks that they have added
        return len(remaining) < len(before)

    def _continues(self, task: Steps) -> bool:
        try:
            next(task)
        except StopIteration:
            return False
        except Exception as error:  # noqa: BLE001 (one task must not end the host)
            self._report_error("work in the background", error)
            return False
        return True
