"""An author's exception as text: frames of the author's code only, without secrets."""

import asyncio
import re
import sysconfig
import traceback
from pathlib import Path
from typing import Any

from garrison.ipc import error_text as texts
from garrison.ipc.messages import encodable

from .redaction import redacted

OURS = str(Path(__file__).parent.parent) + "/"
BUNDLED = OURS + "services/"  # counts as an author's
STDLIB = sysconfig.get_path("stdlib") + "/"
INSTALLED = re.compile(r"/(?:site|dist)-packages/([^/]+)")  # a package, wherever it is installed
# What runs a worker's loop: frames below are how its process came to be.
LOOP = re.compile(
    r"^uvloop/|/asyncio/(?:runners|base_events|events)\.py$|/workers/process/main\.py$"
)
_traceback_of = BaseException.__dict__["__traceback__"].__get__  # no class can hide it
MOST = 16 * 1024  # characters of a traceback; the last ones are kept


def is_authors_frame(frame: traceback.FrameSummary) -> bool:
    """Return whether a frame is of an author's code or of a library."""
    ours = frame.filename.startswith(OURS) and not frame.filename.startswith(BUNDLED)
    return not ours and not frame.filename.startswith("<frozen importlib")


def _is_library(filename: str) -> bool:
    """Return True for the standard library and for installed packages."""
    if filename.startswith(BUNDLED):
        return False
    return filename.startswith(("<frozen ", STDLIB)) or INSTALLED.search(filename) is not None


def _is_syntax_error(shown: traceback.TracebackException) -> bool:
    # `exc_type` is deprecated since Python 3.13; only syntax errors have a `text`.
    return hasattr(shown, "text")


def formatted(error: BaseException) -> str:
    """Return a traceback with its causes, starting at the author's first frame.

    An exception whose notes, causes or text cannot be read is shown without them.
    """
    try:
        text = _formatted(error)
    except BaseException:  # noqa: BLE001 (an author's exception may do anything when it is read)
        where = "".join(traceback.format_tb(_traceback_of(error))[-1:])
        text = f"{where}{texts.type_name(error)}: {texts.error_text(error)}\n"
    text = encodable(redacted(text))
    return text[-MOST:]  # after redaction, which would not find a part of a secret


def _formatted(error: BaseException) -> str:
    shown = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = shown
    while one is not None:
        authors = [frame for frame in one.stack if is_authors_frame(frame)]
        while len(authors) > 1 and LOOP.search(authors[0].filename):  # SystemExit passes through it
            del authors[0]
        if authors or _is_syntax_error(one):  # otherwise the error is garrison's, or the config's
            one.stack = traceback.StackSummary.from_list(authors)
        one = one.__cause__ or one.__context__
    return "".join(shown.format())


def format_task(task: "asyncio.Task[Any]") -> str:
    """Return where a task waits, innermost frame last; empty if not in an author's code."""
    frames: list[traceback.FrameSummary] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "ag_frame", None)
        if frame is not None:
            frames += traceback.extract_stack(frame, limit=1)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    authors = [frame for frame in frames if is_authors_frame(frame)]
    if not authors:
        return ""
    return f"task {task.get_name()} waits at\n{''.join(traceback.format_list(authors))}"


def author_location(error: BaseException) -> str:
    """Return the author's line that raised, as ` (file:line)`; empty if there is none.

    What it called in a library is not the author's. Of an installed plugin, all of its package is.
    """
    frames = [
        frame for frame in traceback.extract_tb(_traceback_of(error)) if is_authors_frame(frame)
    ]
    if not frames:
        return ""
    package = _package(frames[0].filename)
    own = [one for one in frames if not _is_library(one.filename)]
    own = own or [one for one in frames if _package(one.filename) == package]
    return f" ({own[-1].filename}:{own[-1].lineno})"


def _package(filename: str) -> str:
    """Return the name of an installed package; elsewhere the file itself."""
    found = INSTALLED.search(filename)
    return found[1] if found is not None else filename


def error_text(error: BaseException) -> str:
    """Return an exception's text without secrets, whatever its `__str__` does."""
    return redacted(texts.error_text(error))


def failure_reason(error: BaseException, permanent: bool) -> str:
    """Return why an exception ended a service: its text alone where that was written as a reason.

    Args:
        error: The exception.
        permanent: Whether its type means that a retry cannot succeed.
    """
    if permanent or issubclass(type(error), SystemExit):
        return encodable(error_text(error))[:2000]
    return one_line(error)


def one_line(error: BaseException) -> str:
    """Return an exception's type and text on one line."""
    text = " ".join(error_text(error).split())
    name = texts.type_name(error)
    return encodable(f"{name}: {text}" if text else name)[:2000]
