"""Keeps a worker's secrets out of what it writes and tells: streams, logging, errors.

A worker is one process with one service, so what it must not tell belongs to the process. What C
code or a child process writes does not come by here.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from garrison.ipc import messages
from garrison.ipc.redaction import Redactor

S = TypeVar("S", bound=msgspec.Struct)

_redactor = Redactor({})
_outputs: "list[_Output]" = []
_format = logging.Handler.format


def install(secrets: Mapping[str, str]) -> None:
    """Keep these secrets out of everything from now on; called once, before any code of others."""
    global _redactor
    _redactor = Redactor(secrets)
    if not _redactor:
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            _rewire(stream)
    logging.Handler.format = _formatted  # type: ignore[method-assign]  # of files and mails too


def redacted(text: str) -> str:
    """Return a text without this worker's secrets."""
    return _redactor.text(text) if _redactor else text


def told(message: messages.Upward) -> messages.Upward:
    """Return what the supervisor may be told: texts without secrets, names as they are."""
    if not _redactor:
        return message
    match message:
        case messages.Broken(_, reason, traceback):
            return _with(message, reason=redacted(reason), traceback=redacted(traceback))
        case messages.Stopped(reason):
            return _with(message, reason=redacted(reason))
        case messages.Health(problem):
            return _with(message, problem=redacted(problem))
        case messages.Ready(manifest):
            return messages.Ready(_shown(manifest))
    return message


def answered(message: messages.Data) -> messages.Data:
    """Return what a caller may be told: an error without secrets, a result unread."""
    if not isinstance(message, messages.Failed) or not _redactor:  # in this order: it is faster
        return message
    fault = message.fault
    shown = _with(fault, detail=redacted(fault.detail), traceback=redacted(fault.traceback))
    return messages.Failed(message.id, shown)


def release() -> None:
    """Write what was held back: the process is about to end."""
    for output in _outputs:
        with contextlib.suppress(OSError):
            output.release()


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


def _rewire(stream: io.TextIOWrapper) -> None:
    """Put an output in place below a stream that others may have taken hold of already."""
    stream.reconfigure(encoding="utf-8", errors=stream.errors)  # as everybody reads it
    output = _Output(stream.fileno(), stream.name, _redactor)
    buffer: Any = stream.buffer
    if type(buffer) is io.BufferedWriter:
        buffer.__init__(output)  # type: ignore[misc]  # the object stays the same
    else:  # PYTHONUNBUFFERED
        stream.__init__(  # type: ignore[misc]
            _Unbuffered(output), encoding="utf-8", errors=stream.errors, write_through=True
        )
    _outputs.append(output)


class _Output(io.RawIOBase):
    """A descriptor that secrets do not reach; its buffer's lock keeps threads apart."""

    def __init__(self, descriptor: int, name: str, redactor: Redactor) -> None:
        self._descriptor = descriptor
        self.name = name
        self._redactor = redactor
        self._held = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)  # a stream on a file asks where it is

    def write(self, data: Any) -> int:
        done, held = self._redactor.split(self._held + bytes(data))
        self._put(done)
        self._held = held
        return len(data)

    def release(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, b""
        self._put(held)

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class _Unbuffered(io.BufferedWriter):
    """Has a lock, and keeps nothing."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        self.flush()
        return written
