"""Where this worker's threads and asyncio tasks are, as the supervisor is sent it.

It is read between two turns of the loop; no source file is read. Ten tasks take half a millisecond,
the most that are sent ten.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, TypeAlias

import msgspec

from garrison.ipc.messages import StackFrame, StackOf, Stacks, encodable

THREADS_MOST, TASKS_MOST = 200, 200
FRAMES_MOST = 40  # of one stack, the innermost
CHAIN_MOST = 400  # coroutines that await one another
OWN = "/garrison/workers/process/"
NAME_MOST = 200  # characters


class _Place(msgspec.Struct, frozen=True):
    code: CodeType
    line: int


_Names: TypeAlias = dict[CodeType, tuple[str, str]]  # code → its file and its qualified name


def stacks_of(loop: asyncio.AbstractEventLoop, number: int) -> Stacks:
    """Return all stacks.

    The main thread's ends where this function was called: it runs the loop, and the tasks show
    what that does.

    Args:
        loop: The worker's loop, which calls this.
        number: Of the request.
    """
    current = sys._current_frames()
    native = {one.ident: one for one in threading.enumerate()}
    main = threading.main_thread().ident
    idents = sorted(current, key=lambda ident: (ident != main, ident))
    names: _Names = {}
    threads = [
        _thread(native.get(ident), current[ident], names, is_main=ident == main)
        for ident in idents[:THREADS_MOST]
    ]
    tasks = sorted(asyncio.all_tasks(loop), key=_name_of)
    shown = [_task(task, names) for task in tasks[:TASKS_MOST]]
    return Stacks(
        number,
        tuple(threads),
        tuple(shown),
        max(len(idents) - THREADS_MOST, 0),
        max(len(tasks) - TASKS_MOST, 0),
    )


def _thread(
    thread: threading.Thread | None, frame: FrameType, names: _Names, is_main: bool
) -> StackOf:
    places = list(_outwards(frame))
    if is_main:  # without the lines that take this list
        own = next((n for n, one in enumerate(places) if OWN not in one.code.co_filename), 0)
        places = places[own:]
    name = thread.name if thread is not None else "a thread that Python did not start"
    ident = (thread.native_id or 0) if thread is not None else 0
    return _stack(name, places[::-1], names, ident)


def _outwards(frame: FrameType | None) -> Iterator[_Place]:
    while frame is not None:
        yield _Place(frame.f_code, frame.f_lineno)
        frame = frame.f_back


def _task(task: "asyncio.Task[Any]", names: _Names) -> StackOf:
    """Return where a task waits: each coroutine that awaits the next, and what the last awaits."""
    places: list[_Place] = []
    inner: Any = task.get_coro()
    for _ in range(CHAIN_MOST):
        frame, awaited = _frame_and_awaited(inner)
        if frame is not None:
            places.append(_Place(frame.f_code, frame.f_lineno))
        inner = awaited
        if frame is None or inner is None:
            break
    waits = "" if inner is None else type(inner).__name__
    return _stack(_name_of(task), places, names, waits_for=waits)


def _frame_and_awaited(one: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a coroutine or generator and what it awaits; None where it has none."""
    if isinstance(one, CoroutineType):
        return one.cr_frame, one.cr_await
    if isinstance(one, AsyncGeneratorType):
        return one.ag_frame, one.ag_await
    if isinstance(one, GeneratorType):
        return one.gi_frame, one.gi_yieldfrom
    frame = getattr(one, "cr_frame", None)  # of another compiler
    return (frame if isinstance(frame, FrameType) else None), getattr(one, "cr_await", None)


def _name_of(task: "asyncio.Task[Any]") -> str:
    return encodable(task.get_name())[:NAME_MOST]


def _stack(
    name: str, places: list[_Place], names: _Names, ident: int = 0, waits_for: str = ""
) -> StackOf:
    shown = places[-FRAMES_MOST:]
    frames = []
    for one in shown:
        if (texts := names.get(one.code)) is None:
            texts = encodable(one.code.co_filename), encodable(one.code.co_qualname)
            names[one.code] = texts
        frames.append(StackFrame(texts[0], one.line, texts[1]))
    left_out = len(places) - len(shown)
    return StackOf(encodable(name)[:NAME_MOST], tuple(frames), left_out, ident, waits_for)
