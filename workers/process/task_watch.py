"""Finds tasks whose exception nothing has retrieved: an author's own `create_task`, kept and never
awaited, would end in silence.

An awaited task looks the same at its end, so a task is looked at some time later. Durations are
seconds.
"""

import asyncio
import functools
import logging
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from garrison.ipc.messages import should_log

from .tracebacks import BUNDLED, OURS, formatted, one_line

log = logging.getLogger(__name__)

RETRIEVE_S = 5.0  # after the end of a task, for its exception to be retrieved
PENDING_MOST = 1024  # failed tasks that are kept for that time; asyncio reports the others
FRAMES_MOST = 12  # that are searched for the code that created a task

Place = tuple[str, int]  # file and line

_ASYNCIO = asyncio.__path__[0] + "/"
_LIBRARIES = ("/site-packages/", "/dist-packages/")
_STDLIB = tuple({sysconfig.get_path("stdlib") + "/", sysconfig.get_path("platstdlib") + "/"})


class TaskWatch:
    """The task factory of a worker's loop.

    Args:
        service: NAME of the service.
        warn: Shows a line in `status`, by a key.
        crash: Ends the service because of an exception; None: a failed task is logged alone.
    """

    def __init__(
        self,
        service: str,
        warn: Callable[[str, str], None],
        crash: Callable[[str, BaseException], None] | None,
    ) -> None:
        self._service, self._warn, self._crash = service, warn, crash
        self._pending = 0
        self._counts: Counter[str] = Counter()

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        """Create a task."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **options)
        task.add_done_callback(functools.partial(self._ended, _creator()))
        return task

    def _ended(self, place: Place | None, task: "asyncio.Task[Any]") -> None:
        if _is_unretrieved(task) and self._pending < PENDING_MOST:
            self._pending += 1
            asyncio.get_running_loop().call_later(RETRIEVE_S, self._look, place, task)

    def _look(self, place: Place | None, task: "asyncio.Task[Any]") -> None:
        self._pending -= 1
        if not _is_unretrieved(task):
            return
        error = task.exception()  # asyncio does not report it once more
        assert error is not None
        name = getattr(task.get_coro(), "__qualname__", task.get_name())
        file, line = place or _definition(task)
        self._counts[name] += 1
        if should_log(self._counts[name]):
            log.error(
                "task.failed service=%s task=%s coroutine=%s created=%s:%d\n%s",
                self._service,
                task.get_name(),
                name,
                file,
                line,
                formatted(error).rstrip(),
            )
        short = file.rpartition("/")[2]
        text = f"task {name}, created in {short}:{line}, failed unnoticed: {one_line(error)}"
        self._warn(f"task.failed {name}", text)
        if self._crash is not None and is_authors(file):
            self._crash(f"task {name}", error)


def _is_unretrieved(task: "asyncio.Task[Any]") -> bool:
    # What asyncio itself looks at before it logs "never retrieved"; `exception()` would change it.
    return bool(getattr(task, "_log_traceback", False))


def _creator() -> Place | None:
    """Return the code that creates a task; None if it is the loop itself."""
    frame = sys._getframe(2)
    for _ in range(FRAMES_MOST):
        file = frame.f_code.co_filename
        if not file.startswith(_ASYNCIO):
            from_loop = file.startswith(OURS) and not file.startswith(BUNDLED)
            return None if from_loop else (file, frame.f_lineno)
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def _definition(task: "asyncio.Task[Any]") -> Place:
    """Return where a task's coroutine is defined."""
    code = getattr(task.get_coro(), "cr_code", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else ("?", 0)


def is_authors(file: str) -> bool:
    """Return True for code that is no installed library, of the standard library or garrison's."""
    return not (file.startswith((OURS, *_STDLIB, "<")) or any(part in file for part in _LIBRARIES))
