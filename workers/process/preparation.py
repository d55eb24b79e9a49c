"""Prepares a worker's process with the rights of its launcher, then gives them up."""

import os
import sys
from collections.abc import Iterable, Mapping

import msgspec

from garrison.ipc.errors import GarrisonError, PermanentFailure
from garrison.ipc.flight_recorder import Recorder, ValueRecorder
from garrison.ipc.messages import Assignment, Entry, Token

from . import redaction
from .lease import Lease
from .lock import held_by, take_lock
from .sandbox import apply_limits, chown_data_folder


class Names:
    """The NAMEs behind tokens; empty until there is a directory."""

    def __init__(self) -> None:
        self.directory: Iterable[Entry] = ()
        self.callers: Mapping[Token, Token] = {}  # incarnations that call directly, by address

    def of(self, token: Token) -> str:
        """Return the NAME of an incarnation, or ''."""
        token = self.callers.get(token, token)
        return next((entry.name for entry in self.directory if entry.token == token), "")


class Prepared(msgspec.Struct, frozen=True):
    """The result of `drop_privileges`."""

    recorder: Recorder
    names: Names  # used by the recorder
    problem: Exception | None  # why the service cannot run; reported once it is connected
    launcher: int  # pid
    lease: Lease | None = None  # on a node


def drop_privileges(assignment: Assignment) -> Prepared:
    """Open what the service's user may not open, then apply limits and switch to that user.

    Call it before any plugin code runs, and while the process has one thread.
    """
    launcher = os.getppid()  # before the wait for the lock, during which it may end
    paths, limits, names = assignment.paths, assignment.limits, Names()
    if assignment.record_values:
        recorder: Recorder = ValueRecorder(paths.recorder, names.of, redaction.redacted)
    else:
        recorder = Recorder(paths.recorder, names.of)
    problem: Exception | None = None
    lease = Lease(paths.lease) if paths.lease else None
    if paths.lock and take_lock(paths.lock) is None:
        problem = GarrisonError(held_by(paths.lock))
    try:
        if problem is None:
            chown_data_folder(paths.data, limits)
        for refused in apply_limits(limits):
            print(f"limit not granted: {refused}", file=sys.stderr)
    except PermanentFailure as error:
        problem = error
    return Prepared(recorder, names, problem, launcher, lease)
