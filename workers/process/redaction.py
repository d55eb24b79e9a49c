"""Removes a worker's secrets from what it writes and sends: streams, logging, messages.

The secrets belong to the process, since a worker runs one service. What C code or a child process
writes is not redacted.
"""

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, get_args

from garrison.ipc.marks import carries_text, redact_marked
from garrison.ipc.messages import Data, Upward
from garrison.ipc.redaction import Redactor
from garrison.ipc.system import log_stream

_DATA_WITH_TEXT = frozenset[type](cls for cls in get_args(Data) if carries_text(cls))
_redactor = Redactor({})
_format = logging.Handler.format


def install(secrets: Mapping[str, str]) -> None:
    """Redact these secrets from now on. Call it once, before a plugin's code runs."""
    global _redactor
    _redactor = Redactor(secrets)
    if not _redactor:
        return
    for one in log_stream.placed() or log_stream.install(log_stream.standard()):
        one.split = _redactor.split
    logging.Handler.format = _formatted  # type: ignore[method-assign]  # also for files and mail


def redacted(text: str) -> str:
    """Return a text without this worker's secrets."""
    return _redactor.text(text) if _redactor else text


def redact_control(message: Upward) -> Upward:
    """Return a message to the supervisor whose text fields have no secret."""
    return redact_marked(message, _redactor.text) if _redactor else message


def redact_reply(message: Data) -> Data:
    """Return a message to a caller whose error has no secret. A result is sent as it is."""
    if type(message) not in _DATA_WITH_TEXT or not _redactor:  # the faster check comes first
        return message
    redacted: Data = redact_marked(message, _redactor.text)
    return redacted


def release() -> None:
    """Write what streams hold back, because the process is about to exit."""
    for one in log_stream.placed():
        with contextlib.suppress(OSError):
            one.release()


def _formatted(self: logging.Handler, record: logging.LogRecord) -> str:
    text: Any = _format(self, record)
    return redacted(text) if isinstance(text, str) else text
