"""Keeps a worker's secrets out of what it writes and tells: streams, logging, errors.

A worker is one process with one service, so what it must not tell belongs to the process. What C
code or a child process writes does not come by here.
"""

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from garrison.ipc import messages
from garrison.ipc.redaction import Redactor
from garrison.ipc.system import log_stream

S = TypeVar("S", bound=msgspec.Struct)

_redactor = Redactor({})
_format = logging.Handler.format


def install(secrets: Mapping[str, str]) -> None:
    """Keep these secrets out of everything from now on; called once, before any code of others."""
    global _redactor
    _redactor = Redactor(secrets)
    if not _redactor:
        return
    for one in log_stream.placed() or log_stream.install(log_stream.standard()):
        one.split = _redactor.split
    logging.Handler.format = _formatted  # type: ignore[method-assign]  # of files and mails too


def redacted(text: str) -> str:
    """Return a text without this worker's secrets."""
    return _redactor.text(text) if _redactor else text


def redact_control(message: messages.Upward) -> messages.Upward:
    """Return what the supervisor may be told: texts without secrets, names as they are."""
    if not _redactor:
        return message
    match message:
        case messages.Failing(_, reason, traceback):
            return _with(message, reason=redacted(reason), traceback=redacted(traceback))
        case messages.Stopped(reason):
            return _with(message, reason=redacted(reason))
        case messages.Health(problem):
            return _with(message, problem=redacted(problem))
        case messages.Ready(manifest):
            return messages.Ready(_shown(manifest))
    return message


def redact_reply(message: messages.Data) -> messages.Data:
    """Return what a caller may be told: an error without secrets, a result unread."""
    if not isinstance(message, messages.Failed) or not _redactor:  # in this order: it is faster
        return message
    fault = message.fault
    shown = _with(fault, detail=redacted(fault.detail), traceback=redacted(fault.traceback))
    return messages.Failed(message.id, shown)


def release() -> None:
    """Write what was held back: the process is about to end."""
    for one in log_stream.placed():
        with contextlib.suppress(OSError):
            one.release()


def _with(message: S, **changes: str) -> S:
    return msgspec.structs.replace(message, **changes)


def _shown(manifest: messages.Manifest) -> messages.Manifest:
    """Return a manifest whose signatures tell no default that is a secret."""
    methods = tuple(
        msgspec.structs.replace(
            method, signature=redacted(method.signature), summary=redacted(method.summary)
        )
        for method in manifest.methods
    )
    return msgspec.structs.replace(
        manifest,
        description=redacted(manifest.description),
        methods=methods,
        left_out={name: redacted(why) for name, why in manifest.left_out.items()},
    )


def _formatted(self: logging.Handler, record: logging.LogRecord) -> str:
    text: Any = _format(self, record)
    return redacted(text) if isinstance(text, str) else text
