"""The failure of a worker: what is logged and reported of it, and the exit code that follows."""

import logging
from typing import NamedTuple

from garrison.ipc.errors import ConfigError, PermanentFailure
from garrison.ipc.messages import Failing, encodable
from garrison.workers.background import BackgroundFailure
from garrison.workers.config_class import ConfigMismatch
from garrison.workers.process_ended import ProcessEnded, ProcessNotStarted

from .exit import CRASHED, NOT_STARTED
from .starting import postponed_s
from .tracebacks import error_text, failure_reason, formatted

log = logging.getLogger(__name__)


class ReportedFailure(NamedTuple):
    """A failure as the supervisor is sent it."""

    message: Failing
    code: int  # exit code of the worker; a negative one is a signal


def report_failure(name: str, phase: str, error: BaseException) -> ReportedFailure:
    """Log a failure, and return what is sent of it.

    Args:
        name: NAME of the service.
        phase: "init", "start", "run" or "stop".
        error: What ended it.
    """
    cause = error
    if type(error) is BackgroundFailure and error.__cause__ is not None:
        cause = error.__cause__
    if issubclass(type(cause), ProcessEnded | ProcessNotStarted):
        reason = encodable(error_text(cause))[:2000]
        log.error("%s failed in %s: %s", name, phase, reason)
        permanent = getattr(cause, "permanent", False) is True
        message = Failing(phase, reason, permanent=permanent, of_process=True)
        return ReportedFailure(message, getattr(cause, "status", 0) or NOT_STARTED)
    text = formatted(cause)
    log.error("%s failed in %s\n%s", name, phase, text.rstrip())
    # By its type: an author's exception may raise where its `__class__` is read.
    permanent = issubclass(type(cause), PermanentFailure | ConfigMismatch | ConfigError)
    reason = failure_reason(cause, permanent)
    message = Failing(phase, reason, text, permanent, postponed_s(phase, cause))
    return ReportedFailure(message, CRASHED if phase == "run" else NOT_STARTED)
