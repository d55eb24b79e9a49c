"""Work that goes on from turn to turn of the loop until it ends: it yields where it waits."""

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

Steps: TypeAlias = Generator[bool, None, Any]  # yields True where it only waits for others


class TaskSet:
    """All work in the background.

    Args:
        erred: Told of each exception: one piece of work must not end the host.
    """

    def __init__(self, erred: Callable[[str, Exception], None]) -> None:
        self._erred = erred
        self._works: list[Steps] = []

    def __bool__(self) -> bool:
        return bool(self._works)

    def add(self, work: Steps) -> None:
        """Begin with it at the next step."""
        self._works.append(work)

    def go_on(self) -> bool:
        """Take each a step further; tell whether one has come to its end."""
        before, self._works = self._works, []
        left = [work for work in before if self._goes_on(work)]
        self._works[:0] = left  # before what they have begun
        return len(left) < len(before)

    def _goes_on(self, work: Steps) -> bool:
        try:
            next(work)
        except StopIteration:
            return False
        except Exception as error:  # noqa: BLE001 (see above)
            self._erred("work in the background", error)
            return False
        return True
