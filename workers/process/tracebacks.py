"""An author's exception as text: its own frames, without those of garrison that called it."""

import asyncio
import traceback
from pathlib import Path
from typing import Any

from garrison.ipc.messages import encodable

from .redaction import redacted

OURS = str(Path(__file__).parent.parent) + "/"
BUNDLED = OURS + "services/"  # written as an author's are
MOST = 16 * 1024  # characters, the last ones


def _is_authors(frame: traceback.FrameSummary) -> bool:
    ours = frame.filename.startswith(OURS) and not frame.filename.startswith(BUNDLED)
    return not ours and not frame.filename.startswith("<frozen importlib")


def formatted(error: BaseException) -> str:
    """Return a traceback with its causes, beginning with the author's first frame."""
    shown = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = shown
    while one is not None:
        authors = [frame for frame in one.stack if _is_authors(frame)]
        # `filename` is set for a SyntaxError alone; `exc_type` is deprecated since Python 3.13.
        is_syntax_error = hasattr(one, "filename")
        if authors or is_syntax_error:  # else the mistake is ours, or the config's
            one.stack = traceback.StackSummary.from_list(authors)
        one = one.__cause__ or one.__context__
    return encodable(redacted("".join(shown.format())))[-MOST:]  # half a secret is not found


def format_task(task: "asyncio.Task[Any]") -> str:
    """Return where a task waits, its innermost frame last, as far as its code is an author's."""
    frames: list[traceback.FrameSummary] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
        if frame is not None:
            frames += traceback.extract_stack(frame, limit=1)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    authors = [frame for frame in frames if _is_authors(frame)]
    if not authors:
        return ""
    return f"task {task.get_name()} waits at\n{''.join(traceback.format_list(authors))}"


def author_location(error: BaseException) -> str:
    """Return the author's line that raised, as ` (file:line)`; empty where there is none."""
    authors = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_authors(frame)]
    return f" ({authors[-1].filename}:{authors[-1].lineno})" if authors else ""


def one_line(error: BaseException) -> str:
    """Return an exception's type and text."""
    text = " ".join(redacted(str(error)).split())
    name = type(error).__name__
    return encodable(f"{name}: {text}" if text else name)[:2000]
