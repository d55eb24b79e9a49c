"""An author's exception as text: its own frames, without those of garrison that called it."""

import traceback
from pathlib import Path

from garrison.ipc.messages import sendable

OURS = str(Path(__file__).parent) + "/"
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
        if authors:  # where there are none, the mistake is ours, or one of the config
            one.stack = traceback.StackSummary.from_list(authors)
        one = one.__cause__ or one.__context__
    return sendable("".join(shown.format()))[-MOST:]


def one_line(error: BaseException) -> str:
    """Return an exception's type and text."""
    text = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return sendable(text[-1])[:2000]
